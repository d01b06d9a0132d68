"""Kills training 20 times and prints, as JSON, what it was doing each time.

    python tests/kill_harness.py SAVE_DIR KILLS [options of main.py]

Each run is forked from this process, which has imported everything and computed nothing.
"""

import importlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import main
from descargan import files
from descargan.checkpoints import Run, read_file
from descargan.cli import run

# What a run imports when it comes to it, which takes longer than all that it then does.
LATER = ("descargan.api", "sklearn.covariance", "torch._dynamo", "matplotlib.backends.backend_agg")


def train(arguments: list[str], report: int) -> None:
    """Body of a child: main.py, with writes that are slow and reported, so that they can be hit."""
    fsync = os.fsync

    def slow(handle: int) -> None:
        os.write(report, b"[")
        time.sleep(0.02)
        fsync(handle)
        time.sleep(0.02)
        os.write(report, b"]")

    files.os.fsync = slow
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    sys.argv = ["main.py", *arguments]
    os._exit(run(main.main))


def kill_once(arguments: list[str], moment: float) -> str | None:
    """Kill a run inside its ``moment``-th write, or after that where ``moment`` is not whole."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        train(arguments, writing)
    os.close(writing)
    begun, doing = 0, None
    while sign := os.read(reading, 1):
        begun += sign == b"["
        if sign == b"[" and begun == moment:
            doing = "write"
        elif sign == b"]" and begun == int(moment) < moment:
            doing = "between writes"
            time.sleep(random.uniform(0, 0.05))
        if doing:
            time.sleep(random.uniform(0, 0.03))
            os.kill(child, signal.SIGKILL)
            break
    os.close(reading)
    _, status = os.waitpid(child, 0)
    return doing if os.WIFSIGNALED(status) else None


def main_loop(folder: Path, kills: int, arguments: list[str]) -> None:
    random.seed(0)
    for module in LATER:
        importlib.import_module(module)
    log = []
    for number in range(kills):
        # Ever other writes, in turn inside and after them, so that every file is hit.
        moment = 3 + number % 9 + (0.5 if number % 2 else 0)
        log.append(kill_once(arguments, moment))
        files = Run(folder, "Synthetic")
        if files.is_resumable():
            files.load_state()
        for path in (files.generator, files.discriminator):
            if path.exists():
                read_file(path)
    print(json.dumps(log))


if __name__ == "__main__":
    main_loop(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
