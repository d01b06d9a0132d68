"""The dashboard, with real visdom servers on free ports, and all that can go wrong with one."""

import json
import signal
import socket
import subprocess
import threading
import time

import numpy as np
import pytest
from conftest import TINY, assert_refused, free_port, program, start, succeed
from visdom import Visdom

from descargan.dashboard import CURVES, MAX_POINTS, Curve, Dashboard, connect, environment


@pytest.fixture
def dashboard(tmp_path):
    dashboard = connect("on", "http://localhost", free_port(), "test-env", tmp_path / "served")
    yield dashboard
    dashboard.close()


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
    names = [name for spec in CURVES.values() if spec[0] == kind for name in spec[4]]
    values = {name: iteration + i / 10 for i, name in enumerate(names)}
    return {"kind": kind, "iteration": iteration, "epoch": iteration / 10, **values}


def test_a_training_run_draws_every_window_and_keeps_it_on_disk(synthetic, tmp_path):
    """End to end: main.py starts a server of its own, and the windows are read back."""
    port, run = free_port(), tmp_path / "run"
    arguments = [*TINY, "--dataset-path", synthetic, "--save-dir", run, "--epochs", 1]
    arguments += ["--critic-steps", 2, "--log-every", 1, "--visdom", "on", "--visdom-port", port]
    output = succeed("main.py", *arguments).stdout
    env = environment(run, "Synthetic")
    assert f"dashboard: http://localhost:{port}/env/{env}" in output
    saved = json.loads((run / "dashboard" / f"{env}.json").read_text())["jsons"]
    assert saved.keys() == {*CURVES, "options", "examples", "maps"}
    history = [json.loads(x) for x in (run / "metrics_synthetic.jsonl").read_text().splitlines()]
    for window, (kind, title, _, _, names) in CURVES.items():
        assert saved[window]["title"] == title
        drawn = saved[window]["content"]["data"]
        assert len(drawn) == len(names)
        for curve, name in zip(drawn, names, strict=True):
            known = [r[name] for r in history if r["kind"] == kind and r.get(name) is not None]
            plotted = [y for y in curve["y"] if y is not None]
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
    for address in addresses:
        with socket.socket() as s:
            s.settimeout(2)
            assert s.connect_ex((address, dashboard.number)) != 0


def test_a_server_killed_in_mid_training_is_only_missed(dashboard, capsys):
    dashboard.add(record(1))
    wait_for(lambda: "critic" in windows(dashboard))
    dashboard.server.send_signal(signal.SIGKILL)
    dashboard.server.wait()
    started = time.monotonic()
    for iteration in range(2, 200):
        dashboard.add(record(iteration))
    assert time.monotonic() - started < 1
    wait_for(lambda: "is gone" in capsys.readouterr().err)
    dashboard.close()


def test_a_server_that_comes_back_gets_all_curves_again(tmp_path):
    port = free_port()
    first = connect("on", "http://localhost", port, "env", tmp_path)
    first.add(record(1))
    wait_for(lambda: "critic" in windows(first))
    first.server.kill()
    first.server.wait()
    second = connect("on", "http://localhost", port, "env", tmp_path)
    first.add(record(2))
    wait_for(lambda: "critic" in windows(second))
    assert windows(second)["critic"]["content"]["data"][0]["x"] == [1, 2]
    second.close()
    first.close()


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


def test_replay_shows_a_finished_run(trained):
    port = free_port()
    arguments = ("-m", "descargan.dashboard", "--replay", trained, "--port", port)
    process = start(*arguments, stdout=subprocess.PIPE)
    try:
        for line in process.stdout:
            if "press Ctrl-C" in line:
                break
        shown = Dashboard()
        shown.number, shown.env = port, environment(trained, "Synthetic")

        def drawn():
            try:
                found = windows(shown)
            except Exception:
                return None
            return found if found.keys() >= {*CURVES, "examples", "maps", "options"} else None

        found = wait_for(drawn, 60)
        assert len(found["critic"]["content"]["data"][0]["x"]) == 6
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0


def test_replay_of_nothing_is_refused(tmp_path):
    process = start("-m", "descargan.dashboard", "--replay", tmp_path, stderr=-1)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "holds no metrics" in error
