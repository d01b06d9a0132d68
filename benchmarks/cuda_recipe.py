"""The paper's recipe on the synthetic data set, by CUDA graphs, as far as the time allows.

First at 64 x 64 with 16 + 16 filters, to the end of its 160,000 iterations if it can be, then at
256 x 256 with all filters. The validation split is read at points spread over the run: a line each
in OUT/curve-SIZE.jsonl, with the loss terms; then the generator's weights and a picture of
examples. What is trained and in which order is what ``main.py`` does with the same options.
"""

import contextlib
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch

from benchmarks.cuda_checks import backend, one_kind
from benchmarks.cuda_speed import seconds_of_cycle, shrunk
from benchmarks.graphs import GraphTraining
from descargan import DISEASED, metrics
from descargan.data import ImageDataset
from descargan.evaluation import arrays, example_batch, translate_examples, validate
from descargan.figures import example_figure, save_figure
from descargan.files import write_json_lines
from descargan.options import Options
from descargan.translator import Translator

Say = Callable[[str], None]
READINGS = 20
EPOCHS = 500
BATCH = 50  # of a reading
STRIDE = 100  # iterations between looks at the clock
AT_THE_END = 12.0  # seconds that the last reading, weights and picture may take
SECONDS_OF_READING = 2.0
ITERATIONS = 160_000  # of the recipe, on the paper's 1,600 images of each class
SCRIPT = "create_synthetic_dataset.py"


class Bench(Protocol):
    device: torch.device
    tiny: bool
    out: Path
    left: float


class Case(NamedTuple):
    """A run: its networks, its images of each class by split, and its share of the time."""

    options: Options
    counts: tuple[int, int]
    share: float
    readings: int
    tf32: bool


def cases(bench: Bench) -> list[Case]:
    """At 64 in float32; at 256 with TF32, which is several times as fast there."""
    paper = Options(flip="both", epochs=EPOCHS)
    small = replace(paper, image_size=64, base_filters=16, critic_filters=16)
    if bench.tiny:
        return [Case(shrunk(replace(small, epochs=1)), (10, 2), 1.0, 1, False)]
    return [
        Case(small, (1600, 200), 0.92, READINGS, False),
        Case(paper, (1600, 25), 1.0, 6, True),
    ]


def start_making(options: Options, counts: tuple[int, int], root: Path) -> subprocess.Popen:
    """A process that makes the data set in a folder of its own, named for its size."""
    folder = root / str(options.image_size)
    command = [sys.executable, SCRIPT, "--output", folder, "--image-size", options.image_size]
    command += ["--train", counts[0], "--validate", counts[1], "--test", 1]
    with log_of(options, root).open("wb") as log:
        return subprocess.Popen([str(x) for x in command], stdout=log, stderr=subprocess.STDOUT)


def log_of(options: Options, root: Path) -> Path:
    return root / f"{options.image_size}.log"


def run_all(bench: Bench, say: Say) -> dict[str, object]:
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        planned = cases(bench)
        making = [start_making(case.options, case.counts, root) for case in planned]
        try:
            for case, process in zip(planned, making, strict=True):
                title = f"recipe at {case.options.image_size}"
                try:
                    if process.wait():
                        raise RuntimeError(log_of(case.options, root).read_text()[-300:])
                    found |= run_case(case, bench, root, say)
                except Exception as error:
                    traceback.print_exc()
                    found[f"{title}, failed"] = {"error": repr(error)[:500]}
        finally:
            for process in making:
                process.kill()
                process.wait()
    return found


def run_case(case: Case, bench: Bench, root: Path, say: Say) -> dict[str, object]:
    """One run, by graphs; without them, from the beginning, where recording fails."""
    size = case.options.image_size
    options = replace(case.options, dataset_path=root / str(size))
    images, validation = (ImageDataset.open(options, split) for split in ("train", "validate"))
    end = time.monotonic() + case.share * bench.left
    tf32 = case.tf32 or needs_tf32(options, bench, end, say)
    for graphs in (True, False):
        training = GraphTraining.of(options, bench.device, images, graphs)
        run = Run(case, bench.out, training, validation, end, say)
        say(f"{size}: {run.length} iterations, {end - time.monotonic():.0f} s")
        with backend(tf32), training.on_stream():
            try:
                run.to_the_end()
                break
            except RuntimeError:
                if not training.graphs:
                    raise
                traceback.print_exc()
                say("again, without graphs")
    summary = run.summary() | {"precision": "TF32" if tf32 else "float32"}
    training.finish()
    return {f"recipe at {size}": summary, f"curve at {size}": run.curve}


