"""Memory, open files and processes over a long training run, which should stay flat.

    python -m benchmarks.long_run

2,000 iterations in 20 epochs of tiny networks, with two processes that read the images from disk
and a dashboard whose server is gone; a line after each epoch.
"""

import argparse
import contextlib
import io
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

import main as program
from create_synthetic_dataset import write_dataset
from descargan import data
from descargan.checkpoints import Run
from descargan.dashboard import Dashboard

OPTIONS = ("--image-size", "64", "--base-filters", "4", "--critic-filters", "4", "--workers", "2")
OPTIONS += ("--batch-size", "4", "--epochs", "20", "--average", "0.99", "--log-every", "1")


def state_of_process() -> tuple[float, int, int]:
    """Resident memory in MiB, open files, child processes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return (
        pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        len(list(Path("/proc/self/fd").iterdir())),
        len(children),
    )


def main() -> None:
    argparse.ArgumentParser(description=__doc__.split("\n\n")[0]).parse_args()
    history = []
    save = Run.save

    def save_and_look(self: Run, training: dict) -> None:
        save(self, training)
        history.append(state_of_process())
        text = "epoch {:3d}  memory {:6.1f} MiB  open files {:3d}  processes {}"
        print(text.format(len(history), *history[-1]), flush=True)

    Run.save = save_and_look
    data.CACHE_BYTES = 0
    program.connect = lambda *_: Dashboard("http://localhost", 9)
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stderr(io.StringIO()):
            write_dataset(Path(folder) / "set", 64, (200, 4, 4))
        sys.argv = ["main.py", *OPTIONS, "--dataset-path", f"{folder}/set"]
        sys.argv += ["--save-dir", f"{folder}/run"]
        with contextlib.redirect_stderr(io.StringIO()):
            program.main()
    memory = np.array(history)[5:, 0]
    slope = np.polyfit(np.arange(len(memory)), memory, 1)[0]
    print(f"from epoch 6 on: memory {memory.min():.1f} to {memory.max():.1f} MiB, ", end="")
    print(f"slope {slope:+.2f} MiB an epoch; open files {sorted({h[1] for h in history})}")


if __name__ == "__main__":
    main()
