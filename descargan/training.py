"""The training loop: critic and classifier at every iteration, the generator at some of them.

The random numbers of an iteration (flips, noise, interpolation factors, dropout) are a function of
the seed, the iteration and the process alone, and the order of the images of the seed and the
epoch. So a run resumed at any iteration goes on exactly as if it had not been stopped.
"""

import io
import math
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from descargan import __version__
from descargan.augmentation import augment
from descargan.checkpoints import Run
from descargan.cost import Cost
from descargan.dashboard import Dashboard, connected
from descargan.data import (
    BATCHES_OF,
    ImageDataset,
    load,
    random_flips,
    random_stream,
    warn_of_brightness,
    warn_of_few,
)
from descargan.device import enough_memory
from descargan.distributed import Process, average, largest
from descargan.errors import UserError, warn
from descargan.evaluation import example_batch, reading_of_disease, translate_examples, validate
from descargan.figures import example_figure, save_figure
from descargan.files import naming, write_atomically, write_json
from descargan.likeness import keep_likeness
from descargan.locks import held
from descargan.methods import METHODS
from descargan.models import SIZE_MULTIPLE, build_networks
from descargan.options import Options, as_json, by_networks
from descargan.progress import Bar, progress_bar
from descargan.reading import keep_reading
from descargan.scores import OVERALL, PER_IMAGE, decimals, title_of
from descargan.steps import Batch, Terms, TrainingState
from descargan.succession import open_splits
from descargan.translator import Translator, averaged_flips

# Numbers of a validation, beside those that tests have too.
OF_VALIDATION = {
    "threshold": "threshold of the score map, by the classes alone",
    "level": "level of what score maps of diseased images show",
    "auroc_anomaly_low": "low end of its 95 % interval",
    "auroc_anomaly_high": "high end of its 95 % interval",
    "choice": "choice: the best weights are those of the highest",
}
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-image", "scikit-learn", "visdom")


@dataclass(frozen=True)
class TrainingResult:
    """Where a run is, how far it came, all its records, and the signal that stopped it, or 0."""

    folder: Path
    iteration: int
    history: list[dict]
    stopped_by: int = 0


