"""The dashboard's page as a browser shows it: headless Chromium, with visdom's scripts and without.

The scripts are those in the user's cache, where ``python -m descargan.dashboard --install-assets``
puts them; without these, or without Chromium, these tests skip.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from subprocess import DEVNULL

import numpy as np
import pytest
from conftest import ROOT, TINY, free_port, start
from matplotlib.figure import Figure
from test_dashboard import drawn_values, replay, wait_for, windows

from descargan.assets import cache_folder, cached, missing_assets, static_folder, wanted_assets
from descargan.dashboard import CURVES, Dashboard, environment
from descargan.figures import png_of, roc_figure, save_figure
from descargan.options import Options
from descargan.report import Card, Cell, Gallery, Measured, Said, Table, write_report
from descargan.visdom_server import start_server, stop_server

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
READ_PLOTS = """
return [...document.querySelectorAll('.js-plotly-plot')].map(plot => ({
    curves: plot.data.map(d => ({type: d.type, name: d.name, x: d.x, y: d.y,
                                 zmin: d.zmin, zmax: d.zmax})),
    xlabel: plot.layout.xaxis.title && plot.layout.xaxis.title.text,
    ylabel: plot.layout.yaxis.title && plot.layout.yaxis.title.text,
}));
"""
# Packs what it is asked for from the scripts in the user's cache, once it may.
NPM = """#!{python}
import sys, tarfile, time
from pathlib import Path
sys.path.insert(0, {root!r})
from descargan.assets import wanted_assets
while not Path({signal!r}).exists():
    time.sleep(0.1)
for asset in wanted_assets():
    if asset.package in sys.argv:
        with tarfile.open(asset.archive.replace(".tgz", ".tar"), "a") as tar:
            tar.add(Path({cache!r}) / asset.place, "package/" + asset.file)
