"""Does the recipe find something where there is nothing? It is trained with shuffled classes.

    python -m benchmarks.permuted_labels brain --patient '^(p[0-9]+)' --seeds 0 1 2 \\
        --out runs/permuted -- --recipe fast --image-size 64

trains and tests the recipe on the same images twice for each seed: with their classes, and with
classes that are shuffled among the patients of the training and of the validation split. The test
split keeps its classes and outlines. What a map of shuffled classes scores is what the scores give
for nothing: a map of the true ones must have more, and its run must say that the others' run found
nothing. What stands after -- are the options of the training (default: those above); runs that are
in --out are not trained again.
"""

import argparse
import re
import sys
from pathlib import Path

import numpy as np

from benchmarks.linked import SPLITS, Entry, add_data, options_of, read_entries, write_linked
from benchmarks.runs import RECIPE, header, parse, row, train_and_test, value_of
from descargan.checkpoints import Run
from descargan.cli import Parser, run
from descargan.reading import read_reading

COLUMNS = {
    "accuracy": "class accuracy",
    "auroc_class": "AUROC of the classifier",
    "auroc_anomaly": "AUROC of the anomaly score",
    "pixel_auroc": "pixel AUROC",
    "pixel_auprc": "pixel AUPRC",
    "dice_validated": "Dice, threshold of validation",
}


def shuffle_classes(entries: list[Entry], rng: np.random.Generator) -> list[Entry]:
    """The same images with the same number of each class, the classes moved among the patients.

    Those of all patients, one patient after another in random order, are handed out to the
    patients, and within each to the images in random order. So where a patient has one class, it
    gets another patient's; and where it has both, the place of a slice in it tells nothing.
    """
    by_patient: dict[str, list[Entry]] = {}
    for entry in entries:
        by_patient.setdefault(entry.patient, []).append(entry)
    groups = list(by_patient.values())
    labels = [entry.label for i in rng.permutation(len(groups)) for entry in groups[i]]
    shuffled = []
    for group in groups:
        ours, labels = labels[: len(group)], labels[len(group) :]
        places = rng.permutation(len(group))
        shuffled += [group[i]._replace(label=c) for i, c in zip(places, ours, strict=True)]
    return shuffled


def prepare(options: argparse.Namespace, seed: int, permuted: bool) -> Path:
    """The data set of a run, of links."""
    splits = {split: read_entries(options.data, split, options.patient) for split in SPLITS}
    if permuted:
        rng = np.random.default_rng(seed)
        for split in ("train", "validate"):
            splits[split] = shuffle_classes(splits[split], rng)
    folder = options.out / (f"data-permuted-{seed}" if permuted else "data-true")
    write_linked(folder, options.data, splits)
    return folder


def verdict(data: list[object], folder: Path) -> str:
    """What the run itself says of its maps, by its validation images."""
    reading = read_reading(Run(folder, str(data[1])).reading, "last")
    if reading.threshold is None:
        return re.split("[:,]", reading.reason)[0]
    return f"found: threshold {reading.threshold:.3f}"


def print_table(found: list[tuple[str, int, dict, str]]) -> None:
    """A row a run, and one of the maps that took no network."""
    print(header(["classes", "seed", *COLUMNS.values(), "the run's verdict"]))
    for classes, seed, test, said in found:
        values = [value_of(test["metrics"], name) for name in COLUMNS]
        cells = ["" if value is None else f"{value:.3f}" for value in values]
        print(row([classes, seed, *cells, said]))
    for name, measured in found[0][2]["trivial_maps"].items():
        values = [value_of(measured, column) for column in COLUMNS]
        cells = ["" if value is None else f"{value:.3f}" for value in values]
        print(row([f"no network: {name}", "", *cells, ""]))


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data(parser)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N", help="default: 0")
    parser.add_argument("--out", type=Path, default=Path("runs/permuted"), metavar="DIR")
    options, recipe = parse(parser)
    found = []
    for permuted in (False, True):
        for seed in options.seeds:
            classes = "permuted" if permuted else "true"
            data = options_of(prepare(options, seed, permuted))
            folder = options.out / f"{classes}-{seed}"
            test = train_and_test(folder, data, [*(recipe or RECIPE), "--seed", seed])
            found.append((classes, seed, test, verdict(data, folder)))
    print_table(found)


if __name__ == "__main__":
    sys.exit(run(main))