def needs_tf32(options: Options, bench: Bench, end: float, say: Say) -> bool:
    """Whether float32 would not come to the end in time, and TF32 is faster."""
    if bench.device.type != "cuda":
        return False
    paces = {}
    for tf32 in (False, True):
        try:
            with backend(tf32):
                trial = one_kind(options, bench.device, graphs=True)
                paces[tf32] = options.critic_steps / seconds_of_cycle(trial, bench.tiny)
        except RuntimeError:
            traceback.print_exc()
            return True
    say(f"by graphs {paces[False]:.0f} iterations a second in float32, {paces[True]:.0f} in TF32")
    seconds = end - time.monotonic() - READINGS * SECONDS_OF_READING - AT_THE_END
    return paces[False] * seconds < ITERATIONS and paces[True] > paces[False]


@dataclass
class Run:
    """A run on its way: where it writes, and the curve."""

    case: Case
    out: Path
    training: GraphTraining
    validation: ImageDataset
    end: float  # of time.monotonic()
    say: Say
    curve: list[dict[str, float]] = field(default_factory=list)
    spent: float = 0.0  # seconds of training alone

    def __post_init__(self) -> None:
        options, state = self.training.options, self.training.state
        networks = (state.averaged, state.discriminator.network)
        self.translator = Translator(*networks, self.training.device)
        self.length = options.epochs * self.training.per_epoch
        self.file = self.out / f"curve-{options.image_size}.jsonl"

    @property
    def rate(self) -> float:
        """Iterations a second, readings left out."""
        return self.training.state.iteration / max(self.spent, 1e-9)

    @property
    def reachable(self) -> int:
        """The iteration that the time allows, all readings included, by the pace so far."""
        left = max(self.end - AT_THE_END - time.monotonic(), 0)
        return min(self.length, self.training.state.iteration + int(left * self.rate))

    def summary(self) -> dict[str, object]:
        return {
            "iterations": self.training.state.iteration,
            "of": self.length,
            "iterations a second": self.rate,
            "graphs": self.training.number_of_graphs,
        }

    def to_the_end(self) -> None:
        """Train, and read at evenly spread points, until all is done or the time is over."""
        state = self.training.state
        self.read()
        ahead = self.length if self.case.options.image_size == 64 else 0
        due = ahead // self.case.readings
        while state.iteration < self.length and time.monotonic() < self.end - AT_THE_END:
            start = time.monotonic()
            for _ in range(min(STRIDE, self.length - state.iteration)):
                self.training.iterate()
            self.training.synchronize()
            self.spent += time.monotonic() - start
            due = due or max(self.reachable // self.case.readings, STRIDE)
            if state.iteration >= due and state.iteration < self.length:
                self.read()
                due += (ahead or self.reachable) // self.case.readings
        if self.curve[-1]["iteration"] < state.iteration:
            self.read()
        self.keep()

    def read(self) -> None:
        """One more point of the curve. Raises ArithmeticError where a loss is no longer finite."""
        terms = self.training.latest()
        start = time.monotonic()
        at = {"iteration": self.training.state.iteration, "seconds": round(self.spent, 2)}
        numbers = validate(self.translator, self.validation, BATCH)
        point = at | numbers | best_dice(self.translator, self.validation)
        point["seconds of reading"] = time.monotonic() - start
        self.curve.append(point | terms)
        write_json_lines(self.file, self.curve)
        shown = ("pixel_auroc", "pixel_auprc", "dice", "mse_healthy", "accuracy")
        read = ", ".join(f"{name} {point[name]:.3f}" for name in shown if name in point)
        pace = f"{self.rate:.0f} it/s" if self.spent else "untrained"
        self.say(f"{point['iteration']} of {self.length}, {pace}: {read}")
        if not np.isfinite(list(terms.values())).all():
            raise ArithmeticError(f"a loss is no longer finite: {terms}")

    def keep(self) -> None:
        """The generator's weights, and examples."""
        size = self.training.options.image_size
        columns = translate_examples(self.translator, example_batch(self.validation))
        title = f"The paper's recipe after {self.training.state.iteration} iterations"
        with contextlib.suppress(OSError):
            save_figure(example_figure(columns, title), self.out / f"examples-{size}.png")
        generator, _ = self.training.state.weights()
        torch.save(generator, self.out / f"generator-{size}.pt")


def best_dice(translator: Translator, dataset: ImageDataset) -> dict[str, float]:
    """Dice by the threshold that is best over all diseased images, and that threshold."""
    curves = []
    for batch, truth, classes in translator.translate_split(dataset, BATCH):
        for c, found, true in zip(
            classes.tolist(), arrays(batch.difference), arrays(truth), strict=True
        ):
            if c == DISEASED:
                curves.append(metrics.dice_curve(found, true))
    mean = np.mean(curves, axis=0)
    best = int(mean.argmax())
    return {"best dice": float(mean[best]), "its threshold": float(metrics.THRESHOLDS[best])}
