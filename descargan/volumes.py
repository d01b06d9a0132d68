"""NIfTI volumes: their slices as a radiologist looks at them, and maps written back into them."""

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from descargan.errors import UserError
from descargan.files import write_atomically
from descargan.geometry import resize_within, square_pixels
from descargan.kinds import AXES
from descargan.scaling import body, without_no_data

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Image

SHOWN = ("L", "P", "I")  # where X, Y, Z of a Volume grow to: left, posterior, inferior
SUFFIXES = (".nii", ".nii.gz")
SAME_PLACE = 0.5  # of a voxel: voxels less far apart are the same, saved with other rounding
TEXTS = ("descrip", "aux_file", "intent_name", "db_name")  # free ones of a header


class Volume(NamedTuple):
    """A volume turned so that its slices are images, and where it came from.

    A transposed slice is an image as radiologists look at it: the patient's right on the left,
    front or head at the top.
    """

    array: np.ndarray  # float32 (X, Y, Z), finite, growing to SHOWN
    spacing: tuple[float, float, float]  # of voxels along X, Y, Z in mm
    turned: np.ndarray  # (3, 2): nibabel's orientation that took the file's array to this one
    source: "Nifti1Image"


def is_volume(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def read_volume(path: Path) -> Volume:
    """A NIfTI file of one volume, or of one slice.

    NaN, infinity and values beyond +-NO_DATA are no data and become the smallest other value.
    Raises UserError for several volumes in a file and for values that are no real numbers.
    """
    source, turned = open_volume(path)
    import nibabel

    array = source.get_fdata(dtype=np.float32, caching="unchanged")
    array = nibabel.apply_orientation(array.reshape(shape_of(source)), turned)
    try:
        array = without_no_data(array)
    except ValueError:
        raise UserError(f"{path} is empty or holds no finite value: mend or remove it") from None
    sizes = nibabel.affines.voxel_sizes(source.affine)
    spacing = tuple(float(sizes[np.flatnonzero(turned[:, 0] == axis)[0]]) for axis in range(3))
    return Volume(array, spacing, turned, source)


def open_volume(path: Path) -> tuple["Nifti1Image", np.ndarray]:
    """A file as :func:`read_volume` reads it, its voxels not yet, and how its array is turned."""
    try:
        import nibabel
    except ImportError:
        raise UserError(f"{path} is NIfTI, read with nibabel: pip install nibabel") from None
    source = nibabel.load(path)
    number = int(np.prod(source.shape[3:]))
    if number > 1:
        raise UserError(f"{path} holds {number} volumes: save one per file")
    if source.get_data_dtype().kind not in "biuf":
        raise UserError(f"{path} holds no real numbers: save one value a voxel")
    start = nibabel.io_orientation(source.affine)
    if np.isnan(start).any():
        raise UserError(f"{path} has an affine that is singular: mend its header")
    turned = nibabel.orientations.ornt_transform(
        start, nibabel.orientations.axcodes2ornt(SHOWN)
    ).astype(int)
    return source, turned


def shape_of(source: "Nifti1Image") -> tuple[int, int, int]:
    return (*source.shape, 1, 1)[:3]


def laid_as(path: Path, volume: Volume) -> Volume:
    """The volume with its slices numbered as those of the file ``path``, of the same voxels.

    Raises UserError where the voxels of the two lie in different places.
    """
    source, turned = open_volume(path)
    (shape, ends), (other_shape, other_ends) = (
        corners(*pair) for pair in ((source, turned), (volume.source, volume.turned))
    )
    mask = volume.source.get_filename()
    if shape != other_shape:
        sizes = " and ".join(" x ".join(map(str, each)) for each in (other_shape, shape))
        raise UserError(f"{mask} and {path} differ in size: {sizes} voxels")
    apart = np.abs(ends - other_ends).max()
    if apart > SAME_PLACE * min(volume.spacing):
        raise UserError(
            f"{mask} and {path} lie in different places, {apart:.3g} mm apart, by their affines: "
            "save the mask with that of its image"
        )
    return volume._replace(turned=turned)


def corners(source: "Nifti1Image", turned: np.ndarray) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape of a turned array, and where its first voxel and the last of each axis lie, in mm."""
    from nibabel.orientations import inv_ornt_aff

    shape = shape_of(source)
    last = np.empty(3, int)
    last[turned[:, 0]] = np.array(shape) - 1
    affine = source.affine @ inv_ornt_aff(turned, shape)
    ends = np.concatenate([np.zeros((3, 1)), np.diag(last)], axis=1)
    return tuple(int(n) + 1 for n in last), affine[:3, :3] @ ends + affine[:3, 3:]


def slices(volume: Volume, axis: str, body_share: float = 0.0) -> dict[int, np.ndarray]:
    """Slices (H, W), float32, of square pixels, by their number in the file, counted from 0.

    ``axis``: one of AXES. Taken are those of which the body covers at least ``body_share`` of what
    it covers in the slice that holds most of it: 0 takes all.
    """
    if axis not in AXES:
        raise UserError(f"axis {axis!r} is not known: choose one of {', '.join(AXES)}")
    along = AXES.index(axis)
    stack = np.moveaxis(volume.array, along, 0).swapaxes(1, 2)
    spacing = spacing_of_slices(volume, axis)
    numbers = numbers_in_file(volume, along)
    areas = np.ones(len(numbers))
    if body_share > 0:
        areas = np.moveaxis(body(volume.array), along, 0).sum(axis=(1, 2))
    return {
        number: square_pixels(image, spacing)
        for number, image, area in zip(numbers, stack, areas, strict=True)
        if area >= body_share * areas.max()
    }


def slice_name(axis: str, number: int) -> str:
    return f"{axis}-{number:03d}"


def slice_number(name: str) -> int:
    """What :func:`slice_name` was given; 0 of the only slice of a volume, which has no name."""
    return int(name.rpartition("-")[2] or 0)


def on_grid(image: np.ndarray, volume: Volume, axis: str) -> np.ndarray:
    """What was made of a slice of square pixels, as float32 of the voxels of the file."""
    columns, rows = (n for i, n in enumerate(volume.array.shape) if i != AXES.index(axis))
    return resize_within(np.asarray(image, np.float32), rows, columns)


def write_map(path: Path, volume: Volume, axis: str, maps: Mapping[int, np.ndarray]) -> None:
    """Write maps of :func:`slices` as a NIfTI volume, float32, on the grid of the volume's file.

    ``maps``: (H, W) by the number of their slice, of the shape that :func:`slices` gave, or
    :func:`on_grid`. Slices that have none are NaN. ``path`` ends with .nii or .nii.gz. Of the
    header nothing is kept that could say whose volume it is: texts and extensions, in which
    converters keep that of DICOM.
    """
    import nibabel

    along = AXES.index(axis)
    stack = np.full(np.moveaxis(volume.array, along, 0).shape, np.nan, np.float32)
    for index, number in enumerate(numbers_in_file(volume, along)):
        if number in maps:
            stack[index] = on_grid(maps[number], volume, axis).T
    array = np.moveaxis(stack, 0, along)
    back = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt(SHOWN), nibabel.io_orientation(volume.source.affine)
    )
    array = nibabel.apply_orientation(array, back)
    source = volume.source
    header = source.header.copy()
    header.set_data_dtype(np.float32)
    header.extensions.clear()
    for text in TEXTS:
        if text in header:
            header[text] = b""
    header["cal_min"] = header["cal_max"] = 0  # what viewers show the source by
    image = type(source)(array.reshape(source.shape), source.affine, header)
    content = image.to_bytes()
    if path.suffix.lower() == ".gz":
        content = gzip.compress(content, 5, mtime=0)
    write_atomically(path, content)


def spacing_of_slices(volume: Volume, axis: str) -> tuple[float, float]:
    """Of rows and of columns, in mm."""
    columns, rows = (s for i, s in enumerate(volume.spacing) if i != AXES.index(axis))
    return rows, columns


def numbers_in_file(volume: Volume, along: int) -> list[int]:
    """The number in the file of each slice along an axis of the turned array."""
    length = volume.array.shape[along]
    flip = volume.turned[volume.turned[:, 0] == along, 1][0]
    return list(range(length))[::flip]
