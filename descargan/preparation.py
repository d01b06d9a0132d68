"""From image files anywhere to the folders that main.py reads: split by patient and resized.

OUTPUT/{Train,Validate,Test}/{healthy class, diseased class}/NAME.png, and where outlines are known
OUTPUT/SPLIT/masks/NAME.png for diseased images of that name: 0, and 255 on the lesion.
"""

import argparse
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from descargan import DISEASED, HEALTHY
from descargan.cli import Parser, count, fraction, natural, weight
from descargan.commands import command
from descargan.conversion import MASKS, Form, Item, Outcome, Plan, convert, picture_name
from descargan.errors import UserError, warn
from descargan.files import built_whole, map_in_processes, naming, place_of, write_table
from descargan.images import UNREADABLE
from descargan.layout import PREPARATION
from descargan.models import SIZE_MULTIPLE
from descargan.progress import progress_bar
from descargan.reading import FEWEST
from descargan.scaling import SCALINGS
from descargan.shortcuts import levels, match, tell_apart
from descargan.sources import Span, find_series, span_of
from descargan.splits import SPLITS, group_by_patient, stratified_split
from descargan.volumes import AXES

BROKEN_SHARE, BROKEN_NUMBER = 0.01, 10  # more than both is an error
UNKNOWN_SHARE = 0.05  # of files whose patient is not told; more is an error
NO_PATIENT = "no patient told"  # reasons of what is left out
UNWANTED = "of a split that is not wanted"
LONGEST_REASON = 100  # letters
FEW = 20  # images of a class in a split; outlined ones in the test split
LONGEST_NAME = 120  # bytes: room for the suffixes of results in the 255 of a file name
RECORDED = ("seed", "image_size", "match", "axis", "slices")


@dataclass(frozen=True)
class Source:
    """Images to prepare, and what was found beside them."""

    items: list[Item]
    folders: tuple[str, str]  # names of the healthy and the diseased class
    left_out: list[tuple[str, str]] = field(default_factory=list)  # source and reason
    traits: tuple[str, ...] = ()  # names of the items' traits
    arguments: dict = field(default_factory=dict)  # for preparation.json
    kind: str = "Folder"  # the --dataset of main.py that they are for


@dataclass(frozen=True)
class Options:
    """What all preparing scripts let the user choose."""

    output: Path
    image_size: int = 256
    format: str = "png"
    scaling: str = "percentile"
    axis: str = "axial"
    slices: float = 0.0  # share of the body in the largest slice
    shares: tuple[float, ...] = (0.8, 0.1, 0.1)
    most: tuple[int | None, ...] = (None, None, None)  # images of each class in each split
    balanced: bool = False
    match: tuple[str, ...] = ()
    seed: int = 0
    workers: int | None = None
    overwrite: bool = False

    @property
    def wanted(self) -> dict[str, float]:
        """The splits that get images, with their shares."""
        return {split: x for split, x in zip(SPLITS, self.shares, strict=True) if x}


def add_options(parser: Parser) -> None:
    """The options that all preparing scripts share."""
    add = parser.add_argument
    add("--output", type=Path, required=True, metavar="DIR", help="folder to make")
    add("--image-size", type=count, default=256, metavar="N", help="default: 256")
    text = "8-bit PNG, or float32 .npy for sources of more than 8 bits (default: png)"
    add("--format", choices=("png", "npy"), default="png", help=text)
    text = (
        "to 8 bits: by percentiles of the body, which a marker or metal does not move, or by the "
        "darkest and the brightest pixel (default: percentile)"
    )
    add("--scaling", choices=SCALINGS, default="percentile", help=text)
    add("--axis", choices=AXES, default="axial", help="slices of volumes (default: axial)")
    text = "take slices that hold this share of the body in the largest one (default: 0, all)"
    add("--slices", type=fraction, default=0.0, metavar="SHARE", help=text)
    text = (
        "shares of the patients in train, validate and test, 0 for a split that is not wanted "
        "(default: 0.8 0.1 0.1)"
    )
    add("--shares", type=weight, nargs=3, default=(0.8, 0.1, 0.1), metavar="X", help=text)
    text = "most files of each class in {} (default: all)"
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
    names = ("output", "image_size", "format", "scaling", "axis", "slices", "balanced")
    names += ("seed", "workers", "overwrite")
    options = Options(
        **{name: getattr(arguments, name) for name in names},
        shares=tuple(arguments.shares),
        most=tuple(getattr(arguments, split.lower()) for split in SPLITS),
        match=tuple(getattr(arguments, "match", None) or ()),
    )
    if not options.wanted:
        raise UserError("--shares are all 0: some split needs patients")
    for split, number in zip(SPLITS, options.most, strict=True):
        if number is not None and split not in options.wanted:
            raise UserError(
                f"--shares leave {split.lower()} out, and --{split.lower()} says how many images "
                "it gets: leave one of the two away"
            )
    return options


