"""Every number that a test reports, one definition each, on numpy arrays.

Difference maps and ground truth are (H, W), diseased minus healthy, in the unit of images in
[-1, 1]. Undefined values are NaN.
"""

from collections.abc import Callable

import numpy as np
from skimage.metrics import structural_similarity
from sklearn.metrics import (
    average_precision_score,
    cohen_kappa_score,
    confusion_matrix,
    roc_auc_score,
)

from descargan import resampling

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


def dice_curve(
    score: np.ndarray, truth: np.ndarray, thresholds: np.ndarray = THRESHOLDS
) -> np.ndarray:
    """Dice of |score map| > threshold against the diseased pixels, for each of ``thresholds``."""
    # Pixels over each threshold are counted from a histogram: one pass, however many thresholds.
    bins = np.digitize(np.abs(score).ravel(), thresholds, right=True)
    diseased = is_diseased(truth).ravel()
    over, hit = (
        np.bincount(bins, weights, len(thresholds) + 1)[::-1].cumsum()[::-1][1:]
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


def pixel_metrics(score: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """How well a score map finds the diseased pixels of an image; ``truth``: difference or mask."""
    diseased = is_diseased(truth)
    return {"pixel_auroc": auroc(diseased, score), "pixel_auprc": auprc(diseased, score)}


def map_metrics(
    difference: np.ndarray, truth: np.ndarray, score: np.ndarray | None = None
) -> dict[str, float]:
    """How well a difference map finds the disease, for one diseased image (paper, table 1).

    Pixels are sought by the ``score`` map, by default |difference|.
    """
    score = np.abs(difference) if score is None else score
    return {
        **pixel_metrics(score, truth),
        "dice": dice(score > TRUTH_THRESHOLD, is_diseased(truth)),
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


# Of each statistic of images, that of many samples at once.
RESAMPLED = {
    mean: resampling.mean,
    accuracy: resampling.accuracy,
    kappa: resampling.kappa,
    auroc: resampling.auroc,
    auprc: resampling.auprc,
}


def with_interval(
    statistic: Callable[..., float],
    *columns: np.ndarray,
    samples: int = 1000,
    groups: np.ndarray | None = None,
) -> dict[str, float | int]:
    """``statistic(*columns)``, one of RESAMPLED, with its bootstrap 95 % interval over the images.

    ``groups``: what images are drawn together by, such as their patients; each image by itself
    where there are none. Rows that hold NaN are left out; ``n`` counts the others.
    """
    return resampling.interval(RESAMPLED[statistic], *columns, samples=samples, groups=groups)


def best_dice(curves: np.ndarray, groups: np.ndarray | None = None) -> dict[str, float | int]:
    """The highest mean Dice by one threshold for all images, with its interval.

    ``curves`` (N, T): of each image the Dice at each threshold.
    """
    return resampling.interval(resampling.highest_mean, curves, groups=groups)
