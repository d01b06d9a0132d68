"""What the dashboard costs training, whatever its server does.

    python benchmarks/dashboard.py

prints, for servers that answer, hang, and are killed half-way: for how long an update blocks
training, over 10,000 of them; how memory grows; and the ratio of the time of steps with and without
an update each, alternating in one process. Training sends an update every ten iterations.
"""

import argparse
import resource
import socket
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from descargan.dashboard import CURVES, Dashboard, connect
from descargan.models import Discriminator

UPDATES = 10_000
ROUNDS = 15
STEPS = 20


def record(iteration: int) -> dict:
    names = [name for spec in CURVES.values() if spec[0] == "losses" for name in spec[4]]
    values = {name: float(np.sin(iteration / 100 + i)) for i, name in enumerate(names)}
    return {"kind": "losses", "iteration": iteration, "epoch": 0.0, **values}


def work(discriminator: Discriminator, images: torch.Tensor) -> None:
    """Stands for a training iteration: about 50 ms of the networks' own operations."""
    scores, logits = discriminator(images, 0)
    (scores.sum() + logits.sum()).backward()


def cost_of_updates(dashboard: Dashboard, kill_half_way: bool) -> tuple[float, float, float]:
    """Mean and largest milliseconds of a call over all updates, and growth of memory in MiB."""
    calls = np.empty(UPDATES)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for iteration in range(UPDATES):
        if kill_half_way and iteration == UPDATES // 2:
            dashboard.server.kill()
        called = time.perf_counter()
        dashboard.add(record(iteration))
        calls[iteration] = time.perf_counter() - called
        time.sleep(0.001)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return 1000 * calls.mean(), 1000 * calls.max(), grown / 1024


def step_ratio(dashboard: Dashboard) -> np.ndarray:
    """Time of steps with an update each, over the time of steps without, alternating."""
    torch.manual_seed(0)
    discriminator = Discriminator(base_filters=16, image_size=64)
    images = torch.rand(10, 1, 64, 64)
    ratios = []
    for _ in range(ROUNDS):
        seconds = []
        for silent in (True, False):
            start = time.perf_counter()
            for iteration in range(STEPS):
                work(discriminator, images)
                if not silent:
                    dashboard.add(record(iteration))
            seconds.append(time.perf_counter() - start)
        ratios.append(seconds[1] / seconds[0])
    return np.array(ratios)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    with socket.socket() as hanging, tempfile.TemporaryDirectory() as folder:
        hanging.bind(("127.0.0.1", 0))
        hanging.listen()
        for case in ("a server that answers", "a server that hangs", "a server killed half-way"):
            if "hangs" in case:
                dashboard = Dashboard("http://localhost", hanging.getsockname()[1], "bench")
            else:
                with socket.socket() as free:
                    free.bind(("127.0.0.1", 0))
                    port = free.getsockname()[1]
                dashboard = connect("on", "http://localhost", port, "bench", Path(folder))
            ratios = step_ratio(dashboard)
            mean, largest, grown = cost_of_updates(dashboard, "killed" in case)
            dashboard.close()
            print(
                f"{case}: an update blocks for {mean:.3f} ms (mean of {UPDATES}; largest "
                f"{largest:.1f} ms), memory grew by {grown:.0f} MiB; time of a step with an update "
                f"over without: {np.median(ratios):.3f} ({ratios.min():.3f} to {ratios.max():.3f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
