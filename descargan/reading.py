"""From which value on a difference map says that something was found.

No pixel labels are needed: of healthy validation images nearly all pixels lie below the threshold.
Where the anomaly score does not tell the validation images' classes apart, nothing was found, and
no value is one. Both stand beside the weights, for the last and for the best.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from descargan import metrics
from descargan.files import read_json, without_nan, write_json

RANGE = 2.0  # of an image in [-1, 1]
QUANTILE = 0.995  # of |difference map|, over all pixels of healthy images
LEAST = 0.05 * RANGE
EDGES = np.linspace(0, RANGE, 2001)
SAMPLES = 200  # of the bootstrap, after every epoch


class Reading(NamedTuple):
    """The threshold of |difference map|, or None and the sentence that says why."""

    threshold: float | None
    reason: str = ""


def count_values(difference: np.ndarray) -> np.ndarray:
    """Pixels of a difference map in each bin of |difference| between EDGES."""
    return np.histogram(np.minimum(np.abs(difference), RANGE), EDGES)[0]


def healthy_threshold(counts: np.ndarray) -> float:
    """The threshold, by the values of all pixels of healthy images as :func:`count_values` says."""
    share = counts.cumsum() / counts.sum()
    quantile = EDGES[1:][np.searchsorted(share, QUANTILE)]
    return float(max(LEAST, quantile))


def describe_maps(
    counts: np.ndarray, labels: Sequence[int], scores: Sequence[float]
) -> dict[str, float]:
    """The numbers that a reading depends on, of the validation split.

    ``counts``: of healthy images' pixels; ``labels``, ``scores``: class and anomaly score of each.
    """
    found = metrics.with_interval(
        metrics.auroc, np.asarray(labels), np.asarray(scores), samples=SAMPLES
    )
    return {
        "threshold": healthy_threshold(counts),
        "auroc_anomaly": found["value"],
        "auroc_anomaly_low": found["low"],
        "auroc_anomaly_high": found["high"],
    }


def keep_reading(path: Path, which: str, values: dict[str, float]) -> None:
    """Write the numbers of :func:`describe_maps` for the "last" weights or the "best"."""
    known = read_json(path)
    names = ("threshold", "auroc_anomaly", "auroc_anomaly_low", "auroc_anomaly_high")
    known[which] = {name: values[name] for name in names}
    write_json(path, without_nan(known))


def read_reading(path: Path, which: str) -> Reading:
    """How to read the maps of the "last" weights or the "best". Raises UserError: it is damaged."""
    stored = read_json(path).get(which)
    if stored is None:
        return Reading(None, "no threshold is stored with these weights: maps without masks")
    low, high = stored["auroc_anomaly_low"], stored["auroc_anomaly_high"]
    if low is None or low <= 0.5 <= high:
        interval = "undefined" if low is None else f"{low:.2f} to {high:.2f}"
        return Reading(
            None,
            "nothing found: on the validation images the anomaly score does not tell diseased "
            f"from healthy (95 % interval of its AUROC: {interval}), so there are no masks",
        )
    return Reading(stored["threshold"])
