"""Intensities of a file to [-1, 1]: by the extremes, or robustly by percentiles of the body."""

from collections.abc import Iterable

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from descargan.errors import UserError
from descargan.kinds import SCALINGS

PERCENTILES = (1.0, 99.0)  # of the body
BELOW, ABOVE = 0.5, 0.25  # of their distance, kept: dark organs at the border, a bright tumour
LEAST_BODY = 0.05  # of the image; less is a marker or a catheter
NO_DATA = 1e30  # values beyond are marks that nothing was measured there, such as -3.4e38
SMALLEST = 1e-37  # contrast; what has less is constant, in float32 at least
LOOKED_AT = 128  # pixels a side; of larger images every n-th pixel is enough


def intensity_range(images: np.ndarray, scaling: str) -> tuple[float, float]:
    """The intensities (low, high) that ``scaling`` takes to -1 and 1, for :func:`scale`.

    ``images``: (..., H, W), finite; one picture, or all slices of a volume, which get one range.
    minmax: the extremes. percentile: PERCENTILES of the :func:`body`, moved apart by BELOW and
    ABOVE of their distance, the body's contrast, but never beyond the extremes. So the body keeps
    1 / (1 + BELOW + ABOVE) = 57 % of the range at least, where a marker, a hot pixel or the air
    around it would take it all, and only what is far from the body is clipped. low = high for a
    constant image.
    Raises UserError for a scaling of another name.
    """
    return range_by(every_nth(images), float(images.min()), float(images.max()), scaling)


def range_by(few: np.ndarray, least: float, most: float, scaling: str) -> tuple[float, float]:
    """:func:`intensity_range` of images by ``few`` of their pixels, and the extremes of all."""
    if scaling not in SCALINGS:
        raise UserError(f"scaling {scaling!r} is not known: choose one of {', '.join(SCALINGS)}")
    if scaling == "minmax":
        return least, most
    low, high = np.percentile(few[body(few)], PERCENTILES)
    if low == high:
        low, high = np.percentile(few, PERCENTILES)
    if low == high:
        return least, most
    contrast = float(high - low)
    return max(least, float(low) - BELOW * contrast), min(most, float(high) + ABOVE * contrast)


def common_range(images: Iterable[np.ndarray], scaling: str) -> tuple[float, float] | None:
    """One :func:`intensity_range` for the pictures (1, H, W) of a volume or a series.

    None where they have none in common: pictures of 8 bits, which are in a unit as they are stored
    and are scaled one by one, and pictures of several sizes. They are looked at one by one, so
    that a long series need not be in memory.
    """
    few, extremes, sizes = [], [], set()
    for image in images:
        if image.dtype == np.uint8:
            return None
        few.append(every_nth(image))
        extremes += [float(image.min()), float(image.max())]
        sizes.add(image.shape)
    if len(sizes) != 1:
        return None
    return range_by(every_nth(np.concatenate(few)), min(extremes), max(extremes), scaling)


def scale(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """``image`` as float32 with low at -1 and high at 1, clipped there; 0 for low = high."""
    if high - low < SMALLEST:
        return np.zeros(image.shape, np.float32)
    slope = 2 / (high - low)
    return np.clip((image.astype(np.float64) - low) * slope - 1, -1, 1).astype(np.float32)


def quantise(image: np.ndarray, low: float, high: float, bits: int = 8) -> np.ndarray:
    """``image`` as uint8 or uint16 (``bits`` 8 or 16) with low at 0 and high at the greatest value.

    An 8-bit image stays as it is: nothing is gained by stretching it.
    """
    if image.dtype == np.uint8:
        return image
    unit = np.clip(
        (image.astype(np.float64) - low) / (high - low if high - low > SMALLEST else 1), 0, 1
    )
    return np.rint(unit * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


def without_no_data(image: np.ndarray) -> np.ndarray:
    """``image`` with the smallest other value for NaN, infinity and values beyond +-NO_DATA.

    Raises ValueError where there is no other value.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        known = np.abs(image) < NO_DATA
    return image if known.all() else np.where(known, image, image[known].min())


def body(images: np.ndarray) -> np.ndarray:
    """What is pictured, bool (..., H, W): the largest bright component, with its holes.

    Bright is above half of Otsu's threshold, counted from the dark end, after clipping at
    PERCENTILES of the image; half, because at the threshold itself a brain falls into pieces.
    Everything bright where that component is less than half of it; the whole image where this
    covers less than LEAST_BODY of it.
    """
    low, high = np.percentile(images, PERCENTILES)
    everything = np.ones(images.shape, bool)
    if low == high:
        return everything
    clipped = np.clip(images.astype(np.float64), low, high)
    bright = clipped > low + (threshold_otsu(clipped.ravel()) - low) / 2
    labels, number = ndimage.label(bright)
    if number == 0:
        return everything
    largest = labels == 1 + np.bincount(labels.ravel())[1:].argmax()
    if 2 * largest.sum() > bright.sum():
        bright = fill_holes(largest)
    return bright if bright.mean() >= LEAST_BODY else everything


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """``mask`` (..., H, W) with the holes of each slice filled."""
    slices = mask.reshape(-1, *mask.shape[-2:])
    return np.stack([ndimage.binary_fill_holes(one) for one in slices]).reshape(mask.shape)


def every_nth(images: np.ndarray) -> np.ndarray:
    """(..., H, W) with about LOOKED_AT rows, columns and slices at most."""
    return images[tuple(slice(None, None, max(1, n // LOOKED_AT)) for n in images.shape)]
