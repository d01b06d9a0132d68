"""Names of the files that are written for each image: none too long, no two the same."""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

LONGEST = 255  # bytes of a name, on common file systems
DIGEST = 8
# What a prediction writes for FILE, beside the table that marks its folder.
ENDINGS = (".healthy.png", ".map.npy", ".overlay.png", ".mask.png")
PREDICTIONS = "predictions.csv"
# What a test writes, in a folder that holds them all.
TEST_RESULTS = ("metrics.json", "metrics.csv", "difference_maps")


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


def without_results(paths: Sequence[Path], source: Path) -> list[Path]:
    """Images below a folder, without the pictures that earlier tests and predictions left there."""
    tables: dict[Path, bool] = {}
    tests: dict[Path, bool] = {}

    def is_result(path: Path) -> bool:
        above = [folder for folder in path.parents if folder.is_relative_to(source)]
        for folder in above:
            if folder not in tables:
                tables[folder] = (folder / PREDICTIONS).is_file()
                tests[folder] = all((folder / name).exists() for name in TEST_RESULTS)
        predicted = any(tables[folder] for folder in above) and path.name.endswith(ENDINGS)
        return predicted or any(tests[folder] for folder in above)

    return [path for path in paths if not is_result(path)]
