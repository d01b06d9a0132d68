"""Outlines of what is diseased, on their way to masks: files found by name, boxes drawn."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np

from descargan.errors import UserError, warn
from descargan.files import place_of
from descargan.layout import is_of_masks, masks_inside
from descargan.scanning import SEGMENTED, scan, without_suffix

# What the name of a mask has more than that of the image beside it.
MARK = r"[ _.-]+(mask|seg(mentation)?|label|annotation|outline)s?(?![a-z])"
# What the second mask of an image, of its second lesion, has more than the first.
NUMBER = r"[ _.-]\d{1,3}"


class Box(NamedTuple):
    """A rectangle in pixels of the image as stored; x to the right, y down."""

    x: float
    y: float
    width: float
    height: float


def find_masks(images: list[str], folder: Path, suffix: str) -> list[tuple[str, ...]]:
    """The files below ``folder`` of the masks of each image; empty where it has none.

    An image is named by its path below its own folder or in its table: s1/7.png has the mask
    s1/7<suffix>.png, or, where only one image and one mask are called so, 7<suffix>.png in any
    folder; the type may be another. A suffix with a letter may have numbers after it, one for each
    lesion: 7_mask.png, 7_mask_1.png. Raises UserError where no image has a mask.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: see --masks")
    files: dict[str, list[str]] = {}
    found, passed_over = scan(folder)
    for path in found + [path for path, reason in passed_over if reason == SEGMENTED]:
        for name in {without_suffix(path.relative_to(folder)), without_suffix(Path(path.name))}:
            files.setdefault(name, []).append(str(path))
    further = numbered(files, suffix)
    paths = [PurePath(image) for image in images]
    stems = [without_suffix(PurePath(path.name)) for path in paths]
    shared = Counter(stems)
    result: list[tuple[str, ...]] = []
    for path, stem in zip(paths, stems, strict=True):
        # The whole name, too, as what looks like a suffix may be none.
        candidates = [without_suffix(path), path.as_posix()]
        candidates += [stem, path.name] if shared[stem] == 1 else []
        names = [c + suffix for c in candidates]
        name = next((name for name in names if name in files or name in further), "")
        masks = [files[one] for one in (name, *further.get(name, ())) if one in files]
        for one in masks:
            if len(one) > 1:
                raise UserError(f"{one[0]} and {one[1]} are both masks of {path}: remove one")
        result.append(tuple(one for (one,) in masks))
    if not any(result):
        raise UserError(
            f"no image has a mask in {folder}: {images[0]} would have one named "
            f"{stems[0]}{suffix}.png (see --mask-suffix)"
        )
    if takes_numbers(suffix):
        warn_of_numbers(stems, result, suffix)
    return result


def warn_of_numbers(stems: list[str], masks: list[tuple[str, ...]], suffix: str) -> None:
    """Say where a further mask of one image may be that of another: 7_mask_1 of 7_1, not of 7.

    ``masks``: of the images of the names ``stems``, of which the other one has none.
    """
    taken = {without_suffix(PurePath(PurePath(one).name)): one for each in masks for one in each}
    without = [stem for stem, found in zip(stems, masks, strict=True) if not found]
    moved = {re.sub(f"{NUMBER}$", lambda m: suffix + m[0], stem): stem for stem in without}
    if doubtful := sorted(taken.keys() & moved.keys()):
        name = doubtful[0]
        warn(
            f"{len(doubtful)} masks count as those of further lesions, though an image without a "
            f"mask has their number, the first {taken[name]}: if it is of {moved[name]}, name it "
            f"{moved[name]}{suffix}"
        )


def numbered(names: Iterable[str], suffix: str) -> dict[str, list[str]]:
    """The ``names`` that are one that ends in ``suffix`` and a NUMBER, by that one, in order."""
    result: dict[str, list[str]] = {}
    if takes_numbers(suffix):
        pattern = re.compile(f"(.*{re.escape(suffix)}){NUMBER}", re.DOTALL)
        for name in sorted(names):
            if match := pattern.fullmatch(name):
                result.setdefault(match[1], []).append(name)
    return result


def takes_numbers(suffix: str) -> bool:
    """Whether a NUMBER after ``suffix`` is that of a mask: without a letter it names an image."""
    return bool(re.search(r"[^\W\d_]", suffix))


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
    number = f"({NUMBER})?" if takes_numbers(suffix) else ""
    own = "" if not suffix or suffix.isdigit() else f"|{re.escape(suffix)}{number}$"
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
