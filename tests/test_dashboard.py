"""The dashboard, with real visdom servers on free ports, and all that can go wrong with one."""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import requests
from conftest import ROOT, TINY, assert_refused, free_port, program, start, succeed
from visdom import Visdom

import descargan.dashboard
from descargan.dashboard import (
    CURVES,
    MAX_POINTS,
    Curve,
    Dashboard,
    connect,
    environment,
    find_history,
    main,
    open_client,
    plot_of,
    read_examples,
)
from descargan.distributed import Process
from descargan.errors import UserError
from descargan.options import Options
from descargan.visdom_server import answers, start_server, stop_server


@pytest.fixture
def connected(tmp_path):
    """Connects to a port, starting a server where none answers; all are closed after the test."""
    opened = []

    def to(port):
        folder = tmp_path / "run" / "dashboard"
        opened.append(connect("on", "http://localhost", port, "test-env", folder))
        return opened[-1]

    yield to
    for dashboard in opened:
        dashboard.close()


@pytest.fixture
def dashboard(connected):
    return connected(free_port())


def windows(dashboard):
    """The windows of an environment, by id, as the server has them."""
    client = Visdom(
        port=dashboard.number, env=dashboard.env, raise_exceptions=True, use_incoming_socket=False
    )
    return json.loads(client.get_window_data(None, env=dashboard.env) or "{}")


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError("it never came")


def record(iteration, kind="losses"):
    names = [name for plot in CURVES.values() if plot.kind == kind for name in plot.names]
    names += [f"{player}/adversarial" for player in ("critic", "generator") if kind == "losses"]
    values = {name: iteration + i / 10 for i, name in enumerate(names)}
    return {"kind": kind, "iteration": iteration, "epoch": iteration / 10, **values}


def drawn_values(history, window):
    """What a window draws of the lines of a metrics file: name in the legend: values."""
    values = {}
    for line in history:
        for name, value in line.items():
            if plot_of(line["kind"], name) == window and value is not None:
                values.setdefault(name.removeprefix("accuracy "), []).append(value)
    return values


def test_losses_are_drawn_by_their_names():
    assert plot_of("losses", "generator/identity") == "cycle"
    assert plot_of("losses", "critic/a new loss") == "critic"
    assert plot_of("losses", "generator/a new loss") == "generator"
    assert plot_of("losses", "somebody/a new loss") is None
    assert plot_of("validation", "generator/identity") is None
    for name in ("kind", "iteration", "epoch"):
        assert plot_of("losses", name) is plot_of("validation", name) is None


def test_a_training_run_draws_every_window_and_keeps_it_on_disk(synthetic, tmp_path):
    """End to end: main.py starts a server of its own, and the windows are read back."""
    port, run = free_port(), tmp_path / "my run"
    arguments = [*TINY, "--dataset-path", synthetic, "--save-dir", run, "--epochs", 1]
    arguments += ["--critic-steps", 2, "--log-every", 1, "--visdom", "on", "--visdom-port", port]
    output = succeed("main.py", *arguments).stdout
    env = environment(run, "Synthetic")
    assert f"dashboard: http://localhost:{port}/env/{env}" in output
    assert f"-m descargan.dashboard --replay '{run}'\n" in output
    saved = json.loads((run / "dashboard" / f"{env}.json").read_text())["jsons"]
    assert saved.keys() == {*CURVES, "options", "examples", "maps"}
    history = [json.loads(x) for x in (run / "metrics_synthetic.jsonl").read_text().splitlines()]
    assert max(saved, key=lambda window: saved[window]["i"]) == "options"
    for window, plot in CURVES.items():
        assert saved[window]["title"] == plot.title
        values = drawn_values(history, window)
        curves = {curve["name"]: curve["y"] for curve in saved[window]["content"]["data"]}
        assert curves.keys() == values.keys() >= {n.removeprefix("accuracy ") for n in plot.names}
        for name, known in values.items():
            plotted = [y for y in curves[name] if y is not None]
            np.testing.assert_allclose(plotted, known, rtol=1e-6)
    assert "learning_rate" in saved["options"]["content"]
    heat = saved["maps"]["content"]["data"][0]
    assert heat["type"] == "heatmap"
    assert (heat["zmin"], heat["zmax"]) == (-1, 1)
    assert saved["examples"]["content"]["src"].startswith("data:image/")


