"""Every method on the same data and for the same time: one table and one figure.

    python -m benchmarks.compare --data atrophy=warp-set-64 opacity=opacity-64 brain=DIR \\
        --seconds 600 --out runs/compare --figure runs/compare/methods.png -- --amp

trains and tests what --out does not hold yet, then prints and draws all of it. A data set is one of
create_synthetic_dataset.py, or pictures with masks laid out for --dataset Folder. Baselines see the
images as --recipe fast does, scaled and augmented alike, and learn for --seconds of the processor
or --iterations; recipes are trained by main.py, which gets what stands after --. The validation
split chooses the threshold of the maps, and by the classes alone their sign; the test split is read
once. A run that is there already, OUT/DATA/METHOD-SEED/results/test, may be a link.
"""

import argparse
import importlib
import json
import math
import sys
import textwrap
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from skimage.measure import label
from torch import Tensor

from benchmarks.baselines import Budget, Explain, Explanation, Training
from benchmarks.baselines.trivial import TRIVIAL
from benchmarks.runs import COLUMNS, cell, header, parse, row, train_and_test, value_of
from descargan import HEALTHY, metrics, testing
from descargan.cli import Parser, positive, run
from descargan.data import ImageDataset, evenly_spread
from descargan.device import speed_up_process
from descargan.errors import UserError
from descargan.figures import save_figure
from descargan.files import read_table, without_nan, write_json
from descargan.layout import find_masks
from descargan.masks import fit_mask, read_mask
from descargan.names import map_names
from descargan.options import Options
from descargan.others import choose_thresholds
from descargan.reading import DIFFUSION, Reading, how_of_test, is_earlier
from descargan.score_maps import choose_sign, strengths
from descargan.scores import NO_READING, Finding, Thresholds, plain_finding
from descargan.settings import settle

# What each method is called in the table and the figure, in their order.
RECIPES = {
    "fast": "DeScarGAN, fast recipe",
    "deformation": "DeScarGAN, deformation recipe",
    "paper": "DeScarGAN, the paper's recipe",
}
BASELINES = {
    "evidence": "evidence map of a classifier",
    "fixed_point_gan": "Fixed-Point GAN style",
    "va_gan": "VA-GAN style",
    "saliency": "saliency of a classifier",
    "vae": "variational autoencoder",
    "autoencoder": "autoencoder",
}
BOUND = {"upper_bound": "U-Net trained with outlines"}
TITLES = {**RECIPES, **BASELINES, **{name: f"{name}, no network" for name in TRIVIAL}, **BOUND}
SHOWN = 2  # images of a data set in the figure
BLOB = 10  # pixels, connected


def options_of(root: Path, size: int) -> Options:
    """The options by which --recipe fast reads a data set: kind, scaling and flips."""
    kind = "Synthetic" if (root / "dataset.json").is_file() else "Folder"
    given = {"recipe": "fast", "dataset": kind, "dataset_path": root, "image_size": size}
    return settle(given)


def read_training(options: Options) -> Training:
    """The training images, with their masks where there are some."""
    dataset = ImageDataset.open(options, "train")
    images, truth, classes = dataset.__getitems__(range(len(dataset)))
    flips = options.flip != "none", options.flip == "both"
    if not dataset.kind.prepared:
        truth = read_masks(dataset)
    masks = torch.from_numpy(metrics.is_diseased(truth.numpy())).float()
    return Training(images, classes, flips, masks=masks if masks.any() else None)


def read_masks(dataset: ImageDataset) -> Tensor:
    """The masks of training images (N, 1, S, S), which the product does not read."""
    masks = np.zeros((len(dataset), 1, dataset.image_size, dataset.image_size), np.float32)
    for index, path in find_masks(dataset.root, "train", dataset.paths).items():
        masks[index] = fit_mask(read_mask(path), dataset.image_size)
    return torch.from_numpy(masks)


def run_baseline(name: str, seed: int, options: Options, budget: Budget, folder: Path) -> None:
    """Train one of benchmarks/baselines, and test it."""
    training = read_training(options)
    if name in BOUND and training.masks is None:
        print(f"{options.dataset_path} holds no masks of training images: no {TITLES[name]}")
        return
    module = importlib.import_module(f"benchmarks.baselines.{name}")
    start = time.process_time()
    explain = module.train(training, budget, seed)
    minutes = (time.process_time() - start) / 60
    evaluate(explain, options, folder)
    write_json(folder / "about.json", {"cpu_minutes": minutes})


def evaluate(explain: Explain, options: Options, folder: Path) -> None:
    """What a method finds in the test split, in the form of main.py's test: maps and metrics."""
    torch.manual_seed(0)
    validation, dataset = (ImageDataset.open(options, split) for split in ("validate", "test"))
    found = list(findings(explain, validation))
    reading = Reading(None, sign=sign_of_disease(found), diffusion=DIFFUSION)
    levels, validated = choose_threshold([finding.read(reading) for finding in found])
    method = testing.Method(partial(findings, explain, reading=reading), levels, in_unit=False)
    results = folder / "results" / "test"
    seen = testing.look_at(method, dataset, results, Thresholds(validated, reading))
    about = {**reading.about, "dice_threshold_chosen_on_validation": validated}
    measured = testing.measure(dataset, seen, [], [reading])
    write_json(results / "metrics.json", without_nan({**about, **measured}))
    testing.write_csv(results / "metrics.csv", seen.rows)


