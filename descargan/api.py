"""What ``main.py`` and the Python API do: train, test, predict, load."""

from pathlib import Path

from descargan.checkpoints import Run
from descargan.device import choose_device, enough_memory, speed_up_process
from descargan.distributed import process_group
from descargan.errors import UserError
from descargan.options import Options, checked
from descargan.settings import settle
from descargan.testing import Results
from descargan.training import TrainingResult
from descargan.translator import Translator


def load(
    folder: str | Path, weights: str = "last", device: str = "auto", dataset: str | None = None
) -> Translator:
    """The trained networks of a run.

    ``folder``: the ``save_dir`` of the run; ``weights``: its "last" or its "best"; ``dataset``: the
    kind of data, where the folder holds runs of several. Raises UserError, a ValueError, where
    there are none or they are damaged.

    >>> net = load("save_nets/pretrained")
    >>> result = net(array)                     # (H, W), or (B, H, W), of any size and range
    >>> for path, result in net.predict("new-images"): ...
    """
    return Translator.load(folder, weights, device, dataset)


def train(**options: object) -> TrainingResult:
    """Train as ``main.py`` does, with its options as keywords, and the dashboard off by default.

    Returns the run's folder, iteration and history. Raises UserError, a ValueError, for what the
    command line refuses, and KeyboardInterrupt where Ctrl-C stopped and saved the run.

    >>> for recipe in ("paper", "fast"):
    ...     train(recipe=recipe, dataset_path="warp-set", save_dir=f"runs/{recipe}")
    """
    settled = settle({"visdom": "off", **checked(options), "mode": "train"})
    result = run_training(settled)
    if result.stopped_by:
        raise KeyboardInterrupt(f"stopped and saved at iteration {result.iteration}")
    return result


def test(**options: object) -> Results:
    """Test a run as ``main.py --mode test`` does, with its options as keywords.

    Returns the metrics, a row per image, and the folder that all files are in. Raises UserError.

    >>> test(save_dir="runs/fast", dataset_path="warp-set").metrics["pixel_auprc"]["value"]
    """
    return run_test(settle({"visdom": "off", **checked(options), "mode": "test"}))


test.__test__ = False  # not one of pytest's


def run_training(options: Options) -> TrainingResult:
    """Train as the options say, alone or among the processes that torchrun started."""
    from descargan.training import train

    refuse_other_run(options)
    device = choose_device(options.device, options.amp)
    speed_up_process(options.tf32)
    with process_group(device) as process:
        return train(options, device, process)


def run_test(options: Options) -> Results:
    """Test the networks of a run, or maps of another method."""
    from descargan.testing import test

    speed_up_process(options.tf32)
    with enough_memory():
        return test(options, Translator.of(options) if options.maps is None else None)


def run_prediction(options: Options) -> None:
    """Predict the images that ``options.input`` names, with the networks of a run."""
    from descargan.prediction import predict

    speed_up_process(options.tf32)
    with enough_memory():
        predict(options, Translator.of(options))


def refuse_other_run(options: Options) -> None:
    """Raise UserError where training would overwrite a run, or there is none to resume."""
    run = Run(options.save_dir, options.dataset)
    if options.resume == "off" and run.is_used():
        raise UserError(
            f"{run.folder} holds a {options.dataset} run: go on with it with --resume, "
            "or train into another --save-dir"
        )
    if options.resume == "on" and not run.is_resumable():
        raise UserError(f"{run.state} does not exist: nothing to --resume in that --save-dir")
