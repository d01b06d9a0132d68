"""Bootstrap intervals: a statistic of all samples at once, by how often each holds each image.

A statistic takes counts (S, N), whole numbers, and columns (N, ...) with a row an image, and gives
an array (S,), NaN where it is undefined.
"""

from collections.abc import Callable, Iterator

import numpy as np

BLOCK = 2_000_000  # counts that are held at a time
INTERVAL = (2.5, 97.5)  # percent
Statistic = Callable[..., np.ndarray]


def interval(
    statistic: Statistic,
    *columns: np.ndarray,
    samples: int = 1000,
    groups: np.ndarray | None = None,
) -> dict[str, float | int]:
    """A statistic of images with its bootstrap 95 % interval: "value", "low", "high" and "n".

    ``groups`` (N,): what images are drawn together by, such as their patients; each image by itself
    where there are none. Images that hold NaN are left out; ``n`` counts the others.
    """
    columns = tuple(np.asarray(column) for column in columns)
    undefined = [np.isnan(column.astype(float)).reshape(len(column), -1) for column in columns]
    defined = ~np.concatenate(undefined, axis=1).any(axis=1)
    columns = tuple(column[defined] for column in columns)
    n = len(columns[0])
    if n == 0:
        return {"value": np.nan, "low": np.nan, "high": np.nan, "n": 0}
    drawn = resamples(n, samples, None if groups is None else np.asarray(groups)[defined])
    values = np.concatenate([statistic(counts, *columns) for counts in drawn])
    values = values[~np.isnan(values)]
    low, high = np.percentile(values, INTERVAL) if len(values) else (np.nan, np.nan)
    value = statistic(np.ones((1, n), int), *columns)[0]
    return {"value": float(value), "low": float(low), "high": float(high), "n": n}


def resamples(n: int, samples: int, groups: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Blocks of counts (S, n): how often each sample of the bootstrap holds each of ``n`` images.

    As many images are drawn as there are, or as many of the ``groups`` (n,) that they are in.
    """
    group = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    number = int(group.max()) + 1
    rng = np.random.default_rng(0)
    rows = max(1, BLOCK // n)
    for start in range(0, samples, rows):
        size = min(rows, samples - start)
        drawn = rng.integers(number, size=(size, number)) + number * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * number)
        yield counts.reshape(size, number)[:, group]


def mean(counts: np.ndarray, values: np.ndarray) -> np.ndarray:
    return counts @ values / counts.sum(axis=1)


def highest_mean(counts: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The highest of the means of columns (N, T)."""
    return (counts @ values / counts.sum(axis=1, keepdims=True)).max(axis=1)


def accuracy(counts: np.ndarray, labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    return mean(counts, labels == predictions)


def kappa(counts: np.ndarray, labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Cohen's kappa of two classes, 0 and 1."""
    total = counts.sum(axis=1)
    disagreed = counts @ (labels != predictions)
    ones, said = counts @ labels, counts @ predictions
    return 1 - ratio(total * disagreed, ones * (total - said) + (total - ones) * said)


def auroc(counts: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The share of pairs of a diseased and a healthy image in the right order; ties are half."""
    diseased, healthy = by_score(counts, labels, scores)
    below = healthy.sum(axis=1, keepdims=True) - healthy.cumsum(axis=1)
    right = (diseased * (2 * below + healthy)).sum(axis=1)
    return ratio(right, 2 * diseased.sum(axis=1) * healthy.sum(axis=1))


def auprc(counts: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Average precision: the mean, over the diseased images, of the precision at their scores."""
    diseased, healthy = by_score(counts, labels, scores)
    found, over = diseased.cumsum(axis=1), (diseased + healthy).cumsum(axis=1)
    precision = np.divide(found, over, out=np.zeros(found.shape), where=over > 0)
    both = (found[:, -1] > 0) & (found[:, -1] < over[:, -1])
    return ratio((diseased * precision).sum(axis=1), np.where(both, found[:, -1], 0))


def by_score(
    counts: np.ndarray, labels: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Counts of the diseased and of the healthy images (S, T) at each score, from the highest."""
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.nan) != 0)
    ordered, diseased = counts[:, order], labels[order] == 1
    return tuple(
        np.add.reduceat(ordered * chosen, starts, axis=1) for chosen in (diseased, ~diseased)
    )


def gap(
    statistic: Statistic,
    counts: np.ndarray,
    labels: np.ndarray,
    ours: np.ndarray,
    theirs: np.ndarray,
) -> np.ndarray:
    """How much a statistic of ``ours`` is over that of ``theirs`` on the same images."""
    return statistic(counts, labels, ours) - statistic(counts, labels, theirs)


def ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``a / b``, NaN where ``b`` is 0."""
    return np.divide(a, b, out=np.full(len(b), np.nan), where=b != 0)
