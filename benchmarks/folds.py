"""Five folds by patient of a prepared data set, and boxes that no training saw.

    python prepare_table.py --table xrays/labels.csv --images xrays --image-column file \\
        --patient-column patient --healthy 'findings=No Finding' --diseased 'findings~Effusion' \\
        --match view --nuisance view --output effusion
    python prepare_table.py --table xrays/labels.csv --images xrays --image-column file \\
        --patient-column patient --healthy 'findings=No Finding' --diseased 'findings~Pneumonia' \\
        --boxes xrays/boxes.csv --output pneumonia
    python -m benchmarks.folds effusion --boxes pneumonia --out runs/folds \\
        -- --recipe fast --image-size 64

For few images, of which a split holds too few to say anything: each fold is the test split of one
run, the next one its validation split. Patients with a boxed image are in no fold; the networks of
every run map the boxed images. Prints the AUROC of the pooled images, each ranked in its own fold,
and of the maps of the boxed ones how often they lie on the right side of the chest, and how well
they find the box. Intervals are bootstrapped over patients. What stands after -- are the options
of the training (default: those above); runs that are in --out are not trained again.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from benchmarks.linked import SPLITS, Entry, options_of, read_entries, read_rows, write_linked
from benchmarks.runs import RECIPE, header, parse, row, train_and_test
from descargan import DISEASED, HEALTHY, metrics
from descargan.cli import Parser, count, natural, run
from descargan.data import ImageDataset
from descargan.errors import UserError
from descargan.evaluation import arrays
from descargan.layout import MANIFEST, read_patients
from descargan.settings import settle
from descargan.splits import group_by_patient, stratified_split
from descargan.translator import Translator
from descargan.trivial import trivial_maps

ONE_SIDE = 0.8  # of a box: where less lies in one half of the image, it has no side
SCORES = {
    "anomaly_score": "AUROC of the anomaly score",
    "probability": "AUROC of the classifier",
}


def divide(entries: list[Entry], folds: int, seed: int) -> list[list[Entry]]:
    """The images of each fold: no patient in two, both classes in each alike."""
    groups = group_by_patient([e.patient for e in entries], [e.label for e in entries])
    shares = {str(fold): 1.0 for fold in range(folds)}
    fold_of = stratified_split(groups, shares, seed, ("healthy", "diseased"))
    return [[e for e in entries if fold_of[e.patient] == fold] for fold in shares]


def write_fold(folder: Path, source: Path, folds: list[list[Entry]], number: int) -> None:
    """The data set of a run: one fold its test split, the next its validation split."""
    after = (number + 1) % len(folds)
    rest = [e for i, fold in enumerate(folds) if i not in (number, after) for e in fold]
    write_linked(folder, source, {"train": rest, "validate": folds[after], "test": folds[number]})


def pool(runs: list[tuple[Path, Path]]) -> dict[str, dict[str, float]]:
    """AUROC of each of SCORES over the images of all folds, with intervals over patients.

    ``runs``: of each fold its data set and its run. Each fold has networks of its own, so a score
    is replaced by its rank in its fold.
    """
    columns: dict[str, list] = {name: [] for name in ("class", "patient", *SCORES)}
    for data, folder in runs:
        rows = read_rows(folder / "results" / "test")
        columns["class"] += [int(r["class"]) for r in rows]
        columns["patient"] += read_patients(data, [data / r["file"] for r in rows])
        for name in SCORES:
            columns[name] += list(rankdata([float(r[name]) for r in rows]) / len(rows))
    labels, patients = np.array(columns["class"]), np.array(columns["patient"])
    return {
        name: metrics.with_interval(metrics.auroc, labels, np.array(columns[name]), groups=patients)
        for name in SCORES
    }


def measure_boxes(folder: Path, data: Path) -> dict[str, np.ndarray]:
    """What :func:`measure_map` gives for each boxed image of the test split of ``data``, (N, 3).

    Of the maps of a run, and of those that take no network, by their names.
    """
    given = {"mode": "test", "save_dir": folder, "dataset": "Folder", "dataset_path": data}
    options = settle(given)
    dataset = ImageDataset.open(options, "test")
    found: dict[str, list[np.ndarray]] = {}
    translator = Translator.of(options)
    for batch, truths, _ in translator.translate_split(dataset, options.batch_size):
        columns = (arrays(x) for x in (batch.images, batch.score_map, truths))
        for image, score, truth in zip(*columns, strict=True):
            if not truth.any():
                continue
            maps = {"the recipe": score, **trivial_maps(image, translator.reading)}
            for title, drawn in maps.items():
                found.setdefault(title, []).append(measure_map(drawn, truth))
    return {title: np.array(rows) for title, rows in found.items()}


def measure_map(score: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Whether a score map lies on the side of the box, and its pixel AUROC and AUPRC."""
    return np.array([on_the_side(score, truth), *metrics.pixel_metrics(score, truth).values()])


