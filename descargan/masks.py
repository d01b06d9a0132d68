"""Masks of a disease: any picture of two values, fitted to an image's size by area."""

from pathlib import Path

import numpy as np
from PIL import Image

from descargan.errors import UserError
from descargan.geometry import padding
from descargan.images import explained, read_image, read_slices
from descargan.volumes import is_volume, laid_as, read_volume, slice_name, slices

FEW = 16  # values; a mask of more of them is smoothed or compressed, and not labelled
EDGE, MOST_BETWEEN = 0.1, 0.05  # smoothing and compression leave few pixels between the extremes


def read_mask(path: Path) -> np.ndarray:
    """A mask file as bool (H, W), see :func:`as_mask`. Raises UserError."""
    return as_mask(read_image(path)[0], path)


def read_pages(path: Path) -> list[np.ndarray]:
    """The masks of a file of several pictures, as :func:`read_mask` gives that of one."""
    return [as_mask(one.image[0], path) for one in read_slices(path)]


def as_mask(mask: np.ndarray, path: Path) -> np.ndarray:
    """A picture (H, W) as a mask, bool: 0/1, 0/255, labels 0, 1, 2, ..., luminance of colour.

    Not 0 is diseased. Where there are more than FEW values, as after JPEG or smoothing, what is at
    least half of the greatest is. Raises UserError for values below 0, for several without 0, and
    for a picture in grey, which name ``path``.
    """
    values = np.unique(mask)
    if values[0] < 0:
        raise UserError(f"{path} holds values below 0 and is no mask: save 0 and 255")
    if len(values) <= FEW:
        if 0 not in values and len(values) > 1:
            found = ", ".join(f"{value:g}" for value in values)
            raise UserError(f"{path} holds {found} and is no mask: save 0 where no lesion is")
        return mask > 0
    share = mask / mask.max()
    if ((share > EDGE) & (share < 1 - EDGE)).mean() > MOST_BETWEEN:
        raise UserError(f"{path} is no mask but a picture in grey: a mask has two values")
    return share >= 0.5


def read_masks(path: Path, image: Path, axis: str = "axial") -> dict[str, np.ndarray]:
    """The masks in a NIfTI volume, not 0 being diseased, by the names of the slices of ``image``.

    bool (H, W); where pixels are made square, diseased is what is at least half of it. The two may
    be stored in different orders; raises UserError where their voxels lie in different places, and
    where no voxel is without lesion, as where NaN stands for 0.
    """
    with explained(path):
        volume = read_volume(path)
        if is_volume(image):
            volume = laid_as(image, volume)
        diseased = volume._replace(array=(volume.array > 0).astype(np.float32))
        if diseased.array.all():
            raise UserError(f"{path} has no voxel of 0 and is no mask: save 0 where no lesion is")
        return {slice_name(axis, n): mask >= 0.5 for n, mask in slices(diseased, axis).items()}


def fit_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask (H, W) as :func:`descargan.images.fit` fits its image: bool (size, size).

    A pixel is diseased where at least half of its area is.
    """
    padded = np.pad(mask.astype(np.float32), padding(*mask.shape))
    area = Image.fromarray(padded).resize((size, size), Image.BOX)
    return np.asarray(area) >= 0.5
