"""One file of any kind to pictures of a prepared data set, and their masks beside them."""

import hashlib
import io
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from descargan import HEALTHY
from descargan.errors import UserError
from descargan.files import naming
from descargan.images import as_stored, fit, read_slices
from descargan.layout import MASKS
from descargan.masks import fit_mask, read_masks, read_pages
from descargan.outlines import Box, draw_boxes
from descargan.scaling import common_range, intensity_range, quantise, scale
from descargan.sources import Span
from descargan.volumes import is_volume


class Item(NamedTuple):
    """An image to prepare. ``name`` is unique in its class and becomes the name of the file."""

    source: str
    name: str
    patient: str
    label: int
    split: str | None = None  # None: to be drawn
    boxes: tuple[Box, ...] = ()  # around what is diseased
    traits: tuple[str, ...] = ()  # cells of the nuisance columns
    masks: tuple[str, ...] = ()  # files, of which each outlines a part of what is diseased

    @property
    def is_outlined(self) -> bool:
        return bool(self.boxes or self.masks)


class Plan(NamedTuple):
    """Where an item goes, and the range of its intensities that its DICOM series has."""

    item: Item
    split: str
    folder: str
    span: Span | None = None


class Outcome(NamedTuple):
    """What came of a picture: the problem of its file, or what was seen on the way."""

    problem: str | None = None
    name: str = ""  # of the slice, frame or page; empty where the file holds one picture
    digest: bytes = b""  # of the pixels as they were read; none of a constant picture
    coloured: bool = False
    mask: str | None = None  # "written", "vanished" or None
    unit: str | None = None  # whose range it was scaled by: "own" or "shared"; None: as stored


class Form(NamedTuple):
    """What images are read as and written as."""

    size: int
    kind: str  # png (8 bits) or npy (float32)
    scaling: str  # to 8 bits: one of descargan.scaling.SCALINGS
    axis: str  # of volumes: one of descargan.volumes.AXES
    body_share: float  # of volumes: see descargan.volumes.slices


def to_unit(
    images: list[np.ndarray], form: Form, span: Span | None
) -> tuple[list[np.ndarray], str | None]:
    """The pictures (1, H, W) of one file as they are written, and whose range they were scaled by.

    Pictures of 8 bits stay as they are. The others share one range where the file holds several,
    or its series has the range ``span``: it takes them to 8 bits, or in float32 to [-1, 1]. A
    single picture is taken to 8 bits by its own range; in float32 it keeps its values.
    """
    if all(image.dtype == np.uint8 for image in images):
        return images, None
    if span is None and len(images) > 1:
        span = common_range(images, form.scaling)
    if span is not None:
        scaled = scale if form.kind == "npy" else quantise
        return [scaled(image, *span) for image in images], "shared"
    if form.kind == "npy":
        return images, None
    return [quantise(image, *intensity_range(image, form.scaling)) for image in images], "own"


def convert(plan: Plan, root: Path, output: Path, form: Form) -> list[Outcome]:
    """Read, square, resize and write the pictures of a file and their masks below ``root``.

    Raises FileError where a file cannot be written; it names the place below ``output``, which
    ``root`` is to become.
    """
    item = plan.item
    try:
        slices = list(read_slices(Path(item.source), form.axis, form.body_share))
        if not slices:
            raise UserError(f"{item.source} holds no slice that is taken")
        images = [one.image[:1] for one in slices]
        masks = read_outlines(item, [one.name for one in slices], images, form.axis)
        shown, unit = to_unit(images, form, plan.span)
        with np.errstate(all="ignore"):
            fitted = [fit(image, form.size) for image in shown]
        if not all(np.isfinite(image).all() for image in fitted):
            raise UserError(f"{item.source} holds values that overflow when it is resized")
        files = [picture_name(item, one.name) for one in slices]
        for file in files:
            if (root / plan.split / plan.folder / f"{file}.{form.kind}").exists():
                raise UserError(f"{item.source} would be written over another image: rename it")
    except UserError as error:
        return [Outcome(problem=str(error))]
    coloured = is_coloured(Path(item.source))
    outcomes = []
    for file, (name, _), image, small, mask in zip(
        files, slices, images, fitted, masks, strict=True
    ):
        path = f"{plan.split}/{plan.folder}/{file}.{form.kind}"
        with naming(output / path):
            write_image(small, root / path)
        outlined = write_mask(mask, root, output, f"{plan.split}/{MASKS}/{file}.png", form.size)
        outcomes.append(Outcome(None, name, digest_of(image), coloured, outlined, unit))
    return outcomes


