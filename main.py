"""Train, test or use DeScarGAN. ``python main.py --help`` lists every option."""

import argparse
import sys
from pathlib import Path

import torch

from create_synthetic_dataset import write_dataset
from descargan.checkpoints import Run, load_weights, read_weights, sizes_of
from descargan.cli import Parser, run
from descargan.dashboard import connect, environment
from descargan.data import ImageDataset
from descargan.device import choose_device, speed_up_process
from descargan.distributed import Process, process_group, restarts
from descargan.errors import UserError
from descargan.models import Discriminator, Generator
from descargan.options import FREE_OPTIONS, RECIPES, as_json, build_parser, resolve
from descargan.prediction import predict
from descargan.testing import test
from descargan.training import train


def main() -> int:
    options = read_options()
    device = choose_device(options.device)
    speed_up_process(options.tf32)
    with process_group(device) as process:
        return work(options, device, process)


def work(options: argparse.Namespace, device: torch.device, process: Process) -> int:
    """Train, test or predict with both networks."""
    torch.manual_seed(options.seed)
    generator, discriminator = build_networks(options)
    files = Run(options.save_dir, options.dataset)
    if options.mode != "train":
        generator_file, discriminator_file = files.weights(options.weights)
        load_weights(generator, generator_file)
        load_weights(discriminator, discriminator_file)
    elif options.resume == "off" and files.is_used():
        raise UserError(
            f"{files.folder} holds a {options.dataset} run: go on with it with --resume, "
            "or train into another --save-dir"
        )
    elif options.resume == "on" and not files.is_resumable():
        raise UserError(f"{files.state} does not exist: nothing to --resume in that --save-dir")

    if options.mode == "predict":
        return predict(generator, discriminator, options, device)
    if options.mode == "train":
        splits = [open_split(options, "train"), open_split(options, "validate")]
    else:  # the validation split chooses the threshold of the maps, where there is ground truth
        validation = open_split(options, "validate") if options.dataset == "Synthetic" else None
        splits = [validation, open_split(options, "test")]
    env = environment(files.folder, options.dataset)
    dashboard = connect(
        options.visdom if process.is_first else "off",
        options.visdom_server,
        options.visdom_port,
        env,
        files.folder / "dashboard",
    )
    try:
        if options.mode == "train":
            return train(
                generator, discriminator, *splits, options, device, files, dashboard, process
            )
        return test(generator, discriminator, *splits, options, device, files, dashboard)
    finally:
        dashboard.close()


def build_networks(options: argparse.Namespace) -> tuple[Generator, Discriminator]:
    generator = Generator(
        base_filters=options.base_filters,
        translation=options.translation,
        norm=options.generator_norm,
    )
    discriminator = Discriminator(
        base_filters=options.critic_filters, image_size=options.image_size
    )
    return generator, discriminator


def read_options() -> argparse.Namespace:
    """The command line, with what it leaves open taken from the run in --save-dir.

    A test takes what the weights depend on, a resumed training all options of the run. Raises
    UserError where the command line contradicts a run that it resumes.
    """
    parser = build_parser()
    parser.set_defaults(**RECIPES[parser.parse_args().recipe])
    options = resolve(parser.parse_args())
    if restarts() and options.resume == "off":
        parser.set_defaults(resume="auto")
        options = resolve(parser.parse_args())
    if options.mode == "predict" and options.input is None:
        raise UserError("--mode predict needs --input: an image or a folder of images")
    files = Run(options.save_dir, options.dataset)
    if options.mode != "train":
        if options.save_dir == parser.get_default("save_dir") and not files.is_used():
            files = pretrained(files)
            parser.set_defaults(save_dir=files.folder)
        generator, discriminator = map(read_weights, files.weights(options.weights))
        saved = files.read_description()["options"]
        passed_on = ("healthy_class", "translation", "flip", "average_flips")
        inherited = {k: saved[k] for k in passed_on if k in saved}
        known = {**inherited, **sizes_of(generator, discriminator)}
        parser.set_defaults(**known)
        options = resolve(parser.parse_args())
        if options.mode == "test" and options.dataset == "Synthetic":
            make_missing_dataset(options, parser)
    elif options.resume != "off" and files.is_resumable():
        saved = files.read_description()["options"]
        fixed = {k: v for k, v in saved.items() if k not in FREE_OPTIONS and k in vars(options)}
        epochs = {"epochs": saved["epochs"]} if "epochs" in saved else {}
        paths = {"dataset_path": saved["dataset_path"]} if "dataset_path" in saved else {}
        parser.set_defaults(**fixed, **epochs, **paths)
        options = resolve(parser.parse_args())
        for name, value in fixed.items():
            if as_json(options)[name] != value:
                raise UserError(
                    f"--{name.replace('_', '-')} is {value} in the run that --resume goes on with: "
                    "leave it out, or train into another --save-dir"
                )
    return options


def pretrained(files: Run) -> Run:
    """The weights that come with the project, if there are some for the data set."""
    shipped = Run(files.folder / "pretrained", files.dataset)
    if not shipped.is_used():
        return files
    print(f"{files.folder} holds no run yet: these are the weights that come with the project")
    return shipped


def make_missing_dataset(options: argparse.Namespace, parser: Parser) -> None:
    """Make the synthetic data set, in the size of the weights, for a test with no data set yet."""
    if options.dataset_path.exists() or parser.parse_args().dataset_path is not None:
        return
    options.dataset_path = Path(f"warp-set-{options.image_size}")
    if not options.dataset_path.exists():
        print(f"making the synthetic data set at {options.image_size} x {options.image_size}")
        write_dataset(options.dataset_path, options.image_size)


def open_split(options: argparse.Namespace, split: str) -> ImageDataset:
    if options.dataset == "Synthetic" and not options.dataset_path.exists():
        raise UserError(
            f"{options.dataset_path} does not exist: make the data set with "
            f"'python create_synthetic_dataset.py --output {options.dataset_path}', "
            "or pass another --dataset-path"
        )
    return ImageDataset(
        options.dataset, options.dataset_path, split, options.image_size, options.healthy_class
    )


if __name__ == "__main__":
    sys.exit(run(main))
