"""Test mode: every metric over the whole test split, a table, figures and files of results."""

import csv
import io
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from descargan import CLASS_NAMES, HEALTHY, metrics
from descargan.checkpoints import Run
from descargan.dashboard import Dashboard, connected
from descargan.data import ImageDataset, evenly_spread, warn_of_few
from descargan.distributed import Process
from descargan.evaluation import arrays
from descargan.figures import (
    example_figure,
    grey,
    mask_picture,
    overlay,
    overlay_figure,
    roc_figure,
    save_figure,
)
from descargan.files import naming, without_nan, write_atomically, write_json
from descargan.layout import read_patients
from descargan.names import map_names, printable
from descargan.options import Options
from descargan.pairs import differences, read_rows
from descargan.reading import Reading, reading_of
from descargan.report import Card, Gallery, Measured, write_report
from descargan.translator import Translator
from descargan.trivial import measure_trivial

EXAMPLES = 5
NO_READING = Reading(None)
Row = dict[str, float | int | str]
# Shown for each metric, in this order: what it is, in words.
PER_IMAGE = {
    "pixel_auroc": "pixel AUROC of the score map",
    "pixel_auprc": "pixel AUPRC of the score map",
    "dice": f"Dice at {metrics.TRUTH_THRESHOLD}",
    "dice_validated": "Dice at the threshold chosen on the validation split",
    "dice_stored": "Dice at the threshold of the healthy validation images",
    "dice_best": "Dice at the best threshold for these images",
    "map_ssim": "SSIM of difference map and ground truth",
    "map_mse": "MSE of difference map and ground truth",
    "map_variance": "variance of ground truth minus difference map, both scaled",
    "counterpart_mse": "MSE of pseudo-healthy image and true healthy counterpart",
    "counterpart_ssim": "SSIM of pseudo-healthy image and true healthy counterpart",
    "input_mse": "MSE of the untouched input and true healthy counterpart",
    "mse_healthy": "MSE(a_h, r_h): mean square of the difference map of healthy images",
    "variance_healthy": "variance of the difference map of healthy images",
}
OVERALL: dict[str, tuple[str, Callable[..., float], tuple[str, str]]] = {
    "accuracy": ("classification accuracy", metrics.accuracy, ("class", "predicted")),
    "kappa": ("Cohen's kappa", metrics.kappa, ("class", "predicted")),
    "auroc_class": ("AUROC of the class logits", metrics.auroc, ("class", "probability")),
    "auprc_class": ("AUPRC of the class logits", metrics.auprc, ("class", "probability")),
    "auroc_anomaly": (
        "AUROC of the anomaly score, the mean of the score map",
        metrics.auroc,
        ("class", "anomaly_score"),
    ),
}


# Where the ground truth is an outline, it has no unit to compare a difference in.
OF_DIFFERENCES = ("dice", "map_ssim", "map_mse", "map_variance", "counterpart_mse")
OF_DIFFERENCES += ("counterpart_ssim", "input_mse")


class Finding(NamedTuple):
    """An image (H, W) of a split, and what a method says of it."""

    label: int  # its class
    image: np.ndarray
    truth: np.ndarray  # all 0 where none is known
    healthy: np.ndarray  # NaN of a method that makes no pseudo-healthy image
    difference: np.ndarray
    probability: float  # of disease; NaN where the method does not say


class Thresholds(NamedTuple):
    """Of the score map: that of the best Dice on validation, if known, and that of the run."""

    validated: float | None
    reading: Reading


@dataclass(frozen=True)
class Results:
    """What a test found: of each metric its "value", "low", "high" and "n", and a row per image."""

    folder: Path
    metrics: dict[str, dict[str, float]]
    rows: list[Row]


def test(options: Options, translator: Translator) -> Results:
    """Test networks on the test split; write everything to ``options.results_dir``.

    Maps are read by the threshold of the run. Where there is ground truth, the validation split
    chooses a second one.
    """
    dataset = ImageDataset.open(options, "test")
    warn_of_few(dataset, "test")
    others = rows_against(options, dataset, range(len(dataset)))
    validation = ImageDataset.open(options, "validate") if dataset.has_truth else None
    reading = reading_of(options)
    with connected(options, Process()) as dashboard:
        validated = None
        if validation is not None:
            validated = choose_threshold(findings(translator, validation, options), reading)
        thresholds = Thresholds(validated, reading)
        seen = look_at(translator, dataset, options, thresholds)
        return conclude(options, dataset, thresholds, seen, others, dashboard)


