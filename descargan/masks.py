"""Outlines of what is diseased: read from a picture or a volume, fitted to the networks.

A mask is bool (H, W), True on the lesion. It is never interpolated to grey: a pixel of a smaller
mask belongs to the lesion where at least half of its area does.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from descargan.errors import UserError
from descargan.geometry import padding
from descargan.images import read_image
from descargan.volumes import read_volume, slice_name, slices

MOST_LABELS = 8  # more values than these are grey, not labels of kinds of tissue
EDGE, EDGE_SHARE = 0.1, 0.05  # lossy compression leaves few pixels between the two extremes


def read_mask(path: Path) -> np.ndarray:
    """The outline in a picture of any depth: 0 and 1, 0 and 255, numbered labels, or colours.

    Everything but 0 is lesion. A picture with more than 8 values is a mask only where all but 5 %
    of its pixels are within 10 % of its darkest or brightest value, as JPEG leaves them; the middle
    divides it then. Raises UserError where it is no mask.
    """
    grey = read_image(path)[0].astype(np.float32)
    if grey.min() < 0:
        raise UserError(f"{path} holds values below 0 and is no mask: save 0 and 255")
    if len(np.unique(grey)) <= MOST_LABELS:
        return grey != 0
    share = (grey - grey.min()) / (grey.max() - grey.min())
    if ((share > EDGE) & (share < 1 - EDGE)).mean() > EDGE_SHARE:
        raise UserError(f"{path} is no mask but a picture in grey: a mask has two values")
    return share >= 0.5


def read_masks(path: Path, axis: str = "axial") -> dict[str, np.ndarray]:
    """The masks of a NIfTI volume, not 0 being lesion, by the names of ``read_slices``.

    bool (H, W); where pixels are made square, lesion is what is at least half of it.
    """
    volume = read_volume(path)
    lesion = volume._replace(array=(volume.array > 0).astype(np.float32))
    return {slice_name(axis, n): mask >= 0.5 for n, mask in slices(lesion, axis).items()}


def fit_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """(H, W) padded to a square as :func:`descargan.images.fit` does, then bool (size, size)."""
    square = np.pad(mask, padding(*mask.shape))
    if len(square) == size:
        return square
    area = Image.fromarray(square.astype(np.float32)).resize((size, size), Image.BOX)
    return np.asarray(area) >= 0.5 - 1e-6  # halves are not exact in float32
