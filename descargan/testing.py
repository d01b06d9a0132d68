"""Test mode: what networks, or maps of another method, find in the test split; tables and files."""

import csv
import io
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from descargan import CLASS_NAMES, metrics
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
from descargan.others import read_map
from descargan.pairs import differences, read_rows
from descargan.reading import Reading, reading_of
from descargan.report import Card, Gallery, Measured, write_report
from descargan.scores import (
    OF_DIFFERENCES,
    OVERALL,
    PER_IMAGE,
    Finding,
    Row,
    Thresholds,
    choose_threshold,
    confusion,
    decimals,
    describe_image,
    interval_text,
    summarise,
    title_of,
)
from descargan.translator import Translator
from descargan.trivial import measure_trivial

EXAMPLES = 5
Source = Callable[[ImageDataset], Iterator[Finding]]  # what a method finds in each image


@dataclass(frozen=True)
class Results:
    """What a test found: of each metric its "value", "low", "high" and "n", and a row per image."""

    folder: Path
    metrics: dict[str, dict[str, float]]
    rows: list[Row]


def test(options: Options, translator: Translator | None) -> Results:
    """Test networks on the test split; write everything to ``options.results_dir``.

    Without networks the maps in ``options.maps`` are tested. Maps are read by the threshold of the
    run. Where there is ground truth, the validation split chooses a second one for the networks.
    """
    dataset = ImageDataset.open(options, "test")
    warn_of_few(dataset, "test")
    if translator is None:
        source, reading = partial(findings_in, options.maps), Reading(options.threshold)
    else:
        source, reading = partial(findings, translator, options), reading_of(options)
    validation = None
    if translator is not None and dataset.has_truth:
        validation = ImageDataset.open(options, "validate")
    with connected(options, Process()) as dashboard:
        validated = None
        if validation is not None:
            validated = choose_threshold(source(validation), reading)
        thresholds = Thresholds(validated, reading)
        return test_split(options, source, dataset, thresholds, dashboard)


def test_split(
    options: Options,
    source: Source,
    dataset: ImageDataset,
    thresholds: Thresholds,
    dashboard: Dashboard,
) -> Results:
    """Test on a split what ``source`` finds in its images."""
    results = options.results_dir
    seen = look_at(source, dataset, results, thresholds)
    title = f"{options.dataset}: test images"
    figure = show(list(seen.examples.values()), title, thresholds, dataset.has_truth)
    save_figure(figure, results / "examples.png")
    patients = read_patients(dataset.root, dataset.paths)
    groups = np.array(patients) if patients else None
    summary, trivial = measure(dataset, seen, groups)
    about = describe_test(options, dataset, thresholds)
    found = {"metrics": summary, "trivial_maps": trivial}
    entries = {title_of(name): entry for name, entry in summary.items()}
    for name, measured in trivial.items():
        entries |= {f"{name}, no network: {title_of(key)}": x for key, x in measured.items()}
    if options.against is not None:
        others = read_rows(options.against, [row["file"] for row in seen.rows])
        found["differences"] = differences(seen.rows, others, groups)
        for name, entry in found["differences"].items():
            entries[f"less {options.against}: {title_of(name)}"] = entry
    roc = write_results(results, seen.rows, {**about, **found})
    table = {title: interval_text(entry) for title, entry in entries.items()}
    print_table(table)
    print_confusion(seen.rows)
    notes = [thresholds.reading.reason] if thresholds.reading.reason else []
    for note in notes:
        print(note)
    counts = ", ".join(f"{n} {name}" for name, n in about["images"].items())
    of_page = f"{len(seen.rows)} images ({counts})", seen.gallery, notes
    page = write_report(options, *of_page, Measured(report_rows(entries), roc))
    print(f"written to {results}: metrics.json, metrics.csv, pictures and difference_maps/")
    print(f"to look at: {page}")
    dashboard.show_results(table, figure)
    return Results(results, summary, seen.rows)


class Seen(NamedTuple):
    """What was seen in a split: a row an image, Dice curves by index, cards, and examples."""

    rows: list[Row]
    curves: dict[int, np.ndarray]
    gallery: Gallery
    examples: dict[int, Finding]


def look_at(source: Source, dataset: ImageDataset, results: Path, thresholds: Thresholds) -> Seen:
    """Go through the images of a split, and write their difference maps."""
    with naming(results):
        results.mkdir(parents=True, exist_ok=True)
    shown = evenly_spread(dataset, EXAMPLES - 1)
    files = map_names([dataset.name(index) for index in range(len(dataset))])
    seen = Seen([], {}, Gallery(), {})
    with replaced_folder(results / "difference_maps") as maps:
        for index, finding in enumerate(source(dataset)):
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