def conclude(
    options: Options,
    dataset: ImageDataset,
    thresholds: Thresholds,
    seen: "Seen",
    others: list[Row],
    dashboard: Dashboard,
) -> Results:
    """Write, print and show what comes of what was seen in a split."""
    results = options.results_dir
    title = f"{options.dataset}: test images"
    figure = show(list(seen.examples.values()), title, thresholds, dataset.has_truth)
    save_figure(figure, results / "examples.png")
    about = describe_test(options, dataset, thresholds)
    found = measure(dataset, range(len(dataset)), seen.rows, seen.curves, others)
    confusion, roc = write_results(results, seen.rows, {**about, **found})
    entries = by_title(found, options.against)
    table = {title: interval_text(entry) for title, entry in entries.items()}
    print_table(table)
    print(f"95 % intervals over {found['intervals_over']}")
    print_confusion(confusion)
    notes = [thresholds.reading.reason] if thresholds.reading.reason else []
    for note in notes:
        print(note)
    counts = ", ".join(f"{n} {name}" for name, n in about["images"].items())
    of_page = f"{len(seen.rows)} images ({counts})", seen.gallery, notes
    page = write_report(options, *of_page, Measured(report_rows(entries), roc))
    print(f"written to {results}: metrics.json, metrics.csv, pictures and difference_maps/")
    print(f"to look at: {page}")
    dashboard.show_results(table, figure)
    return Results(results, found["metrics"], seen.rows)


class Seen(NamedTuple):
    """What was seen in a split: a row an image, Dice curves by index, cards, and examples."""

    rows: list[Row]
    curves: dict[int, np.ndarray]
    gallery: Gallery
    examples: dict[int, Finding]


def look_at(
    translator: Translator, dataset: ImageDataset, options: Options, thresholds: Thresholds
) -> Seen:
    """Go through the images of a split, and write their difference maps."""
    results = options.results_dir
    with naming(results):
        results.mkdir(parents=True, exist_ok=True)
    shown = evenly_spread(dataset, EXAMPLES - 1)
    files = map_names([dataset.name(index) for index in range(len(dataset))])
    seen = Seen([], {}, Gallery(), {})
    with replaced_folder(results / "difference_maps") as maps:
        for index, finding in enumerate(findings(translator, dataset, options)):
            row = describe_image(dataset.name(index), finding, *thresholds)
            if dataset.has_masks:
                row = {name: value for name, value in row.items() if name not in OF_DIFFERENCES}
            seen.rows.append({**row, "map": files[index]})
            if finding.truth.any():
                score = thresholds.reading.score_map(finding.difference)
                seen.curves[index] = metrics.dice_curve(score, finding.truth)
            with naming(results / "difference_maps" / files[index]):
                np.save(maps / files[index], finding.difference)
            seen.gallery.add(describe_card(row, finding, thresholds, dataset.has_truth))
            if index in shown:
                seen.examples[index] = finding
    return seen


def rows_against(options: Options, dataset: ImageDataset, indices: Sequence[int]) -> list[Row]:
    """What the test that ``--against`` names found in the images; empty where it names none."""
    if options.against is None:
        return []
    return read_rows(options.against, [dataset.name(index) for index in indices])


def measure(
    dataset: ImageDataset,
    indices: Sequence[int],
    rows: list[Row],
    curves: dict[int, np.ndarray],
    others: list[Row],
) -> dict[str, Any]:
    """The "metrics" of maps of the images at ``indices``, and what stands beside them.

    That are "trivial_maps" where there is a truth, and "differences" from ``others``, if any.
    Intervals are over patients where the data set names them ("intervals_over"). ``rows`` get their
    Dice at the threshold that is best over all; ``curves``: the Dice at each threshold, by the
    number of the row.
    """
    patients = read_patients(dataset.root, [dataset.paths[index] for index in indices])
    groups = np.array(patients) if patients else None
    located = list(curves)
    if located:
        stacked = np.stack(list(curves.values()))
        best = stacked[:, stacked.mean(axis=0).argmax()]
        for number, dice in zip(located, best.tolist(), strict=True):
            rows[number]["dice_best"] = dice
    found = {
        "intervals_over": "images" if groups is None else "patients",
        "metrics": summarise(rows, groups),
        "trivial_maps": {},
    }
    if located:
        of_located = None if groups is None else groups[located]
        found["metrics"]["dice_best"] = metrics.best_dice(stacked, of_located)
        trivial = measure_trivial(dataset, [indices[number] for number in located], of_located)
        found["trivial_maps"] = trivial
    if others:
        found["differences"] = differences(rows, others, (PER_IMAGE, OVERALL), groups)
    return found


