"""What ``main.py`` and the Python API do: train, test, predict, load."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from descargan.checkpoints import Run
from descargan.commands import command
from descargan.device import choose_device, enough_memory, speed_up_process
from descargan.distributed import Process, process_group
from descargan.errors import UserError, warn
from descargan.kinds import KINDS
from descargan.options import Options, checked
from descargan.reading import read_reading
from descargan.settings import settle
from descargan.succession import count_left
from descargan.testing import Results
from descargan.training import TrainingResult
from descargan.translator import Translator

MANY = 1 / 3  # of the diseased validation images that networks do not make healthy


def load(
    folder: str | Path,
    weights: str = "last",
    device: str = "auto",
    dataset: str | None = None,
    after: str | Path | None = None,
) -> Translator:
    """The trained networks of a run.

    ``folder``: the ``save_dir`` of the run; ``weights``: its "last" or its "best"; ``dataset``: the
    kind of data, where the folder holds runs of several; ``after``: where the run is now that it
    comes after, if that has moved. Raises UserError, a ValueError, where there are none or they are
    damaged.

    >>> net = load("save_nets/pretrained")
    >>> result = net(array)                     # (H, W), or (B, H, W), of any size and range
    >>> for path, result in net.predict("new-images"): ...
    """
    return Translator.load(folder, weights, device, dataset, after)


def train(**options: object) -> TrainingResult:
    """Train as ``main.py`` does, with its options as keywords, and the dashboard off by default.

    Returns the run's folder, iteration and history. Raises UserError, a ValueError, for what the
    command line refuses, and KeyboardInterrupt where Ctrl-C stopped and saved the run.

    >>> for recipe in ("paper", "fast"):
    ...     train(recipe=recipe, dataset_path="warp-set", save_dir=f"runs/{recipe}")
    """
    result = run_training(settle(typed_for("train", options)))
    if result.stopped_by:
        raise KeyboardInterrupt(f"stopped and saved at iteration {result.iteration}")
    return result


def test(**options: object) -> Results:
    """Test a run as ``main.py --mode test`` does, with its options as keywords.

    Returns the metrics, a row per image, and the folder that all files are in. Raises UserError.

    >>> test(save_dir="runs/fast", dataset_path="warp-set").metrics["pixel_auprc"]["value"]
    """
    return run_test(settle(typed_for("test", options)))


test.__test__ = False  # not one of pytest's


def typed_for(mode: str, keywords: Mapping[str, object]) -> dict[str, object]:
    """Keywords as they are typed for ``main.py --mode MODE --visdom off``. Raises UserError."""
    typed = {"visdom": "off", "mode": mode, **checked(keywords)}
    if typed["mode"] != mode:
        raise UserError(
            f"mode={typed['mode']!r} is none of descargan.{mode}: leave it out; descargan.train "
            "trains, descargan.test tests, and what descargan.load gives predicts"
        )
    return typed


def run_training(options: Options) -> TrainingResult:
    """Train as the options say, alone or among the processes that torchrun started."""
    from descargan.choice import train_best_kind
    from descargan.training import train

    refuse_other_run(options)
    device = choose_device(options.device, options.amp)
    speed_up_process(options.tf32)
    with process_group(device) as process, saying_what_is_saved(options, process):
        run_it = train_best_kind if options.translation == "auto" else train
        result = run_it(options, device, process)
    if process.is_first and result.stopped_by:
        again = resume_command(options, process)
        print(f"stopped and saved at iteration {result.iteration}; to go on: {again}")
    elif process.is_first:
        print_what_next(options)
    return result


def naming_dataset(options: Options) -> tuple[str, ...]:
    """What a printed command needs to find the kind of data."""
    return () if options.dataset == "Synthetic" else ("--dataset", options.dataset)


def resume_command(options: Options, process: Process) -> str:
    words = "main.py", "--resume", "--save-dir", options.save_dir, *naming_dataset(options)
    if process.world == 1:
        return command(*words)
    return command("-m", "torch.distributed.run", f"--nproc-per-node={process.world}", *words)


def print_what_next(options: Options) -> None:
    """Whether the maps say anything on validation, and the commands that use what was trained."""
    reading = read_reading(Run(options.save_dir, options.dataset).reading, "last")
    if reading.reason:
        print(reading.reason)
    left, total = count_left(options)
    if left > MANY * total:
        print(
            f"{left} of {total} diseased validation images are not made healthy. Where their "
            f"disease is another, networks of their own find it: {next_command(options)}"
        )
    words = "main.py", "--save-dir", options.save_dir, "--mode"
    print(f"to test it: {command(*words, 'test', '--dataset-path', options.dataset_path)}")
    print(f"for images without labels: {command(*words, 'predict', '--input', 'IMAGES')}")


def next_command(options: Options) -> str:
    """What trains networks that come after those of a run."""
    images = ["--dataset-path", options.dataset_path, "--image-size", options.image_size]
    data = {"dataset": options.dataset, "dataset_path": options.dataset_path}
    usual = settle({"recipe": "fast", "save_dir": Path("ANOTHER"), **data})
    for name in ("healthy_class", "scaling"):
        if getattr(options, name) != getattr(usual, name):
            images += ["--" + name.replace("_", "-"), getattr(options, name)]
    runs = "--after", options.save_dir, "--save-dir", "ANOTHER"
    return command("main.py", "--recipe", "fast", *naming_dataset(options), *images, *runs)


@contextmanager
def saying_what_is_saved(options: Options, process: Process) -> Iterator[None]:
    """Where an interruption leaves no checkpoint of its moment, say what there is, and what to do.

    A training that iterates takes the first signal itself, see :func:`stop_on_signals`.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        said = "nothing of this run is saved yet: the same command starts it again"
        if Run(options.save_dir, options.dataset).has_begun():
            again = resume_command(options, process)
            said = f"the run is saved as of its last checkpoint; to go on from there: {again}"
        if process.is_first:
            print(said, file=sys.stderr)
        raise


def run_test(options: Options) -> Results:
    """Test the networks of a run, or maps of another method."""
    from descargan.testing import test

    speed_up_process(options.tf32)
    with enough_memory():
        return test(options, trained_networks(options) if options.maps is None else None)


def run_prediction(options: Options) -> None:
    """Predict the images that ``options.input`` names, with the networks of a run."""
    from descargan.prediction import predict

    speed_up_process(options.tf32)
    with enough_memory():
        predict(options, trained_networks(options))


def trained_networks(options: Options) -> Translator:
    """The networks of a run; says that it can go on, where its history ends before its epochs."""
    run = Run(options.save_dir, options.dataset)
    epochs, history = run.read_description()["options"].get("epochs"), run.read_metrics()
    reached = history[-1].get("epoch") if history else None
    if reached is not None and epochs is not None and reached < epochs:
        again = resume_command(options, Process())
        warn(f"the training has ended {reached:.3g} of {epochs} epochs; to go on with it: {again}")
    return Translator.of(options)


def refuse_other_run(options: Options) -> None:
    """Raise UserError where training would overwrite a run, or there is none to resume.

    A folder is for one run, of whatever kind of data.
    """
    run = Run(options.save_dir, options.dataset)
    if options.resume != "off" and run.has_begun():
        return
    if options.resume == "on":
        raise UserError(
            f"{run.folder} holds no training to go on with, nothing to --resume: leave it out to "
            "start a run in that --save-dir"
        )
    for kind in KINDS:
        other = Run(options.save_dir, kind)
        if other.is_used():
            mend = "go on with it with --resume, or " if other.has_begun() else ""
            raise UserError(f"{run.folder} holds a {kind} run: {mend}train into another --save-dir")