def regular_expression(text: str) -> re.Pattern[str]:
    """A type for argparse."""
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None


def match_patient(pattern: re.Pattern[str], text: str) -> str:
    """The first group of a match, or the whole match; empty where that is nothing."""
    match = pattern.search(text)
    return ((match.group(1) if pattern.groups else match.group()) if match else "") or ""


def refuse_unknown_patients(unknown: list[str], number: int, option: str) -> None:
    """Raise UserError where more than a few of ``number`` files tell no patient by an option.

    A few are left out: as patients of their own they might be in another split than the same
    person's other images.
    """
    if len(unknown) > max(1, UNKNOWN_SHARE * number) or 0 < len(unknown) == number:
        first = f"the first: {unknown[0]}"
        raise UserError(f"{option} tells no patient of {len(unknown)} of {number} files, {first}")
    if unknown:
        warn(
            f"{len(unknown)} of {number} files are left out, as {option} tells no patient of them, "
            f"the first: {unknown[0]}"
        )


def refuse_overlap(output: Path, option: str, source: Path) -> None:
    """Raise UserError where one folder lies in the other: each would then be read as the other."""
    inner, outer = place_of(output), place_of(source)
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise UserError(f"--output {output} and {option} {source} lie in each other: keep apart")


def refuse_sources_in(output: Path, sources: Iterable[Path | str | None]) -> None:
    """Raise UserError where --overwrite would remove what is read, or a link to it."""
    if not output.is_dir():
        return
    folder = f"{place_of(output)}{os.sep}"
    for source in filter(None, sources):
        # As text: a table may name 223,000 files.
        places = os.path.abspath(source), os.path.realpath(source)  # noqa: PTH100
        if any(f"{place}{os.sep}".startswith(folder) for place in places):
            raise UserError(f"--output {output} holds {source}, which is to be read: keep apart")


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

    Splits that the source gives stay; one that it never names is taken from its training split,
    by its share.
    """
    items, split_of = source.items, given_splits(source.items)
    given = set(split_of.values())
    if set(options.wanted) - given:
        shares = {s: x for s, x in options.wanted.items() if s == "Train" or s not in given}
        pool = [item for item in items if item.split in (None, "Train")]
        groups = group_by_patient([i.patient for i in pool], [i.label for i in pool])
        split_of |= stratified_split(groups, shares, options.seed, source.folders)
    result = {split: [] for split in options.wanted}
    for index in np.random.default_rng((options.seed, 1)).permutation(len(items)):
        result[split_of[items[index].patient]].append(items[index])
    return result


def without_unwanted(source: Source, options: Options) -> Source:
    """The source without the images of splits that it gives and the shares leave out.

    Its training images stay where a split that it never names is drawn from them. Raises UserError
    where a patient is in two splits, wanted or not.
    """
    given, wanted = set(given_splits(source.items).values()) - {None}, set(options.wanted)
    unwanted = given - wanted - ({"Train"} if wanted - given else set())
    gone = [(item.source, UNWANTED) for item in source.items if item.split in unwanted]
    kept = [item for item in source.items if item.split not in unwanted]
    return replace(source, items=kept, left_out=source.left_out + gone)


def given_splits(items: list[Item]) -> dict[str, str | None]:
    """The split that the source gives each patient, if any. Raises UserError where it gives two."""
    split_of: dict[str, str | None] = {}
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

    Outlined images stay before others, but in training, which sees no outline. Raises UserError
    where a class of a split is empty.
    """
    plans, reserves, left_out = [], [], []
    numbers = dict(zip(SPLITS, options.most, strict=True))
    for split, items in by_split.items():
        if split != "Train":
            items = sorted(items, key=lambda item: not item.is_outlined)
        if options.match:
            kept = matched(items, source.traits, options, split != "Train")
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
        limit = len(items) if numbers[split] is None else numbers[split]
        if options.balanced:
            limit = min(limit, *map(len, groups))
        for group, folder in zip(groups, source.folders, strict=True):
            plans += [Plan(item, split, folder) for item in group[:limit]]
            reserves += [Plan(item, split, folder) for item in group[limit:]]
    return plans, reserves, left_out