def measure(
    dataset: ImageDataset, seen: Seen, groups: np.ndarray | None
) -> tuple[dict[str, dict], dict[str, dict]]:
    """The metrics of the networks' maps, and those of trivial maps where there is a truth.

    ``groups``: the patient of each image, where they are known.
    """
    summary = summarise(seen.rows, groups)
    if not seen.curves:
        return summary, {}
    located = None if groups is None else groups[list(seen.curves)]
    summary["dice_best"] = metrics.best_dice(np.stack(list(seen.curves.values())), located)
    ordered = {name: summary[name] for name in (*PER_IMAGE, *OVERALL) if name in summary}
    return ordered, measure_trivial(dataset, groups)


def describe_test(options: Options, dataset: ImageDataset, thresholds: Thresholds) -> dict:
    """What was tested, and how its maps are read."""
    return {
        "dataset": options.dataset,
        "weights": str(options.maps or options.save_dir),
        "dataset_fingerprint": dataset.fingerprint(),
        "images": {name: int((dataset.classes == c).sum()) for c, name in enumerate(CLASS_NAMES)},
        "dice_threshold_chosen_on_validation": thresholds.validated,
        "threshold": thresholds.reading.threshold,
        "sign_of_disease": thresholds.reading.sign,
    }


def findings(translator: Translator, options: Options, dataset: ImageDataset) -> Iterator[Finding]:
    """What the networks find in each image of a split, in order."""
    split = translator.translate_split(dataset, options.batch_size, options.workers)
    for batch, truth, classes in split:
        columns = [arrays(x) for x in (batch.images, truth, batch.healthy, batch.difference)]
        for values in zip(classes.tolist(), *columns, batch.probability.tolist(), strict=True):
            yield Finding(*values)


def findings_in(folder: Path, dataset: ImageDataset) -> Iterator[Finding]:
    """What the maps of another method say of each image of a split, in order."""
    files = map_names([dataset.name(index) for index in range(len(dataset))])
    for index, path in enumerate(dataset.paths):
        image, truth, label = dataset[index]
        names = Path(dataset.name(index)).with_suffix(""), Path(files[index]).stem, path.stem
        difference = read_map(folder, names, dataset.image_size)
        nothing = np.full_like(difference, np.nan)
        yield Finding(int(label), image[0].numpy(), truth[0].numpy(), nothing, difference, np.nan)


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


def show(examples: list[Finding], title: str, thresholds: Thresholds, has_truth: bool) -> Figure:
    """Rows of images and maps: with the ground truth where there is one, else over the image."""
    classes, image, truth, healthy, difference, probability = (
        np.stack(x) for x in zip(*examples, strict=True)
    )
    names = [
        CLASS_NAMES[c] + ("" if np.isnan(p) else f"\nP(disease) = {p:.2f}")
        for c, p in zip(classes, probability, strict=True)
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
    panels = {"image": grey(finding.image)}
    if not np.isnan(finding.healthy).all():
        panels["pseudo-healthy"] = grey(finding.healthy)
    panels["map"] = overlay(finding.image, finding.difference)
    if limit is not None:
        panels["mask"] = mask_picture(thresholds.reading.score_map(finding.difference), limit)
    if has_truth:
        panels["ground truth"] = overlay(np.full_like(finding.image, -1), finding.truth)
    said = CLASS_NAMES[finding.label]
    if "probability" in row:
        said += f", P(disease) {finding.probability:.2f}"
    right = row.get("predicted", finding.label) == finding.label
    wrong = "" if right else "taken for the other class"
    return Card(printable(row["file"]), row["anomaly_score"], said, wrong, panels)


def write_results(results: Path, rows: list[Row], about: dict) -> Figure:
    """Write the numbers and the ROC curves. Returns the curves."""
    labels = np.array([row["class"] for row in rows])
    scores = {
        name: np.array([row[key] for row in rows])
        for name, key in (("class logits", "probability"), ("anomaly score", "anomaly_score"))
        if key in rows[0]
    }
    roc = roc_figure(labels, scores)
    save_figure(roc, results / "roc.png")
    if (counts := confusion(rows)) is not None:
        counted = {"rows": "true", "columns": "predicted", "counts": counts.tolist()}
        about = {**about, "confusion_matrix": counted}
    write_json(results / "metrics.json", without_nan(about))
    write_csv(results / "metrics.csv", rows)
    return roc


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


def print_confusion(rows: list[Row]) -> None:
    counts = confusion(rows)
    for c, name in enumerate(CLASS_NAMES if counts is not None else ()):
        said = ", ".join(f"{n} as {CLASS_NAMES[i]}" for i, n in enumerate(counts[c].tolist()))
        print(f"of the {name} images classified: {said}")


def write_csv(path: Path, rows: list[Row]) -> None:
    fields = ["file", "class", "predicted", "probability", "anomaly_score", "map"]
    fields = [name for name in fields if name in rows[0]]
    fields += [name for name in PER_IMAGE if any(name in row for row in rows)]
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, fields)
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, buffer.getvalue().encode(errors="backslashreplace"))
