"""Names of the files that are written for each image: none too long, no two the same."""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

LONGEST = 255  # bytes of a name, on common file systems
DIGEST = 8
# What a prediction writes for FILE, and the table in its folder.
ENDINGS = (".healthy.png", ".map.npy", ".score.npy", ".overlay.png", ".mask.png")
VOLUME_ENDINGS = (".healthy.nii.gz", ".map.nii.gz", ".score.nii.gz", ".mask.nii.gz")
PREDICTIONS = "predictions.csv"


def result_name(name: str, ending: str) -> str:
    """``name`` and the ending of a result; a name too long is cut, and a digest tells it apart."""
    if len(os.fsencode(name + ending)) <= LONGEST:
        return name + ending
    room = LONGEST - len(os.fsencode(ending)) - DIGEST - 1
    return f"{os.fsencode(name)[:room].decode(errors='ignore')}-{digest(name)}{ending}"


def map_names(names: Sequence[str]) -> list[str]:
    """Files of the difference maps of images, by the images' paths in their data set.

    Folders become part of the name, and the suffix gives way to ``.npy``. Where two would be the
    same (``k.png`` and ``k.jpg``) a digest tells them apart.
    """
    plain = [Path(name.replace("/", "_")).stem for name in names]
    shared = Counter(stem.lower() for stem in plain)  # some file systems know no case
    return [
        result_name(stem if shared[stem.lower()] == 1 else f"{stem}-{digest(name)}", ".npy")
        for name, stem in zip(names, plain, strict=True)
    ]


def digest(name: str) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:DIGEST]


def printable(name: object) -> str:
    """A path as text that can be written; a byte that is no UTF-8 becomes ``\\udcXX``."""
    return str(name).encode(errors="backslashreplace").decode()
