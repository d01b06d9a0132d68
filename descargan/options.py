"""The options of training, testing and prediction, their recipes, and what a value may be.

A new option is one field of :class:`Options`: the command line, the keywords of the Python API and
the file of options of a run follow from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

from descargan.cli import (
    address,
    count,
    count_or_none,
    fraction,
    natural,
    path,
    port,
    positive,
    weight,
)
from descargan.errors import UserError
from descargan.files import available_cores
from descargan.kinds import AXES, KINDS, SCALINGS

# The keys of maps.MAP_KINDS: --help shows them without importing PyTorch.
TRANSLATIONS = ("image", "additive", "deformation", "fine-deformation", "layer", "combined")


MODES = ("train", "test", "predict")
EVERYWHERE = (*MODES, "maps")  # a test of maps from files takes no networks
FLAGS = ("free", "inherited", "binding")


def option(
    default: object, help: str, modes: tuple[str, ...] = ("train",), **settings: object
) -> Any:
    """A field: its default, its text, what it is for, and how the command line reads it.

    ``modes``: those that it does something in, "maps" being a test of maps from files.
    ``settings`` holds keywords of argparse, ``group`` where a new group of options begins,
    ``aliases``, other names of the option, ``before``, what runs older than the option did, where
    that is not the default, and flags: ``free``, may change when a run is resumed; ``inherited``, a
    test or a prediction takes it from the run; ``binding``, and is refused where it contradicts.
    """
    flags = dict.fromkeys(FLAGS, False)
    return field(default=default, metadata={"help": help, "modes": modes, **flags, **settings})


number = partial(option, metavar="X", type=weight)
whole = partial(option, metavar="N", type=count)
folder = partial(option, metavar="DIR", type=path)


@dataclass(frozen=True)
class Options:
    """All options, each with the paper's value as its default."""

    mode: str = option(
        "train",
        "predict is for images without labels, see --input (default: train)",
        choices=MODES,
        group="what to do",
        modes=EVERYWHERE,
        free=True,
    )
    dataset: str = option(
        "Synthetic",
        "file types, augmentation and names of the weights (default: that of the run in "
        "--save-dir, or Synthetic)",
        choices=tuple(KINDS),
        modes=EVERYWHERE,
    )
    dataset_path: Path | None = folder(
        None,
        "folder of the data set (default: ./warp-set for Synthetic, ./chexpert for Chexpert, "
        "./data for Folder)",
        aliases=("--dataset_path",),
        modes=("train", "test", "maps"),
        free=True,
    )
    save_dir: Path = folder(
        Path("save_nets"),
        "folder of weights, training state and metrics (default: ./save_nets)",
        aliases=("--choose_net",),
        modes=MODES,
        free=True,
    )
    after: Path | None = folder(
        None,
        "of a run of compact networks that come first: these learn the diseased images that those "
        "do not make healthy, and each image is then translated by the ones that suit it",
        modes=MODES,
        inherited=True,
        free=True,
    )
    weights: str = option(
        "last",
        "of the run: of its last epoch, or the best on validation by a choice without pixel labels",
        choices=("last", "best"),
        modes=("test", "predict"),
        free=True,
    )
    input: Path | None = option(
        None,
        "image or folder of images to predict",
        type=path,
        metavar="PATH",
        modes=("predict",),
        free=True,
    )
    threshold: float | None = number(
        None,
        "value of the score map that counts as found (default: that of the run, from "
        "its validation images)",
        type=positive,
        modes=("test", "predict", "maps"),
        free=True,
    )
    maps: Path | None = folder(
        None,
        "maps of another method, PNG, .npy or NIfTI of the images' names, to test in place of "
        "networks",
        modes=("test", "maps"),
        free=True,
    )
    against: Path | None = option(
        None,
        "results of another test of the same images, to say how far this one differs",
        type=path,
        metavar="DIR",
        modes=("test", "maps"),
        free=True,
    )
    results_dir: Path | None = folder(
        None,
        "folder of what a test or prediction writes (default: results/test or results/predict in "
        "--save-dir)",
        modes=("test", "predict", "maps"),
        free=True,
    )
    resume: str = option(
        "off",
        "go on with the run in --save-dir; 'auto': if there is one, else start it",
        choices=("on", "off", "auto"),
        nargs="?",
        const="on",
        free=True,
    )
    recipe: str = option(
        "paper",
        "values of the options below: the paper's, the recommended ones (fast), or those for "
        "diseases that move tissue and add nothing (deformation) (default: paper)",
        choices=("paper", "fast", "deformation"),
    )

    image_size: int = whole(
        256,
        "sides of the images in pixels, a multiple of 64 (default: 256; in a test or a prediction "
        "those of the networks, or more where they draw a change: they see images reduced then)",
        group="images",
        modes=EVERYWHERE,
    )
    healthy_class: str | None = option(
        None,
        "name of the folder of healthy images (default: healthy, control, normal, no finding ..)",
        metavar="NAME",
        modes=("train", "test", "maps"),
        inherited=True,
    )
    scaling: str | None = option(
        None,
        "of intensities to [-1, 1]: by each image's extremes, or robustly by percentiles of the "
        "body (default: that of the preparation, where it scaled; else minmax, and with --recipe "
        "fast or deformation percentile, but for Synthetic)",
        choices=SCALINGS,
        before="minmax",
        modes=EVERYWHERE,
        inherited=True,
        binding=True,
    )
    axis: str | None = option(
        None,
        "slices of volumes to predict (default: as the training images were prepared, or axial)",
        choices=AXES,
        modes=("predict",),
        inherited=True,
    )
    slices: float | None = option(
        None,
        "of volumes, take slices that hold this share of the body in the largest one (default: as "
        "the training images were prepared, or 0, all)",
        type=fraction,
        metavar="SHARE",
        modes=("predict",),
        inherited=True,
    )
    flip: str | None = option(
        None,
        "random flips in training (default: both for Synthetic, else horizontal)",
        choices=("none", "horizontal", "both"),
        modes=MODES,
        inherited=True,
    )
    workers: int = whole(
        min(8, available_cores()),
        "processes that read images which do not fit in memory (default: up to 8)",
        type=count_or_none,
        modes=MODES,
        free=True,
    )
    augment: bool = option(
        False,
        "training images also turned, scaled, shifted, brighter and darker (default: no)",
        both_ways=True,
    )

    networks: str = option(
        "paper",
        "the paper's with Wasserstein critics, or compact ones with logistic critics "
        "(default: paper)",
        choices=("paper", "compact"),
        group="networks",
        modes=MODES,
        inherited=True,
        binding=True,
    )
    base_filters: int = whole(
        64, "filters of the generator's first layer (default: 64)", modes=MODES
    )
    critic_filters: int = whole(
        32, "filters of the discriminator's first layer (default: 32)", modes=MODES
    )
    translation: str = option(
        "image",
        "what the generator draws: an image, or the change of its input; auto tries two kinds of "
        "change and takes what suits the images (default: image)",
        choices=(*TRANSLATIONS, "auto"),
        modes=MODES,
        inherited=True,
        binding=True,
    )
    generator_norm: str = option(
        "batch",
        "of the generator in training; testing is by image (default: batch)",
        choices=("batch", "instance"),
        modes=MODES,
        inherited=True,
        binding=True,
    )

    epochs: int = whole(
        500,
        "passes over the training images (default: 500)",
        group="training (defaults: those of the paper's release)",
        free=True,
    )
    batch_size: int = whole(
        10, "images per batch, in training and testing (default: 10)", modes=MODES
    )
    batches: str | None = option(
        None,
        "shuffled: each image once in an epoch; balanced: as many images of either class, drawn "
        "with replacement, 200 batches an epoch (default: balanced for compact networks, else "
        "shuffled)",
        choices=("shuffled", "balanced"),
    )
    learning_rate: float = number(1e-4, "of Adam, both networks (default: 0.0001)", type=positive)
    beta1: float = number(0.5, "of Adam (default: 0.5)", type=fraction)
    beta2: float = number(0.999, "of Adam (default: 0.999)", type=fraction)
    clip_norm: float = number(
        10.0,
        "largest norm of the gradient of each network, of compact ones of the generator "
        "(default: 10)",
        type=positive,
    )
    critic_steps: int = whole(
        5, "steps of the critic for one of the generator (default: 5; compact networks take one)"
    )
    critic_alone: int | None = whole(
        None,
        "iterations at the beginning without the generator (default: 300 for compact networks, "
        "else 0)",
        type=count_or_none,
    )
    noise: float = number(
        0.05, "noise from U[0, NOISE) added to real images and fakes (default: 0.05)"
    )
    critic_adversarial: float = number(20.0, "weight in the critic's loss (default: 20)")
    critic_penalty: float = number(10.0, "weight of the gradient penalty (default: 10)")
    critic_class: float = number(
        5.0, "weight of the classification loss of real images (default: 5)"
    )
    generator_adversarial: float = number(1.0, "weight in the generator's loss (default: 1)")
    generator_identity: float = number(50.0, "weight of the identity loss (default: 50)")
    generator_reconstruction: float = number(
        50.0, "weight of the reconstruction loss (default: 50)"
    )
    generator_class: float = number(1.0, "weight of the classification loss of fakes (default: 1)")
    generator_change: float = number(0.0, "weight of the change into the other class (default: 0)")
    decay: str = option(
        "none",
        "of the learning rate over the run: to 0 at its end, or none (default: none)",
        choices=("none", "linear"),
    )
    average: float = number(
        0.0,
        "decay of the moving average of the generator's weights, which is tested (default: 0)",
        type=fraction,
    )
    average_flips: bool = option(
        False,
        "test and predict by the mean over the flips of --flip (default: of the run, or off)",
        both_ways=True,
        modes=MODES,
        inherited=True,
    )
    penalty_of: str = option(
        "sum",
        "of the score map, whose gradient the penalty takes (default: sum)",
        choices=("sum", "mean"),
    )
    seed: int = whole(0, "of data order, initial weights and noise (default: 0)", type=natural)
    amp: bool = option(
        False,
        "mixed precision, on GPUs and on processors with AVX-512 BF16 or AMX; the gradient penalty "
        "stays in float32",
        modes=MODES,
    )
    save_memory: bool = option(
        False,
        "of the paper's networks: the generator's step makes its translations twice, "
        "which takes less memory and some time",
    )
    tf32: bool = option(
        False,
        "TensorFloat-32 on CUDA: faster convolutions with 10 bits of mantissa",
        modes=MODES,
    )
    device: str = option(
        "auto",
        "default: auto, CUDA where there is one",
        choices=("auto", "cpu", "cuda"),
        modes=MODES,
        free=True,
    )
    log_every: int = whole(10, "iterations between records of the losses (default: 10)", free=True)
    validate_every: int = whole(1, "epochs between validations (default: 1)", free=True)

    visdom: str = option(
        "auto",
        "auto: use a server or start one, go on without; on: insist; off (default: auto)",
        choices=("auto", "on", "off"),
        group="dashboard",
        modes=("train", "test", "maps"),
        free=True,
    )
    visdom_server: str = option(
        "http://localhost",
        "address of the server (default: http://localhost)",
        type=address,
        metavar="URL",
        modes=("train", "test", "maps"),
        free=True,
    )
    visdom_port: int = option(
        8097, "default: 8097", type=port, metavar="N", modes=("train", "test", "maps"), free=True
    )


