"""What a test measures, by name: of each image, and over all of them, with intervals."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from descargan import HEALTHY, metrics
from descargan.errors import warn
from descargan.reading import FEWEST, Reading

NO_READING = Reading(None)
Row = dict[str, float | int | str]
# Shown for each metric, in this order: what it is, in words.
PER_IMAGE = {
    "pixel_auroc": "pixel AUROC of the score map",
    "pixel_auprc": "pixel AUPRC of the score map",
    "dice": f"Dice of |difference map| at {metrics.TRUTH_THRESHOLD}",
    "dice_validated": "Dice at the threshold chosen on the validation split",
    "dice_stored": "Dice at the threshold of the run, or at the typed one",
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
# What "dice_stored" is in one test, whose threshold was typed or not.
DICE_STORED = {
    False: "Dice at the threshold of the run, by the classes alone",
    True: "Dice at the threshold that was typed",
}
OVERALL: dict[str, tuple[str, Callable[..., float], tuple[str, str]]] = {
    "accuracy": ("classification accuracy", metrics.accuracy, ("class", "predicted")),
    "kappa": ("Cohen's kappa", metrics.kappa, ("class", "predicted")),
    "auroc_class": ("AUROC of the class logits", metrics.auroc, ("class", "probability")),
    "auprc_class": ("AUPRC of the class logits", metrics.auprc, ("class", "probability")),
    "auroc_anomaly": (
        "AUROC of the anomaly score, the mean of the map as it is read",
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
    score_map: np.ndarray  # how much of the difference map speaks for disease
    anomaly_score: float

    def read(self, reading: Reading) -> "Finding":
        """The same with its map read otherwise."""
        score_map = reading.score_map(self.difference, self.image, self.probability)
        score = float(reading.anomaly_score(self.difference))
        return self._replace(score_map=score_map, anomaly_score=score)


def plain_finding(
    label: int,
    image: np.ndarray,
    truth: np.ndarray,
    healthy: np.ndarray,
    difference: np.ndarray,
    probability: float,
) -> Finding:
    """What a method says whose maps are read by their size alone."""
    said = Finding(label, image, truth, healthy, difference, probability, difference, np.nan)
    return said.read(NO_READING)


class Thresholds(NamedTuple):
    """Of the score map: that of the best Dice on validation, if known, and that of the run.

    Or, in its place, one that was ``typed``. ``first``: how the maps of networks are read that
    these come after.
    """

    validated: float | None
    reading: Reading
    first: Reading | None = None
    typed: bool = False

    @property
    def readings(self) -> list[Reading]:
        """Of these networks, and of the first where these come after others."""
        return [self.reading] if self.first is None else [self.reading, self.first]


def choose_threshold(found: Iterator[Finding]) -> float | None:
    """The threshold of the score map with the best mean Dice; None without ground truth."""
    curves = [metrics.dice_curve(f.score_map, f.truth) for f in found if f.truth.any()]
    if not curves:
        return None
    if len(curves) < FEWEST:
        warn(
            f"{len(curves)} validation images are outlined, fewer than {FEWEST}: the threshold of "
            "the best Dice there may suit these alone"
        )
    return float(metrics.THRESHOLDS[np.mean(curves, axis=0).argmax()])


def describe_image(
    name: str,
    finding: Finding,
    thresholds: Thresholds,
    in_unit: bool = True,
) -> Row:
    """Everything measured on one image.

    ``in_unit``: map and ground truth are differences in the unit of the image. A mask is none.
    """
    score = finding.score_map
    row: Row = {"file": name, "class": finding.label}
    if not np.isnan(finding.probability):
        row |= {"predicted": int(finding.probability > 0.5), "probability": finding.probability}
    row["anomaly_score"] = finding.anomaly_score
    if finding.label == HEALTHY:
        row["mse_healthy"] = float(np.square(finding.difference).mean())
        row["variance_healthy"] = float(finding.difference.var())
    elif finding.truth.any():
        row |= metrics.pixel_metrics(score, finding.truth)
        run = thresholds.reading.threshold
        for key, threshold in (("dice_validated", thresholds.validated), ("dice_stored", run)):
            if threshold is not None:
                row[key] = metrics.dice(score > threshold, metrics.is_diseased(finding.truth))
        if in_unit:
            row |= describe_difference(finding)
    return row


def describe_difference(finding: Finding) -> Row:
    """What is measured where the ground truth is the difference to the healthy counterpart."""
    _, image, truth, healthy, difference, *_ = finding
    row: Row = metrics.map_metrics(difference, truth, finding.score_map)
    scaled = [2 * metrics.unit_range(x) for x in (truth, difference)]
    row["map_variance"] = float((scaled[0] - scaled[1]).var())
    if not np.isnan(healthy).all():
        counterpart = image - truth
        row["counterpart_mse"] = float(np.square(healthy - counterpart).mean())
        row["counterpart_ssim"] = metrics.ssim(healthy, counterpart, data_range=2.0)
    row["input_mse"] = float(np.square(truth).mean())
    return row


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
        if not rows[0].keys() >= set(keys):
            continue
        columns = [np.array([row[key] for row in rows]) for key in keys]
        summary[name] = metrics.with_interval(statistic, *columns, groups=groups)
    return summary


def confusion(rows: list[Row]) -> np.ndarray | None:
    """Counts (2, 2) of true and predicted classes; None of a method that predicts none."""
    if "predicted" not in rows[0]:
        return None
    labels, predicted = (np.array([row[key] for row in rows]) for key in ("class", "predicted"))
    return metrics.confusion(labels, predicted)


def title_of(name: str) -> str:
    """What a metric is, in any test."""
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