for path in Path().glob("*.tar"):
    path.rename(path.with_suffix(".tgz"))
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not (CHROMIUM and DRIVER):
        pytest.skip("no chromium and chromedriver: the page was not looked at")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "window-size=1440,2200",
        f"user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(f"--{argument}")
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def server_without_scripts(tmp_path, monkeypatch):
    """The port of a server whose machine has no scripts for its page, and of the run in "run"."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    if not missing_assets():
        pytest.skip("visdom's scripts are installed in its package")
    port = free_port()
    server = start_server(port, tmp_path / "run" / "dashboard")
    yield port
    stop_server(server)


def text_of(browser):
    """What the page says; one step, as the page may be replaced between two."""
    return browser.execute_script("return document.body ? document.body.innerText : ''")


def keep_picture(browser, name):
    """Write a picture of the page into the folder that SCREENSHOTS names, if it names one."""
    if folder := os.environ.get("SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(Path(folder) / f"{name}.png"))


def test_the_page_shows_the_values_of_the_metrics_file(browser, trained):
    if missing_assets():
        pytest.skip("no scripts: python -m descargan.dashboard --install-assets")
    port = free_port()
    process, _ = replay(trained, port)
    shown = Dashboard()
    shown.number, shown.env = port, environment(trained, "Synthetic")
    wait_for(lambda: windows(shown))
    browser.get(f"http://localhost:{port}/env/{shown.env}")
    titles = {plot.title for plot in CURVES.values()} | {"This run", "Fixed validation batch"}
    wait_for(lambda: not [title for title in titles if title not in text_of(browser)], 60)
    plots = wait_for(lambda: len(p := browser.execute_script(READ_PLOTS)) > len(CURVES) and p)
    keep_picture(browser, "dashboard")
    process.terminate()
    process.wait(timeout=30)

    lines = (trained / "metrics_synthetic.jsonl").read_text().splitlines()
    drawn = {curve["name"]: curve for plot in plots for curve in plot["curves"]}
    for window in CURVES:
        for name, known in drawn_values(map(json.loads, lines), window).items():
            plotted = [y for y in drawn[name]["y"] if y is not None]
            np.testing.assert_allclose(plotted, known, rtol=1e-6, err_msg=name)
    assert {(p["xlabel"], bool(p["ylabel"])) for p in plots if p["curves"][0]["name"]} <= {
        ("iteration", True),
        ("epoch", True),
    }
    (heat,) = [c for plot in plots for c in plot["curves"] if c["type"] == "heatmap"]
    assert (heat["zmin"], heat["zmax"]) == (-1, 1)


@pytest.mark.parametrize("width", [1440, 390])
def test_a_report_fits_its_window_and_begins_with_the_verdict(browser, tmp_path, width):
    """On a desktop and on a phone."""
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(example_report(tmp_path).as_uri())
    keep_picture(browser, f"report-{width}")
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    assert wide <= width
    text = text_of(browser)
    places = [text.index(part) for part in ("The verdict.", "these networks", "0.3000 image 3")]
    assert places == sorted(places)
    assert "a metric of a long name" not in text  # folded
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def example_report(folder: Path) -> Path:
    """A report of a test of four images."""
    cells = [Cell("0.829", "0.810 to 0.848")] * 3
    heads = ("maps", "pixel AUROC", "pixel AUPRC", "best Dice")
    names = ("these networks", "intensity", "smoothed intensity", "centre", "nothing")
    table = Table(heads, [(name, cells) for name in names], "What it is. " * 20)
    roc = png_of(roc_figure(np.array([0, 1]), {"score": np.array([0.1, 0.2])}))
    metrics = [("a metric of a long name", "0.8291", "0.8101 to 0.8480", 100)] * 31
    gallery, image = Gallery(), np.zeros((64, 64), np.uint8)
    panels = dict.fromkeys(("image", "pseudo-healthy", "map", "mask", "ground truth"), image)
    for i in range(4):
        gallery.add(Card(f"image {i}", i / 10, "diseased, P(disease) 0.97", "", panels))
    options = Options(mode="test", save_dir=folder, results_dir=folder)
    said = Said("the verdict", "4 images", ["a note"])
    return write_report(options, said, gallery, Measured([table], metrics, roc))


def test_without_scripts_the_page_shows_the_newest_examples(
    browser, server_without_scripts, tmp_path
):
    save_figure(Figure(figsize=(8, 4)), tmp_path / "run" / "examples_synthetic.png")
    browser.get(f"http://localhost:{server_without_scripts}/env/any")
    keep_picture(browser, "plain-page")
    assert "--install-assets" in text_of(browser)
    assert "could not be fetched" in text_of(browser)
    picture = browser.find_element("tag name", "img")
    assert int(picture.get_property("naturalWidth")) > 100


def test_scripts_that_come_while_training_runs_turn_the_page_into_the_dashboard(
    browser, synthetic, tmp_path, monkeypatch
):
    if not all(cached(asset.place) for asset in wanted_assets()):
        pytest.skip("no scripts: python -m descargan.dashboard --install-assets")
    before, signal = sorted(static_folder().rglob("*")), tmp_path / "npm may go on"
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(
        NPM.format(
            python=sys.executable, root=str(ROOT), signal=str(signal), cache=str(cache_folder())
        )
    )
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(npm.parent), prepend=os.pathsep)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.delenv("DESCARGAN_OFFLINE")
    port, run = free_port(), tmp_path / "run"
    arguments = [*TINY, "--dataset-path", synthetic, "--save-dir", run, "--epochs", 10_000]
    arguments += ["--validate-every", 1000, "--visdom", "on", "--visdom-port", port]
    training = start("main.py", *arguments, stdout=DEVNULL, stderr=DEVNULL)
    wait_for((run / "metrics_synthetic.jsonl").exists, 60)
    browser.get(f"http://localhost:{port}/env/{environment(run, 'Synthetic')}")
    assert "being fetched now" in text_of(browser)
    signal.touch()
    titles = ("Generator: loss terms", "This run", "Fixed validation batch")
    wait_for(lambda: all(title in text_of(browser) for title in titles), 60)
    assert wait_for(lambda: len(browser.execute_script(READ_PLOTS)) >= 4)
    keep_picture(browser, "appeared")
    assert training.poll() is None
    assert sorted(static_folder().rglob("*")) == before