FIELDS = {entry.name: entry for entry in fields(Options)}

# Values that a recipe sets in place of the defaults; what is typed goes before them.
RECIPES: dict[str, dict[str, object]] = {
    "paper": {},
    "fast": {
        "networks": "compact",
        "translation": "auto",
        "augment": True,
        "batch_size": 20,
        "critic_steps": 1,
        "noise": 0.0,
        "critic_class": 1.0,
        "critic_adversarial": 1.0,
        "critic_penalty": 0.5,
        "generator_adversarial": 1.0,
        "generator_class": 1.0,
        "generator_identity": 20.0,
        "generator_reconstruction": 0.0,
        "generator_change": 10.0,
        "learning_rate": 1e-3,
        "beta2": 0.99,
        "clip_norm": 5.0,
        "decay": "linear",
        "average": 0.99,
        "average_flips": True,
        "epochs": 15,
    },
    "deformation": {
        "base_filters": 16,
        "critic_filters": 16,
        "translation": "fine-deformation",
        "generator_norm": "instance",
        "penalty_of": "mean",
        "critic_steps": 1,
        "critic_alone": 600,
        "batches": "balanced",
        "critic_class": 50.0,
        "generator_class": 1.0,
        "generator_identity": 100.0,
        "generator_reconstruction": 100.0,
        "generator_change": 20.0,
        "learning_rate": 5e-4,
        "decay": "linear",
        "average": 0.99,
        "average_flips": True,
        "epochs": 11,
    },
}