def findings(
    explain: Explain, dataset: ImageDataset, reading: Reading = NO_READING
) -> Iterator[Finding]:
    """What a method finds in each image of a split."""
    for index in torch.arange(len(dataset)).split(10):
        images, truth, classes = dataset.__getitems__(index)
        said: Explanation = explain(images)
        healthy = torch.full_like(images, torch.nan) if said.healthy is None else said.healthy
        probability = torch.full((len(images),), torch.nan)
        probability = probability if said.probability is None else said.probability
        columns = [x[:, 0].numpy() for x in (images, truth, healthy, said.difference)]
        for values in zip(classes.tolist(), *columns, probability.tolist(), strict=True):
            yield plain_finding(*values).read(reading)


def sign_of_disease(found: list[Finding]) -> int:
    """How maps are read, by the classes of validation images: see ``score_maps.choose_sign``."""
    maps = torch.from_numpy(np.stack([f.difference for f in found]))
    return choose_sign(strengths(maps[:, None]), torch.tensor([f.label for f in found]))


def choose_threshold(found: list[Finding]) -> tuple[np.ndarray, float | None]:
    """Thresholds for maps of any unit, and the one with the best mean Dice; None without masks."""
    levels = choose_thresholds((f.score_map for f in found), len(found))
    curves = [metrics.dice_curve(f.score_map, f.truth, levels) for f in found if f.truth.any()]
    return levels, float(levels[np.mean(curves, axis=0).argmax()]) if curves else None


def run_missing(
    data: dict[str, Options], chosen: argparse.Namespace, budget: Budget, extra: list[str]
) -> None:
    """Train and test what the folder of results lacks."""
    for name, options in data.items():
        for method in chosen.methods:
            for seed in chosen.seeds if method not in TRIVIAL else (0,):
                folder = chosen.out / name / f"{method}-{seed}"
                if (folder / "results" / "test" / "metrics.json").exists():
                    continue
                print(f"{name}: {TITLES[method]}, seed {seed}", flush=True)
                if method in TRIVIAL:
                    evaluate(TRIVIAL[method], options, folder)
                elif method in RECIPES:
                    of_data = ["--dataset", options.dataset, "--dataset-path", options.dataset_path]
                    recipe = ["--recipe", method, "--image-size", options.image_size]
                    train_and_test(folder, of_data, [*recipe, "--seed", seed, *extra])
                else:
                    run_baseline(method, seed, options, budget, folder)


def runs_of(out: Path, data: str, method: str) -> list[Path]:
    """The folders of results of a method, one a seed."""
    found = sorted((out / data).glob(f"{method}-[0-9]*/results/test/metrics.json"))
    return [path.parent for path in found]


def print_table(out: Path, data: dict[str, Options], methods: list[str]) -> None:
    """Each method on each data set: the mean over its seeds, smallest and largest."""
    titles = [*COLUMNS.values(), f"healthy images with a blob of {BLOB} pixels"]
    print(header(["data", "method", "seeds", "minutes", *titles]))
    for name, options in data.items():
        healthy = healthy_images(options)
        for method in methods:
            folders = runs_of(out, name, method)
            if not folders:
                continue
            seeds = [json.loads((f / "metrics.json").read_text())["metrics"] for f in folders]
            cells = [cell([value_of(s, column) for s in seeds]) for column in COLUMNS]
            cells.append(cell([share_with_blob(folder, healthy) for folder in folders]))
            print(row([name, TITLES[method], len(seeds), minutes_of(folders), *cells]))


def healthy_images(options: Options) -> dict[str, np.ndarray]:
    """The healthy test images (H, W), by the names of their difference maps."""
    dataset = ImageDataset.open(options, "test")
    files = map_names(testing.names_of(dataset))
    healthy = (dataset.classes == HEALTHY).nonzero().flatten().tolist()
    return {files[index]: dataset[index][0][0].numpy() for index in healthy}


def share_with_blob(results: Path, images: dict[str, np.ndarray]) -> float | None:
    """Of the maps of images, by name, how many are over the threshold of validation in one place.

    None where the validation split had no outlines to choose a threshold by.
    """
    reading = reading_of_test(results)
    if reading.threshold is None:
        return None
    found = [
        label(reading.mask(scores)) for scores in score_maps(results, reading, images).values()
    ]
    return float(np.mean([np.bincount(x.ravel())[1:].max(initial=0) >= BLOB for x in found]))


