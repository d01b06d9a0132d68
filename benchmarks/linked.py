"""Data sets of links to the images of another: other classes, fewer patients, other splits.

The images are those of the other data set, so nothing about them changes but what is said of them.
"""

import csv
import re
import shutil
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from descargan import CLASS_NAMES
from descargan.files import write_table
from descargan.kinds import KINDS
from descargan.layout import MANIFEST, MASKS, PREPARATION, find_images, find_masks, read_patients
from descargan.preparation import regular_expression

SPLITS = ("train", "validate", "test")
DESCRIPTIONS = (PREPARATION, "dataset.json")


class Entry(NamedTuple):
    """An image of a data set."""

    image: Path
    label: int
    mask: Path | None
    patient: str

    @property
    def name(self) -> str:
        """What it is called in a data set of links, whatever its split and class there."""
        return "-".join(self.image.parts[-3:]).replace(" ", "_")


def add_data(parser: ArgumentParser) -> None:
    """The options that name a data set and its patients."""
    add = parser.add_argument
    add("data", type=Path, help="folder of the data set")
    text = "in the names of the images, its first group the patient (default: by manifest.csv)"
    add("--patient", type=regular_expression, metavar="REGEX", help=text)


def kind_of(root: Path) -> str:
    """Synthetic, as create_synthetic_dataset.py makes it, or Folder."""
    return "Synthetic" if (root / "dataset.json").is_file() else "Folder"


def read_entries(root: Path, split: str, patient: re.Pattern | None = None) -> list[Entry]:
    """The images of a split, sorted within healthy then diseased, with their masks.

    ``patient``: a regular expression whose first group in a file's name is the patient; without it
    ``manifest.csv`` says who it is, else each image is a patient of its own.
    """
    paths, labels = find_images(root, split, KINDS[kind_of(root)])
    masks = find_masks(root, split, paths)
    patients = read_patients(root, paths) or [path.as_posix() for path in paths]
    if patient is not None:
        patients = [group_in(patient, path.name) for path in paths]
    rows = zip(paths, labels, patients, strict=True)
    return [Entry(*row[:2], masks.get(i), row[2]) for i, row in enumerate(rows)]


def group_in(pattern: re.Pattern, name: str) -> str:
    """The patient in a file's name; the name itself where there is none."""
    found = pattern.search(name)
    return found[1] if found else name


def write_linked(target: Path, source: Path, splits: dict[str, Sequence[Entry]]) -> None:
    """A data set of links to images and masks, with a manifest of its patients.

    An old one in the place of it goes. How the source was prepared holds for it, too.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in DESCRIPTIONS:
        if (source / name).is_file():
            shutil.copy(source / name, target / name)
    rows = []
    for split, entries in splits.items():
        for entry in entries:
            file = Path(split, CLASS_NAMES[entry.label], entry.name)
            link(entry.image, target / file)
            if entry.mask is not None:
                mask = Path(entry.name).with_suffix(entry.mask.suffix)
                link(entry.mask, target / split / MASKS / mask)
            rows.append((file.as_posix(), entry.patient))
    write_table(target / MANIFEST, ("file", "patient"), rows)


def link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source.resolve())


def options_of(root: Path) -> list[object]:
    """The options by which main.py reads a data set."""
    return ["--dataset", kind_of(root), "--dataset-path", root]


def read_rows(results: Path) -> list[dict[str, str]]:
    """What a test says of each image: its ``metrics.csv``."""
    with (results / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
