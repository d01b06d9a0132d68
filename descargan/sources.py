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

Span = tuple[float, float]


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
    span: Span | None = None


def read_pictures(path: Path, how: Preprocessing, span: Span | None = None) -> list[Picture]:
    """All pictures of a file, by one range: ``span`` where its series has one.

    Raises UserError, which names the file, where it cannot be read.
    """
    found = list(read_slices(path, how.axis, how.slices))
    if span is None and len(found) > 1:
        span = common_range((one.image[:1] for one in found), how.scaling)
    return [Picture(one.name, one.image[0], span) for one in found]


def spans_of_series(paths: Sequence[Path], scaling: str) -> dict[Path, Span]:
    """The range of each DICOM file whose series holds others of ``paths``."""
    return {
        path: span
        for files in find_series(paths)
        if (span := span_of(files, scaling)) is not None
        for path in files
    }


def find_series(paths: Sequence[Path]) -> list[list[Path]]:
    """The DICOM files of each series of which ``paths`` has several. Headers alone are read."""
    series: dict[tuple[str, str], list[Path]] = {}
    for path in paths:
        if (identity := identity_of(path)) is not None and identity.series:
            series.setdefault((identity.patient, identity.series), []).append(path)
    return [files for files in series.values() if len(files) > 1]


def span_of(series: Sequence[Path], scaling: str) -> Span | None:
    """One range for the files of a series, as :func:`descargan.scaling.common_range` says.

    A file that cannot be read is passed over: reading it again tells what is wrong.
    """
    return common_range((image for path in series for image in readable_images(path)), scaling)


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
