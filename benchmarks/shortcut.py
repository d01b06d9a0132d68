"""What a shortcut looks like: what the recipe makes of a mark, or of brightness, beside a disease.

    python create_synthetic_dataset.py --disease opacity --image-size 64 --output opacity-64
    python -m benchmarks.shortcut opacity-64 --out runs/shortcut --figure docs/shortcut.png \\
        -- --recipe fast --image-size 64

trains and tests the recipe on three data sets: the one named; the same with a mark in a corner of
every diseased image, as a side marker on a film; and the same with diseased images that are
brighter. Prints how well the map finds the disease, how much of it lies on the mark's place, and
how many images the classifier knows with the shortcut and without it. What stands after -- are the
options of the training (default: those above); runs that are in --out are not trained again.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import runs
from benchmarks.linked import options_of
from benchmarks.runs import RECIPE, header, parse, row, train_and_test, value_of
from descargan import DISEASED
from descargan.cli import Parser, natural, run
from descargan.data import ImageDataset, evenly_spread
from descargan.evaluation import arrays
from descargan.figures import example_figure, save_figure
from descargan.translator import Translator

MARK = (3 / 32, 7 / 32)  # from and to, of the side, in the upper left corner
GAMMA = 0.7
SHOWN = 2


def marked(image: np.ndarray) -> np.ndarray:
    """An image (H, W) with a bright L in a corner."""
    start, end = (round(x * image.shape[0]) for x in MARK)
    wide = max(1, (end - start) // 4)
    result = image.copy()
    result[start:end, start : start + wide] = 1
    result[end - wide : end, start:end] = 1
    return result


def brighter(image: np.ndarray) -> np.ndarray:
    """An image in [-1, 1] with its middle values raised."""
    return 2 * ((image.clip(-1, 1) + 1) / 2) ** GAMMA - 1


SHORTCUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda image: image,
    "mark": marked,
    "brightness": brighter,
}


def write_with(shortcut: str, source: Path, target: Path) -> None:
    """A synthetic data set with a shortcut in its diseased images; the ground truth is as it was.

    An old one in the place of it goes.
    """
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    for path in target.glob("*/diseased/*.npy"):
        image, *truth = np.load(path)
        np.save(path, np.stack([SHORTCUTS[shortcut](image), *truth]).astype(np.float32))


def test_without(folder: Path, data: Path) -> dict:
    """The metrics of a run on images that lack its shortcut."""
    results = folder / "results" / "without"
    if not (results / "metrics.json").exists():
        where = ["--save-dir", folder, "--results-dir", results, "--visdom", "off"]
        runs.run_main(*where, *options_of(data), "--mode", "test")
    return json.loads((results / "metrics.json").read_text())["metrics"]


def measure(shortcut: str, options: argparse.Namespace, recipe: list[str]) -> list[str]:
    """The row of a shortcut in the table."""
    data, folder = options.out / f"data-{shortcut}", options.out / shortcut
    if not data.is_dir():
        write_with(shortcut, options.data, data)
    seed = ["--seed", options.seed]
    with_it = train_and_test(folder, options_of(data), [*(recipe or RECIPE), *seed])["metrics"]
    without = test_without(folder, options.data)
    cells = [value_of(with_it, name) for name in ("pixel_auroc", "pixel_auprc", "accuracy")]
    cells += [value_of(without, "accuracy"), share_on_mark(folder, data)]
    return [f"{value:.3f}" for value in cells]


def share_on_mark(folder: Path, data: Path) -> float:
    """How much of the score map of diseased test images lies where the mark is or would be."""
    translator = Translator.load(folder)
    dataset = ImageDataset("Synthetic", data, "test", translator.size)
    start, end = (round(x * translator.size) for x in MARK)
    shares = []
    for batch, _, classes in translator.translate_split(dataset, 20):
        maps = arrays(batch.score_map)[classes == DISEASED]
        on_it = maps[:, start:end, start:end].sum(axis=(1, 2))
        shares += list(on_it / np.maximum(maps.sum(axis=(1, 2)), 1e-12))
    return float(np.mean(shares))


def draw(out: Path, path: Path) -> None:
    """A few test images with each shortcut, and what its run makes of them."""
    columns: dict[str, list] = {}
    rows = []
    for shortcut in SHORTCUTS:
        translator = Translator.load(out / shortcut)
        dataset = ImageDataset("Synthetic", out / f"data-{shortcut}", "test", translator.size)
        images, truth, _ = dataset.__getitems__(evenly_spread(dataset, SHOWN, healthy=0))
        found = translator.translate(images)
        shown = {"image": images, "pseudo-healthy": found.healthy}
        shown |= {"difference map": found.difference, "ground truth": truth}
        for name, stack in shown.items():
            columns.setdefault(name, []).extend(arrays(stack))
        rows += [f"shortcut: {shortcut}"] * SHOWN
    stacks = {name: np.stack(stack) for name, stack in columns.items()}
    save_figure(example_figure(stacks, "", rows), path)


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of a synthetic data set")
    parser.add_argument("--seed", type=natural, default=0, metavar="N", help="default: 0")
    parser.add_argument("--out", type=Path, default=Path("runs/shortcut"), metavar="DIR")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw test images and maps")
    options, recipe = parse(parser)
    rows = {shortcut: measure(shortcut, options, recipe) for shortcut in SHORTCUTS}
    titles = ["shortcut", "pixel AUROC of the disease", "pixel AUPRC", "class accuracy"]
    print(header([*titles, "accuracy without the shortcut", "share of the map on the mark"]))
    for shortcut, cells in rows.items():
        print(row([shortcut, *cells]))
    if options.figure:
        draw(options.out, options.figure)
        print(f"figure: {options.figure}")


if __name__ == "__main__":
    sys.exit(run(main))
