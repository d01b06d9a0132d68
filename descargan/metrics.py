"""Every number that a test reports, one definition each, on numpy arrays.

Difference maps and ground truth are (H, W), diseased minus healthy, in the unit of images in
[-1, 1]. Undefined values are NaN.
"""

from collections.abc import Callable, Iterator

import numpy as np
from skimage.metrics import structural_similarity
from sklearn.metrics import (
    average_precision_score,
    cohen_kappa_score,
    confusion_matrix,
    roc_auc_score,
)

TRUTH_THRESHOLD = 0.44195  # of |ground truth| and |difference map|: a constant of the release
THRESHOLDS = np.linspace(0, 2, 201)[1:]


def is_diseased(truth: np.ndarray) -> np.ndarray:
    """Pixels that count as diseased: |ground truth| over the release's threshold."""
    return np.abs(truth) > TRUTH_THRESHOLD


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve; NaN where ``labels`` hold one class only."""
    if len(np.unique(labels)) < 2:
        return np.nan
    return float(roc_auc_score(labels.ravel(), scores.ravel()))


def auprc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Average precision; NaN where ``labels`` hold one class only."""
    if len(np.unique(labels)) < 2:
        return np.nan
    return float(average_precision_score(labels.ravel(), scores.ravel()))


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Dice overlap of two masks; 1 where both are empty."""
    total = a.sum() + b.sum()
    return float(2 * (a & b).sum() / total) if total else 1.0


def dice_curve(score: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Dice of |score map| > threshold against the diseased pixels, for each of THRESHOLDS."""
    # Pixels over each threshold are counted from a histogram: one pass, however many thresholds.
    bins = np.digitize(np.abs(score).ravel(), THRESHOLDS, right=True)
    diseased = is_diseased(truth).ravel()
    over, hit = (
        np.bincount(bins, weights, len(THRESHOLDS) + 1)[::-1].cumsum()[::-1][1:]
        for weights in (None, diseased)
    )
    total = over + diseased.sum()
    return np.divide(2 * hit, total, out=np.ones(len(total)), where=total > 0)


def unit_range(x: np.ndarray) -> np.ndarray:
    """By its own minimum and maximum to [0, 1]; all 0 where constant."""
    low, high = x.min(), x.max()
    return (x - low) / (high - low) if high > low else np.zeros_like(x)


def ssim(a: np.ndarray, b: np.ndarray, data_range: float) -> float:
    """Structural similarity of two images whose values span ``data_range``."""
    return float(structural_similarity(a, b, data_range=data_range))


def map_metrics(
    difference: np.ndarray, truth: np.ndarray, score: np.ndarray | None = None
) -> dict[str, float]:
    """How well a difference map finds the disease, for one diseased image (paper, table 1).

    Pixels are sought by the ``score`` map, by default |difference|.
    """
    diseased = is_diseased(truth)
    score = np.abs(difference) if score is None else score
    return {
        "pixel_auroc": auroc(diseased, score),
        "pixel_auprc": auprc(diseased, score),
        "dice": dice(score > TRUTH_THRESHOLD, diseased),
        "map_ssim": ssim(unit_range(difference), unit_range(truth), data_range=1.0),
        "map_mse": float(np.square(difference - truth).mean()),
    }


def kappa(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Cohen's kappa; NaN where one class alone occurs in both."""
    if len(np.unique(np.concatenate([labels, predictions]))) < 2:
        return np.nan
    return float(cohen_kappa_score(labels, predictions))


def accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    return float((labels == predictions).mean())


def confusion(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Counts (2, 2): rows true, columns predicted, healthy first."""
    return confusion_matrix(labels, predictions, labels=[0, 1])


def mean(values: np.ndarray) -> float:
    return float(values.mean())


def with_interval(
    statistic: Callable[..., float],
    *columns: np.ndarray,
    samples: int = 1000,
    groups: np.ndarray | None = None,
) -> dict[str, float | int]:
    """``statistic(*columns)`` with its bootstrap 95 % interval over the images.

    ``groups``: what images are drawn together by, such as their patients; each image by itself
    where there are none. Rows that hold NaN are left out; ``n`` counts the others.
    """
    columns = tuple(np.asarray(column) for column in columns)
    defined = np.all([~np.isnan(column.astype(float)) for column in columns], axis=0)
    columns = tuple(column[defined] for column in columns)
    n = len(columns[0])
    if n == 0:
        return {"value": np.nan, "low": np.nan, "high": np.nan, "n": 0}
    draws = resamples(n, samples, None if groups is None else np.asarray(groups)[defined])
    values = np.array([statistic(*(column[draw] for column in columns)) for draw in draws])
    values = values[~np.isnan(values)]
    low, high = np.percentile(values, [2.5, 97.5]) if len(values) else (np.nan, np.nan)
    return {"value": statistic(*columns), "low": float(low), "high": float(high), "n": n}


def resamples(n: int, samples: int, groups: np.ndarray | None) -> Iterator[np.ndarray]:
    """Indices of the bootstrap's samples of ``n`` images, or of the groups that they are in."""
    rng = np.random.default_rng(0)
    if groups is None:
        for _ in range(samples):
            yield rng.integers(n, size=n)
        return
    _, group = np.unique(groups, return_inverse=True)
    members = np.split(np.argsort(group, kind="stable"), np.bincount(group).cumsum()[:-1])
    for _ in range(samples):
        drawn = rng.integers(len(members), size=len(members))
        yield np.concatenate([members[g] for g in drawn])


def best_dice(curves: np.ndarray, groups: np.ndarray | None = None) -> dict[str, float | int]:
    """The highest mean Dice by one threshold for all images, with its interval.

    ``curves`` (N, T): of each image the Dice at each threshold.
    """
    return with_interval(
        lambda drawn: float(curves[drawn].mean(axis=0).max()),
        np.arange(len(curves)),
        groups=groups,
    )
