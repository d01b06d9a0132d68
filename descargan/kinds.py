"""What is particular to a kind of data set. A new kind is one entry of :data:`KINDS`."""

from typing import NamedTuple


class Kind(NamedTuple):
    """File types, and the defaults that depend on the kind."""

    suffixes: str  # of the files, in words
    folder: str  # of the data set
    flip: str  # random flips in training
    prepared: bool  # all of the networks' size, and in one unit, which stays where it is [-1, 1]


# What the slices of a volume are perpendicular to, X, Y, Z; and how intensities come to [-1, 1].
AXES = ("sagittal", "coronal", "axial")
SCALINGS = ("minmax", "percentile")

PICTURES = ".png, .jpg, .bmp, .tif, .webp, .jp2, .npy, DICOM, NIfTI"

KINDS = {
    "Synthetic": Kind(".npy", "warp-set", flip="both", prepared=True),
    "Chexpert": Kind(PICTURES, "chexpert", flip="horizontal", prepared=False),
    "Folder": Kind(PICTURES, "data", flip="horizontal", prepared=False),
}
