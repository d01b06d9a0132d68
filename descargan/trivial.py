"""Maps that need no network, to hold a method's beside: what they score is no success.

Where the disease is bright, brightness alone scores high, and smoothed higher still, as any map
gains by smoothing; where it lies in the middle, so does the middle.
"""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from descargan import metrics
from descargan.data import ImageDataset, load
from descargan.reading import Reading

SMOOTHING = 3 / 64  # of the side: the deviation of a Gaussian
BATCH = 100
CENTRE = 0.2  # likewise, of the blob in the centre
PLAIN = Reading(None)


def trivial_maps(image: np.ndarray, reading: Reading = PLAIN) -> dict[str, np.ndarray]:
    """Score maps of an image (H, W) in [-1, 1], blurred and filled as ``reading`` does it.

    They are no layers, so none covers anything.
    """
    bright = np.clip((image + 1) / 2, 0, 1)
    maps = {
        "intensity": bright,
        "smoothed intensity": gaussian_filter(bright, SMOOTHING * max(image.shape)),
        "centre": centre(image.shape),
        "nothing": np.zeros_like(bright),
    }
    scores = reading._replace(sign=1, cover=None).score_map(
        np.stack(list(maps.values())), image, np.nan
    )
    return dict(zip(maps, scores, strict=True))


def centre(shape: tuple[int, int]) -> np.ndarray:
    """A Gaussian in the middle (H, W)."""
    y, x = (np.linspace(-0.5, 0.5, n) for n in shape)
    return np.exp(-(y[:, None] ** 2 + x**2) / (2 * CENTRE**2))


def measure_trivial(
    dataset: ImageDataset, groups: np.ndarray | None = None, reading: Reading = PLAIN
) -> dict[str, dict[str, dict[str, float]]]:
    """Pixel AUROC, pixel AUPRC and best Dice of each trivial map over a split, with intervals.

    ``groups`` of its images: see :func:`metrics.with_interval`. ``reading``: of the method that
    they are held beside.
    """
    values: dict[str, list[dict[str, float]]] = {}
    curves: dict[str, list[np.ndarray]] = {}
    located: list[bool] = []
    for images, truths, _ in load(dataset, list(torch.arange(len(dataset)).split(BATCH))):
        for image, truth in zip(images[:, 0].numpy(), truths[:, 0].numpy(), strict=True):
            located.append(bool(truth.any()))
            if not located[-1]:
                continue
            for name, drawn in trivial_maps(image, reading).items():
                values.setdefault(name, []).append(metrics.pixel_metrics(drawn, truth))
                curves.setdefault(name, []).append(metrics.dice_curve(drawn, truth))
    groups = None if groups is None else groups[np.array(located)]
    measured = {}
    for name, found in values.items():
        columns = {key: np.array([one[key] for one in found]) for key in found[0]}
        measured[name] = {
            key: metrics.with_interval(metrics.mean, column, groups=groups)
            for key, column in columns.items()
        }
        measured[name]["dice_best"] = metrics.best_dice(np.array(curves[name]), groups)
    return measured
