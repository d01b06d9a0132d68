"""Which files below a folder are images, and which are passed over and why."""

import os
from collections import Counter
from pathlib import Path, PurePath

from descargan.dicom import is_dicom, is_segmentation
from descargan.errors import FileError
from descargan.files import MARKERS, is_marker
from descargan.images import SUFFIXES, head_of, is_image

SEGMENTED = "DICOM segmentation"  # reason of a file that is passed over, and may be a mask


def scan(folder: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Paths of the images below ``folder``, sorted, and what is passed over with the reason.

    Hidden files and folders are passed over (names that begin with a dot, such as
    .ipynb_checkpoints and ._IM1.png, and __MACOSX), links to folders, folders in ``folder`` that
    this program wrote (data sets, results), and files of other types. Links to files are taken.

    Raises FileError where a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise FileError(f"{error.filename} cannot be read: {error.strerror}") from error

    images, passed_over = [], []
    for here, folders, files in os.walk(folder, onerror=refuse):
        marks = (Path(here, name) for name in MARKERS.keys() & files)
        if Path(here) != folder and any(map(is_marker, marks)):
            passed_over.append((Path(here), "folder written by this program"))
            folders.clear()
            continue
        for name in list(folders):
            path = Path(here, name)
            if is_hidden(name):
                passed_over.append((path, "hidden folder"))
                folders.remove(name)
            elif path.is_symlink():
                passed_over.append((path, "link to a folder"))
        for name in files:
            path = Path(here, name)
            if is_hidden(name):
                passed_over.append((path, "hidden file"))
            elif not path.is_file():
                passed_over.append((path, "link to nothing" if path.is_symlink() else "no file"))
            elif not is_image(path):
                passed_over.append((path, why_no_image(path)))
            else:
                images.append(path)
    return sorted(images), sorted(passed_over)


def is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def kinds(paths: list[Path]) -> str:
    """The number of files of each suffix, as in '12 .png, 3 .jpg'."""
    counts = Counter(kind_of(path) for path in paths)
    return ", ".join(f"{number} {kind}" for kind, number in counts.most_common())


def kind_of(path: Path) -> str:
    """The suffix of an image; of one without, what it is by its content."""
    suffix = suffix_of(path)
    if suffix in SUFFIXES:
        return suffix
    return "DICOM without .dcm" if is_dicom(head_of(path)) else "without suffix"


def why_no_image(path: Path) -> str:
    """The reason that a file, which :func:`descargan.images.is_image` denies, is passed over."""
    try:
        head = head_of(path)
        if is_dicom(head):
            return SEGMENTED if is_segmentation(head) else "DICOM without an image, as a report"
    except OSError:
        return "cannot be read"
    return f"no image type ({suffix_of(path) or 'no suffix'})"


def suffix_of(path: PurePath) -> str:
    """The suffix in small letters, of two parts where images have such; empty where there is none.

    What follows the last dot of a number, as DICOM is often named by, is no suffix.
    """
    known = [suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)]
    own = path.suffix.lower() if path.suffix.strip(".0123456789") else ""
    return max(known, key=len, default=own)


def without_suffix(path: PurePath) -> str:
    """A path without its :func:`suffix_of`: that of an image and of its mask are the same."""
    text = path.as_posix()
    return text[: len(text) - len(suffix_of(path))]
