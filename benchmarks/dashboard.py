"""What the dashboard costs training, whatever its server does.

    python -m benchmarks.dashboard

For servers that answer, hang, and are killed half-way it trains for 60 iterations at 64 x 64 and
prints the share of the time that went by inside the dashboard's calls; then it sends 10,000 updates
and prints how long one blocks, and how memory grows.
"""

import argparse
import contextlib
import io
import resource
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import main as program
from create_synthetic_dataset import write_dataset
from descargan.dashboard import CURVES, Dashboard, connect

UPDATES = 10_000
TRAINING = ("--image-size", "64", "--base-filters", "16", "--critic-filters", "16", "--epochs", "3")
CALLS = ("add", "describe", "show_examples")


def record(iteration: int) -> dict:
    names = [name for plot in CURVES.values() if plot.kind == "losses" for name in plot.names]
    names += [f"{player}/adversarial" for player in ("critic", "generator")]
    names += ["critic/gradient penalty", "critic/classification", "generator/classification"]
    values = {name: float(np.sin(iteration / 100 + i)) for i, name in enumerate(names)}
    return {"kind": "losses", "iteration": iteration, "epoch": 0.0, **values}


def blocked_share(
    connection: Callable[[], Dashboard], kill: bool, folder: Path
) -> tuple[float, int]:
    """Share of a training run that it spends inside calls of the dashboard, and their number."""
    blocked = []

    class Timed(Dashboard):
        pass

    def timed(name: str) -> Callable[..., None]:
        def call(self: Dashboard, *arguments: object) -> None:
            if kill and len(blocked) == 5 and self.server:
                self.server.kill()
            start = time.perf_counter()
            getattr(Dashboard, name)(self, *arguments)
            blocked.append(time.perf_counter() - start)

        return call

    for name in CALLS:
        setattr(Timed, name, timed(name))

    def connected(*_: object) -> Dashboard:
        dashboard = connection()
        dashboard.__class__ = Timed
        return dashboard

    program.connect = connected
    sys.argv = ["main.py", *TRAINING, "--dataset-path", str(folder / "set")]
    sys.argv += ["--save-dir", tempfile.mkdtemp(dir=folder)]
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        program.main()
    return sum(blocked) / (time.perf_counter() - start), len(blocked)


def cost_of_updates(dashboard: Dashboard, kill: bool) -> tuple[float, float, float]:
    """Mean and largest milliseconds of a call over all updates, and growth of memory in MiB."""
    calls = np.empty(UPDATES)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for iteration in range(UPDATES):
        if kill and iteration == UPDATES // 2:
            dashboard.server.kill()
        called = time.perf_counter()
        dashboard.add(record(iteration))
        calls[iteration] = time.perf_counter() - called
        time.sleep(0.001)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return 1000 * calls.mean(), 1000 * calls.max(), grown / 1024


def main() -> None:
    argparse.ArgumentParser(description=__doc__.split("\n\n")[0]).parse_args()
    with socket.socket() as hanging, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with contextlib.redirect_stderr(io.StringIO()):
            write_dataset(folder / "set", 64, (100, 10, 10))
        hanging.bind(("127.0.0.1", 0))
        hanging.listen()

        def answering() -> Dashboard:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            return connect("on", "http://localhost", port, "bench", folder / "served")

        def silent() -> Dashboard:
            return Dashboard("http://localhost", hanging.getsockname()[1], "bench")

        for case, connection in (
            ("a server that answers", answering),
            ("a server that hangs", silent),
            ("a server killed half-way", answering),
        ):
            kill = "killed" in case
            share, number = blocked_share(connection, kill, folder)
            dashboard = connection()
            mean, largest, grown = cost_of_updates(dashboard, kill)
            dashboard.close()
            print(
                f"{case}: {100 * share:.4f} % of training blocked in {number} calls; an update "
                f"blocks for "
                f"{mean:.3f} ms (mean of {UPDATES}; largest {largest:.1f} ms), "
                f"memory grew by {grown:.0f} MiB",
                flush=True,
            )


if __name__ == "__main__":
    main()
