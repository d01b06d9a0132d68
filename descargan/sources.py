"""Files as pictures for networks: one, or the frames, pages or slices that share their unit."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from descargan.dicom import identity_of
from descargan.errors import UserError
from descargan.images import fit, in_unit, read_slices
from descargan.scaling import common_range, scale


class Preprocessing(NamedTuple):
    """How files become pictures, as a run has it: see the options of these names."""

    scaling: str = "minmax"
    axis: str = "axial"
    slices: float = 0.0


PLAIN = Preprocessing()  # the paper's


class Picture(NamedTuple):
    """An image (H, W), uint8 or float32, of a file.

    ``name``: of the frame, page or slice, as :func:`descargan.images.read_slices` says; empty where
    the file holds one. ``span``: the intensities that become -1 and 1; None where they are this
    image's own.
    """

    name: str
    image: np.ndarray
    span: tuple[float, float] | None = None


def read_pictures(
    path: Path, how: Preprocessing, span: tuple[float, float] | None = None
) -> list[Picture]:
    """All pictures of a file, by one range: ``span`` where its series has one.

    Raises UserError, which names the file, where it cannot be read.
    """
    found = list(read_slices(path, how.axis, how.slices))
    if span is None and len(found) > 1:
        span = common_range((one.image[:1] for one in found), how.scaling)
    return [Picture(one.name, one.image[0], span) for one in found]


def spans_of_series(paths: Sequence[Path], scaling: str) -> dict[Path, tuple[float, float] | None]:
    """The range of each DICOM file whose series holds others of ``paths``, read for it one by one.

    Files that cannot be read are passed over: reading them again tells what is wrong.
    """
    series: dict[str, list[Path]] = {}
    for path in paths:
        if (identity := identity_of(path)) is not None and identity.series:
            series.setdefault(identity.series, []).append(path)
    spans = {}
    for files in series.values():
        if len(files) > 1:
            images = (image for path in files for image in readable_images(path))
            spans |= dict.fromkeys(files, common_range(images, scaling))
    return spans


def readable_images(path: Path) -> list[np.ndarray]:
    try:
        return [one.image[:1] for one in read_slices(path)]
    except UserError:
        return []


def as_input(picture: Picture, size: int, scaling: str) -> Tensor:
    """A picture as networks take it: (1, size, size) in [-1, 1]."""
    return scaled(picture, fit(picture.image[None], size), scaling)


def as_shown(picture: Picture, scaling: str) -> np.ndarray:
    """A picture at its own size, (H, W) in [-1, 1]."""
    return scaled(picture, picture.image[None], scaling)[0].numpy()


def scaled(picture: Picture, resized: np.ndarray, scaling: str) -> Tensor:
    if picture.span is None:
        return in_unit(resized, scaling, picture.image[None])
    return torch.from_numpy(scale(resized, *picture.span))