def matched(
    items: list[Item], names: tuple[str, ...], options: Options, outlined_first: bool
) -> list[int]:
    """Indices of the items that --match keeps."""
    outlined = {i for i, item in enumerate(items) if item.is_outlined}
    columns = [levels([item.traits[names.index(name)] for item in items]) for name in options.match]
    together = list(zip(*columns, strict=True))
    labels, rng = [item.label for item in items], np.random.default_rng(options.seed)
    return match(together, labels, rng, outlined if outlined_first else ())


def prepare(source: Source, options: Options) -> None:
    """Write the data set, ``manifest.csv``, ``left_out.csv`` and ``preparation.json``.

    Raises UserError where nothing can be written, and where more than 1 % and more than 10 files
    are broken or are in both classes.
    """
    read = (file for item in source.items for file in (item.source, *item.masks))
    refuse_sources_in(options.output, read)
    source = without_unwanted(source, options)
    if not source.items:
        number = len(source.left_out)
        reasons = Counter(reason for _, reason in source.left_out).most_common(1)
        most = "".join(f" ({times} {reason})" for reason, times in reasons)
        raise UserError(f"no image is left of {number}{most}: see the options that leave some out")
    with built_whole(options.output, PREPARATION, options.overwrite) as root:
        done = write_sound(source, root, options)
        left_out = source.left_out + done.left_out
        reasons = Counter(reason for _, reason in left_out)
        items = {item.source: item for item in source.items}
        reasons.update(in_short(items[name], problem) for name, problem in done.broken.items())
        reasons |= {"in both classes": len(done.twins)}
        left_out += [*done.twins.items(), *done.broken.items()]
        write_tables(root, done.plans, left_out, options)
        findings = {
            "images": dict(Counter(f"{plan.split}/{plan.folder}" for plan in done.plans)),
            "masks": count_masks(done, source.items),
            "left_out": {reason: number for reason, number in reasons.most_common() if number},
            "patients_in_both_classes": count_in_both(done.plans),
            "shortcuts": find_shortcuts(done.plans, source.traits, options.seed),
        }
        chosen = {name: getattr(options, name) for name in RECORDED}
        chosen |= describe_unit(done.outcomes, options)
        summary = {"arguments": source.arguments, **chosen, **findings}
        with naming(options.output / PREPARATION):
            (root / PREPARATION).write_text(json.dumps(summary, indent=2, default=str) + "\n")
    report(findings)
    for text in doubts(done.plans, done.outcomes, findings["masks"]):
        warn(text)
    print(f"written to {options.output}; see manifest.csv and left_out.csv there")
    for said in next_commands(options, source.kind, done.splits):
        print(said)


def next_commands(options: Options, kind: str, splits: set[str]) -> list[str]:
    """What can be done with the ``splits`` that were prepared: networks learn from small images.

    Of the size of the images, where networks take that, they are used then. Without images to train
    on, and to validate by, a test is that of another run, whose results stay.
    """
    folder, name = options.output, options.output.resolve().name
    words = "main.py", "--dataset", kind, "--dataset-path", folder, "--save-dir"
    if not {"Train", "Validate"} <= splits:
        test = command(*words, "RUN", "--mode", "test", "--results-dir", Path("results", name))
        return [f"to test a run on it: {test}"] if "Test" in splits else []
    words = *words, Path("runs", name)
    size, small = options.image_size, ("--image-size", SIZE_MULTIPLE)
    said = [f"to train on it: {command(*words, '--recipe', 'fast', *small)}"]
    if "Test" in splits and size > SIZE_MULTIPLE and size % SIZE_MULTIPLE == 0:
        test = command(*words, "--mode", "test", "--image-size", size)
        said.append(f"to use what was trained on images of {size} x {size}: {test}")
    return said


def in_short(item: Item, problem: str) -> str:
    """What is wrong with a broken file, as it is said of others with the same problem."""
    said = problem.replace(item.source, "the image")
    for mask in item.masks:
        said = said.replace(mask, "its mask")
    why, _, mend = said.removeprefix("the image ").partition(": ")
    if why == UNREADABLE:
        why = f"{why}: {mend.partition(' (')[0]}"
    return why[:LONGEST_REASON]


