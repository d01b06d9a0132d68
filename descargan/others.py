"""Maps that another method made, as files of the images' names: PNG, other pictures, .npy, NIfTI.

|value| says how much speaks for disease, in any unit: a difference to a healthy image is a map
as it is, and so is any score from 0 up.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

import numpy as np

from descargan.errors import FileError, warn
from descargan.geometry import padding, resize_within
from descargan.images import format_of, is_image, read_image
from descargan.names import map_names, printable
from descargan.scanning import without_suffix

PIXELS = 1000  # of each map, that thresholds are taken from; more of few maps
OF_ALL = 100_000  # pixels, at the least, as far as the maps have them
SHARES = np.geomspace(1e-5, 1, 300)  # of the pixels over a threshold


def find_maps(folder: Path, names: Sequence[str]) -> list[Path]:
    """The map of each image, by the images' paths in their data set.

    That of SPLIT/CLASS/NAME.png is SPLIT/CLASS/NAME, CLASS/NAME, NAME where no other image has it,
    or what a test or a prediction wrote for it. Files of no image are said. Raises UserError where
    an image has no map, or two.
    """
    if not folder.is_dir():
        raise FileError(f"{folder} is no folder: pass that of the maps to --maps")
    by_key: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if is_image(path):
            key = without_suffix(path.relative_to(folder))
            by_key.setdefault(key, []).append(path)
    found = [
        next((by_key.pop(key) for key in keys if key in by_key), []) for keys in keys_of(names)
    ]
    missing = [name for name, paths in zip(names, found, strict=True) if not paths]
    if missing:
        raise FileError(
            f"{folder} holds no map of {len(missing)} of the {len(names)} images, the first "
            f"{missing[0]}: it needs one of each, named as the image"
        )
    double = next((paths for paths in found if len(paths) > 1), None)
    if double:
        raise FileError(f"{double[0]} and {double[1]} are of one image: keep one of them")
    if by_key:
        number, first = sum(map(len, by_key.values())), next(iter(by_key.values()))[0]
        warn(f"{folder}: {number} files are of no image of the split, the first {printable(first)}")
    return [paths[0] for paths in found]


def keys_of(names: Sequence[str]) -> list[list[str]]:
    """What the map of each image may be called, without its suffix, the surest first."""
    files = [name.rpartition("/")[2] for name in names]
    stems = [without_suffix(PurePath(file)) for file in files]
    whole, shared = Counter(files), Counter(stems)
    result = []
    for name, file, stem, of_test in zip(names, files, stems, map_names(names), strict=True):
        paths = [name, "/".join(name.split("/")[-2:])]
        keys = [without_suffix(PurePath(path)) for path in paths]
        keys += [stem] if shared[stem] == 1 else []
        keys.append(without_suffix(PurePath(of_test)))
        paths += [file] if whole[file] == 1 else []
        result.append(keys + [f"{path}.map" for path in paths])  # of a prediction
    return result


def read_map(path: Path, image: Path, size: int) -> np.ndarray:
    """The map of an image as float32 (size, size); the 8 bits of a picture become 0 to 1.

    A map of the size of the image's file is padded by 0, which speaks for nothing, and resized as
    that is, within its range: below 0 beside an edge would speak for disease. Raises UserError for
    other sizes, for two maps in one file, and where it cannot be read or holds NaN.
    """
    stored = read_image(path)
    if len(stored) > 1:
        raise FileError(
            f"{path} holds {len(stored)} maps: save one, that of the disease, as (H, W)"
        )
    eight_bits = stored.dtype == np.uint8 and format_of(path) != "array"
    values = stored[0].astype(np.float32) * (1 / 255 if eight_bits else 1)
    if values.shape == (size, size):
        return values
    wanted = read_image(image).shape[1:]
    if values.shape != wanted:
        given, asked = (f"{h} x {w}" for h, w in (values.shape, wanted))
        raise FileError(
            f"{path} is {given} pixels, its image {asked} and --image-size {size}: "
            "a map has the size of either"
        )
    return resize_within(np.pad(values, padding(*wanted)), size, size)


def choose_thresholds(scores: Iterable[np.ndarray], number: int) -> np.ndarray:
    """Thresholds for ``number`` score maps of any unit: SHARES of all pixels lie over them."""
    rng, most = np.random.default_rng(0), max(PIXELS, OF_ALL // number)
    sample = [rng.choice(score.ravel(), min(score.size, most), replace=False) for score in scores]
    return np.unique(np.quantile(np.concatenate(sample), 1 - SHARES))