# What these options are where no value is given.
BY_NETWORKS: dict[str, dict[str, object]] = {
    "paper": {"batches": "shuffled", "critic_alone": 0},
    "compact": {"batches": "balanced", "critic_alone": 300},
}


def by_networks(options: Options, name: str) -> Any:
    """The value of an option of BY_NETWORKS."""
    value = getattr(options, name)
    return BY_NETWORKS[options.networks][name] if value is None else value


def fast_to_deformation() -> dict[str, tuple[object, object]]:
    """The values of the fast and of the deformation recipe, of each option that either sets."""
    fast, other = RECIPES["fast"], RECIPES["deformation"]
    defaults = {name: FIELDS[name].default for name in {*fast, *other}}
    return {n: (fast.get(n, value), other.get(n, value)) for n, value in defaults.items()}


def before(name: str) -> object:
    """What a run that is older than an option did."""
    return FIELDS[name].metadata.get("before", FIELDS[name].default)


def works_in(name: str, mode: str) -> bool:
    """Whether an option does something in a mode; "maps" is a test of maps from files."""
    return mode in FIELDS[name].metadata["modes"]


def flagged(flag: str) -> list[str]:
    """The options that are "free", "inherited" or "binding": see :func:`option`."""
    return [name for name, entry in FIELDS.items() if entry.metadata[flag]]


