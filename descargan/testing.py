"""Test mode: what networks, or maps of another method, find in the test split; tables and files."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure

from descargan import CLASS_NAMES, DISEASED, HEALTHY, metrics
from descargan.conclusions import tables, verdict
from descargan.dashboard import Dashboard, connected
from descargan.data import ImageDataset, evenly_spread, warn_of_few
from descargan.distributed import Process
from descargan.errors import warn
from descargan.evaluation import arrays
from descargan.figures import (
    example_figure,
    grey,
    mask_picture,
    overlay,
    overlay_figure,
    png_of,
    roc_figure,
    save_figure,
)
from descargan.files import in_place_of, naming, without_nan, write_atomically, write_json
from descargan.layout import folders_of
from descargan.names import map_names, printable
from descargan.options import Options
from descargan.others import choose_thresholds, find_maps, read_map
from descargan.pairs import differences, read_rows, warn_of_images, warn_of_reading
from descargan.pipeline import ahead
from descargan.reading import Reading
from descargan.report import Card, Gallery, Measured, Said, write_report
from descargan.scores import (
    DICE_STORED,
    PER_IMAGE,
    Finding,
    Row,
    Thresholds,
    choose_threshold,
    confusion,
    decimals,
    describe_image,
    interval_text,
    plain_finding,
    summarise,
    title_of,
)
from descargan.translator import Translator
from descargan.trivial import measure_trivial

EXAMPLES = 5
AHEAD = 10  # images


class Method(NamedTuple):
    """What is tested."""

    findings: Callable[[ImageDataset], Iterator[Finding]]  # in each image of a split, in order
    levels: np.ndarray = metrics.THRESHOLDS  # of its score maps, among which the best is sought
    in_unit: bool = True  # its maps are differences in the unit of the images


@dataclass(frozen=True)
class Results:
    """What a test found: of each metric its "value", "low", "high" and "n", and a row per image."""

    folder: Path
    metrics: dict[str, dict[str, float]]
    rows: list[Row]


def test(options: Options, translator: Translator | None) -> Results:
    """Test networks on the test split; write everything to ``options.results_dir``.

    Without networks the maps in ``options.maps`` are tested. Maps are read by the threshold of the
    run. Where there is ground truth, the validation split, if there is one, chooses a second one
    for the networks.
    """
    dataset = ImageDataset.open(options, "test")
    warn_of_few(dataset, "test")
    others = []
    if options.against is not None:
        others = read_rows(options.against, names_of(dataset))
    if translator is None:
        method, reading = method_of_maps(options.maps, dataset), Reading(options.threshold)
    else:
        method, reading = Method(partial(findings, translator, options)), translator.reading
    first = translator and translator.first
    typed = options.threshold is not None
    thresholds = Thresholds(None, reading, first and first.reading, typed)
    if options.against is not None:
        warn_of_images(options.against, dataset.image_size, dataset.fingerprint())
        warn_of_reading(options.against, thresholds.readings, dataset.image_size)
    validation = None
    if translator is not None and dataset.has_truth and folders_of(dataset.root, "validate"):
        validation = ImageDataset.open(options, "validate")
    with connected(options, Process()) as dashboard:
        if validation is not None:
            diseased = findings(translator, options, validation, (DISEASED,))
            thresholds = thresholds._replace(validated=choose_threshold(diseased))
        seen = look_at(method, dataset, options.results_dir, thresholds)
        return conclude(options, dataset, thresholds, seen, others, dashboard)


def conclude(
    options: Options,
    dataset: ImageDataset,
    thresholds: Thresholds,
    seen: "Seen",
    others: list[Row],
    dashboard: Dashboard,
) -> Results:
    """Write, print and show what comes of what was seen in a split.

    ``others``: what the test that ``--against`` names found, empty where there is none.
    """
    results = options.results_dir
    title = f"{options.dataset}: test images"
    figure = show(list(seen.examples.values()), title, thresholds, dataset)
    save_figure(figure, results / "examples.png")
    about = describe_test(options, dataset, thresholds)
    found = measure(dataset, seen, others, thresholds.readings)
    roc = write_results(results, seen.rows, {**about, **found})
    entries = by_title(found, options.against, thresholds.typed)
    table = {title: interval_text(entry) for title, entry in entries.items()}
    print_table(table)
    print(f"95 % intervals over {found['intervals_over']}")
    print_confusion(seen.rows)
    concluded = verdict(found)
    print(concluded)
    reading = thresholds.reading
    notes = [reading.reason] if reading.reason else []
    for note in filter(None, notes or [reading.masks]):
        print(note)
    counts = ", ".join(f"{n} {name}" for name, n in found["images"].items())
    said = Said(concluded, f"{len(seen.rows)} images ({counts})", notes, reading.masks)
    method = "these networks" if options.maps is None else printable(options.maps)
    measured = Measured(tables(found, method), report_rows(entries), roc)
    page = write_report(options, said, seen.gallery, measured)
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


def look_at(method: Method, dataset: ImageDataset, results: Path, thresholds: Thresholds) -> Seen:
    """Go through the images of a split, and write their difference maps."""
    with naming(results):
        results.mkdir(parents=True, exist_ok=True)
    shown = evenly_spread(dataset, EXAMPLES - 1)
    files = map_names(names_of(dataset))
    in_unit = method.in_unit and not dataset.has_masks
    seen = Seen([], {}, Gallery(), {})
    with in_place_of(results / "difference_maps") as maps:
        for index, finding in enumerate(ahead(method.findings(dataset), AHEAD)):
            row = describe_image(dataset.name(index), finding, thresholds, in_unit)
            seen.rows.append({**row, "map": files[index]})
            if finding.truth.any():
                seen.curves[index] = metrics.dice_curve(
                    finding.score_map, finding.truth, method.levels
                )
            with naming(results / "difference_maps" / files[index]):
                np.save(maps / files[index], finding.difference)
            mask = thresholds.reading.mask(finding.score_map)
            seen.gallery.add(describe_card(row, finding, mask, dataset.has_truth))
            if index in shown:
                seen.examples[index] = finding
    if lost := sorted(dataset.masks.keys() - seen.curves.keys()):
        warn(
            f"{len(lost)} masks show nothing at --image-size {dataset.image_size}, the first "
            f"{printable(dataset.masks[lost[0]])}: the pixels of their images are not scored"
        )
    return seen


def measure(
    dataset: ImageDataset, seen: Seen, others: list[Row], readings: Sequence[Reading]
) -> dict[str, Any]:
    """The "metrics" of the maps, and what stands beside them.

    That are "trivial_maps", see :func:`measure_trivial` of the ``readings``, where there is a
    truth, and "differences" from ``others``, if any.
    Intervals are over patients where some have several images, as far as the data set says, else
    over "images" ("intervals_over"); both entries are how many each class has, and "outlined" is
    how many of them pixels are scored of. The rows get their Dice at the threshold that is best for
    all.
    """
    patients = dataset.patients
    several = len({*patients}) < len(patients)
    of_class = {name: (dataset.classes == c).numpy() for c, name in enumerate(CLASS_NAMES)}
    found = {"intervals_over": "patients" if several else "images"}
    found["images"] = {name: int(which.sum()) for name, which in of_class.items()}
    if several:
        found["patients"] = {name: len({*patients[which]}) for name, which in of_class.items()}
    scored = ~np.isnan([row.get("pixel_auprc", np.nan) for row in seen.rows])
    found["outlined"] = len({*patients[scored]})
    located = list(seen.curves)
    if located:
        curves = np.stack(list(seen.curves.values()))
        for index, dice in zip(located, curves[:, curves.mean(axis=0).argmax()], strict=True):
            seen.rows[index]["dice_best"] = float(dice)
    found |= {"metrics": summarise(seen.rows, patients), "trivial_maps": {}}
    if located:
        found["metrics"]["dice_best"] = metrics.best_dice(curves, patients[located])
        found["trivial_maps"] = measure_trivial(dataset, readings)
    if others:
        found["differences"] = differences(seen.rows, others, patients)
    return found


def by_title(found: dict[str, Any], against: Path | None, typed: bool) -> dict[str, dict]:
    """What :func:`measure` gives, as the lines of a table; ``typed``: see Thresholds."""
    own = {"dice_stored": DICE_STORED[typed]}
    entries = {own.get(name, title_of(name)): entry for name, entry in found["metrics"].items()}
    for name, measured in found["trivial_maps"].items():
        entries |= {f"{name}, no network: {title_of(key)}": x for key, x in measured.items()}
    for name, entry in found.get("differences", {}).items():
        entries[f"less {printable(against)}: {title_of(name)}"] = entry
    return entries


def describe_test(options: Options, dataset: ImageDataset, thresholds: Thresholds) -> dict:
    """What was tested, and how its maps are read."""
    return {
        "dataset": options.dataset,
        "weights": str(options.maps or options.save_dir),
        "after": None if options.after is None else str(options.after),
        "dataset_fingerprint": dataset.fingerprint(),
        "image_size": dataset.image_size,
        "dice_threshold_chosen_on_validation": thresholds.validated,
        "threshold": thresholds.reading.threshold,
        **thresholds.reading.about,
        "reading_of_first": None if thresholds.first is None else thresholds.first.about,
    }


def findings(
    translator: Translator,
    options: Options,
    dataset: ImageDataset,
    classes: tuple[int, ...] = (HEALTHY, DISEASED),
) -> Iterator[Finding]:
    """What the networks find in each image of a split, in order, or in those of some classes."""
    chosen = torch.isin(dataset.classes, torch.tensor(classes)).nonzero().flatten()
    split = translator.translate_split(dataset, options.batch_size, options.workers, chosen)
    for batch, truth, classes in split:
        maps = (batch.images, truth, batch.healthy, batch.difference)
        columns = [*map(arrays, maps), batch.probability.tolist()]
        columns += [arrays(batch.score_map), batch.score.tolist()]
        for values in zip(classes.tolist(), *columns, strict=True):
            yield Finding(*values)


def method_of_maps(folder: Path, dataset: ImageDataset) -> Method:
    """Another method, by its maps of the images of a split."""
    if not dataset.has_truth:
        warn(
            f"of diseased images {dataset.root} holds no masks in the test split, so pixels are "
            "not scored (the synthetic data set wants --dataset Synthetic)"
        )
    files = find_maps(folder, names_of(dataset))
    pairs = list(zip(files, dataset.paths, strict=True))
    maps = (np.abs(read_map(*pair, dataset.image_size)) for pair in pairs)
    levels = choose_thresholds(maps, len(pairs)) if dataset.has_truth else metrics.THRESHOLDS
    return Method(partial(findings_in, files), levels, in_unit=False)


def findings_in(files: list[Path], dataset: ImageDataset) -> Iterator[Finding]:
    """What the maps of another method say of each image of a split, in order."""
    for index, (file, path) in enumerate(zip(files, dataset.paths, strict=True)):
        image, truth, label = dataset[index]
        difference = read_map(file, path, dataset.image_size)
        nothing = np.full_like(difference, np.nan)
        images = image[0].numpy(), truth[0].numpy(), nothing, difference
        yield plain_finding(int(label), *images, np.nan)


def names_of(dataset: ImageDataset) -> list[str]:
    return [dataset.name(index) for index in range(len(dataset))]


def show(
    examples: list[Finding], title: str, thresholds: Thresholds, dataset: ImageDataset
) -> Figure:
    """Rows of images and maps: with the ground truth where there is one, else over the image."""
    _, image, truth, healthy, difference, probability, score, _ = (
        np.stack(x) for x in zip(*examples, strict=True)
    )
    names = [
        class_of(x, dataset.has_truth) + ("" if np.isnan(p) else f"\nP(disease) = {p:.2f}")
        for x, p in zip(examples, probability, strict=True)
    ]
    limit = thresholds.reading.threshold
    translated = not np.isnan(healthy).all()
    if translated and not dataset.has_truth:
        contours = None if limit is None else (score, limit)
        return overlay_figure(image, healthy, difference, names, title, contours)
    columns = {"image": image, "pseudo-healthy": healthy, "difference map": difference}
    if not translated:
        del columns["pseudo-healthy"]
    if limit is not None:
        columns[f"score > {limit:.2f}"] = score > limit
    if dataset.has_truth and not dataset.has_masks:
        columns["ground truth"] = truth
    if dataset.has_truth:
        columns["diseased pixels"] = metrics.is_diseased(truth)
    return example_figure(columns, title, names)


def class_of(finding: Finding, has_truth: bool) -> str:
    """The class of an image in words, and of a diseased one whether its pixels are unknown."""
    unknown = has_truth and not is_outlined(finding)
    return CLASS_NAMES[finding.label] + (", not outlined" if unknown else "")


def is_outlined(finding: Finding) -> bool:
    """Whether the ground truth is known; healthy images have nothing to outline."""
    return finding.label == HEALTHY or bool(finding.truth.any())


def describe_card(row: Row, finding: Finding, mask: np.ndarray | None, has_truth: bool) -> Card:
    """An image of the report."""
    panels = {"image": grey(finding.image)}
    if not np.isnan(finding.healthy).all():
        panels["pseudo-healthy"] = grey(finding.healthy)
    panels["map"] = overlay(finding.image, finding.difference)
    if mask is not None:
        panels["mask"] = mask_picture(mask)
    if has_truth and is_outlined(finding):
        panels["ground truth"] = overlay(np.full_like(finding.image, -1), finding.truth)
    said = class_of(finding, has_truth)
    if "probability" in row:
        said += f", P(disease) {finding.probability:.2f}"
    right = row.get("predicted", finding.label) == finding.label
    wrong = "" if right else "taken for the other class"
    return Card(printable(row["file"]), row["anomaly_score"], said, wrong, panels)


def write_results(results: Path, rows: list[Row], about: dict) -> bytes:
    """Write the numbers and the ROC curves. Returns the curves as PNG."""
    labels = np.array([row["class"] for row in rows])
    scores = {
        name: np.array([row[key] for row in rows])
        for name, key in (("class logits", "probability"), ("anomaly score", "anomaly_score"))
        if key in rows[0]
    }
    roc = png_of(roc_figure(labels, scores))
    write_atomically(results / "roc.png", roc)
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