def by_title(found: dict[str, Any], against: Path | None) -> dict[str, dict]:
    """What :func:`measure` gives, as the lines of a table."""
    entries = {title_of(name): entry for name, entry in found["metrics"].items()}
    for name, measured in found["trivial_maps"].items():
        entries |= {f"{name}, no network: {title_of(key)}": x for key, x in measured.items()}
    for name, entry in found.get("differences", {}).items():
        entries[f"less {printable(against)}: {title_of(name)}"] = entry
    return entries


def describe_test(options: Options, dataset: ImageDataset, thresholds: Thresholds) -> dict:
    """What was tested, and how its maps are read."""
    return {
        "dataset": options.dataset,
        "weights": str(Run(options.save_dir, options.dataset).folder),
        "dataset_fingerprint": dataset.fingerprint(),
        "images": {name: int((dataset.classes == c).sum()) for c, name in enumerate(CLASS_NAMES)},
        "dice_threshold_chosen_on_validation": thresholds.validated,
        "threshold": thresholds.reading.threshold,
        "sign_of_disease": thresholds.reading.sign,
    }


def findings(translator: Translator, dataset: ImageDataset, options: Options) -> Iterator[Finding]:
    """What the networks find in each image of a split, in order."""
    split = translator.translate_split(dataset, options.batch_size, options.workers)
    for batch, truth, classes in split:
        columns = [arrays(x) for x in (batch.images, truth, batch.healthy, batch.difference)]
        for values in zip(classes.tolist(), *columns, batch.probability.tolist(), strict=True):
            yield Finding(*values)


@contextmanager
def replaced_folder(final: Path) -> Iterator[Path]:
    """A new folder that takes the place of the old one when all is there."""
    with naming(final):
        new = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
    try:
        new.chmod(0o755)
        yield new
        shutil.rmtree(final, ignore_errors=True)
        new.rename(final)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def choose_threshold(found: Iterator[Finding], reading: Reading = NO_READING) -> float | None:
    """The threshold of the score map with the best mean Dice; None without ground truth."""
    pairs = ((reading.score_map(f.difference), f.truth) for f in found if f.truth.any())
    curves = [metrics.dice_curve(score, truth) for score, truth in pairs]
    if not curves:
        return None
    return float(metrics.THRESHOLDS[np.mean(curves, axis=0).argmax()])


def describe_image(
    name: str, finding: Finding, validated: float | None, reading: Reading = NO_READING
) -> Row:
    """Everything measured on one image, with the two thresholds of :class:`Thresholds`."""
    label, image, truth, healthy, difference, probability = finding
    score = reading.score_map(difference)
    row: Row = {
        "file": name,
        "class": label,
        "predicted": int(probability > 0.5),
        "probability": probability,
        "anomaly_score": float(score.mean()),
    }
    if label == HEALTHY:
        row["mse_healthy"] = float(np.square(difference).mean())
        row["variance_healthy"] = float(difference.var())
    elif truth.any():
        row |= metrics.map_metrics(difference, truth, score)
        named = (("dice_validated", validated), ("dice_stored", reading.threshold))
        for key, threshold in named:
            if threshold is not None:
                row[key] = metrics.dice(score > threshold, metrics.is_diseased(truth))
        scaled = [2 * metrics.unit_range(x) for x in (truth, difference)]
        row["map_variance"] = float((scaled[0] - scaled[1]).var())
        counterpart = image - truth
        row["counterpart_mse"] = float(np.square(healthy - counterpart).mean())
        row["counterpart_ssim"] = metrics.ssim(healthy, counterpart, data_range=2.0)
        row["input_mse"] = float(np.square(truth).mean())
    return row


def show(examples: list[Finding], title: str, thresholds: Thresholds, has_truth: bool) -> Figure:
    """Rows of images and maps: with the ground truth where there is one, else over the image."""
    classes, image, truth, healthy, difference, probability = (
        np.stack(x) for x in zip(*examples, strict=True)
    )
    names = [
        f"{CLASS_NAMES[c]}\nP(disease) = {p:.2f}" for c, p in zip(classes, probability, strict=True)
    ]
    limit, score = thresholds.reading.threshold, thresholds.reading.score_map(difference)
    if not has_truth:
        contours = None if limit is None else (score, limit)
        return overlay_figure(image, healthy, difference, names, title, contours)
    columns = {"image": image, "pseudo-healthy": healthy, "difference map": difference}
    if limit is not None:
        columns[f"score > {limit:.2f}"] = score > limit
    columns |= {"ground truth": truth, "diseased pixels": metrics.is_diseased(truth)}
    return example_figure(columns, title, names)


