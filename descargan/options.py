"""The options of main.py."""

import argparse
import os
from pathlib import Path

from descargan.cli import Parser, count, fraction, natural, port, positive, weight

DESCRIPTION = """\
Train or test DeScarGAN: translate images of patients into healthy ones, and show where they differ.

examples:
  python main.py                                              train on ./warp-set
  python main.py --mode test                                  test what was trained
  python main.py --dataset-path DIR --save-dir runs/one       another data set, another run
  python main.py --resume --save-dir runs/one                 go on with it
  python main.py --mode predict --input FILE_OR_FOLDER        images without labels
"""

# Values that a recipe sets in place of the defaults; the command line goes before them.
RECIPES = {
    "paper": {},
    "fast": {
        "translation": "deformation",
        "generator_norm": "instance",
        "penalty_of": "mean",
        "critic_steps": 1,
        "critic_class": 50.0,
        "generator_class": 2.0,
        "generator_identity": 100.0,
        "generator_reconstruction": 100.0,
        "generator_change": 20.0,
        "learning_rate": 5e-4,
        "decay": "linear",
        "average": 0.99,
        "average_flips": True,
        "epochs": 4,
    },
}

# What may change when a run is resumed; all else is part of the run.
FREE_OPTIONS = frozenset(
    {
        "mode",
        "input",
        "weights",
        "dataset_path",
        "save_dir",
        "results_dir",
        "resume",
        "epochs",
        "device",
        "workers",
    }
    | {"log_every", "validate_every", "visdom", "visdom_server", "visdom_port"}
)