def is_choice(name: str, value: object) -> bool:
    """Whether an option takes a value, as far as it has choices."""
    choices = FIELDS[name].metadata.get("choices")
    return choices is None or value in choices or (value is None and FIELDS[name].default is None)


def checked(keywords: Mapping[str, object]) -> dict[str, object]:
    """Options given as keywords of a function, as the command line would have read them.

    None is an option that was not typed. Raises UserError for an unknown name or a value that the
    option does not take.
    """
    values = {}
    for name, value in keywords.items():
        if name not in FIELDS:
            raise UserError(f"{name!r} is no option: see docs/options.md")
        entry = FIELDS[name]
        choices, is_flag = entry.metadata.get("choices"), isinstance(entry.default, bool)
        if value is None:
            continue
        if not is_choice(name, value):
            named = ", ".join(map(repr, choices))
            raise UserError(f"{name}={value!r}: choose one of {named}")
        if is_flag and not isinstance(value, bool):
            raise UserError(f"{name}={value!r} must be True or False")
        try:
            kind = entry.metadata.get("type", str)
            values[name] = value if choices or is_flag else kind(str(value))
        except Exception as error:  # of argparse, with its sentence
            raise UserError(f"{name}: {error}") from None
    return values


def from_json(name: str, value: object) -> object:
    """A value of an option as :func:`as_json` gave it. Raises TypeError where it can be none."""
    kind = FIELDS[name].type
    if isinstance(value, str) and not isinstance(value, kind):
        value = Path(value)
    if isinstance(value, int) and not isinstance(value, kind):
        value = float(value)
    if not isinstance(value, kind):
        raise TypeError(name)
    return value


def as_json(options: Options) -> dict[str, object]:
    """The options as plain values."""
    values = {name: getattr(options, name) for name in FIELDS}
    return {k: str(v) if isinstance(v, Path) else v for k, v in values.items()}


def used(options: Options) -> dict[str, object]:
    """Those that do something in their mode, as plain values."""
    mode = options.mode if options.maps is None else "maps"
    return {name: value for name, value in as_json(options).items() if works_in(name, mode)}
