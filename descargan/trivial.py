"""Maps that need no network, to hold a method's beside: what they score is no success.

Where the disease is bright, brightness alone scores high, and smoothed higher still, as any map
gains by smoothing; where it is dark, darkness; where it lies in the middle, so does the middle.
"""

from collections.abc import Sequence

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

    Where it reads what is darker, the intensity is that of the negative. They are no layers, so
    none covers anything.
    """
    intensity = np.clip(((-image if reading.sign < 0 else image) + 1) / 2, 0, 1)
    maps = {
        "intensity": intensity,
        "smoothed intensity": gaussian_filter(intensity, SMOOTHING * max(image.shape)),
        "centre": centre(image.shape),
        "nothing": np.zeros_like(intensity),
    }
    scores = reading._replace(sign=1, cover=None).score_map(
        np.stack(list(maps.values())), image, np.nan
    )
    return dict(zip(maps, scores, strict=True))


def centre(shape: tuple[int, int]) -> np.ndarray:
    """A Gaussian in the middle (H, W)."""
    y, x = (np.linspace(-0.5, 0.5, n) for n in shape)
    return np.exp(-(y[:, None] ** 2 + x**2) / (2 * CENTRE**2))


def ways_to_read(readings: Sequence[Reading]) -> list[Reading]:
    """Of readings what changes trivial maps, each once; one by both signs is one by either."""
    plain = [reading._replace(threshold=None, reason="", cover=None) for reading in readings]
    signs = [(reading.sign,) if reading.sign else (1, -1) for reading in plain]
    pairs = zip(plain, signs, strict=True)
    return list(dict.fromkeys(way._replace(sign=sign) for way, both in pairs for sign in both))


def measure_trivial(
    dataset: ImageDataset, readings: Sequence[Reading] = (PLAIN,)
) -> dict[str, dict[str, dict[str, float]]]:
    """Pixel AUROC, pixel AUPRC and best Dice of each trivial map over a split.

    Intervals are over patients. ``readings``: of the method that they are held beside. Each map is
    read as they do, and by either sign where they take both; that with the highest AUPRC stands.
    """
    values: dict[tuple[str, Reading], list[dict[str, float]]] = {}
    curves: dict[tuple[str, Reading], list[np.ndarray]] = {}
    located: list[bool] = []
    ways = ways_to_read(readings)
    for images, truths, _ in load(dataset, list(torch.arange(len(dataset)).split(BATCH))):
        for image, truth in zip(images[:, 0].numpy(), truths[:, 0].numpy(), strict=True):
            located.append(bool(truth.any()))
            for way in ways if located[-1] else ():
                for name, drawn in trivial_maps(image, way).items():
                    values.setdefault((name, way), []).append(metrics.pixel_metrics(drawn, truth))
                    curves.setdefault((name, way), []).append(metrics.dice_curve(drawn, truth))
    patients = dataset.patients[located]
    measured: dict[str, dict[str, dict[str, float]]] = {}
    for (name, way), found in values.items():
        columns = {key: np.array([one[key] for one in found]) for key in found[0]}
        entries = {
            key: metrics.with_interval(metrics.mean, column, groups=patients)
            for key, column in columns.items()
        }
        entries["dice_best"] = metrics.best_dice(np.array(curves[name, way]), patients)
        best = measured.setdefault(name, entries)
        if entries["pixel_auprc"]["value"] > best["pixel_auprc"]["value"]:
            measured[name] = entries
    return measured