def build_parser() -> Parser:
    parser = Parser(description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)

    group = parser.add_argument_group("what to do")
    add = group.add_argument
    text = "predict is for images without labels, see --input (default: train)"
    add("--mode", choices=("train", "test", "predict"), default="train", help=text)
    text = "file types, augmentation and names of the weights (default: Synthetic)"
    add("--dataset", choices=("Synthetic", "Chexpert"), default="Synthetic", help=text)
    text = "folder of the data set (default: ./warp-set for Synthetic, ./chexpert for Chexpert)"
    add("--dataset-path", "--dataset_path", type=Path, metavar="DIR", help=text)
    text = "folder of weights, training state and metrics (default: ./save_nets)"
    add(
        "--save-dir", "--choose_net", type=Path, default=Path("save_nets"), metavar="DIR", help=text
    )
    text = (
        "of the run: of its last epoch, or the best on validation by a choice without pixel labels"
    )
    add("--weights", choices=("last", "best"), default="last", help=text)
    add("--input", type=Path, metavar="PATH", help="image or folder of images to predict")
    text = "folder of what a test or prediction writes (default: ./results)"
    add("--results-dir", type=Path, default=Path("results"), metavar="DIR", help=text)
    text = "go on with the run in --save-dir; 'auto': if there is one, else start it"
    add("--resume", nargs="?", choices=("on", "off", "auto"), const="on", default="off", help=text)

    text = "values of the options below: the paper's, or fewer, faster iterations (default: paper)"
    add("--recipe", choices=tuple(RECIPES), default="paper", help=text)

    group = parser.add_argument_group("images")
    add = group.add_argument
    text = "sides of the images in pixels, a multiple of 64 (default: 256)"
    add("--image-size", type=count, default=256, metavar="N", help=text)
    text = "name of the folder of healthy images (default: healthy, control, normal, no finding ..)"
    add("--healthy-class", metavar="NAME", help=text)
    text = "random flips in training (default: both for Synthetic, horizontal for Chexpert)"
    add("--flip", choices=("none", "horizontal", "both"), help=text)
    text = "processes that read images which do not fit in memory (default: up to 8)"
    default = min(8, os.cpu_count() or 1)
    add("--workers", type=natural, default=default, metavar="N", help=text)

    group = parser.add_argument_group("networks")
    add = group.add_argument
    text = "filters of the generator's first layer (default: 64)"
    add("--base-filters", type=count, default=64, metavar="N", help=text)
    text = "filters of the discriminator's first layer (default: 32)"
    add("--critic-filters", type=count, default=32, metavar="N", help=text)
    text = "what the generator draws: an image, or the change of its input (default: image)"
    kinds = ("image", "additive", "deformation")
    add("--translation", choices=kinds, default="image", help=text)
    text = "of the generator in training; testing is by image (default: batch)"
    add("--generator-norm", choices=("batch", "instance"), default="batch", help=text)

    group = parser.add_argument_group("training (defaults: those of the paper's release)")
    add = group.add_argument
    for name, kind, default, text in (
        ("--epochs", count, 500, "passes over the training images"),
        ("--batch-size", count, 10, "images per batch, in training and testing"),
        ("--learning-rate", positive, 1e-4, "of Adam, both networks"),
        ("--beta1", fraction, 0.5, "of Adam"),
        ("--beta2", fraction, 0.999, "of Adam"),
        ("--clip-norm", positive, 10.0, "largest norm of the gradient of each network"),
        ("--critic-steps", count, 5, "steps of the critic for one of the generator"),
        ("--noise", weight, 0.05, "noise from U[0, NOISE) added to real images and fakes"),
        ("--critic-adversarial", weight, 20.0, "weight in the critic's loss"),
        ("--critic-penalty", weight, 10.0, "weight of the gradient penalty"),
        ("--critic-class", weight, 5.0, "weight of the classification loss of real images"),
        ("--generator-adversarial", weight, 1.0, "weight in the generator's loss"),
        ("--generator-identity", weight, 50.0, "weight of the identity loss"),
        ("--generator-reconstruction", weight, 50.0, "weight of the reconstruction loss"),
        ("--generator-class", weight, 1.0, "weight of the classification loss of fakes"),
        (
            "--generator-change",
            weight,
            0.0,
            "weight of the change into the other class",
        ),
    ):
        number = f"{default:g}"
        add(name, type=kind, default=default, metavar="X", help=f"{text} (default: {number})")
    text = "of the learning rate over the run: to 0 at its end, or none (default: none)"
    add("--decay", choices=("none", "linear"), default="none", help=text)
    text = "decay of the moving average of the generator's weights, which is tested (default: 0)"
    add("--average", type=fraction, default=0.0, metavar="X", help=text)
    text = "test and predict by the mean over the flips of --flip (default: of the run, or off)"
    add("--average-flips", action=argparse.BooleanOptionalAction, default=False, help=text)
    text = "of the score map, whose gradient the penalty takes (default: sum)"
    add("--penalty-of", choices=("sum", "mean"), default="sum", help=text)
    text = "of data order, initial weights and noise (default: 0)"
    add("--seed", type=natural, default=0, metavar="N", help=text)
    add("--amp", action="store_true", help="mixed precision; the gradient penalty stays in float32")
    text = "TensorFloat-32 on CUDA: faster convolutions with 10 bits of mantissa"
    add("--tf32", action="store_true", help=text)
    text = "default: auto, CUDA where there is one"
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help=text)
    text = "iterations between records of the losses (default: 10)"
    add("--log-every", type=count, default=10, metavar="N", help=text)
    text = "epochs between validations (default: 1)"
    add("--validate-every", type=count, default=1, metavar="N", help=text)

    group = parser.add_argument_group("dashboard")
    add = group.add_argument
    text = "auto: use a server or start one, go on without; on: insist; off (default: auto)"
    add("--visdom", choices=("auto", "on", "off"), default="auto", help=text)
    text = "address of the server (default: http://localhost)"
    add("--visdom-server", default="http://localhost", metavar="URL", help=text)
    add("--visdom-port", type=port, default=8097, metavar="N", help="default: 8097")
    return parser


def resolve(options: argparse.Namespace) -> argparse.Namespace:
    """Fill in the defaults that depend on the data set."""
    synthetic = options.dataset == "Synthetic"
    if options.dataset_path is None:
        options.dataset_path = Path("warp-set" if synthetic else "chexpert")
    if options.flip is None:
        options.flip = "both" if synthetic else "horizontal"
    return options


def as_json(options: argparse.Namespace) -> dict:
    """The options as plain values."""
    return {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()}