def minutes_of(results: list[Path]) -> str:
    """Minutes of the processor, the mean over the runs that know it."""
    about = [path.parents[1] / "about.json" for path in results]
    known = [json.loads(path.read_text())["cpu_minutes"] for path in about if path.exists()]
    return f"{np.mean(known):.0f}" if known else ""


def draw(out: Path, data: dict[str, Options], methods: list[str], path: Path) -> None:
    """Score maps of the methods for the same test images, each on its own scale, from 0 up."""
    shown = [m for m in methods if any(runs_of(out, name, m) for name in data) and m != "nothing"]
    titles = ["image", "diseased pixels", *(TITLES[method] for method in shown)]
    figure = Figure(
        figsize=(1.4 * len(titles), 1.4 * SHOWN * len(data) + 0.6), layout="constrained"
    )
    axes = figure.subplots(SHOWN * len(data), len(titles), squeeze=False)
    for top, (name, options) in enumerate(data.items()):
        dataset = ImageDataset.open(options, "test")
        files = map_names(testing.names_of(dataset))
        chosen = {files[i]: dataset[i] for i in evenly_spread(dataset, SHOWN, healthy=0)}
        images = {file: image[0].numpy() for file, (image, *_) in chosen.items()}
        runs = [runs_of(out, name, method) for method in shown]
        maps = [score_maps(r[0], reading_of_test(r[0]), images) if r else {} for r in runs]
        for line, (file, (_, truth, _)) in enumerate(chosen.items()):
            cells = [images[file], metrics.is_diseased(truth[0].numpy())]
            cells += [found.get(file) for found in maps]
            place = axes[SHOWN * top + line]
            place[0].set_ylabel(name)
            for axis, array, colours in zip(place, cells, colours_of(len(cells)), strict=True):
                axis.set_xticks([])
                axis.set_yticks([])
                if array is not None:
                    low = -1 if array is images[file] else 0
                    high = 1 if colours == "gray" else max(float(array.max()), 1e-6)
                    axis.imshow(array, cmap=colours, vmin=low, vmax=high)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(textwrap.fill(title, 15), fontsize=7)
    save_figure(figure, path)


def colours_of(columns: int) -> list[str]:
    return ["gray", "gray", *["inferno"] * (columns - 2)]


def reading_of_test(results: Path) -> Reading:
    """How a test read its maps, with the threshold that it chose on the validation split."""
    said = json.loads((results / "metrics.json").read_text())
    how = how_of_test(said)
    if "cover" not in how or is_earlier(how):
        raise UserError(f"{results} is the test of an earlier version: remove it to test again")
    if said.get("after"):
        raise UserError(
            f"{results} joins the maps of two runs, which are not read alike: remove it"
        )
    threshold = said["dice_threshold_chosen_on_validation"]
    return Reading(
        threshold,
        sign=how["sign"],
        diffusion=how["diffusion"],
        cover=how["cover"],
    )


def score_maps(
    results: Path, reading: Reading, images: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The score maps of images, by the names of the difference maps that a test has stored."""
    rows = {row["map"]: row for row in read_table(results / "metrics.csv")}
    return {
        file: reading.score_map(
            np.load(results / "difference_maps" / file),
            image,
            float(rows[file].get("probability", np.nan)),
        )
        for file, image in images.items()
    }


def named_folder(text: str) -> tuple[str, Path]:
    """A type for argparse: NAME=DIR."""
    name, equals, folder = text.partition("=")
    if not (name and equals and Path(folder).is_dir()):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=DIR with a folder that exists")
    return name, Path(folder)


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", nargs="+", type=named_folder, required=True, metavar="NAME=DIR")
    text = "methods to run and show (default: all but the two other recipes)"
    standard = [name for name in TITLES if name not in ("deformation", "paper")]
    add("--methods", nargs="+", choices=TITLES, default=standard, metavar="NAME", help=text)
    add("--seeds", nargs="+", type=int, default=[0], metavar="N", help="default: 0")
    text = "of the processor, for each baseline (default: 600, or none where iterations are given)"
    add("--seconds", type=positive, metavar="X", help=text)
    add("--iterations", type=positive, default=math.inf, metavar="N", help="for each baseline")
    add("--image-size", type=int, default=64, metavar="N", help="default: 64")
    add("--out", type=Path, default=Path("runs/compare"), metavar="DIR")
    add("--figure", type=Path, metavar="FILE", help="draw the maps of all methods")
    chosen, extra = parse(parser)
    speed_up_process()
    unlimited = math.inf if chosen.iterations < math.inf else 600.0
    budget = Budget(chosen.seconds or unlimited, chosen.iterations)
    data = {name: options_of(root, chosen.image_size) for name, root in chosen.data}
    chosen.methods = sorted(chosen.methods, key=list(TITLES).index)
    run_missing(data, chosen, budget, extra)
    print_table(chosen.out, data, chosen.methods)
    if chosen.figure:
        draw(chosen.out, data, chosen.methods, chosen.figure)
        print(f"figure: {chosen.figure}")


if __name__ == "__main__":
    sys.exit(run(main))
