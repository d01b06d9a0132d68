"""Outlines of what is diseased: read from a picture or drawn from boxes, fitted to the networks.

A mask is bool (H, W), True on the lesion. It is never interpolated to grey: a pixel of a smaller
mask belongs to the lesion where at least half of its area does.
"""

from collections import Counter
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np
from PIL import Image

from descargan.errors import UserError
from descargan.geometry import padding
from descargan.images import read_image
from descargan.scanning import scan
from descargan.volumes import read_volume, slice_name, slices

MOST_LABELS = 8  # more values than these are grey, not labels of kinds of tissue
EDGE, EDGE_SHARE = 0.1, 0.05  # lossy compression leaves few pixels between the two extremes


class Box(NamedTuple):
    """A rectangle in pixels of the image as stored; x to the right, y down."""

    x: float
    y: float
    width: float
    height: float


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
    """The masks of a NIfTI volume, not 0 being diseased, by the names of ``read_slices``.

    bool (H, W); where pixels are made square, diseased is what is at least half of it.
    """
    volume = read_volume(path)
    diseased = volume._replace(array=(volume.array > 0).astype(np.float32))
    return {slice_name(axis, n): mask >= 0.5 for n, mask in slices(diseased, axis).items()}


def find_masks(images: list[str], folder: Path, suffix: str) -> list[str | None]:
    """The file below ``folder`` of the mask of each image, or None.

    An image is named by its path below its own folder or in its table: s1/7.png has the mask
    s1/7<suffix>.png, or, where only one image and one mask are called so, 7<suffix>.png in any
    folder; the type may be another. Raises UserError where there is none at all.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: see --masks")
    files: dict[str, list[str]] = {}
    for path in scan(folder)[0]:
        for name in {path.relative_to(folder).with_suffix("").as_posix(), path.stem}:
            files.setdefault(name, []).append(str(path))
    names = Counter(PurePath(image).stem for image in images)
    result: list[str | None] = []
    for image in map(PurePath, images):
        candidates = [image.with_suffix("").as_posix() + suffix]
        candidates += [image.stem + suffix] if names[image.stem] == 1 else []
        found = next((files[name] for name in candidates if name in files), [None])
        if len(found) > 1:
            raise UserError(f"{found[0]} and {found[1]} are both masks of {image}: remove one")
        result.append(found[0])
    if not any(result):
        raise UserError(
            f"no image has a mask in {folder}: {images[0]} would have one named "
            f"{PurePath(images[0]).stem}{suffix}.png (see --mask-suffix)"
        )
    return result


def draw_boxes(boxes: list[Box], height: int, width: int) -> np.ndarray:
    """The pixels (H, W) whose centre lies in one of the boxes.

    Raises UserError where a box is empty, or reaches more than a pixel out of the image.
    """
    mask = np.zeros((height, width), bool)
    y, x = np.arange(height)[:, None] + 0.5, np.arange(width) + 0.5
    for box in boxes:
        right, bottom = box.x + box.width, box.y + box.height
        if not (box.width > 0 and box.height > 0):
            raise UserError(f"a box of {box.width:g} x {box.height:g} pixels is empty")
        if min(box.x, box.y) < -1 or right > width + 1 or bottom > height + 1:
            raise UserError(
                f"a box reaches to x {right:g}, y {bottom:g}, out of the image of {width} x "
                f"{height}: boxes are in pixels of the images as they are stored"
            )
        mask |= (x >= box.x) & (x < right) & (y >= box.y) & (y < bottom)
    return mask


def fit_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """(H, W) padded to a square as :func:`descargan.images.fit` does, then bool (size, size)."""
    square = np.pad(mask, padding(*mask.shape))
    if len(square) == size:
        return square
    area = Image.fromarray(square.astype(np.float32)).resize((size, size), Image.BOX)
    return np.asarray(area) >= 0.5 - 1e-6  # halves are not exact in float32
