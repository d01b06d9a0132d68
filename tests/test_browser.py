"""The dashboard's page as a browser shows it: headless Chromium on the page of a short real run."""

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import free_port, start

from descargan.assets import install_assets, missing_assets
from descargan.dashboard import CURVES, environment
from descargan.errors import UserError

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
READ_PLOTS = """
return [...document.querySelectorAll('.js-plotly-plot')].map(plot => ({
    curves: plot.data.map(d => ({type: d.type, name: d.name, x: d.x, y: d.y,
                                 zmin: d.zmin, zmax: d.zmax})),
    xlabel: plot.layout.xaxis.title && plot.layout.xaxis.title.text,
    ylabel: plot.layout.yaxis.title && plot.layout.yaxis.title.text,
}));
"""


@pytest.fixture
def browser(tmp_path):
    if not (CHROMIUM and DRIVER):
        pytest.skip("no chromium and chromedriver: the page was not looked at")
    if missing_assets():
        try:
            install_assets(None)
        except UserError as error:
            pytest.skip(f"the page's scripts cannot be had: {error}")
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
        "window-size=1800,2000",
        f"user-data-dir={tmp_path / 'profile'}",
    ):
        options.add_argument(f"--{argument}")
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def test_the_page_shows_the_values_of_the_metrics_file(browser, trained):
    port = free_port()
    process = start("-m", "descargan.dashboard", "--replay", trained, "--port", port)
    try:
        env = environment(trained, "Synthetic")
        titles = {spec[1] for spec in CURVES.values()} | {"This run", "Fixed validation batch"}
        deadline = time.monotonic() + 90
        plots, text = [], ""
        while time.monotonic() < deadline:
            try:
                browser.get(f"http://localhost:{port}/env/{env}")
                time.sleep(3)
                plots = browser.execute_script(READ_PLOTS)
                text = browser.find_element("tag name", "body").text
            except Exception:
                time.sleep(1)
            if len(plots) > len(CURVES) and all(title in text for title in titles):
                break
        shots = Path(os.environ.get("SCREENSHOTS", browser.capabilities["chrome"]["userDataDir"]))
        shots.mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(shots / "dashboard.png"))
    finally:
        process.terminate()
        process.wait(timeout=30)
    assert [title for title in titles if title not in text] == []

    history = [
        json.loads(x) for x in (trained / "metrics_synthetic.jsonl").read_text().splitlines()
    ]
    drawn = {curve["name"]: curve for plot in plots for curve in plot["curves"]}
    for kind, _, _, _, names in CURVES.values():
        for name in names:
            known = [r[name] for r in history if r["kind"] == kind and r.get(name) is not None]
            plotted = [y for y in drawn[name.removeprefix("accuracy ")]["y"] if y is not None]
            np.testing.assert_allclose(plotted, known, rtol=1e-6, err_msg=name)
    assert {(p["xlabel"], bool(p["ylabel"])) for p in plots if p["curves"][0]["name"]} <= {
        ("iteration", True),
        ("epoch", True),
    }
    (heat,) = [c for plot in plots for c in plot["curves"] if c["type"] == "heatmap"]
    assert (heat["zmin"], heat["zmax"]) == (-1, 1)
