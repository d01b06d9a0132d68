"""From image files anywhere to the folders that main.py reads: split by patient and resized.

OUTPUT/{Train,Validate,Test}/{healthy class, diseased class}/NAME.png, and where outlines are known
OUTPUT/SPLIT/masks/NAME.png for diseased images of that name: 0, and 255 on the lesion.
"""

import argparse
import hashlib
import io
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from descargan import DISEASED, HEALTHY
from descargan.cli import Parser, count, natural, weight
from descargan.errors import UserError
from descargan.files import built_whole, map_in_processes, naming, write_table
from descargan.images import fit, read_image
from descargan.masks import Box, draw_boxes, fit_mask, read_mask
from descargan.shortcuts import levels, match, tell_apart
from descargan.splits import SPLITS, group_by_patient, stratified_split

BROKEN_SHARE, BROKEN_NUMBER = 0.01, 10  # more than both is an error
FEW = 20  # images of a class in a split
LONGEST_NAME = 120  # bytes: room for the suffixes of results in the 255 of a file name
MASKS = "masks"
MARKER = "preparation.json"


class Item(NamedTuple):
    """An image to prepare. ``name`` is unique in its class and becomes the name of the file."""

    source: str
    name: str
    patient: str
    label: int
    split: str | None = None  # None: to be drawn
    outline: str | tuple[Box, ...] | None = None  # file of the mask, or boxes
    traits: tuple[str, ...] = ()  # cells of the nuisance columns


class Plan(NamedTuple):
    """Where an item goes."""

    item: Item
    split: str
    folder: str


class Outcome(NamedTuple):
    """What came of an item: the problem, if there is one, or what was seen on the way."""

    problem: str | None = None
    digest: bytes = b""  # of the pixels as they were read
    coloured: bool = False
    mask: str | None = None  # "written", "vanished" or None


@dataclass(frozen=True)
class Source:
    """Images to prepare, and what was found beside them."""

    items: list[Item]
    folders: tuple[str, str]  # names of the healthy and the diseased class
    left_out: list[tuple[str, str]] = field(default_factory=list)  # source and reason
    traits: tuple[str, ...] = ()  # names of the items' traits
    arguments: dict = field(default_factory=dict)  # for preparation.json


@dataclass(frozen=True)
class Options:
    """What all preparing scripts let the user choose."""

    output: Path
    image_size: int = 256
    format: str = "png"
    shares: tuple[float, ...] = (0.8, 0.1, 0.1)
    most: tuple[int | None, ...] = (None, None, None)  # images of each class in each split
    balanced: bool = False
    match: tuple[str, ...] = ()
    seed: int = 0
    workers: int | None = None
    overwrite: bool = False


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
    text = "processes (default: one per core that may be used)"
    add("--workers", type=count, metavar="N", help=text)
    add("--overwrite", action="store_true", help="replace an existing output")


def chosen_options(arguments: argparse.Namespace) -> Options:
    """The options of :func:`add_options`, and --match where the script has it."""
    if not all(arguments.shares):
        raise UserError("--shares must all be greater than 0: each split needs patients")
    names = ("output", "image_size", "format", "balanced", "seed", "workers", "overwrite")
    return Options(
        **{name: getattr(arguments, name) for name in names},
        shares=tuple(arguments.shares),
        most=tuple(getattr(arguments, split.lower()) for split in SPLITS),
        match=tuple(getattr(arguments, "match", None) or ()),
    )


def regular_expression(text: str) -> re.Pattern[str]:
    """A type for argparse."""
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None


def match_patient(pattern: re.Pattern[str], text: str) -> str:
    """The first group of a match, or the whole match. Raises UserError where it is nothing."""
    match = pattern.search(text)
    patient = match and (match.group(1) if pattern.groups else match.group())
    if not patient:
        part = "the first group of " if match and pattern.groups else ""
        raise UserError(f"{part}--patient {pattern.pattern!r} matches nothing in {text}")
    return patient


