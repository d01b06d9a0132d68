"""Small data sets and runs that several tests share."""

import contextlib
import importlib
import io
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# The networks of the tests are so small that threads only wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["DESCARGAN_OFFLINE"] = "1"  # nothing is fetched

# Ctrl-C, which some tests send, is ignored under nohup, and what they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
import torch

from descargan import cli, figures

figures.DPI = 20  # drawing takes most of the time of a run of a few iterations

ROOT = Path(__file__).parents[1]
STARTED: list[subprocess.Popen] = []
TINY = ["--image-size", "64", "--base-filters", "2", "--critic-filters", "2", "--batch-size", "4"]


class Result(NamedTuple):
    """What a command left: exit status and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def program(script: str, *arguments: object) -> Result:
    """Run a script of the project as from the command line, in this process to save its start."""
    module = importlib.import_module(Path(script).stem)
    stdout, stderr = io.StringIO(), io.StringIO()
    old, sys.argv = sys.argv, [script, *map(str, arguments)]
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            try:
                status = cli.run(module.main)
            except SystemExit as end:
                status = end.code or 0
    finally:
        sys.argv = old
        torch.set_flush_denormal(False)
        signal.signal(signal.SIGTERM, handler)
    return Result(status, stdout.getvalue(), stderr.getvalue())


def start(script: str, *arguments: object, **settings: object) -> subprocess.Popen:
    """Start a script of the project in a process of its own, which ends with the test."""
    command = [sys.executable, script, *map(str, arguments)]
    STARTED.append(subprocess.Popen(command, cwd=ROOT, text=True, **settings))
    return STARTED[-1]


def succeed(*arguments: object) -> Result:
    result = program(*arguments)
    assert result.returncode == 0, result.stderr
    return result


def assert_refused(result: Result, *mentions: object) -> None:
    """Exit status 2 and one sentence that holds ``mentions``, without a traceback."""
    assert result.returncode == 2, result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    assert "Traceback" not in result.stderr
    for mention in mentions:
        assert str(mention) in errors[0], errors[0]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic data set of 64 x 64: 6 + 6 training, 4 + 4 validation, 4 + 4 test images."""
    folder = tmp_path_factory.mktemp("data") / "warp-set"
    succeed(
        "create_synthetic_dataset.py",
        *("--output", folder, "--image-size", 64, "--train", 6, "--validate", 4, "--test", 4),
    )
    return folder


@pytest.fixture(scope="session")
def trained(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two epochs of three iterations."""
    folder = tmp_path_factory.mktemp("runs") / "two epochs"
    arguments = [*TINY, "--dataset-path", synthetic, "--save-dir", folder, "--epochs", 2]
    succeed("main.py", *arguments, "--critic-steps", 2, "--log-every", 1, "--visdom", "off")
    return folder


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
    torch.set_flush_denormal(False)  # which training and testing through the API leave on


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    """Ends what the test has started, whatever happened; servers end with who started them."""
    yield
    while STARTED:
        with STARTED.pop() as process:
            process.kill()