class Training:
    """One run: its images, its state, and where it reports to."""

    def __init__(self, options: Options, device: torch.device, process: Process) -> None:
        self.options, self.device, self.process = options, device, process
        self.run, self.method = Run(options.save_dir, options.dataset), METHODS[options.networks]
        self.dashboard = Dashboard()  # shows nothing until the run begins
        torch.manual_seed(options.seed)
        networks = build_networks(options)
        self.images, self.validation = open_splits(options, process.is_first)
        self.fingerprint = self.images.fingerprint()
        self.content = self.images.content_fingerprint()
        self.whole_batch = options.batch_size * process.world
        self.per_epoch = len(self.batches_of(0))
        if not self.per_epoch:
            raise UserError(
                f"{len(self.images)} training images are too few for {process.world} processes: "
                "start fewer"
            )
        self.length = options.epochs * self.per_epoch
        self.state = TrainingState(*networks, options, device, process)
        self.examples = example_batch(self.validation)

    def batches_of(self, epoch: int) -> list[Tensor]:
        """Indices of the whole batches of an epoch, over all processes.

        A last one that leaves a process without an image is dropped.
        """
        size, seed = self.whole_batch, self.options.seed
        draw = BATCHES_OF[by_networks(self.options, "batches")]
        batches = draw(self.images.classes, size, seed, epoch)
        return [batch for batch in batches if len(batch) >= self.process.world]

    def begin(self, dashboard: Dashboard) -> None:
        """Take up the run in its folder, or start it, and show what is known of it."""
        self.dashboard = dashboard
        resumed = self.options.resume != "off" and self.run.is_resumable()
        if resumed:
            self.state.load_state_dict(self.load_fitting_state())
        if not self.process.is_first:
            return
        self.run.rewind_metrics(self.state.iteration if resumed else -1)
        description = describe_run(self.options, self.fingerprint)
        write_json(self.run.options, description)
        self.dashboard.describe(description)
        for line in self.run.read_metrics():
            self.dashboard.add(line)
        print(
            f"{len(self.images)} training and {len(self.validation)} validation images, "
            f"{self.per_epoch} iterations of {self.whole_batch} an epoch, {self.length} in all, on "
            f"{self.process.world} x {self.device.type}; writing to {self.run.folder}"
        )
        self.warn_of_settings()
        keep_likeness(self.run.likeness, self.images, self.validation)
        if self.state.iteration == 0:
            self.check_on_validation()  # the untrained networks, to compare with

    def warn_of_settings(self) -> None:
        """Say what number of images, length and precision are likely to spoil."""
        for split, dataset in (("train", self.images), ("validate", self.validation)):
            warn_of_few(dataset, split)
        warn_of_enlarging(self.images)
        warn_of_brightness(self.images)
        options = self.options
        alone = by_networks(options, "critic_alone")
        learns = max(self.length - max(options.critic_steps - 1, alone), 0)
        if not learns or learns < alone:
            warn(
                f"the critic begins without the generator, which learns in at most {learns} "
                f"of these {self.length} iterations: pass more --epochs"
            )
        if options.amp and options.networks == "paper" and options.penalty_of == "sum":
            warn(
                "--amp with the paper's critics has lost a long run, as their penalty leaves "
                "score maps free to grow: leave it out for more than some thousand iterations"
            )

    def load_fitting_state(self) -> dict:
        """The state to go on from.

        Raises UserError where it is of other images, batches or networks, or of more epochs.
        """
        state = self.run.load_state()
        same = state["fingerprint"] == self.fingerprint
        if not same or state.get("content", self.content) != self.content:
            first = self.options.after
            where = "--dataset-path holds" if first is None else f"--after {first} leaves"
            raise UserError(
                f"{self.run.state} was trained on other images than {where} now: "
                "restore them, or train into another --save-dir"
            )
        if state["whole_batch"] != self.whole_batch:
            raise UserError(
                f"{self.run.state} was trained with batches of {state['whole_batch']}, not "
                f"{self.whole_batch}: go on with as many processes as before, or train into "
                "another --save-dir"
            )
        if not self.state.fits(state):
            raise UserError(
                f"{self.run.state} is of networks as an earlier version had them: go on with that "
                "version, or train into another --save-dir"
            )
        if state["iteration"] > self.length:
            done = state["iteration"] / self.per_epoch
            raise UserError(
                f"{self.run.state} has {done:g} epochs behind it, and --epochs is "
                f"{self.options.epochs}: pass as many as it has, or more"
            )
        return state

    def save(self) -> None:
        if self.process.is_first:
            about = {"fingerprint": self.fingerprint, "content": self.content}
            about["whole_batch"] = self.whole_batch
            self.run.save({**about, **self.state.state_dict()})

    def record(self, kind: str, values: dict[str, float]) -> None:
        if self.process.is_first:
            iteration = self.state.iteration
            at = {"kind": kind, "iteration": iteration, "epoch": iteration / self.per_epoch}
            self.run.append_metrics({**at, **values})
            self.dashboard.add({**at, **values})

    def check_on_validation(self) -> None:
        """Numbers and pictures of the validation split; the best weights are kept."""
        if not self.process.is_first:
            return
        options, state = self.options, self.state
        networks = (state.averaged, state.discriminator.network)
        translator = Translator(*networks, self.device, averaged_flips(options))
        if self.method.signed:
            translator.reading = reading_of_disease(translator, self.validation, options.batch_size)
        values = validate(translator, self.validation, options.batch_size, options.workers)
        before = best_choice(self.run)
        self.record("validation", values)
        keep_reading(self.run.reading, "last", values, translator.reading, state.iteration)
        if state.iteration and values["choice"] > before:
            self.run.save_best(*state.weights())
            keep_reading(self.run.reading, "best", values, translator.reading, state.iteration)
        columns = translate_examples(translator, self.examples)
        keep_examples(self.run, columns, state.iteration / self.per_epoch)
        self.dashboard.show_examples(columns)

    def batches(self) -> Iterator[Batch]:
        """The rest of the epoch that the run is in, flipped and with the noise of each iteration.

        The random numbers are seeded at each.
        """
        epoch, done = divmod(self.state.iteration, self.per_epoch)
        options, process = self.options, self.process
        whole = self.batches_of(epoch)[done:]
        mine = [batch[process.rank :: process.world] for batch in whole]
        loaded = load(self.images, mine, options.workers, self.device.type == "cuda")
        for batch, (images, _, classes) in zip(whole, loaded, strict=True):
            torch.manual_seed(random_stream(options.seed, 1, self.state.iteration, process.rank))
            images = images.to(self.device, non_blocking=True, memory_format=torch.channels_last)
            change = augment if options.augment else random_flips
            images = change(images, options.flip != "none", options.flip == "both")
            noise = options.noise * torch.rand_like(images)
            yield Batch(images, classes, noise, self.images.classes[batch], process)

    def learning_rate(self) -> float:
        """That of the next iteration."""
        done, options, warm_up = self.state.iteration, self.options, self.method.warm_up
        left = 1 - done / self.length if options.decay == "linear" else 1.0
        return left * options.learning_rate * min(1.0, (done + 1) / max(warm_up, 1))

    def iterate(self, batch: Batch) -> Terms:
        """One iteration. Returns its loss terms."""
        options, state = self.options, self.state
        state.set_learning_rate(self.learning_rate())
        state.iteration += 1
        terms = self.method.step(state, batch, options)
        if options.average and "generator/total" in terms:
            state.update_average(options.average)
        return terms

    def loop(self, end: int, stopped_by: list[int], progress: Bar) -> None:
        """Iterate to ``end``, or until a signal stands in ``stopped_by`` of any process."""
        options, state, process = self.options, self.state, self.process
        on_cpu = self.device.type == "cpu"
        stop, cost = 0, Cost(options, end, on_cpu, by_networks(options, "critic_alone"))
        pending: list[tuple[int, Terms]] = []
        latest: dict[str, float] = {}
        while state.iteration < end and not stop:
            for batch in self.batches():
                pending.append((state.iteration + 1, self.iterate(batch)))
                progress.update()
                at = state.iteration
                if process.is_first and (said := cost.after(at)):
                    progress.write(said)
                due = at % options.log_every == 0 or at % self.per_epoch == 0
                if due or (stopped_by and process.world == 1):
                    means = mean_terms(pending, self.run, process)
                    pending.clear()
                    self.record("losses", means)
                    latest |= means
                    progress.set_postfix(summary(latest), refresh=False)
                    # Processes stop together: at the next record, as the signal reaches each alone.
                    stop = largest(max(stopped_by, default=0), self.device, process)
                if stop:
                    break
            if state.iteration % self.per_epoch == 0:
                epoch = state.iteration // self.per_epoch
                if epoch % options.validate_every == 0 or state.iteration == end:
                    self.check_on_validation()
            self.save()


