"""Maps that need no network, to hold a method's beside: what they score is no success.

Where the disease is bright, brightness alone scores high, and smoothed higher still, as any map
gains by smoothing; where it lies in the middle, so does the middle.
"""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from descargan import metrics
from descargan.data import ImageDataset, load

SMOOTHING = 3 / 64  # of the side: the deviation of a Gaussian
BATCH = 100
CENTRE = 0.2  # likewise, of the blob in the centre


def trivial_maps(image: np.ndarray) -> dict[str, np.ndarray]:
    """Maps of an image (H, W) in [-1, 1], with values in [0, 1]."""
    bright = np.clip((image + 1) / 2, 0, 1)
    return {
        "intensity": bright,
        "smoothed intensity": gaussian_filter(bright, SMOOTHING * max(image.shape)),
        "centre": centre(image.shape),
        "nothing": np.zeros_like(bright),
    }


def centre(shape: tuple[int, int]) -> np.ndarray:
    """A Gaussian in the middle (H, W)."""
    y, x = (np.linspace(-0.5, 0.5, n) for n in shape)
    return np.exp(-(y[:, None] ** 2 + x**2) / (2 * CENTRE**2))


def measure_trivial(
    dataset: ImageDataset, groups: np.ndarray | None = None
) -> dict[str, dict[str, dict[str, float]]]:
    """Pixel AUROC, pixel AUPRC and best Dice of each trivial map over a split, with intervals.

    ``groups`` of its images: see :func:`metrics.with_interval`.
    """
    values: dict[str, list[tuple[float, float]]] = {}
    curves: dict[str, list[np.ndarray]] = {}
    located: list[bool] = []
    for images, truths, _ in load(dataset, list(torch.arange(len(dataset)).split(BATCH))):
        for image, truth in zip(images[:, 0].numpy(), truths[:, 0].numpy(), strict=True):
            located.append(bool(truth.any()))
            if not located[-1]:
                continue
            diseased = metrics.is_diseased(truth)
            for name, drawn in trivial_maps(image).items():
                found = metrics.auroc(diseased, drawn), metrics.auprc(diseased, drawn)
                values.setdefault(name, []).append(found)
                curves.setdefault(name, []).append(metrics.dice_curve(drawn, truth))
    groups = None if groups is None else groups[np.array(located)]
    measured = {}
    for name, pairs in values.items():
        auroc, auprc = (
            metrics.with_interval(metrics.mean, np.array(column), groups=groups)
            for column in zip(*pairs, strict=True)
        )
        dice = metrics.best_dice(np.array(curves[name]), groups)
        measured[name] = {"pixel_auroc": auroc, "pixel_auprc": auprc, "dice_best": dice}
    return measured
