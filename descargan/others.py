"""Difference maps that another method made, as files of the images' names."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from descargan.errors import FileError
from descargan.images import fit, read_image

SUFFIXES = (".npy", ".png", ".tif", ".tiff", ".nii", ".nii.gz", ".map.npy")


def read_map(folder: Path, names: Sequence[str | Path], size: int) -> np.ndarray:
    """The map of an image that has one of the ``names`` below ``folder``, float32 (size, size).

    Values of 8 bits become 0 to 1. A map of another size is taken for one at the size of the image.
    Raises UserError where there is none, or it cannot be read.
    """
    candidates = [folder / f"{name}{suffix}" for name in names for suffix in SUFFIXES]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise FileError(
            f"{folder} holds no map of {names[0]}: it needs one of each image, .npy or a picture, "
            "by the path of the image under the data set or by its name alone"
        )
    stored = read_image(found)[:1]
    scale = 1 / 255 if stored.dtype == np.uint8 else 1
    values = stored.astype(np.float32) * scale
    return fit(values, size)[0] if values.shape[1:] != (size, size) else values[0]
