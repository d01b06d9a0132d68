"""How the time and the memory of a training iteration grow, and the fitted exponents.

    python -m benchmarks.growth
    python -m benchmarks.growth --vary size --rounds 5

From one case of the paper's networks, the size of the images, the filters of both networks and the
batch are varied in turn, each in a process of its own, by the processor's time, which others on the
machine disturb less than the clock; and the processes under torchrun, by the clock. An iteration is
the mean of a cycle, four of the critic alone and one with the generator. Memory is the largest
resident, all included.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.training_step import CYCLE, memory_of_process
from descargan.device import speed_up_process
from descargan.distributed import Process, process_group
from descargan.models import build_networks
from descargan.options import Options
from descargan.steps import Batch, TrainingState, train_step


class Case(NamedTuple):
    """Images of size x size in batches, each process its own; filters of both networks."""

    size: int = 128
    filters: int = 16
    batch: int = 4
    processes: int = 1


VARIED = {
    "size": (64, 128, 256, 512),
    "filters": (8, 16, 32, 64),
    "batch": (2, 4, 8, 16),
    "processes": (1, 2),
}


class Cost(NamedTuple):
    """Seconds of an iteration, and MiB."""

    seconds: float
    memory: float


def measure(case: Case, rounds: int, process: Process) -> Cost:
    """The cost of an iteration in this process."""
    options = Options(image_size=case.size, base_filters=case.filters, critic_filters=case.filters)
    torch.manual_seed(process.rank)
    state = TrainingState(*build_networks(options), options, torch.device("cpu"), process)
    images = torch.rand(case.batch, 1, case.size, case.size) * 2 - 1
    classes = torch.arange(case.batch) % 2
    clock: Callable[[], float] = time.process_time if case.processes == 1 else time.perf_counter
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(rounds):
        for with_generator, times in seconds.items():
            start = clock()
            noise = options.noise * torch.rand_like(images)
            batch = Batch(images, classes, noise, classes.repeat(process.world), process)
            train_step(state, batch, options, with_generator)
            times.append(clock() - start)
    alone, both = (min(times) for times in seconds.values())
    return Cost(((CYCLE - 1) * alone + both) / CYCLE, memory_of_process("VmHWM"))


def measure_apart(case: Case, rounds: int) -> Cost:
    """The cost of an iteration in new processes, each of which has one thread."""
    launcher = [sys.executable]
    if case.processes > 1:
        launcher += ["-m", "torch.distributed.run", f"--nproc-per-node={case.processes}"]
    command = [
        *launcher,
        "-m",
        "benchmarks.growth",
        "--rounds",
        str(rounds),
        "--one",
        *map(str, case),
    ]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return Cost(*json.loads(printed))


def vary(name: str, rounds: int) -> None:
    """Print a table of one quantity, and the exponents of time and memory in it."""
    print(f"| {name} | iterations/s | images/s | memory (MiB) |\n| --- | --- | --- | --- |")
    costs = []
    for value in VARIED[name]:
        case = Case()._replace(**{name: value})
        cost = measure_apart(case, rounds)
        costs.append(cost)
        images = case.batch * case.processes / cost.seconds
        print(
            f"| {value} | {1 / cost.seconds:.3g} | {images:.3g} | {cost.memory:.0f} |", flush=True
        )
    if name != "processes":
        print(f"\nseconds grow as {name} to the power of {exponent(name, costs):.2f}\n")


def exponent(name: str, costs: list[Cost]) -> float:
    """The slope of the logarithm of the seconds over that of what is varied."""
    seconds = [cost.seconds for cost in costs]
    return float(np.polyfit(np.log(VARIED[name]), np.log(seconds), 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--vary", choices=VARIED, action="append", help="default: all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", type=int, nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    speed_up_process()
    if options.one:
        with process_group(torch.device("cpu")) as process:
            cost = measure(Case(*options.one), options.rounds, process)
        if process.is_first:
            print(json.dumps(cost))
        return
    print(f"{Case()}, but for what is varied\n")
    for name in options.vary or VARIED:
        vary(name, options.rounds)


if __name__ == "__main__":
    main()
