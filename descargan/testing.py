"""Test mode: every metric over the whole test split, a table, figures and files of results."""

import csv
import io
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from descargan import CLASS_NAMES, HEALTHY, metrics
from descargan.checkpoints import Run
from descargan.dashboard import Dashboard, connected
from descargan.data import ImageDataset, evenly_spread
from descargan.distributed import Process
from descargan.evaluation import arrays
from descargan.figures import example_figure, overlay_figure, roc_figure, save_figure
from descargan.files import without_nan, write_atomically, write_json
from descargan.maps import READINGS, read
from descargan.options import Options
from descargan.translator import Translator

EXAMPLES = 5
Row = dict[str, float | int | str]
# Shown for each metric, in this order: what it is, in words.
PER_IMAGE = {
    "pixel_auroc": "pixel AUROC of the score map",
    "pixel_auprc": "pixel AUPRC of the score map",
    "dice": f"Dice at {metrics.TRUTH_THRESHOLD}",
    "dice_validated": "Dice at the threshold chosen on the validation split",
    "map_ssim": "SSIM of difference map and ground truth",
    "map_mse": "MSE of difference map and ground truth",
    "map_variance": "variance of ground truth minus difference map, both scaled",
    "counterpart_mse": "MSE of pseudo-healthy image and true healthy counterpart",
    "counterpart_ssim": "SSIM of pseudo-healthy image and true healthy counterpart",
    "input_mse": "MSE of the untouched input and true healthy counterpart",
    "mse_healthy": "MSE(a_h, r_h) of healthy images",
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


class Finding(NamedTuple):
    """An image (H, W) of a split, and what a method says of it."""

    label: int  # its class
    image: np.ndarray
    truth: np.ndarray  # all 0 where none is known
    healthy: np.ndarray  # NaN of a method that makes no pseudo-healthy image
    difference: np.ndarray
    probability: float  # of disease; NaN where the method does not say
    sign: int = 0  # how the difference map is read, see maps.read

    @property
    def score(self) -> np.ndarray:
        """The score map (H, W): |difference map|, or its part of one sign."""
        return read(self.difference, self.sign)


@dataclass(frozen=True)
class Results:
    """What a test found: of each metric its "value", "low", "high" and "n", and a row per image."""

    folder: Path
    metrics: dict[str, dict[str, float]]
    rows: list[Row]


def test(options: Options, translator: Translator) -> Results:
    """Test networks on the test split; write everything to ``options.results_dir``.

    Where there is ground truth, the validation split chooses the threshold of the maps.
    """
    dataset = ImageDataset.open(options, "test")
    validation = ImageDataset.open(options, "validate") if dataset.has_truth else None
    with connected(options, Process()) as dashboard:
        threshold = None
        if validation is not None:
            threshold = choose_threshold(findings(translator, validation, options))
        return test_split(options, translator, dataset, threshold, dashboard)


def test_split(
    options: Options,
    translator: Translator,
    dataset: ImageDataset,
    threshold: float | None,
    dashboard: Dashboard,
) -> Results:
    """Test networks on a split; ``threshold`` of the maps, where there is one."""
    results = options.results_dir
    results.mkdir(parents=True, exist_ok=True)
    shown = evenly_spread(dataset, EXAMPLES - 1)
    rows: list[Row] = []
    examples: dict[int, Finding] = {}
    with replaced_folder(results / "difference_maps") as maps:
        for index, finding in enumerate(findings(translator, dataset, options)):
            rows.append(describe_image(dataset.name(index), finding, threshold))
            np.save(maps / map_name(rows[-1]["file"]), finding.difference)
            if index in shown:
                examples[index] = finding
    title = f"{options.dataset}: test images"
    figure = show(list(examples.values()), title, threshold, dataset.has_truth)
    save_figure(figure, results / "examples.png")
    summary = summarise(rows)
    confusion = write_results(results, rows)
    about = {
        "dataset": options.dataset,
        "weights": str(Run(options.save_dir, options.dataset).folder),
        "dataset_fingerprint": dataset.fingerprint(),
        "images": {name: int((dataset.classes == c).sum()) for c, name in enumerate(CLASS_NAMES)},
        "dice_threshold_chosen_on_validation": threshold,
        "difference_maps_read_as": READINGS[translator.sign],
        "confusion_matrix": {"rows": "true", "columns": "predicted", "counts": confusion.tolist()},
    }
    write_json(results / "metrics.json", without_nan({**about, "metrics": summary}))
    table = {title_of(name): interval_text(value) for name, value in summary.items()}
    print_table(table)
    print_confusion(confusion)
    print(f"written to {results}: metrics.json, metrics.csv, pictures and difference_maps/")
    dashboard.show_results(table, figure)
    return Results(results, summary, rows)


def findings(translator: Translator, dataset: ImageDataset, options: Options) -> Iterator[Finding]:
    """What the networks find in each image of a split, in order."""
    split = translator.translate_split(dataset, options.batch_size, options.workers)
    for batch, truth, classes in split:
        columns = [arrays(x) for x in (batch.images, truth, batch.healthy, batch.difference)]
        for values in zip(classes.tolist(), *columns, batch.probability.tolist(), strict=True):
            yield Finding(*values, sign=batch.sign)


@contextmanager
def replaced_folder(final: Path) -> Iterator[Path]:
    """A new folder that takes the place of the old one when all is there."""
    new = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
    try:
        new.chmod(0o755)
        yield new
        shutil.rmtree(final, ignore_errors=True)
        new.rename(final)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def map_name(name: str) -> str:
    """File of the difference map of the image that the data set calls ``name``."""
    return Path(name.replace("/", "_")).with_suffix(".npy").name


def choose_threshold(found: Iterator[Finding]) -> float | None:
    """The threshold of the score map with the best mean Dice; None without ground truth."""
    curves = [metrics.dice_curve(f.score, f.truth) for f in found if f.truth.any()]
    if not curves:
        return None
    return float(metrics.THRESHOLDS[np.mean(curves, axis=0).argmax()])


def describe_image(name: str, finding: Finding, threshold: float | None) -> Row:
    """Everything measured on one image."""
    label, image, truth, healthy, difference, probability, _ = finding
    score = finding.score
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
        if threshold is not None:
            row["dice_validated"] = metrics.dice(score > threshold, metrics.is_diseased(truth))
        scaled = [2 * metrics.unit_range(x) for x in (truth, difference)]
        row["map_variance"] = float((scaled[0] - scaled[1]).var())
        counterpart = image - truth
        row["counterpart_mse"] = float(np.square(healthy - counterpart).mean())
        row["counterpart_ssim"] = metrics.ssim(healthy, counterpart, data_range=2.0)
        row["input_mse"] = float(np.square(truth).mean())
    return row


def show(examples: list[Finding], title: str, threshold: float | None, has_truth: bool) -> Figure:
    """Rows of images and maps: with the ground truth where there is one, else over the image."""
    classes, image, truth, healthy, difference, probability, _ = (
        np.stack(x) for x in zip(*examples, strict=True)
    )
    score = np.stack([finding.score for finding in examples])
    names = [
        f"{CLASS_NAMES[c]}\nP(disease) = {p:.2f}" for c, p in zip(classes, probability, strict=True)
    ]
    if not has_truth:
        return overlay_figure(image, healthy, difference, names, title)
    limit = metrics.TRUTH_THRESHOLD if threshold is None else threshold
    columns = {
        "image": image,
        "pseudo-healthy": healthy,
        "difference map": difference,
        f"score > {limit:.2f}": score > limit,
        "ground truth": truth,
        "diseased pixels": metrics.is_diseased(truth),
    }
    return example_figure(columns, title, names)


def write_results(results: Path, rows: list[Row]) -> np.ndarray:
    """Write the ROC curves and the table of all images. Returns the confusion matrix."""
    labels = np.array([row["class"] for row in rows])
    scores = {
        name: np.array([row[key] for row in rows])
        for name, key in (("class logits", "probability"), ("anomaly score", "anomaly_score"))
    }
    save_figure(roc_figure(labels, scores), results / "roc.png")
    write_csv(results / "metrics.csv", rows)
    return metrics.confusion(labels, np.array([row["predicted"] for row in rows]))


def summarise(rows: list[Row]) -> dict[str, dict]:
    """Each metric over all images where it is defined, with its bootstrap 95 % interval."""
    summary = {}
    for name in PER_IMAGE:
        values = np.array([row[name] for row in rows if name in row])
        if len(values):
            summary[name] = metrics.with_interval(metrics.mean, values)
    for name, (_, statistic, keys) in OVERALL.items():
        columns = [np.array([row[key] for row in rows]) for key in keys]
        summary[name] = metrics.with_interval(statistic, *columns)
    return summary


def title_of(name: str) -> str:
    return PER_IMAGE[name] if name in PER_IMAGE else OVERALL[name][0]


def interval_text(entry: dict) -> str:
    if math.isnan(entry["value"]):
        return "undefined"
    return f"{entry['value']:.4f} [{entry['low']:.4f}, {entry['high']:.4f}] ({entry['n']} images)"


def print_table(table: dict[str, str]) -> None:
    width = max(map(len, table))
    for name, value in table.items():
        print(f"{name:<{width}}  {value}")


def print_confusion(confusion: np.ndarray) -> None:
    for c, name in enumerate(CLASS_NAMES):
        counts = ", ".join(f"{n} as {CLASS_NAMES[i]}" for i, n in enumerate(confusion[c].tolist()))
        print(f"of the {name} images classified: {counts}")


def write_csv(path: Path, rows: list[Row]) -> None:
    fields = ["file", "class", "predicted", "probability", "anomaly_score"]
    fields += [name for name in PER_IMAGE if any(name in row for row in rows)]
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, fields)
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, buffer.getvalue().encode())
