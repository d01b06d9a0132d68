"""Outlines of what is diseased, on their way to masks: files found by name, boxes drawn."""

import re
from collections import Counter
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np

from descargan.errors import UserError
from descargan.files import place_of
from descargan.layout import is_of_masks, masks_inside
from descargan.scanning import SEGMENTED, scan, without_suffix

# What the name of a mask has more than that of the image beside it.
MARK = r"[ _.-]+(mask|seg(mentation)?|label|annotation|outline)s?(?![a-z])"


class Box(NamedTuple):
    """A rectangle in pixels of the image as stored; x to the right, y down."""

    x: float
    y: float
    width: float
    height: float


def find_masks(images: list[str], folder: Path, suffix: str) -> list[str | None]:
    """The file below ``folder`` of the mask of each image, or None.

    An image is named by its path below its own folder or in its table: s1/7.png has the mask
    s1/7<suffix>.png, or, where only one image and one mask are called so, 7<suffix>.png in any
    folder; the type may be another. Raises UserError where there is none at all.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: see --masks")
    files: dict[str, list[str]] = {}
    found, passed_over = scan(folder)
    for path in found + [path for path, reason in passed_over if reason == SEGMENTED]:
        for name in {without_suffix(path.relative_to(folder)), without_suffix(Path(path.name))}:
            files.setdefault(name, []).append(str(path))
    paths = [PurePath(image) for image in images]
    stems = [without_suffix(PurePath(path.name)) for path in paths]
    shared = Counter(stems)
    result: list[str | None] = []
    for path, stem in zip(paths, stems, strict=True):
        # The whole name, too, as what looks like a suffix may be none.
        candidates = [without_suffix(path), path.as_posix()]
        candidates += [stem, path.name] if shared[stem] == 1 else []
        known = (files[c + suffix] for c in candidates if c + suffix in files)
        masks = next(known, [None])
        if len(masks) > 1:
            raise UserError(f"{masks[0]} and {masks[1]} are both masks of {path}: remove one")
        result.append(masks[0])
    if not any(result):
        raise UserError(
            f"no image has a mask in {folder}: {images[0]} would have one named "
            f"{stems[0]}{suffix}.png (see --mask-suffix)"
        )
    return result


def apart_from_masks(
    paths: list[Path], root: Path, folder: Path | None, suffix: str
) -> tuple[list[Path], list[Path]]:
    """The images among ``paths`` below ``root``, and the masks of them.

    Masks are what lies in ``folder`` or in one called masks, and what has the name of an image
    beside it and ``suffix`` or a MARK more. Raises UserError where nothing tells them apart.
    """
    if folder is not None and not suffix and place_of(root).is_relative_to(place_of(folder)):
        raise UserError(f"--masks {folder} holds images too: say --mask-suffix, or move them")
    inside = masks_inside(root, folder)
    own = "" if not suffix or suffix.isdigit() else f"|{re.escape(suffix)}$"
    mark = re.compile(MARK + own, re.IGNORECASE)
    names = {(path.parent, without_suffix(Path(path.name))) for path in paths}

    def is_mask(path: Path) -> bool:
        if is_of_masks(path.relative_to(root).parent, inside):
            return True
        name = without_suffix(Path(path.name))
        return any((path.parent, name[: m.start()]) in names for m in mark.finditer(name))

    masks = {path for path in paths if is_mask(path)}
    return [path for path in paths if path not in masks], sorted(masks)


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