def test_a_test_run_shows_its_table_and_pictures(trained, synthetic, dashboard, tmp_path):
    arguments = ["--mode", "test", "--dataset-path", synthetic, "--save-dir", trained]
    arguments += ["--results-dir", tmp_path / "results", "--visdom-port", dashboard.number]
    succeed("main.py", *arguments)
    dashboard.env = environment(trained, "Synthetic")
    shown = windows(dashboard)
    assert "pixel AUROC" in shown["results"]["content"]
    assert shown["test examples"]["content"]["src"].startswith("data:image/")


def test_updates_replace_a_window_in_place(dashboard):
    for iteration in (1, 2):
        dashboard.add(record(iteration))
        wait_for(
            lambda n=iteration: (
                (w := windows(dashboard).get("critic")) and len(w["content"]["data"][0]["x"]) == n
            )
        )
    assert len([w for w in windows(dashboard) if w == "critic"]) == 1


def test_curves_stay_bounded_and_keep_their_course():
    curve = Curve()
    for i in range(100_000):
        curve.add(i, 2 * i)
    assert MAX_POINTS / 2 <= len(curve.x) <= MAX_POINTS
    assert curve.y == [2 * x for x in curve.x]
    assert curve.x[0] == 0
    assert curve.x[-1] > 99_000
    steps = np.diff(curve.x)
    assert steps.min() == steps.max()


def test_an_address_without_server_is_served_from_this_machine_alone(dashboard):
    with socket.socket() as s:
        s.settimeout(2)
        s.connect(("127.0.0.1", dashboard.number))
    addresses = {
        info[4][0]
        for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
        if not info[4][0].startswith("127.")
    }
    if sys.platform == "linux":  # where it is this machine too, but another address
        addresses.add("127.0.0.2")
    for address in addresses:
        with socket.socket() as s:
            s.settimeout(2)
            assert s.connect_ex((address, dashboard.number)) != 0


def test_a_server_killed_in_mid_training_is_only_missed(dashboard, capsys):
    dashboard.add(record(1))
    wait_for(lambda: "critic" in windows(dashboard))
    dashboard.server.kill()
    dashboard.server.wait()
    started = time.monotonic()
    for iteration in range(2, 200):
        dashboard.add(record(iteration))
    assert time.monotonic() - started < 1
    wait_for(lambda: "is gone" in capsys.readouterr().err)
    dashboard.close()


def test_a_server_that_comes_back_gets_everything_again(connected, capsys):
    port = free_port()
    first = connected(port)
    first.describe({"options": {"seed": 0}, "versions": {}})
    first.add(record(1))
    wait_for(lambda: "critic" in windows(first))
    first.server.kill()
    first.server.wait()
    first.add(record(2))
    wait_for(lambda: "is gone" in capsys.readouterr().err)
    second = connected(port)
    shown = wait_for(lambda: (w := windows(second)).keys() >= {"critic", "options"} and w)
    assert shown["critic"]["content"]["data"][0]["x"] == [1, 2]


def test_windows_have_their_places_before_their_values_and_the_options_come_last(dashboard):
    assert wait_for(lambda: windows(dashboard)).keys() == {"start"}, "there is a page at once"
    dashboard.describe({"options": {"seed": 0}, "versions": {}})
    wanted = ["examples", "cycle", "maps", "location", "critic", "generator"]
    wanted += ["classes", "errors", "gradients", "totals", "options"]
    shown = wait_for(lambda: len(w := windows(dashboard)) == len(wanted) and w)
    assert sorted(shown, key=lambda window: shown[window]["i"]) == wanted
    assert "nothing so far" in shown["critic"]["content"]
    dashboard.add(record(1))
    shown = wait_for(lambda: "data" in (w := windows(dashboard))["critic"]["content"] and w)
    assert sorted(shown, key=lambda window: shown[window]["i"]) == wanted