def refuse_overlap(output: Path, option: str, source: Path) -> None:
    """Raise UserError where one folder lies in the other: each would then be read as the other."""
    inner, outer = output.resolve(), source.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise UserError(f"--output {output} and {option} {source} lie in each other: keep apart")


def refuse_sources_in(output: Path, items: list[Item]) -> None:
    """Raise UserError where --overwrite would remove what is read."""
    folder = f"{output.resolve()}{os.sep}"
    for item in items:
        if os.path.abspath(item.source).startswith(folder):  # noqa: PTH100
            raise UserError(
                f"--output {output} holds {item.source}, which is to be read: keep apart"
            )


def unique_names(names: Iterable[str]) -> list[str]:
    """File names that differ even where case is not told apart: from the second on -2, -3, ...

    Bytes that are no UTF-8 become ``_``, a first dot goes, and long names lose their beginning.
    """
    taken: set[str] = set()
    numbers: Counter[str] = Counter()
    result = []
    for name in names:
        readable = name.encode(errors="replace").replace(b"?", b"_")[-LONGEST_NAME:]
        name = new = readable.decode(errors="ignore").lstrip(".") or "_"
        while new.casefold() in taken:
            numbers[name.casefold()] += 1
            new = f"{name}-{numbers[name.casefold()] + 1}"
        taken.add(new.casefold())
        result.append(new)
    return result


def divide(source: Source, options: Options) -> dict[str, list[Item]]:
    """The items of each split in random order; all of one patient are in the same.

    Splits that the source gives stay; one that it never names is taken from its training split.
    """
    items = source.items
    given = {item.split for item in items} - {None}
    split_of = given_splits(items) if given else {}
    missing = [split for split in SPLITS if split not in given]
    if missing:
        pool = [item for item in items if item.split in (None, "Train")]
        shares = dict(zip(SPLITS, options.shares, strict=True))
        shares = {s: shares[s] for s in SPLITS if s in missing or s == "Train"}
        groups = group_by_patient([i.patient for i in pool], [i.label for i in pool])
        split_of |= stratified_split(groups, shares, options.seed, source.folders)
    result: dict[str, list[Item]] = {split: [] for split in SPLITS}
    for index in np.random.default_rng((options.seed, 1)).permutation(len(items)):
        result[split_of[items[index].patient]].append(items[index])
    return result


def given_splits(items: list[Item]) -> dict[str, str]:
    """The split of each patient. Raises UserError where a patient is in two."""
    split_of: dict[str, str] = {}
    for item in items:
        if split_of.setdefault(item.patient, item.split) != item.split:
            raise UserError(
                f"patient {item.patient} is in {split_of[item.patient]} and in {item.split}: leave "
                "--split-column away, and the split is drawn by patient"
            )
    return split_of


def choose(
    by_split: dict[str, list[Item]], source: Source, options: Options
) -> tuple[list[Plan], list[Plan], list[tuple[str, str]]]:
    """The items to write, those over the numbers wanted, and those left out by --match.

    Raises UserError where a class of a split is empty.
    """
    plans, reserves, left_out = [], [], []
    for (split, items), most in zip(by_split.items(), options.most, strict=True):
        if options.match:
            kept = matched(items, source.traits, options)
            gone = set(range(len(items))) - set(kept)
            reason = f"to match {' and '.join(options.match)}"
            left_out += [(items[i].source, reason) for i in sorted(gone)]
            items = [items[i] for i in kept]
        groups = [[item for item in items if item.label == c] for c in (HEALTHY, DISEASED)]
        for group, folder in zip(groups, source.folders, strict=True):
            if not group:
                mend = "it needs more patients of that class, or other --shares"
                if options.match:
                    mend = f"--match {' '.join(options.match)} leaves none that fits"
                raise UserError(f"no image for {split}/{folder} is left: {mend}")
        limit = len(items) if most is None else most
        if options.balanced:
            limit = min(limit, *map(len, groups))
        for group, folder in zip(groups, source.folders, strict=True):
            plans += [Plan(item, split, folder) for item in group[:limit]]
            reserves += [Plan(item, split, folder) for item in group[limit:]]
    return plans, reserves, left_out