def describe_card(row: Row, finding: Finding, thresholds: Thresholds, has_truth: bool) -> Card:
    """An image of the report."""
    limit = thresholds.reading.threshold
    panels = {
        "image": grey(finding.image),
        "pseudo-healthy": grey(finding.healthy),
        "map": overlay(finding.image, finding.difference),
    }
    if limit is not None:
        panels["mask"] = mask_picture(thresholds.reading.score_map(finding.difference), limit)
    if has_truth:
        panels["ground truth"] = overlay(np.full_like(finding.image, -1), finding.truth)
    said = f"{CLASS_NAMES[finding.label]}, P(disease) {finding.probability:.2f}"
    wrong = "" if row["predicted"] == finding.label else "taken for the other class"
    return Card(printable(row["file"]), row["anomaly_score"], said, wrong, panels)


def write_results(results: Path, rows: list[Row], about: dict) -> tuple[np.ndarray, Figure]:
    """Write the numbers and the ROC curves. Returns the confusion matrix and these curves."""
    labels = np.array([row["class"] for row in rows])
    scores = {
        name: np.array([row[key] for row in rows])
        for name, key in (("class logits", "probability"), ("anomaly score", "anomaly_score"))
    }
    roc = roc_figure(labels, scores)
    save_figure(roc, results / "roc.png")
    confusion = metrics.confusion(labels, np.array([row["predicted"] for row in rows]))
    counted = {"rows": "true", "columns": "predicted", "counts": confusion.tolist()}
    write_json(results / "metrics.json", without_nan({**about, "confusion_matrix": counted}))
    write_csv(results / "metrics.csv", rows)
    return confusion, roc


def summarise(rows: list[Row], groups: np.ndarray | None = None) -> dict[str, dict]:
    """Each metric over all images where it is defined, with its bootstrap 95 % interval.

    ``groups``: what images are drawn together by, see :func:`metrics.with_interval`.
    """
    summary = {}
    for name in PER_IMAGE:
        values = np.array([row.get(name, np.nan) for row in rows])
        if any(name in row for row in rows):
            summary[name] = metrics.with_interval(metrics.mean, values, groups=groups)
    for name, (_, statistic, keys) in OVERALL.items():
        if any(key not in row for row in rows for key in keys):
            continue  # of a method that says nothing of the class
        columns = [np.array([row[key] for row in rows]) for key in keys]
        summary[name] = metrics.with_interval(statistic, *columns, groups=groups)
    return summary


def title_of(name: str) -> str:
    return PER_IMAGE[name] if name in PER_IMAGE else OVERALL[name][0]


def interval_text(entry: dict) -> str:
    if math.isnan(entry["value"]):
        return "undefined"
    value, low, high = (decimals(entry[key]) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}] ({entry['n']} images)"


def decimals(value: float) -> str:
    """Four decimals; two significant digits of what these would make a zero."""
    if math.isnan(value):
        return "undefined"
    return f"{value:.4f}" if abs(value) >= 0.001 or value == 0 else f"{value:.1e}"


def report_rows(entries: dict[str, dict]) -> list[tuple[str, str, str, int]]:
    """The table of the report, of metrics by their titles: title, value, 95 % interval, images."""
    rows = []
    for title, entry in entries.items():
        value, low, high = (decimals(entry[key]) for key in ("value", "low", "high"))
        rows.append((title, value, f"{low} to {high}", entry["n"]))
    return rows


def print_table(table: dict[str, str]) -> None:
    width = max(map(len, table))
    for name, value in table.items():
        print(f"{name:<{width}}  {value}")


def print_confusion(confusion: np.ndarray) -> None:
    for c, name in enumerate(CLASS_NAMES):
        counts = ", ".join(f"{n} as {CLASS_NAMES[i]}" for i, n in enumerate(confusion[c].tolist()))
        print(f"of the {name} images classified: {counts}")


def write_csv(path: Path, rows: list[Row]) -> None:
    fields = ["file", "class", "predicted", "probability", "anomaly_score", "map"]
    fields += [name for name in PER_IMAGE if any(name in row for row in rows)]
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, fields)
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, buffer.getvalue().encode(errors="backslashreplace"))