@pytest.fixture
def silent_port():
    """A program that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def quick_timeout(monkeypatch):
    for module in ("dashboard", "visdom_server"):
        monkeypatch.setattr(f"descargan.{module}.TIMEOUT_SECONDS", 0.5)


def test_a_server_that_hangs_holds_nothing_back(silent_port, quick_timeout):
    dashboard = Dashboard("http://localhost", silent_port, "env")
    started = time.monotonic()
    for iteration in range(1000):
        dashboard.add(record(iteration))
    assert time.monotonic() - started < 1
    dashboard.close()
    assert time.monotonic() - started < 10
    assert not [t for t in threading.enumerate() if t is dashboard.thread and t.is_alive()]


def test_a_port_taken_by_another_program(silent_port, quick_timeout, tmp_path, capsys, synthetic):
    common = ["--dataset-path", synthetic, "--save-dir", tmp_path / "run", *TINY]
    result = program("main.py", *common, "--visdom", "on", "--visdom-port", silent_port)
    assert_refused(result, str(silent_port), "--visdom-port")
    dashboard = connect("auto", "http://localhost", silent_port, "env", tmp_path)
    assert dashboard.url is None
    assert "taken by another program" in capsys.readouterr().err


def test_a_remote_server_that_does_not_answer_is_not_replaced(tmp_path, capsys):
    dashboard = connect("auto", "http://127.0.0.2", free_port(), "env", tmp_path)
    assert dashboard.url is None
    assert "start one there" in capsys.readouterr().err


def test_a_command_that_would_not_work_is_not_printed(tmp_path, monkeypatch, capsys):
    """Weights alone, as those of the official release, have no history to replay."""
    (tmp_path / "netG_chexpert.pt").touch()
    opened = Dashboard(server=object())
    monkeypatch.setattr("descargan.dashboard.open_dashboard", lambda *_: opened)
    connect("on", "http://localhost", 1, "env", tmp_path / "dashboard")
    assert "--replay" not in capsys.readouterr().out
    (tmp_path / "metrics_chexpert.jsonl").touch()
    connect("on", "http://localhost", 1, "env", tmp_path / "dashboard")
    assert "--replay" in capsys.readouterr().out


def test_maps_of_another_method_are_no_run_to_replay(tmp_path, monkeypatch, capsys):
    """Their dashboard is that of their results, not of networks that they do not use."""
    asked = []

    def opened(*arguments):
        asked.append(arguments)
        return Dashboard(server=object())

    monkeypatch.setattr("descargan.dashboard.open_dashboard", opened)
    monkeypatch.setattr(Dashboard, "close", lambda _: None)
    results = tmp_path / "results"
    options = Options(visdom="on", maps=tmp_path / "maps", results_dir=results)
    with descargan.dashboard.connected(options, Process()):
        assert "--replay" not in capsys.readouterr().out
    assert asked[0][2:4] == (environment(results, "Synthetic"), results / "dashboard")


def test_off_needs_nothing():
    dashboard = Dashboard()
    dashboard.add(record(1))
    dashboard.describe({"options": {}, "versions": {}})
    dashboard.close()


def test_environments_are_one_per_run(tmp_path):
    assert environment(tmp_path / "a b", "Synthetic").startswith("Synthetic-a-b-")
    assert environment(tmp_path / "x" / "run", "Synthetic") != environment(
        tmp_path / "y" / "run", "Synthetic"
    )


def test_an_environment_is_named_for_any_folder():
    assert environment(Path(os.fsdecode(b"run\xff")), "Synthetic").startswith("Synthetic-run--")
    assert len(environment(Path("n" * 245), "Synthetic")) < 100


def test_no_proxy_stands_before_this_machine(dashboard, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    assert answers("http://localhost", dashboard.number)
    assert open_client(dashboard.address, dashboard.number, "env").text("drawn", win="w") == "w"


def test_the_current_folder_of_archives_is_one(monkeypatch):
    taken = []
    monkeypatch.setattr("descargan.dashboard.install_assets", taken.append)
    for words in ([], ["."]):
        monkeypatch.setattr(sys, "argv", ["dashboard", "--install-assets", *words])
        main()
    assert taken == [None, Path()]


@pytest.fixture
def without_visdom(monkeypatch):
    monkeypatch.setattr("descargan.dashboard.find_spec", lambda _: None)


def test_without_visdom_training_goes_on_with_one_sentence(without_visdom, tmp_path, capsys):
    assert connect("auto", "http://localhost", free_port(), "env", tmp_path).url is None
    (line,) = capsys.readouterr().err.splitlines()
    assert "visdom is not installed: pip install" in line
    with pytest.raises(UserError, match="visdom is not installed"):
        connect("on", "http://localhost", free_port(), "env", tmp_path)


def test_the_module_imports_nothing_of_visdom():
    code = (
        "import sys, descargan.dashboard\n"
        "sys.exit(bool({'visdom', 'tornado', 'requests'} & sys.modules.keys()))"
    )
    assert start("-c", code).wait(timeout=60) == 0


RUN = os.fsdecode(b"run\xff")  # whose name is no UTF-8


@pytest.fixture
def plain_page(tmp_path, monkeypatch):
    """The address of a server whose machine has no scripts and may not fetch any."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    port = free_port()
    server = start_server(port, tmp_path / RUN / "dashboard")
    yield f"http://localhost:{port}"
    stop_server(server)


