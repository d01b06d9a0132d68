"""Every number that a test reports, one definition each, on numpy arrays.

Difference maps and ground truth are (H, W), diseased minus healthy, in the unit of images in
[-1, 1]. Undefined values are NaN.
"""

from collections.abc import Callable

import numpy as np
from scipy.ndimage import uniform_filter

from descargan import resampling

TRUTH_THRESHOLD = 0.44195  # of |ground truth| and |difference map|: a constant of the release
THRESHOLDS = np.linspace(0, 2, 201)[1:]
WINDOW = 7  # pixels a side, of the structural similarity


def is_diseased(truth: np.ndarray) -> np.ndarray:
    """Pixels that count as diseased: |ground truth| over the release's threshold."""
    return np.abs(truth) > TRUTH_THRESHOLD


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve; NaN where ``labels`` hold one class only."""
    return of_all(resampling.auroc, labels, scores)


def auprc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Average precision; NaN where ``labels`` hold one class only."""
    return of_all(resampling.auprc, labels, scores)


def of_all(statistic: resampling.Statistic, *columns: np.ndarray) -> float:
    """A statistic of samples, of the one that holds each entry of ``columns`` once."""
    each = np.ones((1, columns[0].size), int)
    return float(statistic(each, *(column.ravel() for column in columns))[0])


def roc_curve(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The false and the true positive rate (T,) over each score, from (0, 0) to (1, 1)."""
    diseased, healthy = resampling.by_score(np.ones((1, labels.size), int), labels, scores)
    false, true = (np.append(0, counts[0].cumsum()) for counts in (healthy, diseased))
    return false / max(1, false[-1]), true / max(1, true[-1])


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
    """Structural similarity of two images whose values span ``data_range``.

    The mean over all square windows in the image, of the sample's variances and covariance (Wang et
    al. 2004).
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    inside = (slice(WINDOW // 2, -(WINDOW // 2)),) * 2

    def mean_of(x: np.ndarray) -> np.ndarray:
        return uniform_filter(x, WINDOW)[inside]

    mean_a, mean_b = mean_of(a), mean_of(b)
    sample = WINDOW**2 / (WINDOW**2 - 1)
    var_a, var_b, covariance = (
        sample * (mean_of(x * y) - mean_x * mean_y)
        for x, y, mean_x, mean_y in (
            (a, a, mean_a, mean_a),
            (b, b, mean_b, mean_b),
            (a, b, mean_a, mean_b),
        )
    )
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return float((luminance * (2 * covariance + c2) / (var_a + var_b + c2)).mean())


def pixel_metrics(score: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """How well a score map finds the diseased pixels of an image; ``truth``: difference or mask."""
    diseased = is_diseased(truth)
    return {"pixel_auroc": auroc(diseased, score), "pixel_auprc": auprc(diseased, score)}


def map_metrics(
    difference: np.ndarray, truth: np.ndarray, score: np.ndarray | None = None
) -> dict[str, float]:
    """How well a difference map finds the disease, for one diseased image (paper, table 1).

    Pixels are ranked by the ``score`` map, by default |difference|.
    """
    score = np.abs(difference) if score is None else score
    return {
        **pixel_metrics(score, truth),
        "dice": dice(is_diseased(difference), is_diseased(truth)),
        "map_ssim": ssim(unit_range(difference), unit_range(truth), data_range=1.0),
        "map_mse": float(np.square(difference - truth).mean()),
    }


def kappa(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Cohen's kappa; NaN where one class alone occurs in both."""
    return of_all(resampling.kappa, labels, predictions)


def accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    return float((labels == predictions).mean())


def confusion(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Counts (2, 2): rows true, columns predicted, healthy first."""
    return np.bincount(2 * labels + predictions, minlength=4).reshape(2, 2)


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