def describe_unit(outcomes: list[Outcome], options: Options) -> dict[str, object]:
    """The scaling, if any image needed it, and whether it brought all images to one unit.

    Training and prediction scale as the preparation did; and training scales no image of one unit
    anew. By its extremes each single picture is scaled after it is resized, whatever was before.
    """
    units = {outcome.unit for outcome in outcomes}
    final = {"shared"} if options.scaling == "minmax" else {"shared", "own"}
    return {"scaling": options.scaling if units != {None} else None, "in_one_unit": units <= final}


class Done(NamedTuple):
    """What was written, and what was not with the reason; sources of problems are keys."""

    plans: list[Plan]
    outcomes: list[Outcome]
    left_out: list[tuple[str, str]]
    twins: dict[str, str]
    broken: dict[str, str]

    @property
    def splits(self) -> set[str]:
        return {plan.split for plan in self.plans}


def write_sound(source: Source, root: Path, options: Options) -> Done:
    """Write the images that can be read and are of one class.

    Where the others leave a class of a split empty, the split is drawn anew without them.
    """
    broken, twins, problems = {}, {}, {}
    while True:
        try:
            plans, reserves, left_out = choose(divide(source, options), source, options)
        except UserError as error:
            first = f"; left out before: {next(iter(problems.values()))}" if problems else ""
            raise UserError(f"{error}{first}") from None
        plans, outcomes, reserves = write_images(plans, reserves, root, options)
        sources = [plan.item.source for plan in plans]
        broken |= {s: o.problem for s, o in zip(sources, outcomes, strict=True) if o.problem}
        twins |= in_both_classes(plans, outcomes)
        problems = broken | twins
        refuse_broken(problems, len(plans))
        sound = [i for i, name in enumerate(sources) if name not in problems]
        places = [(plan.split, plan.folder) for plan in plans]
        if {places[i] for i in sound} == set(places):
            break
        for folder in root.iterdir():
            shutil.rmtree(folder)
        source = replace(source, items=[i for i in source.items if i.source not in problems])
    for plan in plans:
        if plan.item.source in twins:
            remove(plan, root, options)
    left_out += [(plan.item.source, "over the number wanted") for plan in reserves]
    return Done([plans[i] for i in sound], [outcomes[i] for i in sound], left_out, twins, broken)


def write_images(
    plans: list[Plan], reserves: list[Plan], root: Path, options: Options
) -> tuple[list[Plan], list[Outcome], list[Plan]]:
    """Convert all files in parallel.

    A broken one is replaced by a reserve of its class and split, as long as there is one. Returns
    a plan for each picture that was tried (a volume has many), what came of them, and the reserves
    that are left.
    """
    spans = find_spans([Path(plan.item.source) for plan in plans + reserves], options)
    plans, reserves = (
        [plan._replace(span=spans.get(Path(plan.item.source))) for plan in group]
        for group in (plans, reserves)
    )
    waiting: dict[tuple[str, str], list[Plan]] = {}
    for plan in reversed(reserves):
        waiting.setdefault((plan.split, plan.folder), []).append(plan)
    form = Form(
        *(options.image_size, options.format, options.scaling),
        *(options.axis, options.slices),
    )
    work = partial(convert, root=root, output=options.output, form=form)
    tried, outcomes = [], []
    while plans:
        results = map_in_processes(work, plans, options.workers)
        fresh = list(progress_bar(results, total=len(plans), unit="file"))
        for plan, found in zip(plans, fresh, strict=True):
            names = (picture_name(plan.item, outcome.name) for outcome in found)
            tried += [plan._replace(item=plan.item._replace(name=name)) for name in names]
            outcomes += found
        places = [(p.split, p.folder) for p, f in zip(plans, fresh, strict=True) if f[0].problem]
        plans = [waiting[place].pop() for place in places if waiting.get(place)]
    return tried, outcomes, [plan for plans in waiting.values() for plan in reversed(plans)]


def find_spans(paths: list[Path], options: Options) -> dict[Path, Span | None]:
    """The range that the files of a DICOM series share, found in parallel."""
    series = find_series(paths)
    work = partial(span_of, scaling=options.scaling)
    spans = map_in_processes(work, series, options.workers)
    return {path: span for files, span in zip(series, spans, strict=True) for path in files}