def test_a_page_without_scripts_says_what_is_missing_and_how_to_mend_it(plain_page, tmp_path):
    page = requests.get(f"{plain_page}/env/any").text
    assert "js/plotly-plotly.min.js" in page
    assert "DESCARGAN_OFFLINE is set" in page
    assert "-m descargan.dashboard --install-assets</pre>" in page
    assert "There are none yet" in page
    assert "<script" not in page
    for name, content in (("old", b"old picture"), ("new", b"new picture")):
        (tmp_path / RUN / f"examples_{name}.png").write_bytes(content)
    os.utime(tmp_path / RUN / "examples_old.png", (0, 0))
    page = requests.get(plain_page).text
    assert f"data:image/png;base64,{base64.b64encode(b'new picture').decode()}" in page
    client = Visdom(port=int(plain_page.rpartition(":")[2]), use_incoming_socket=False)
    assert client.text("it is drawn all the same", win="w") == "w"


def test_a_server_ends_with_the_program_that_started_it(tmp_path):
    port = free_port()
    code = (
        "from pathlib import Path; from descargan.visdom_server import start_server; "
        f"start_server({port}, Path({str(tmp_path)!r})); print('up', flush=True); input()"
    )
    process = start("-c", code, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == "up\n"
    process.kill()
    wait_for(lambda: is_free(port))


def is_free(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) != 0


def replay(folder, port):
    """Start a replay and wait until it shows the run."""
    arguments = ("-m", "descargan.dashboard", "--replay", folder, "--port", port)
    process = start(*arguments, stdout=subprocess.PIPE)
    lines = []
    for line in process.stdout:
        if line == "press Ctrl-C to end\n":
            return process, lines
        lines.append(line)
    raise AssertionError(f"the replay ended: {lines}")


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C cannot be sent to one process there")
def test_replay_shows_a_finished_run_and_leaves_nothing(trained):
    port, before = free_port(), sorted(trained.rglob("*"))
    process, lines = replay(trained, port)
    shown = Dashboard()
    shown.number, shown.env = port, environment(trained, "Synthetic")
    assert lines == [f"dashboard: http://localhost:{port}/env/{shown.env}\n"]
    wanted = {*CURVES, "examples", "maps", "options"}

    def drawn():
        found = windows(shown)
        return found.keys() >= wanted and "nothing so far" not in str(found) and found

    found = wait_for(drawn, 60)
    assert len(found["critic"]["content"]["data"][0]["x"]) == 6
    front = requests.get(f"http://localhost:{port}/", timeout=10)
    assert front.url == f"http://localhost:{port}/env/{shown.env}"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0
    assert is_free(port)
    assert sorted(trained.rglob("*")) == before


def test_a_fresh_clone_replays_the_run_that_comes_with_it(tmp_path, capsys):
    shutil.copytree(ROOT / "save_nets" / "pretrained", tmp_path / "save_nets" / "pretrained")
    files = find_history(tmp_path / "save_nets")
    assert files.folder == tmp_path / "save_nets" / "pretrained"
    assert files.read_metrics()
    assert "comes with the project" in capsys.readouterr().out


def test_a_folder_with_several_runs_is_asked_which(tmp_path):
    for name in ("chexpert", "synthetic"):
        (tmp_path / f"metrics_{name}.jsonl").touch()
    with pytest.raises(UserError, match="runs of Synthetic and Chexpert: name one with --dataset"):
        find_history(tmp_path)
    assert find_history(tmp_path, "Chexpert").metrics == tmp_path / "metrics_chexpert.jsonl"


def test_replay_of_nothing_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no metrics of a run: see --replay and --dataset"):
        find_history(tmp_path)


def test_examples_without_maps_are_damaged(tmp_path):
    np.savez(tmp_path / "x.npz", image=np.zeros((2, 4, 4)))
    with pytest.raises(UserError, match=r"x\.npz is damaged: restore or remove it"):
        read_examples(tmp_path / "x.npz")


@pytest.mark.parametrize("kept", [0, 10, 0.5])
def test_damaged_examples_are_named(trained, tmp_path, kept):
    content = (trained / "examples_synthetic.npz").read_bytes()
    size = int(kept * len(content)) if kept < 1 else kept
    path = tmp_path / "examples_synthetic.npz"
    path.write_bytes(content[:size])
    with pytest.raises(UserError, match=f"{path} is damaged: restore or remove it"):
        read_examples(path)
