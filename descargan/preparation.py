"""From image files anywhere to the folders that main.py reads: split by patient and resized."""

import json
from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from descargan import DISEASED, HEALTHY
from descargan.cli import Parser, count, natural, weight
from descargan.errors import UserError
from descargan.files import built_whole, map_in_processes, write_table
from descargan.images import fit, read_image

SPLITS = ("Train", "Validate", "Test")
BROKEN_SHARE, BROKEN_NUMBER = 0.01, 10  # more than both is an error
MARKER = "preparation.json"


class Item(NamedTuple):
    """An image to prepare. ``name`` is unique and becomes the name of the file."""

    source: Path
    name: str
    patient: str
    label: int


class Plan(NamedTuple):
    """Where an item goes."""

    item: Item
    split: str
    folder: str


def add_options(parser: Parser) -> None:
    """The options that all preparing scripts share."""
    add = parser.add_argument
    add("--output", type=Path, required=True, metavar="DIR", help="folder to make")
    add("--image-size", type=count, default=256, metavar="N", help="default: 256")
    text = "8-bit PNG, or float32 .npy for sources of more than 8 bits (default: png)"
    add("--format", choices=("png", "npy"), default="png", help=text)
    text = "shares of the patients in train, validate and test (default: 0.8 0.1 0.1)"
    add("--shares", type=weight, nargs=3, default=(0.8, 0.1, 0.1), metavar="X", help=text)
    text = "most images of each class in {} (default: all)"
    for split in SPLITS:
        add(f"--{split.lower()}", type=count, metavar="N", help=text.format(split.lower()))
    text = "as many healthy as diseased images in each split: leave out what is over"
    add("--balanced", action="store_true", help=text)
    add("--seed", type=natural, default=0, metavar="N", help="of the split (default: 0)")
    add("--workers", type=count, metavar="N", help="processes (default: one per core)")
    add("--overwrite", action="store_true", help="replace an existing output")


def split_by_patient(
    items: list[Item], shares: Iterable[float], seed: int
) -> dict[str, list[Item]]:
    """Items of each split; all of one patient are in the same, chosen by the seed alone."""
    shares = np.array(list(shares), dtype=float)
    if not shares.all():
        raise UserError("--shares must all be greater than 0: each split needs patients")
    rng = np.random.default_rng(seed)
    patients = sorted({item.patient for item in items})
    rng.shuffle(patients)
    bounds = np.rint(np.cumsum(shares / shares.sum())[:-1] * len(patients)).astype(int)
    groups = np.split(np.array(patients, dtype=object), bounds)
    split_of = {p: split for split, group in zip(SPLITS, groups, strict=True) for p in group}
    result: dict[str, list[Item]] = {split: [] for split in SPLITS}
    for index in rng.permutation(len(items)):
        result[split_of[items[index].patient]].append(items[index])
    return result


def choose(
    by_split: dict[str, list[Item]],
    most: dict[str, int | None],
    balanced: bool,
    folders: tuple[str, str],
) -> tuple[list[Plan], list[tuple[str, str]]]:
    """The items to write, and those left out by ``most`` and ``balanced`` with the reason.

    Raises UserError where a class of a split is empty.
    """
    plans, left_out = [], []
    for split, items in by_split.items():
        groups = [[item for item in items if item.label == c] for c in (HEALTHY, DISEASED)]
        for group, folder in zip(groups, folders, strict=True):
            if not group:
                raise UserError(
                    f"no image for {split}/{folder} is left: it needs more patients of that class, "
                    "or other --shares"
                )
        limit = most[split] if most[split] is not None else len(items)
        if balanced:
            limit = min(limit, *map(len, groups))
        for group, folder in zip(groups, folders, strict=True):
            plans += [Plan(item, split, folder) for item in group[:limit]]
            left_out += [(str(item.source), "over the number wanted") for item in group[limit:]]
    return plans, left_out


def convert(plan: Plan, root: Path, size: int, kind: str) -> str | None:
    """Read, square, resize and write an image. Returns what is wrong with it, if anything is."""
    try:
        image = read_image(plan.item.source)[:1]
    except UserError as error:
        return str(error)
    target = root / plan.split / plan.folder / f"{plan.item.name}.{kind}"
    if kind == "npy":
        np.save(target, fit(image, size).astype(np.float32))
        return None
    if image.dtype != np.uint8:
        low, high = image.min(), image.max()
        image = np.rint((image - low) * (255 / (high - low if high > low else 1))).astype(np.uint8)
    Image.fromarray(fit(image, size)[0]).save(target)
    return None


def prepare(
    items: list[Item],
    left_out: list[tuple[str, str]],
    folders: tuple[str, str],
    options: object,
    about: dict,
    workers: int,
) -> None:
    """Write the data set, ``manifest.csv``, ``left_out.csv`` and ``preparation.json``.

    ``folders``: names of the healthy and the diseased class. Raises UserError where nothing can be
    written, or where more than 1 % and more than 10 files are broken.
    """
    if not items:
        raise UserError(f"no image is left of {len(left_out)}: see the options that leave some out")
    by_split = split_by_patient(items, options.shares, options.seed)
    most = {split: getattr(options, split.lower()) for split in SPLITS}
    plans, surplus = choose(by_split, most, options.balanced, folders)
    left_out = left_out + surplus
    with built_whole(options.output, MARKER, options.overwrite) as root:
        for split in SPLITS:
            for folder in folders:
                (root / split / folder).mkdir(parents=True)
        work = partial(convert, root=root, size=options.image_size, kind=options.format)
        outcomes = tqdm(map_in_processes(work, plans, workers), total=len(plans), unit="image")
        written, broken = [], []
        for plan, problem in zip(plans, outcomes, strict=True):
            if problem is None:
                written.append(plan)
            else:
                broken.append((str(plan.item.source), problem))
        if len(broken) > max(BROKEN_NUMBER, BROKEN_SHARE * len(plans)):
            raise UserError(
                f"{len(broken)} of {len(plans)} images cannot be read, the first: {broken[0][1]}"
            )
        left_out += broken
        header = ("file", "source", "patient", "split", "class")
        rows = [
            (
                f"{p.split}/{p.folder}/{p.item.name}.{options.format}",
                *(p.item.source, p.item.patient, p.split, p.folder),
            )
            for p in written
        ]
        write_table(root / "manifest.csv", header, rows)
        write_table(root / "left_out.csv", ("source", "reason"), left_out)
        counts = Counter(f"{plan.split}/{plan.folder}" for plan in written)
        reasons = Counter("broken" if row in broken else row[1] for row in left_out)
        summary = {**about, "images": dict(counts), "left_out": dict(reasons)}
        (root / MARKER).write_text(json.dumps(summary, indent=2) + "\n")
    for name, number in sorted(counts.items()):
        print(f"{number:>8} {name}")
    for reason, number in reasons.most_common():
        print(f"{number:>8} left out: {reason}")
    print(f"written to {options.output}; see manifest.csv and left_out.csv there")
