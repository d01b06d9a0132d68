"""One image: read from a file of any kind, fitted to the networks' size and back, scaled."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from descargan import dicom, pictures
from descargan.errors import UserError
from descargan.geometry import padding, resize, resize_within, square_pixels
from descargan.pictures import UPRIGHT, is_tiff, read_pages, read_picture
from descargan.scaling import SMALLEST, intensity_range, scale, without_no_data
from descargan.volumes import AXES, is_volume, read_volume, slice_name, slices
from descargan.volumes import SUFFIXES as VOLUMES

PICTURES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".webp")
JPEG_2000 = (".jp2", ".j2k", ".jpx")
DICOM = (".dcm", ".dicom", ".ima")
UNREADABLE = "cannot be read as an image"
SUFFIXES = (*PICTURES, *JPEG_2000, ".npy", *DICOM, *VOLUMES)
STARTS = (  # of files that need no suffix: PNG, JPEG, TIFF, .npy
    *(b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"),
    *(b"II*\0", b"MM\0*", b"\x93NUMPY"),
)


class Slice(NamedTuple):
    """One picture of a file. ``name`` is empty where the file holds only one."""

    name: str
    image: np.ndarray  # (1, H, W), or (2, H, W) with ground truth, uint8 or float32, finite


def is_image(path: Path) -> bool:
    """Whether a file counts as an image in a folder, by its suffix, else by its first bytes.

    DICOM may have any suffix or none; pictures and arrays without a suffix are recognised, too.
    Hidden files (``._*`` and ``.DS_Store`` are) and DICOM without an image, as reports, plans and a
    DICOMDIR, are none. A broken file counts where its suffix says so: reading it tells what is
    wrong.
    """
    name = path.name.lower()
    if name.startswith(".") or not path.is_file():
        return False
    if name.endswith(SUFFIXES) and not name.endswith(DICOM):
        return True
    try:
        head = head_of(path)
    except OSError:
        head = b""
    if dicom.is_dicom(head):
        return dicom.has_image(head)
    return name.endswith(DICOM) or (not path.suffix and head.startswith(STARTS))


def read_image(path: Path) -> np.ndarray:
    """The only picture of a file as (1, H, W), or (2, H, W) with ground truth.

    uint8, or float32 where the file holds more than 8 bits; finite. It is what a viewer shows:
    upright, on black, windowed, bright on dark, colour as luminance. Values beyond +-NO_DATA become
    the smallest of the others. Raises UserError, which names the file, for what cannot be read,
    holds NaN or infinity, or holds several pictures, frames or slices: see :func:`read_slices`.
    """
    return next(read_checked(path, single=True)).image


def read_slices(path: Path, axis: str = "axial", body_share: float = 0.0) -> Iterator[Slice]:
    """Every picture of a file: frames, pages or slices, each as :func:`read_image` gives one.

    Names: frame-001 of DICOM, page-001 of TIFF, axial-000 of NIfTI (the slice's number in the
    file). ``axis`` and ``body_share`` choose slices: see :func:`descargan.volumes.slices`.
    """
    return read_checked(path, False, axis, body_share)


def read_checked(
    path: Path, single: bool, axis: str = "axial", body_share: float = 0.0
) -> Iterator[Slice]:
    """The pictures of a file, checked; any error is a UserError that names the file."""
    with explained(path):
        for name, array in named(path, single, axis, body_share):
            yield Slice(name, checked(array, path))


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn any error of what reads a file into a UserError that names it."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # decoders raise anything on broken files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} {UNREADABLE}: {reason}") from error


def as_stored(path: Path) -> tuple[tuple[int, int], Callable[[np.ndarray], np.ndarray]]:
    """Rows and columns of a picture as it is stored, and what sets a drawing on it as it is shown.

    That takes bool (rows, columns) and turns it, or makes its pixels square, as :func:`read_image`
    does with the picture. Raises UserError where the file cannot be read, or is a volume.
    """
    if is_volume(path):
        raise UserError(f"{path} is a volume, on which boxes cannot be drawn: pass --masks")
    with explained(path):
        kind = format_of(path)
        if kind == "array":
            return read_npy(path).shape[-2:], np.asarray
        if kind == "DICOM":
            shape, spacing = dicom.read_grid(path)
            return shape, lambda drawn: square_pixels(drawn.astype(np.float32), spacing) >= 0.5
        shape, orientation = pictures.read_grid(path)
        return shape, UPRIGHT.get(orientation, np.asarray)


def format_of(path: Path) -> str:
    """What a file is by its content, else by its suffix: array, volume, DICOM or picture."""
    head, suffix = head_of(path), path.suffix.lower()
    if suffix == ".npy" or head.startswith(b"\x93NUMPY"):
        return "array"
    if is_volume(path):
        return "volume"
    is_dicom = dicom.is_dicom(head) or (suffix in DICOM and not head.startswith(STARTS))
    return "DICOM" if is_dicom else "picture"


def named(
    path: Path, single: bool, axis: str, body_share: float
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and array of every picture of a file."""
    kind = format_of(path)
    if kind == "array":
        yield "", read_npy(path)
    elif kind == "volume":
        yield from slices_of_volume(path, single, axis, body_share)
    elif kind == "DICOM":
        yield from numbered("frame", dicom.read_frames(path, single))
    elif is_tiff(path) and not single:
        yield from numbered("page", read_pages(path))
    else:
        yield "", read_picture(path)


