"""How few patients are too few? The recipe with a share of the training patients.

    python -m benchmarks.fewer_patients brain --patient '^(p[0-9]+)' --shares 0.25 0.5 1 \\
        --out runs/fewer -- --recipe fast --image-size 64

draws the patients by --seeds, a smaller share out of a larger one, and trains and tests with as
many iterations whatever the share: an epoch of --recipe fast is 200 batches of any data set. What
stands after -- are the options of the training (default: those above); runs that are in --out are
not trained again. Validation and test split are whole.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.linked import SPLITS, Entry, add_data, options_of, read_entries, write_linked
from benchmarks.runs import COLUMNS, RECIPE, cell, header, parse, row, train_and_test, value_of
from descargan import DISEASED, HEALTHY
from descargan.cli import Parser, number, run
from descargan.splits import group_by_patient, stratified_split

part = number(float, lambda x: 0 < x <= 1, "a share above 0 and not above 1")


def choose_patients(entries: list[Entry], shares: list[float], seed: int) -> dict[float, set[str]]:
    """The patients of each share, in (0, 1], with that share of the images of both classes.

    Those of a smaller share are among those of a larger one. Raises UserError where a class has
    fewer patients than there are shares.
    """
    ends = sorted({*shares, 1.0})
    steps = {str(end): end - start for start, end in zip([0.0, *ends], ends, strict=False)}
    groups = group_by_patient([e.patient for e in entries], [e.label for e in entries])
    end_of = stratified_split(groups, steps, seed, ("healthy", "diseased"))
    return {share: {p for p, end in end_of.items() if float(end) <= share} for share in shares}


def run_share(options: argparse.Namespace, share: float, seed: int, recipe: list[str]) -> dict:
    """What the test of a run with a share of the patients says, and how many they were."""
    splits = {split: read_entries(options.data, split, options.patient) for split in SPLITS}
    kept = choose_patients(splits["train"], options.shares, seed)[share]
    splits["train"] = [entry for entry in splits["train"] if entry.patient in kept]
    data = options.out / f"data-{share:g}-{seed}"
    write_linked(data, options.data, splits)
    folder = options.out / f"{share:g}-{seed}"
    test = train_and_test(folder, options_of(data), [*(recipe or RECIPE), "--seed", seed])
    labels = [entry.label for entry in splits["train"]]
    counts = {"patients": len(kept), "images": [labels.count(c) for c in (HEALTHY, DISEASED)]}
    return {**test, **counts}


def print_table(found: dict[float, list[dict]]) -> None:
    """A row a share: the mean over the seeds, smallest and largest."""
    titles = ["share", "patients", "healthy + diseased images", "seeds", *COLUMNS.values()]
    print(header(titles))
    for share, tests in found.items():
        patients = sorted({test["patients"] for test in tests})
        images = sorted({"{} + {}".format(*test["images"]) for test in tests})
        about = [f"{share:g}", " or ".join(map(str, patients)), " or ".join(images), len(tests)]
        cells = [cell([value_of(test["metrics"], name) for test in tests]) for name in COLUMNS]
        print(row([*about, *cells]))


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data(parser)
    text = "of the patients (default: 0.25 0.5 1)"
    parser.add_argument(
        "--shares", type=part, nargs="+", default=[0.25, 0.5, 1.0], metavar="X", help=text
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N", help="default: 0")
    parser.add_argument("--out", type=Path, default=Path("runs/fewer"), metavar="DIR")
    options, recipe = parse(parser)
    found = {
        share: [run_share(options, share, seed, recipe) for seed in options.seeds]
        for share in options.shares
    }
    print_table(found)


if __name__ == "__main__":
    sys.exit(run(main))
