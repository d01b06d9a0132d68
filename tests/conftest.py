"""Small data sets and runs that several tests share."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
TINY = ["--image-size", "64", "--base-filters", "2", "--critic-filters", "2", "--batch-size", "4"]


def program(*arguments: object, **settings: object) -> subprocess.CompletedProcess:
    """Run a script of the project as a user would; the result holds stdout and stderr."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        **settings,
    )


def succeed(*arguments: object, **settings: object) -> subprocess.CompletedProcess:
    result = program(*arguments, **settings)
    assert result.returncode == 0, result.stderr
    return result


def assert_refused(result: subprocess.CompletedProcess, *mentions: str) -> None:
    """Exit status 2 and one sentence that holds ``mentions``, without a traceback."""
    assert result.returncode == 2, result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    assert "Traceback" not in result.stderr
    for mention in mentions:
        assert str(mention) in errors[0]


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
