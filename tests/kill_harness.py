"""Kills training inside the writes of its files and after them; prints, as JSON, what came of it.

    python tests/kill_harness.py SAVE_DIR [options of main.py]

Each run is forked from this process, which has imported everything and trained nothing.
"""

import importlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import main
from descargan import figures, files
from descargan.checkpoints import Run, checksum_path, read_file
from descargan.cli import run

# What a run imports when it comes to it, which takes longer than all that it then does.
LATER = ("descargan.api", "sklearn.covariance", "torch._dynamo", "matplotlib.backends.backend_agg")


def moments(files: Run) -> list[tuple[str, str]]:
    """Files, in the order in which a run first writes them, and when to kill it.

    Inside the write of each; and after those of the weights and the state, where the next file is
    missing or an old one. From the last weights on each run goes on from a state saved before.
    """
    once = [files.metrics, files.options, files.likeness, files.reading]
    once += [files.examples, files.picture]
    best, last = files.weights("best"), (*files.weights("last"), files.state)
    once += [path for weights in best for path in (checksum_path(weights), weights)]
    found = [(path.name, "inside") for path in once]
    for path in last:
        found += [(checksum_path(path).name, "inside"), (path.name, "inside")]
        found += [(checksum_path(path).name, "after"), (path.name, "after")]
    return found


def train(arguments: list[str], name: str, report: int) -> None:
    """Body of a child: main.py, with a write of the file that is slow and reported."""
    fsync, half_of = os.fsync, files.half_of
    written = []

    def named(path: Path) -> Path:
        written.append(path.name)
        return half_of(path)

    def slow(handle: int) -> None:
        if written[-1] != name:
            return fsync(handle)
        os.write(report, b"!")
        time.sleep(0.02)
        fsync(handle)
        time.sleep(0.02)

    files.half_of, files.os.fsync = named, slow
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    sys.argv = ["main.py", *arguments]
    os._exit(run(main.main))


def killed(arguments: list[str], name: str, moment: str) -> bool:
    """Whether a run was killed inside its first write of a file, or soon after that."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        train(arguments, name, writing)
    os.close(writing)
    if os.read(reading, 1):
        time.sleep(random.uniform(0, 0.03) if moment == "inside" else random.uniform(0.05, 0.1))
        os.kill(child, signal.SIGKILL)
    os.close(reading)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def main_loop(folder: Path, arguments: list[str]) -> None:
    random.seed(0)
    for module in LATER:
        importlib.import_module(module)
    figures.DPI = 20  # as in all tests
    figures.png_of(figures.example_figure({"image": np.zeros((1, 8, 8))}, "the first takes long"))
    files = Run(folder, "Synthetic")
    log = []
    for name, moment in moments(files):
        entry = {"file": name, "moment": moment, "killed": killed(arguments, name, moment)}
        entry["iteration"] = files.load_state()["iteration"] if files.is_resumable() else 0
        for path in (*files.weights("last"), *files.weights("best")):
            if path.exists():
                read_file(path)
        log.append(entry)
    print(json.dumps(log))


if __name__ == "__main__":
    main_loop(Path(sys.argv[1]), sys.argv[2:])
