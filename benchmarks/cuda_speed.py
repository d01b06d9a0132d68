"""Iterations a second of the paper's recipe on a device, its memory, and how near that is to what
the arithmetic allows.

The arithmetic is that of all convolutions and matrix products, counted as they run; the bound is
the rate of one large matrix product in the same precision, measured on the same device. That of
mixed precision leaves out that the gradient penalty stays in float32.

The first iterations of a size in a precision are cuDNN's search for the fastest convolutions, which
can take a minute: so the paper's own size comes first, the fast precisions before float32, each row
has a limit, and what the search takes of memory does not count.
"""

import gc
import itertools
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

import torch

from benchmarks.cuda_checks import PRECISIONS, Precision, backend, one_kind
from benchmarks.graphs import GraphTraining
from benchmarks.training_step import Counter
from descargan.options import Options

# Sides of the images, filters of the generator and of the discriminator.
CASES = ((256, 64, 32), (64, 16, 16), (64, 64, 32), (128, 64, 32))
ORDER = ("TF32", "AMP and TF32", "AMP", "float32")
ENOUGH = 0.8  # seconds that a measurement takes at least
AT_LEAST = 10  # seconds that must be left for one more row
ROW_LIMIT = 25  # seconds
COMPILE_LIMIT = 90  # seconds
Say = Callable[[str], None]


class Bench(Protocol):
    device: torch.device
    tiny: bool
    left: float


def shrunk(options: Options) -> Options:
    """As small as the networks are at all."""
    return replace(options, base_filters=4, critic_filters=4, batch_size=4)


def options_of(case: tuple[int, int, int], bench: Bench) -> Options:
    size, filters, critic_filters = case
    options = Options(
        image_size=size, base_filters=filters, critic_filters=critic_filters, flip="both"
    )
    return shrunk(options) if bench.tiny else options


def ceilings(device: torch.device, tiny: bool) -> dict[str, float]:
    """Floating-point operations a second of a large matrix product, by precision."""
    n = 256 if tiny else 8192
    found = {}
    for name, precision in PRECISIONS.items():
        dtype = torch.bfloat16 if precision.amp else torch.float32
        a, b = torch.randn(2, n, n, device=device, dtype=dtype)
        with backend(precision.tf32):
            for _ in range(3):
                a @ b
            wait(device)
            start = time.perf_counter()
            for _ in range(10):
                a @ b
            wait(device)
        found[name] = 10 * 2 * n**3 / (time.perf_counter() - start)
    return found


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def cycle(training: GraphTraining) -> None:
    """The iterations of the critic alone and the one with the generator."""
    for _ in range(training.options.critic_steps):
        training.iterate()


def seconds_of_cycle(training: GraphTraining, tiny: bool) -> float:
    """Median over cycles, after those that warm up and record."""
    with training.on_stream():
        for _ in range(0 if tiny else 3):
            cycle(training)
        training.synchronize()
        forget_peak(training.device)
        times: list[float] = []
        while not times or (not tiny and (sum(times) < ENOUGH or len(times) < 3)):
            start = time.perf_counter()
            cycle(training)
            training.synchronize()
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def forget_peak(device: torch.device) -> None:
    """Give back the memory that nothing holds, and count its peak anew."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def measure(options: Options, device: torch.device, graphs: bool, tiny: bool) -> dict:
    """Iterations a second, the peak of the GPU's memory, GiB, and, without graphs, the number of
    floating-point operations of an iteration."""
    forget_peak(device)
    training = one_kind(options, device, graphs)
    counter = Counter()
    if not graphs:
        with training.on_stream(), counter:
            cycle(training)
    seconds = seconds_of_cycle(training, tiny)
    training.finish()
    # Graphs keep what they use; without them it is what was in use at once.
    kept = torch.cuda.max_memory_reserved if graphs else torch.cuda.max_memory_allocated
    return {
        "iterations a second": options.critic_steps / seconds,
        "memory, GiB": kept(device) / 2**30 if device.type == "cuda" else 0.0,
        "operations": counter.total / options.critic_steps,
    }


def measure_all(bench: Bench, say: Say) -> dict[str, list[dict]]:
    """A row for each size, precision and way of running it."""
    bounds = ceilings(bench.device, bench.tiny)
    say(", ".join(f"{name} {rate / 1e12:.3g} TFLOP/s" for name, rate in bounds.items()))
    cases = CASES[1:2] if bench.tiny else CASES
    rows = [row for case in cases for row in measure_case(case, bench, bounds, say)]
    measured = [{"precision": name, "TFLOP/s": rate / 1e12} for name, rate in bounds.items()]
    return {"speed": rows, "bounds": measured}


def measure_case(
    case: tuple[int, int, int], bench: Bench, bounds: dict[str, float], say: Say
) -> list[dict]:
    """The rows of one size, as far as there is time."""
    ways = ("as it is", "CUDA graphs") if bench.device.type == "cuda" else ("as it is",)
    rows, operations = [], 0.0
    for name, way in itertools.product(ORDER[-1:] if bench.tiny else ORDER, ways):
        row = describe(case, name, way)
        if bench.left < AT_LEAST:
            say(f"no time left for {row}")
            continue
        start = time.perf_counter()
        try:
            with limit(min(bench.left, ROW_LIMIT)):
                options = options_of(case, bench)
                row |= measure_in(PRECISIONS[name], options, bench, way == "CUDA graphs")
            operations = row.pop("operations") or operations
            row["TFLOP an iteration"] = operations / 1e12
            row["share of the bound"] = operations * row["iterations a second"] / bounds[name]
        except (RuntimeError, TimeoutError) as error:
            row["failed"] = repr(error)[:200]
        row["seconds"] = time.perf_counter() - start
        rows.append(row)
        say(str(row))
    return rows


def measure_in(precision: Precision, options: Options, bench: Bench, graphs: bool) -> dict:
    with backend(precision.tf32):
        return measure(replace(options, amp=precision.amp), bench.device, graphs, bench.tiny)


def describe(case: tuple[int, int, int], precision: str, way: str) -> dict[str, object]:
    size, filters, critic_filters = case
    return {
        "image": size,
        "filters": f"{filters} + {critic_filters}",
        "precision": precision,
        "way": way,
    }


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in what takes longer."""

    def stop(_number: int, _frame: object) -> None:
        raise TimeoutError(f"longer than {seconds:.0f} s")

    old = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.1))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def measure_compiled(bench: Bench, say: Say) -> dict[str, list[dict]]:
    """The generator under torch.compile, at the paper's size; the gradient penalty's double
    backward pass keeps the discriminator as it is."""
    if bench.device.type != "cuda" or bench.left < 20:
        say("torch.compile is left out: no GPU, or no time")
        return {}
    case = CASES[0]
    rows = []
    for name in ("TF32", "AMP and TF32"):
        row = describe(case, name, "torch.compile of the generator")
        options = replace(options_of(case, bench), amp=PRECISIONS[name].amp)
        start = time.perf_counter()
        try:
            with limit(min(bench.left - 5, COMPILE_LIMIT)), backend(PRECISIONS[name].tf32):
                training = one_kind(options, bench.device)
                training.state.generator.network.compile()
                seconds = seconds_of_cycle(training, bench.tiny)
            row["iterations a second"] = options.critic_steps / seconds
        except Exception as error:
            row["failed"] = repr(error)[:200]
        row["seconds to compile and measure"] = time.perf_counter() - start
        rows.append(row)
        say(str(row))
    return {"compile": rows}