def train(
    options: Options, device: torch.device, process: Process, stop_after: int | None = None
) -> TrainingResult:
    """Train both networks and save them to ``options.save_dir`` after each epoch.

    ``stop_after``: as many epochs, though the learning rate falls as for all of them.
    Raises UserError where a loss is no longer finite, the memory of the GPU is full, or the run to
    resume does not fit.
    """
    with enough_memory():
        training = Training(options, device, process)
    run, state = training.run, training.state
    with (
        alone_in(run, process),
        connected(options, process) as dashboard,
        enough_memory(),
    ):
        training.begin(dashboard)
        end = min(stop_after or options.epochs, options.epochs) * training.per_epoch
        settings = {"total": end, "initial": state.iteration, "disable": not process.is_first}
        with stop_on_signals() as stopped_by, progress_bar(unit="it", **settings) as bar:
            training.loop(end, stopped_by, bar)
        # One that came in the last validation counts, too.
        stop = largest(max(stopped_by, default=0), device, process)
    history = run.read_metrics()
    if process.is_first and not stop:
        print_progress([line for line in history if line["kind"] == "validation"])
    return TrainingResult(run.folder, state.iteration, history, stop)


@contextmanager
def alone_in(run: Run, process: Process) -> Iterator[None]:
    """Raise UserError where another training writes to the run; keep others out meanwhile."""
    if not process.is_first:
        yield
        return
    with naming(run.folder):
        run.folder.mkdir(parents=True, exist_ok=True)
    with held(run.lock) as ours:
        if not ours:
            raise UserError(
                f"{run.folder} is being trained by another process: wait until it has ended, or "
                "train into another --save-dir"
            )
        run.remove_remains()
        yield


