"""Test mode: every metric over the whole test split, a table, figures and files of results."""

import argparse
import csv
import io
import math
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from descargan import CLASS_NAMES, DISEASED, HEALTHY, metrics
from descargan.checkpoints import Run
from descargan.dashboard import Dashboard
from descargan.data import ImageDataset
from descargan.evaluation import Translations, arrays, translate_split
from descargan.figures import example_figure, overlay_figure, roc_figure, save_figure
from descargan.files import without_nan, write_atomically, write_json
from descargan.models import Discriminator, Generator

EXAMPLES = 5
Row = dict[str, float | int | str]
# Shown for each metric, in this order: what it is, in words.
PER_IMAGE = {
    "pixel_auroc": "pixel AUROC of |difference map|",
    "pixel_auprc": "pixel AUPRC of |difference map|",
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
        "AUROC of the anomaly score, mean |difference map|",
        metrics.auroc,
        ("class", "anomaly_score"),
    ),
}


def test(
    generator: Generator,
    discriminator: Discriminator,
    validation: ImageDataset | None,
    dataset: ImageDataset,
    options: argparse.Namespace,
    device: torch.device,
    run: Run,
    dashboard: Dashboard,
) -> int:
    """Test both networks on ``dataset``; write everything to ``options.results_dir``.

    ``validation`` chooses the threshold of the maps; without it there is none.
    """
    for network in (generator, discriminator):
        network.to(device, memory_format=torch.channels_last)
    threshold = None
    if validation is not None:
        threshold = choose_threshold(generator, discriminator, validation, options, device)
    results: Path = options.results_dir
    results.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    examples = Examples(dataset)
    # Maps go to a new folder that takes the place of the old one when all is there.
    maps = Path(tempfile.mkdtemp(prefix=".difference_maps-", dir=results))
    try:
        maps.chmod(0o755)
        for batch in translate_split(generator, discriminator, dataset, options, device):
            for values in zip(*per_image_arrays(batch), strict=True):
                rows.append(describe_image(dataset.name(len(rows)), values, threshold))
                np.save(maps / map_name(rows[-1]["file"]), values[4])
                examples.offer(len(rows) - 1, values)
        final = results / "difference_maps"
        shutil.rmtree(final, ignore_errors=True)
        maps.rename(final)
    finally:
        shutil.rmtree(maps, ignore_errors=True)

    summary = summarise(rows)
    figure = examples.figure(options.dataset, threshold)
    save_figure(figure, results / "examples.png")
    labels = np.array([row["class"] for row in rows])
    scores = {
        name: np.array([row[key] for row in rows])
        for name, key in (("class logits", "probability"), ("anomaly score", "anomaly_score"))
    }
    save_figure(roc_figure(labels, scores), results / "roc.png")
    predictions = np.array([row["predicted"] for row in rows])
    confusion = metrics.confusion(labels, predictions)
    write_csv(results / "metrics.csv", rows)
    about = {
        "dataset": options.dataset,
        "weights": str(run.folder),
        "dataset_fingerprint": dataset.fingerprint(),
        "images": {name: int((dataset.classes == c).sum()) for c, name in enumerate(CLASS_NAMES)},
        "dice_threshold_chosen_on_validation": threshold,
        "confusion_matrix": {"rows": "true", "columns": "predicted", "counts": confusion.tolist()},
    }
    write_json(results / "metrics.json", without_nan({**about, "metrics": summary}))
    table = {title(name): interval_text(value) for name, value in summary.items()}
    print_table(table)
    for c, name in enumerate(CLASS_NAMES):
        counts = ", ".join(f"{n} as {CLASS_NAMES[i]}" for i, n in enumerate(confusion[c].tolist()))
        print(f"of the {name} images classified: {counts}")
    print(f"written to {results}: metrics.json, metrics.csv, pictures and difference_maps/")
    dashboard.show_results(table, figure)
    return 0


def map_name(name: str) -> str:
    """File of the difference map of the image that the data set calls ``name``."""
    return Path(name.replace("/", "_")).with_suffix(".npy").name


def per_image_arrays(batch: Translations) -> tuple:
    """Lists over the images of a batch: class, image, truth, pseudo-healthy, difference, P."""
    return (
        batch.classes.tolist(),
        arrays(batch.images),
        arrays(batch.truth),
        arrays(batch.healthy),
        arrays(batch.difference),
        batch.probability.tolist(),
    )


