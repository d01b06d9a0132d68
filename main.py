"""Train, test or use DeScarGAN. ``python main.py --help`` lists every option."""

import argparse
import sys

import torch

from descargan.checkpoints import Run, load_weights, read_weights, sizes_of
from descargan.cli import run
from descargan.dashboard import connect, environment
from descargan.data import ImageDataset
from descargan.distributed import Process, is_restarted, local_rank, process_group
from descargan.errors import UserError
from descargan.models import Discriminator, Generator
from descargan.options import FREE_OPTIONS, as_json, build_parser, resolve
from descargan.prediction import predict
from descargan.testing import test
from descargan.training import train


def main() -> int:
    torch.set_flush_denormal(True)  # vanishing activations would slow the CPU down many times
    options = read_options()
    device = choose_device(options.device)
    with process_group(device) as process:
        return work(options, device, process)


def work(options: argparse.Namespace, device: torch.device, process: Process) -> int:
    """Build both networks, then train, test or predict with them."""
    torch.manual_seed(options.seed)
    generator = Generator(base_filters=options.base_filters, translation=options.translation)
    discriminator = Discriminator(
        base_filters=options.critic_filters, image_size=options.image_size
    )
    files = Run(options.save_dir, options.dataset)
    if options.mode != "train":
        load_weights(generator, files.generator)
        load_weights(discriminator, files.discriminator)
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


def read_options() -> argparse.Namespace:
    """The command line, with what it leaves open taken from the run in --save-dir.

    A test takes what the weights depend on, a resumed training all options of the run. Raises
    UserError where the command line contradicts a run that it resumes.
    """
    parser = build_parser()
    options = resolve(parser.parse_args())
    if is_restarted() and options.resume == "off":
        parser.set_defaults(resume="auto")
        options = resolve(parser.parse_args())
    if options.mode == "predict" and options.input is None:
        raise UserError("--mode predict needs --input: an image or a folder of images")
    files = Run(options.save_dir, options.dataset)
    if options.mode != "train":
        generator, discriminator = read_weights(files.generator), read_weights(files.discriminator)
        saved = files.read_description()["options"]
        inherited = {k: saved[k] for k in ("healthy_class", "translation") if k in saved}
        known = {**inherited, **sizes_of(generator, discriminator)}
        parser.set_defaults(**known)
        options = resolve(parser.parse_args())
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


def choose_device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda needs a CUDA device, and PyTorch finds none: pass cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name, local_rank()) if name == "cuda" else torch.device(name)


if __name__ == "__main__":
    sys.exit(run(main))