def on_the_side(score: np.ndarray, truth: np.ndarray) -> float:
    """1 where the half of the image that holds the box has more of the score map, 0 where less.

    A half where both have as much; NaN where the box lies in both halves.
    """
    boxed, scored = (halves(x) for x in (truth, score))
    if boxed.max() < ONE_SIDE * boxed.sum():
        return np.nan
    ours, other = scored[boxed.argmax()], scored[boxed.argmin()]
    return 0.5 if np.isclose(ours, other) else float(ours > other)


def halves(x: np.ndarray) -> np.ndarray:
    """Sums (2,) of the left and the right half of (H, W), without the middle column if any."""
    width = x.shape[1] // 2
    return np.array([x[:, :width].sum(), x[:, -width:].sum()])


def print_boxes(found: dict[str, np.ndarray], patients: np.ndarray) -> None:
    """A row a map: ``found`` (N, 3), of each boxed image the mean over the runs."""
    print(header(["map of the boxed images", "right side, %", "pixel AUROC", "pixel AUPRC"]))
    for title, values in found.items():
        cells = []
        for column, scale, digits in zip(values.T, (100, 1, 1), (0, 3, 3), strict=True):
            entry = metrics.with_interval(metrics.mean, column, groups=patients)
            texts = [f"{scale * entry[key]:.{digits}f}" for key in ("value", "low", "high")]
            cells.append("{} ({} to {})".format(*texts))
        print(row([title, *cells]))


def read_all(root: Path) -> list[Entry]:
    """The images of all splits. Raises UserError where their patients are not known."""
    if not (root / MANIFEST).is_file():
        raise UserError(f"{root} has no {MANIFEST}, which names the patients: prepare it anew")
    return [entry for split in SPLITS for entry in read_entries(root, split)]


def run_folds(options: argparse.Namespace, entries: list[Entry], recipe: list[str]) -> list:
    """Train and test each fold that was not yet: of each its data set and its run."""
    runs = []
    folds = divide(entries, options.folds, options.seed)
    for number in range(options.folds):
        data, folder = (options.out / f"{name}-{number}" for name in ("data", "fold"))
        write_fold(data, options.data, folds, number)
        seed = ["--seed", options.seed]
        train_and_test(folder, options_of(data), [*(recipe or RECIPE), *seed])
        runs.append((data, folder))
    return runs


def build_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("data", type=Path, help="a data set that was prepared, with the patients in manifest.csv")
    text = "another of the same images, with masks of the boxes"
    add("--boxes", type=Path, metavar="DIR", help=text)
    add("--folds", type=count, default=5, metavar="N", help="default: 5, at least 3")
    text = "of the folds and of the training (default: 0)"
    add("--seed", type=natural, default=0, metavar="N", help=text)
    add("--out", type=Path, default=Path("runs/folds"), metavar="DIR")
    return parser


def main() -> None:
    options, recipe = parse(build_parser())
    boxes = read_all(options.boxes) if options.boxes else []
    boxed = [entry for entry in boxes if entry.mask is not None]
    known = {entry.patient for entry in boxed}
    entries = [entry for entry in read_all(options.data) if entry.patient not in known]
    runs = run_folds(options, entries, recipe)
    numbers = [sum(entry.label == label for entry in entries) for label in (HEALTHY, DISEASED)]
    of = f"{numbers[0]} healthy and {numbers[1]} diseased images"
    print(f"{of} of {len({entry.patient for entry in entries})} patients, {len(runs)} folds")
    for name, entry in pool(runs).items():
        print(f"{SCORES[name]}: {entry['value']:.3f} ({entry['low']:.3f} to {entry['high']:.3f})")
    if boxed:
        healthy = next(entry for entry in boxes if entry.label == HEALTHY)
        write_linked(options.out / "boxed", options.boxes, {"test": [healthy, *boxed]})
        measured = [measure_boxes(folder, options.out / "boxed") for _, folder in runs]
        means = {title: np.mean([m[title] for m in measured], axis=0) for title in measured[0]}
        # A data set lists its images by name.
        patients = [entry.patient for entry in sorted(boxed, key=lambda entry: entry.name)]
        print(f"{len(boxed)} boxed images of {len(known)} patients; means over the runs")
        print_boxes(means, np.array(patients))


if __name__ == "__main__":
    sys.exit(run(main))