def choose_threshold(
    generator: Generator,
    discriminator: Discriminator,
    dataset: ImageDataset,
    options: argparse.Namespace,
    device: torch.device,
) -> float | None:
    """The threshold of |difference map| with the best mean Dice; None without ground truth."""
    curves = [
        metrics.dice_curve(difference, truth)
        for batch in translate_split(generator, discriminator, dataset, options, device)
        for difference, truth in zip(arrays(batch.difference), arrays(batch.truth), strict=True)
        if truth.any()
    ]
    if not curves:
        return None
    return float(metrics.THRESHOLDS[np.mean(curves, axis=0).argmax()])


def describe_image(name: str, values: tuple, threshold: float | None) -> Row:
    """Everything measured on one image; ``values`` as of ``per_image_arrays``."""
    c, image, truth, healthy, difference, probability = values
    row: Row = {
        "file": name,
        "class": c,
        "predicted": int(probability > 0.5),
        "probability": probability,
        "anomaly_score": float(np.abs(difference).mean()),
    }
    if c == HEALTHY:
        row["mse_healthy"] = float(np.square(difference).mean())
        row["variance_healthy"] = float(difference.var())
    elif truth.any():
        row |= metrics.map_metrics(difference, truth)
        if threshold is not None:
            over = np.abs(difference) > threshold
            row["dice_validated"] = metrics.dice(over, metrics.is_diseased(truth))
        scaled = [2 * metrics.unit_range(x) for x in (truth, difference)]
        row["map_variance"] = float((scaled[0] - scaled[1]).var())
        counterpart = image - truth
        row["counterpart_mse"] = float(np.square(healthy - counterpart).mean())
        row["counterpart_ssim"] = metrics.ssim(healthy, counterpart, data_range=2.0)
        row["input_mse"] = float(np.square(truth).mean())
    return row


class Examples:
    """A few diseased images and a healthy one, evenly spread, for the figure."""

    def __init__(self, dataset: ImageDataset) -> None:
        self.chosen: list[int] = []
        self.taken: list[tuple] = []
        for c, number in ((DISEASED, EXAMPLES - 1), (HEALTHY, 1)):
            members = (dataset.classes == c).nonzero().flatten().tolist()
            spread = np.linspace(0, len(members) - 1, min(number, len(members)))
            self.chosen += [members[round(i)] for i in spread]

    def offer(self, index: int, values: tuple) -> None:
        if index in self.chosen:
            self.taken.append(values)

    def figure(self, dataset: str, threshold: float | None) -> Figure:
        """Rows of images and maps: with the ground truth for Synthetic, else over the image."""
        classes, image, truth, healthy, difference, probability = (
            np.stack(x) for x in zip(*self.taken, strict=True)
        )
        title = f"{dataset}: test images"
        names = [
            f"{CLASS_NAMES[c]}\nP(disease) = {p:.2f}"
            for c, p in zip(classes, probability, strict=True)
        ]
        if dataset != "Synthetic":
            return overlay_figure(image, healthy, difference, names, title)
        limit = metrics.TRUTH_THRESHOLD if threshold is None else threshold
        columns = {
            "image": image,
            "pseudo-healthy": healthy,
            "difference map": difference,
            f"|difference| > {limit:.2f}": np.abs(difference) > limit,
            "ground truth": truth,
            "diseased pixels": metrics.is_diseased(truth),
        }
        return example_figure(columns, title, names)


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


def title(name: str) -> str:
    return PER_IMAGE[name] if name in PER_IMAGE else OVERALL[name][0]


def interval_text(entry: dict) -> str:
    if math.isnan(entry["value"]):
        return "undefined"
    return f"{entry['value']:.4f} [{entry['low']:.4f}, {entry['high']:.4f}] ({entry['n']} images)"


def print_table(table: dict[str, str]) -> None:
    width = max(map(len, table))
    for name, value in table.items():
        print(f"{name:<{width}}  {value}")


def write_csv(path: Path, rows: list[Row]) -> None:
    fields = ["file", "class", "predicted", "probability", "anomaly_score"]
    fields += [name for name in PER_IMAGE if any(name in row for row in rows)]
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, fields)
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, buffer.getvalue().encode())