def numbered(kind: str, images: Iterator[np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Images named kind-001 and so on; a single one has no name."""
    first = next(images, None)
    second = next(images, None)
    if second is None:
        yield "", first
        return
    yield f"{kind}-001", first
    yield f"{kind}-002", second
    for number, image in enumerate(images, 3):
        yield f"{kind}-{number:03d}", image


def slices_of_volume(
    path: Path, single: bool, axis: str, body_share: float
) -> Iterator[tuple[str, np.ndarray]]:
    volume = read_volume(path)
    chosen = slices(volume, axis, body_share)
    number_of_slices = volume.array.shape[AXES.index(axis)]
    if single and number_of_slices > 1:
        raise UserError(
            f"{path} is a volume of {number_of_slices} {axis} slices: save one per file"
        )
    for number, image in sorted(chosen.items()):
        yield slice_name(axis, number) if number_of_slices > 1 else "", image


def head_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(dicom.HEAD)


def checked(array: np.ndarray, path: Path) -> np.ndarray:
    """(H, W) or (C, H, W) of any real type as (C, H, W), uint8 or float32 and finite."""
    array = array[None] if array.ndim == 2 else array
    if array.dtype.kind not in "biuf":
        raise UserError(f"{path} holds no real numbers: save one value a pixel")
    if array.size == 0 or not np.isfinite(array).all():
        problem = "is empty" if array.size == 0 else "holds NaN or infinity"
        raise UserError(f"{path} {problem}: mend or remove it")
    if array.dtype != np.uint8:
        try:
            array = np.stack([without_no_data(one) for one in array]).astype(np.float32)
        except ValueError:
            raise UserError(f"{path} holds no data: remove it") from None
    return np.ascontiguousarray(array)


def read_npy(path: Path) -> np.ndarray:
    array = np.load(path, allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise UserError(f"{path} holds no array of real numbers: write one of float32")
    shape = array.shape
    if array.ndim == 2:
        array = array[None]
    elif array.ndim == 3 and shape[0] not in (1, 2) and shape[2] == 1:
        array = array.transpose(2, 0, 1)
    if array.ndim != 3 or array.shape[0] not in (1, 2):
        raise UserError(
            f"{path} has shape {shape}: (H, W), (1, H, W), (H, W, 1) or (2, H, W) are read"
        )
    return array


def in_unit(image: np.ndarray, scaling: str, range_of: np.ndarray | None = None) -> Tensor:
    """An image (1, H, W) as float32 in [-1, 1]; by percentiles of ``range_of``, of which it is a
    resized copy, where given."""
    if scaling == "minmax":
        return scale_to_range(torch.from_numpy(image.astype(np.float32))[None])[0]
    low, high = intensity_range(image if range_of is None else range_of, scaling)
    return torch.from_numpy(scale(image, low, high))


def range_scaling(images: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and offset (B, 1, 1, 1) that take each image of (B, C, H, W) to [-1, 1].

    A constant image goes to 0, as does one whose contrast is below SMALLEST.
    """
    low, high = (f(images, dim=(1, 2, 3), keepdim=True) for f in (torch.amin, torch.amax))
    constant = high - low < SMALLEST
    slope = torch.where(constant, 0.0, 2 / (high - low).where(~constant, 1.0))
    return slope, torch.where(constant, 0.0, -1 - low * slope)


def scale_to_range(images: Tensor) -> Tensor:
    """Each image of (B, C, H, W) by its own minimum and maximum to [-1, 1]: ``n`` of the paper."""
    slope, offset = range_scaling(images)
    return images * slope + offset


def fit(array: np.ndarray, size: int) -> np.ndarray:
    """(1, H, W) padded to a square with its minimum, then resized to (1, size, size), antialiased.

    Padding keeps what lies at the border (an effusion does); nothing is cut or distorted.
    """
    height, width = array.shape[-2:]
    rows, columns = padding(height, width)
    if rows != (0, 0) or columns != (0, 0):
        array = np.pad(array, ((0, 0), rows, columns), constant_values=array.min())
    return array if array.shape[-1] == size else resize(array[0], size, size)[None]


def unfit(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """What :func:`fit` did, undone: (S, S) to float32 (height, width), in its range."""
    side = max(height, width)
    resized = resize_within(np.asarray(image, dtype=np.float32), side, side)
    (top, _), (left, _) = padding(height, width)
    return resized[top : top + height, left : left + width]