def best_choice(run: Run) -> float:
    """The highest "choice" of the validations so far, that of the untrained networks left out."""
    choices = [x.get("choice") for x in run.read_metrics() if x["iteration"]]
    return max((choice for choice in choices if choice is not None), default=-math.inf)


def print_progress(validations: list[dict]) -> None:
    """What training has changed on the validation split, from the first epoch to the last."""
    if not validations:
        return
    first, last = validations[0], validations[-1]
    rows = []
    for name, value in last.items():
        if name in ("kind", "iteration", "epoch"):
            continue
        pair = ("undefined" if v is None else decimals(v) for v in (first.get(name), value))
        title = title_of(name) if name in PER_IMAGE | OVERALL else OF_VALIDATION.get(name, name)
        rows.append((title, *pair))
    width = max(len(title) for title, *_ in rows)
    epochs = (f"epoch {line['epoch']:g}" for line in (first, last))
    for title, *pair in [("validation", *epochs), *rows]:
        print(f"{title:<{width}}" + "".join(f"{text:>12}" for text in pair))


def keep_examples(run: Run, columns: dict[str, np.ndarray], epoch: float) -> None:
    """Write the translated examples, as arrays and as a picture."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **columns)
    write_atomically(run.examples, buffer.getvalue())
    save_figure(
        example_figure(columns, f"Fixed validation batch after epoch {epoch:g}"), run.picture
    )


def mean_terms(pending: list[tuple[int, Terms]], run: Run, process: Process) -> dict[str, float]:
    """Means of the loss terms since the last record, over the processes, in one transfer.

    Raises UserError on the first value that is not finite.
    """
    names = [(i, name) for i, terms in pending for name in terms]
    values = torch.stack([terms[name].float() for i, terms in pending for name in terms])
    average([values], process)
    collected: dict[str, list[float]] = {}
    for (iteration, name), value in zip(names, values.tolist(), strict=True):
        if not math.isfinite(value):
            kept = f"{run.state} holds the last good checkpoint" if run.is_resumable() else ""
            raise UserError(
                f"'{name}' is {value} at iteration {iteration}: training stopped; try a lower "
                f"--learning-rate{', or without --amp' if 'norm' in name else ''}. "
                f"{kept or 'Nothing was saved yet'}"
            )
        collected.setdefault(name, []).append(value)
    return {name: sum(column) / len(column) for name, column in collected.items()}


def summary(means: dict[str, float]) -> dict[str, str]:
    """What stands beside the progress bar."""
    shown = {"critic/total": "critic", "generator/total": "generator"}
    shown["generator/identity"] = "identity"
    return {short: f"{means[name]:.3g}" for name, short in shown.items() if name in means}


def warn_of_enlarging(images: ImageDataset) -> None:
    """Say where smaller images would hold the files, as the last one, at their own size."""
    (height, width), size = images.shape, images.image_size
    enough = -(-max(height, width) // SIZE_MULTIPLE) * SIZE_MULTIPLE
    if enough < size:
        warn(
            f"{images.paths[-1]} is {height} x {width} pixels: --image-size {enough} shows as much "
            f"of it as {size}, in {(enough / size) ** 2:.0%} of the time"
        )


def describe_run(options: Options, fingerprint: str) -> dict:
    """All that it takes to repeat a run."""
    versions = {package: installed for package in PACKAGES if (installed := version_of(package))}
    plain, after, first = as_json(options), options.after, {}
    if after is not None:
        first = {"first_weights": Run(after, options.dataset).digest()}
        if after.parent == options.save_dir.absolute().parent:  # the two can be moved together
            plain["after"] = str(Path("..", after.name))
    return {
        "options": plain,
        "dataset_fingerprint": fingerprint,
        "versions": {"descargan": __version__, "python": sys.version.split()[0], **versions},
        **first,
    }


def version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@contextmanager
def stop_on_signals() -> Iterator[list[int]]:
    """A list that SIGINT or SIGTERM adds its number to, so that the loop can end and save.

    A second one acts at once. Only the main thread of a program can take signals.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    handled = (signal.SIGINT, signal.SIGTERM)
    old = {number: signal.getsignal(number) for number in handled}

    def note(number: int, _frame: object) -> None:
        received.append(number)
        for each in handled:
            signal.signal(each, old[each])

    for number in handled:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number in handled:
            signal.signal(number, old[number])