def in_both_classes(plans: list[Plan], outcomes: list[Outcome]) -> dict[str, str]:
    """Sources whose very pixels are also in the other class, each with a sentence."""
    groups: dict[bytes, list[Item]] = {}
    for plan, outcome in zip(plans, outcomes, strict=True):
        if outcome.digest:
            groups.setdefault(outcome.digest, []).append(plan.item)
    result = {}
    for items in groups.values():
        first_of = {item.label: item.source for item in reversed(items)}
        if len(first_of) == 2:
            for item in items:
                other = first_of[1 - item.label]
                result[item.source] = (
                    f"{item.source} is the same picture as {other}, of the other class"
                )
    return result


def remove(plan: Plan, root: Path, options: Options) -> None:
    name = plan.item.name
    (root / plan.split / plan.folder / f"{name}.{options.format}").unlink()
    if plan.item.label == DISEASED:
        (root / plan.split / MASKS / f"{name}.png").unlink(missing_ok=True)


def refuse_broken(problems: dict[str, str], number: int) -> None:
    if len(problems) > max(BROKEN_NUMBER, BROKEN_SHARE * number):
        raise UserError(
            f"{len(problems)} of {number} images cannot be read or are in both classes, the first: "
            f"{next(iter(problems.values()))}"
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
    if findings["left_out"]:
        print(f"{sum(findings['left_out'].values()):>8} left out:")
    for reason, number in findings["left_out"].items():
        print(f"{number:>12} {reason}")
    for split, number in findings["masks"].items():
        print(f"{number:>8} masks of diseased images in {split}")
    if findings["patients_in_both_classes"]:
        print(f"{findings['patients_in_both_classes']:>8} patients have images in both classes")
    if findings["shortcuts"]:
        print(
            "Nuisance columns alone tell the classes apart with an AUROC of (0.5 or less: chance):"
        )
        for name, area in findings["shortcuts"].items():
            print(f"{area:>8.2f} {name}")


def count_masks(done: Done, items: list[Item]) -> dict[str, int]:
    """How many were written in each split; empty where no image has an outline."""
    if not any(item.is_outlined for item in items):
        return {}
    pairs = zip(done.plans, done.outcomes, strict=True)
    counts = Counter(plan.split for plan, outcome in pairs if outcome.mask == "written")
    present = done.splits
    return {split: counts[split] for split in SPLITS if split in present}


def count_in_both(plans: list[Plan]) -> int:
    """How many patients have healthy and diseased images; two people may be taken for one."""
    people = ({p.item.patient for p in plans if p.item.label == c} for c in (HEALTHY, DISEASED))
    return len(set.intersection(*people))


def doubts(plans: list[Plan], outcomes: list[Outcome], masks: dict[str, int]) -> list[str]:
    """One sentence for each thing that is allowed and seldom meant; ``masks``: of each split."""
    texts = []
    counts = Counter(f"{plan.split}/{plan.folder}" for plan in plans)
    few = [f"{name} {number}" for name, number in sorted(counts.items()) if number < FEW]
    if few:
        texts.append(f"fewer than {FEW} images, so what is measured there varies: {', '.join(few)}")
    people = {(plan.split, plan.folder, plan.item.patient) for plan in plans}
    patients = Counter(f"{split}/{folder}" for split, folder, _ in people if split != "Train")
    least = [f"{name} {number}" for name, number in sorted(patients.items()) if number < FEWEST]
    if least:
        mend = "; --shares 0.6 0.2 0.2 takes more from training"
        texts.append(
            f"fewer than {FEWEST} patients, too few to judge by what is found in them: "
            f"{', '.join(least)}{mend if any(split == 'Train' for split, _, _ in people) else ''}"
        )
    if masks.get("Test", FEW) < FEW:
        texts.append(
            f"{masks['Test']} test images are outlined, fewer than {FEW}, so what is measured of "
            "pixels there varies"
        )
    coloured = sum(outcome.coloured for outcome in outcomes)
    if coloured:
        texts.append(f"{coloured} images in colour become grey")
    vanished = sum(outcome.mask == "vanished" for outcome in outcomes)
    if vanished:
        texts.append(f"{vanished} masks are too small to be seen at --image-size and not written")
    splits: dict[bytes, set[str]] = {}
    for plan, outcome in zip(plans, outcomes, strict=True):
        if outcome.digest:
            splits.setdefault(outcome.digest, set()).add(plan.split)
    leaks = sum(len(found) > 1 for found in splits.values())
    if leaks:
        texts.append(
            f"{leaks} pictures are in two splits, under two names: are these two patients?"
        )
    return texts