def matched(items: list[Item], names: tuple[str, ...], options: Options) -> list[int]:
    """Indices of the items that --match keeps."""
    columns = [levels([item.traits[names.index(name)] for item in items]) for name in options.match]
    together = list(zip(*columns, strict=True))
    return match(together, [i.label for i in items], np.random.default_rng(options.seed))


def to_eight_bits(image: np.ndarray) -> np.ndarray:
    """An image of any depth as uint8 of the same shape, stretched by its extremes."""
    if image.dtype == np.uint8:
        return image
    image = image.astype(np.float64)  # float32 has no room for the range of a no-data value
    low, high = image.min(), image.max()
    return np.rint((image - low) * (255 / (high - low if high > low else 1))).astype(np.uint8)


def convert(plan: Plan, root: Path, options: Options) -> Outcome:
    """Read, square, resize and write an image and its mask.

    Raises UserError where a file cannot be written.
    """
    item = plan.item
    try:
        image = read_image(Path(item.source))[:1]
        mask = read_outline(item, image.shape[-2:])
        with np.errstate(all="ignore"):
            fitted = fit(
                image if options.format == "npy" else to_eight_bits(image), options.image_size
            )
        if not np.isfinite(fitted).all():
            raise UserError(
                f"{item.source} holds values from {image.min():g} to {image.max():g}, which "
                "overflow when it is resized: replace the no-data value"
            )
    except UserError as error:
        return Outcome(problem=str(error))
    write_image(
        fitted[0], root, f"{plan.split}/{plan.folder}/{item.name}.{options.format}", options
    )
    outcome = None
    if mask is not None and item.label == DISEASED:
        small = fit_mask(mask, options.image_size)
        outcome = "written" if small.any() else "vanished"
        if small.any():
            name = f"{plan.split}/{MASKS}/{item.name}.png"
            write_image(np.uint8(255) * small, root, name, options)
    digest = hashlib.blake2b(f"{image.shape} {image.dtype}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image))
    return Outcome(None, digest.digest(), is_coloured(Path(item.source)), outcome)


def read_outline(item: Item, shape: tuple[int, int]) -> np.ndarray | None:
    """The mask of an item, bool of ``shape``. Raises UserError where it does not fit the image."""
    if item.outline is None:
        return None
    if not isinstance(item.outline, str):
        try:
            return draw_boxes(list(item.outline), *shape)
        except UserError as error:
            raise UserError(f"{item.source}: {error}") from None
    mask = read_mask(Path(item.outline))
    if mask.shape != tuple(shape):
        sizes = " and ".join(f"{height} x {width}" for height, width in (mask.shape, shape))
        raise UserError(f"{item.outline} and {item.source} differ in size: {sizes} pixels")
    if item.label == HEALTHY and mask.any():
        raise UserError(f"{item.outline} outlines a lesion in an image of the healthy class")
    return mask


def write_image(array: np.ndarray, root: Path, name: str, options: Options) -> None:
    """Write (H, W) below ``root``; an error names the place where the file was to be."""
    buffer = io.BytesIO()
    if name.endswith(".npy"):
        np.save(buffer, array.astype(np.float32))
    else:
        Image.fromarray(array).save(buffer, "png")
    with naming(options.output / name):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(buffer.getvalue())


def is_coloured(path: Path) -> bool:
    """Whether a picture has colours that reading it as grey drops; grey stored as RGB has none."""
    try:
        with Image.open(path) as picture:
            if picture.mode[:1] in "1LIF":
                return False
            picture.draft("RGB", (64, 64))  # JPEG: decode no more than is needed
            small = np.asarray(picture.convert("RGB").resize((64, 64)), dtype=int)
    except Exception:  # no picture: DICOM, .npy
        return False
    return bool(np.ptp(small, axis=2).max() > 8)


def prepare(source: Source, options: Options) -> None:
    """Write the data set, ``manifest.csv``, ``left_out.csv`` and ``preparation.json``.

    Raises UserError where nothing can be written, and where more than 1 % and more than 10 files
    are broken or are in both classes.
    """
    if not source.items:
        number = len(source.left_out)
        raise UserError(f"no image is left of {number}: see the options that leave some out")
    refuse_sources_in(options.output, source.items)
    plans, reserves, unmatched = choose(divide(source, options), source, options)
    with built_whole(options.output, MARKER, options.overwrite) as root:
        plans, outcomes, reserves = write_images(plans, reserves, root, options)
        problems = [outcome.problem for outcome in outcomes]
        twins = in_both_classes(plans, outcomes)
        for index, problem in twins.items():
            problems[index] = problem
            remove(plans[index], root, options)
        refuse_broken(problems)
        written = [i for i, problem in enumerate(problems) if problem is None]
        refuse_empty([plans[i] for i in written], source.folders)
        left_out = source.left_out + unmatched
        left_out += [(plan.item.source, "over the number wanted") for plan in reserves]
        reasons = Counter(reason for _, reason in left_out)
        left_out += [(p.item.source, text) for p, text in zip(plans, problems, strict=True) if text]
        reasons["in both classes"] = len(twins)
        reasons["broken"] = len(plans) - len(written) - len(twins)
        plans, outcomes = [plans[i] for i in written], [outcomes[i] for i in written]
        write_tables(root, plans, left_out, options)
        findings = {
            "images": dict(Counter(f"{plan.split}/{plan.folder}" for plan in plans)),
            "masks": sum(outcome.mask == "written" for outcome in outcomes),
            "left_out": {reason: number for reason, number in reasons.most_common() if number},
            "shortcuts": find_shortcuts(plans, source.traits, options.seed),
        }
        chosen = {name: getattr(options, name) for name in ("seed", "image_size", "match")}
        summary = json.dumps({"arguments": source.arguments, **chosen, **findings}, indent=2, default=str)
        with naming(options.output / MARKER):
            (root / MARKER).write_text(summary + "\n")
    report(findings)
    for text in doubts(plans, outcomes):
        print(f"warning: {text}", file=sys.stderr)
    print(f"written to {options.output}; see manifest.csv and left_out.csv there")


def write_images(
    plans: list[Plan], reserves: list[Plan], root: Path, options: Options
) -> tuple[list[Plan], list[Outcome], list[Plan]]:
    """Convert all images in parallel.

    A broken image is replaced by a reserve of its class and split, as long as there is one.
    Returns all that were tried, what came of them, and the reserves that are left.
    """
    waiting: dict[tuple[str, str], list[Plan]] = {}
    for plan in reversed(reserves):
        waiting.setdefault((plan.split, plan.folder), []).append(plan)
    work = partial(convert, root=root, options=options)
    tried, outcomes = [], []
    while plans:
        results = map_in_processes(work, plans, options.workers)
        fresh = list(tqdm(results, total=len(plans), unit="image"))
        tried, outcomes = tried + plans, outcomes + fresh
        places = [(p.split, p.folder) for p, o in zip(plans, fresh, strict=True) if o.problem]
        plans = [waiting[place].pop() for place in places if waiting.get(place)]
    return tried, outcomes, [plan for plans in waiting.values() for plan in reversed(plans)]


def in_both_classes(plans: list[Plan], outcomes: list[Outcome]) -> dict[int, str]:
    """The images whose very pixels are also in the other class, by index, each with a sentence."""
    twins: dict[bytes, list[int]] = {}
    for index, outcome in enumerate(outcomes):
        if outcome.problem is None:
            twins.setdefault(outcome.digest, []).append(index)
    result = {}
    for indices in twins.values():
        first_of = {plans[i].item.label: plans[i].item.source for i in reversed(indices)}
        if len(first_of) == 2:
            for i in indices:
                other = first_of[1 - plans[i].item.label]
                result[i] = (
                    f"{plans[i].item.source} is the same picture as {other}, of the other class"
                )
    return result


def remove(plan: Plan, root: Path, options: Options) -> None:
    name = plan.item.name
    (root / plan.split / plan.folder / f"{name}.{options.format}").unlink()
    if plan.item.label == DISEASED:
        (root / plan.split / MASKS / f"{name}.png").unlink(missing_ok=True)


def refuse_broken(problems: Sequence[str | None]) -> None:
    broken = [problem for problem in problems if problem is not None]
    if len(broken) > max(BROKEN_NUMBER, BROKEN_SHARE * len(problems)):
        raise UserError(
            f"{len(broken)} of {len(problems)} images cannot be read or are in both classes, the "
            f"first: {broken[0]}"
        )


def refuse_empty(written: list[Plan], folders: tuple[str, str]) -> None:
    filled = {(plan.split, plan.folder) for plan in written}
    for split in SPLITS:
        for folder in folders:
            if (split, folder) not in filled:
                raise UserError(
                    f"no image for {split}/{folder} is left, since those that were meant for it "
                    "are broken or in both classes: mend them, or pass another --seed"
                )


def write_tables(
    root: Path, written: list[Plan], left_out: list[tuple[str, str]], options: Options
) -> None:
    header = ("file", "source", "patient", "split", "class")
    rows = (
        (
            f"{p.split}/{p.folder}/{p.item.name}.{options.format}",
            *(p.item.source, p.item.patient, p.split, p.folder),
        )
        for p in written
    )
    write_table(root / "manifest.csv", header, rows)
    write_table(root / "left_out.csv", ("source", "reason"), left_out)


def find_shortcuts(written: list[Plan], names: tuple[str, ...], seed: int) -> dict[str, float]:
    """How well the nuisance columns alone tell the classes of what was written apart."""
    items = [plan.item for plan in written]
    columns = {name: levels([item.traits[i] for item in items]) for i, name in enumerate(names)}
    labels = np.array([item.label for item in items])
    return tell_apart(columns, labels, [item.patient for item in items], seed)


def report(findings: dict) -> None:
    """Print what was written and what was not."""
    for name, number in sorted(findings["images"].items()):
        print(f"{number:>8} {name}")
    for reason, number in findings["left_out"].items():
        print(f"{number:>8} left out: {reason}")
    if findings["masks"]:
        print(f"{findings['masks']:>8} masks of diseased images")
    if findings["shortcuts"]:
        print("Nuisance columns alone tell the classes apart with an AUROC of (0.5 or less: chance):")
        for name, area in findings["shortcuts"].items():
            print(f"{area:>8.2f} {name}")


def doubts(plans: list[Plan], outcomes: list[Outcome]) -> list[str]:
    """One sentence for each thing that is allowed and seldom meant."""
    texts = []
    counts = Counter(f"{plan.split}/{plan.folder}" for plan in plans)
    few = [f"{name} {number}" for name, number in sorted(counts.items()) if number < FEW]
    if few:
        texts.append(f"fewer than {FEW} images, so what is measured there varies: {', '.join(few)}")
    coloured = sum(outcome.coloured for outcome in outcomes)
    if coloured:
        texts.append(f"{coloured} images in colour become grey")
    vanished = sum(outcome.mask == "vanished" for outcome in outcomes)
    if vanished:
        texts.append(f"{vanished} masks are too small to be seen at --image-size and not written")
    splits: dict[bytes, set[str]] = {}
    for plan, outcome in zip(plans, outcomes, strict=True):
        splits.setdefault(outcome.digest, set()).add(plan.split)
    leaks = sum(len(found) > 1 for found in splits.values())
    if leaks:
        texts.append(
            f"{leaks} pictures are in two splits, under two names: are these two patients?"
        )
    return texts
