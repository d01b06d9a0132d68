"""One image of any source to one file of a prepared data set, and its mask beside it."""

import hashlib
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from descargan import DISEASED, HEALTHY
from descargan.errors import UserError
from descargan.files import naming
from descargan.images import fit, read_image
from descargan.masks import Box, draw_boxes, fit_mask, read_mask

MASKS = "masks"  # folder beside the two class folders


class Item(NamedTuple):
    """An image to prepare. ``name`` is unique in its class and becomes the name of the file."""

    source: str
    name: str
    patient: str
    label: int
    split: str | None = None  # None: to be drawn
    outline: str | tuple[Box, ...] | None = None  # file of the mask, or boxes
    traits: tuple[str, ...] = ()  # cells of the nuisance columns


class Plan(NamedTuple):
    """Where an item goes."""

    item: Item
    split: str
    folder: str


class Outcome(NamedTuple):
    """What came of an item: the problem, if there is one, or what was seen on the way."""

    problem: str | None = None
    digest: bytes = b""  # of the pixels as they were read
    coloured: bool = False
    mask: str | None = None  # "written", "vanished" or None


def to_eight_bits(image: np.ndarray) -> np.ndarray:
    """An image of any depth as uint8 of the same shape, stretched by its extremes."""
    if image.dtype == np.uint8:
        return image
    image = image.astype(np.float64)  # float32 has no room for the range of a no-data value
    low, high = image.min(), image.max()
    return np.rint((image - low) * (255 / (high - low if high > low else 1))).astype(np.uint8)


def convert(plan: Plan, root: Path, output: Path, size: int, kind: str) -> Outcome:
    """Read, square, resize and write an image and its mask below ``root``.

    ``kind``: png (8 bits) or npy (float32). Raises FileError where a file cannot be written; it
    names the place below ``output``, which ``root`` is to become.
    """
    item = plan.item
    try:
        image = read_image(Path(item.source))[:1]
        mask = read_outline(item, image.shape[-2:])
        with np.errstate(all="ignore"):
            fitted = fit(image if kind == "npy" else to_eight_bits(image), size)
        if not np.isfinite(fitted).all():
            raise UserError(
                f"{item.source} holds values from {image.min():g} to {image.max():g}, which "
                "overflow when it is resized: replace the no-data value"
            )
    except UserError as error:
        return Outcome(problem=str(error))
    name = f"{plan.split}/{plan.folder}/{item.name}.{kind}"
    with naming(output / name):
        write_image(fitted, root / name)
    outlined = None
    if mask is not None and item.label == DISEASED:
        small = fit_mask(mask, size)
        outlined = "vanished"
        if small.any():
            outlined = "written"
            name = f"{plan.split}/{MASKS}/{item.name}.png"
            with naming(output / name):
                write_image(np.uint8(255) * small[None], root / name)
    digest = hashlib.blake2b(f"{image.shape} {image.dtype}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image))
    return Outcome(None, digest.digest(), is_coloured(Path(item.source)), outlined)


def read_outline(item: Item, shape: tuple[int, int]) -> np.ndarray | None:
    """The mask of an item, bool of ``shape``. Raises UserError where it does not fit the image."""
    if item.outline is None:
        return None
    if not isinstance(item.outline, str):
        try:
            return draw_boxes(list(item.outline), *shape)
        except UserError as error:
            raise UserError(f"{item.source}: {error}") from None
    mask = read_mask(Path(item.outline))
    if mask.shape != tuple(shape):
        sizes = " and ".join(f"{height} x {width}" for height, width in (mask.shape, shape))
        raise UserError(f"{item.outline} and {item.source} differ in size: {sizes} pixels")
    if item.label == HEALTHY and mask.any():
        raise UserError(f"{item.outline} outlines a lesion in an image of the healthy class")
    return mask


def write_image(array: np.ndarray, path: Path) -> None:
    """Write (1, H, W) as .png or .npy."""
    buffer = io.BytesIO()
    if path.suffix == ".npy":
        np.save(buffer, array.astype(np.float32))
    else:
        # A twentieth larger than with the default level, and half the time.
        Image.fromarray(array[0]).save(buffer, "png", compress_level=3)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())


def is_coloured(path: Path) -> bool:
    """Whether a picture has colours that reading it as grey drops; grey stored as RGB has none."""
    try:
        with Image.open(path) as picture:
            if picture.mode[:1] in "1LIF":
                return False
            picture.draft("RGB", (64, 64))  # JPEG: decode no more than is needed
            small = np.asarray(picture.convert("RGB").resize((64, 64)), dtype=int)
    except Exception:  # no picture: DICOM, .npy
        return False
    return bool(np.ptp(small, axis=2).max() > 8)