def picture_name(item: Item, name: str) -> str:
    """The name of the output of the picture ``name`` of a file."""
    return f"{item.name}_{name}" if name else item.name


def digest_of(image: np.ndarray) -> bytes:
    if image.min() == image.max():
        return b""
    digest = hashlib.blake2b(f"{image.shape} {image.dtype}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image))
    return digest.digest()


def write_mask(
    mask: np.ndarray | None, root: Path, output: Path, path: str, size: int
) -> str | None:
    """Write a mask that is not empty; "written", or "vanished" where its lesion is too small."""
    if mask is None or not mask.any():
        return None
    small = fit_mask(mask, size)
    if not small.any():
        return "vanished"
    with naming(output / path):
        write_image(np.uint8(255) * small[None], root / path)
    return "written"


def read_outlines(
    item: Item, names: list[str], images: list[np.ndarray], axis: str
) -> list[np.ndarray | None]:
    """The masks of the pictures of an item, bool of their shapes: all that is outlined in each.

    Raises UserError where they do not fit, or outline a lesion in a healthy image.
    """
    if not item.is_outlined:
        return [None] * len(images)
    if item.boxes:
        return [boxed(item, len(images))]
    layers = [read_outline(path, item, names, images, axis) for path in map(Path, item.masks)]
    return [np.logical_or.reduce(parts) for parts in zip(*layers, strict=True)]


def boxed(item: Item, number: int) -> np.ndarray:
    """The boxes of an item, which holds ``number`` pictures, as a mask of it upright."""
    source = Path(item.source)
    if number > 1:
        raise UserError(f"{source} holds {number} pictures, and a box is of one: pass --masks")
    shape, set_upright = as_stored(source)
    try:
        return set_upright(draw_boxes(list(item.boxes), *shape))
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


def read_outline(
    path: Path, item: Item, names: list[str], images: list[np.ndarray], axis: str
) -> list[np.ndarray]:
    """One file of masks, as :func:`read_outlines` gives all of them."""
    if is_volume(path):
        found = read_masks(path, Path(item.source), axis)
        masks = [found.get(name) for name in names] if names != [""] else list(found.values())
    else:
        masks = read_pages(path)
    if len(masks) != len(images) or any(mask is None for mask in masks):
        raise UserError(f"{path} has other slices than {item.source}: it needs one of each")
    for mask, image in zip(masks, images, strict=True):
        if mask.shape != image.shape[-2:]:
            shapes = mask.shape, image.shape[-2:]
            sizes = " and ".join(f"{height} x {width}" for height, width in shapes)
            raise UserError(f"{path} and {item.source} differ in size: {sizes} pixels")
        if item.label == HEALTHY and mask.any():
            raise UserError(f"{path} outlines a lesion in an image of the healthy class")
    return masks


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
        # Of odd tags, say: reading the image tells what is wrong.
        with warnings.catch_warnings(action="ignore"), Image.open(path) as picture:
            if picture.mode[:1] in "1LIF":
                return False
            picture.draft("RGB", (64, 64))  # JPEG: decode no more than is needed
            small = np.asarray(picture.convert("RGB").resize((64, 64)), dtype=int)
    except Exception:  # no picture: DICOM, .npy
        return False
    return bool(np.ptp(small, axis=2).max() > 8)
