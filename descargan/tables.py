"""Tables of labels: which rows are healthy, which are diseased, where their files and boxes are."""

import csv
import gzip
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from descargan import CLASS_NAMES, DISEASED, HEALTHY
from descargan.cli import Parser
from descargan.conversion import Item
from descargan.errors import FileError, UserError
from descargan.outlines import Box
from descargan.preparation import (
    NO_PATIENT,
    match_patient,
    refuse_unknown_patients,
    unique_names,
)
from descargan.scanning import scan

CONDITION = re.compile(r"(?P<column>.+?)(?P<relation>!=|!~|=|~)(?P<value>.*)", re.DOTALL)
SPLIT_NAMES = {"train": "Train", "training": "Train", "test": "Test", "testing": "Test"}
SPLIT_NAMES |= dict.fromkeys(("validate", "validation", "valid", "val", "dev"), "Validate")
PRESETS = Path(__file__).with_name("presets.json")
BOX_COLUMNS = (("x", "y", "width", "height"), ("x_min", "y_min", "x_max", "y_max"))
MISSING_SHARE, MISSING_NUMBER = 0.01, 10  # more than both is an error


class Rule(NamedTuple):
    """What the cell of a column must be: one of the wanted, none of the unwanted.

    Each of both is (relation, value) with '=' for the whole cell and '~' for one of its parts.
    ``reason`` says why a row is left out that does not meet it; it may hold {value}.
    """

    column: str
    wanted: tuple[tuple[str, str], ...]
    unwanted: tuple[tuple[str, str], ...]
    reason: str

    def meets(self, row: dict[str, str]) -> bool:
        cell = row[self.column] or ""
        if self.wanted and not any(holds(*condition, cell) for condition in self.wanted):
            return False
        return not any(holds(*condition, cell) for condition in self.unwanted)


@dataclass(frozen=True)
class Selection:
    """What the columns of a table mean."""

    image_column: str
    healthy: tuple[Rule, ...]  # all must be met
    diseased: tuple[Rule, ...]
    keep: tuple[Rule, ...] = ()
    patient_column: str | None = None
    patient: re.Pattern[str] | None = None  # of the cell of the image column
    split_column: str | None = None
    traits: tuple[str, ...] = ()  # nuisance columns

    def columns(self) -> list[str]:
        rules = (*self.keep, *self.healthy, *self.diseased)
        named = [self.image_column, self.patient_column, self.split_column, *self.traits]
        return [c for c in (*named, *(rule.column for rule in rules)) if c is not None]


@lru_cache(maxsize=1 << 16)
def holds(relation: str, value: str, cell: str) -> bool:
    """Whether a cell is ('=') or lists ('~') a value; upper and lower case and 1 and 1.0 are one.

    A list is divided by | or , or ; and may stand in brackets and quotes, as in "['a', 'b']".
    """
    if relation == "~":
        parts = re.split(r"[|,;]", cell.strip(" []"))
        return any(holds("=", value, part.strip(" '\"")) for part in parts)
    cell, value = cell.strip().casefold(), value.strip().casefold()
    try:
        return cell == value or float(cell) == float(value)
    except ValueError:
        return False


def parse_rules(texts: Iterable[str], option: str, reason: str | None = None) -> tuple[Rule, ...]:
    """Rules from 'COLUMN=VALUE', 'COLUMN~VALUE', '!=' and '!~'; those of one column are one rule.

    Raises UserError, which names ``option``.
    """
    conditions: dict[str, tuple[list, list]] = {}
    for text in texts:
        match = CONDITION.fullmatch(text)
        if match is None:
            raise UserError(
                f"{option} {text!r} is no condition: write COLUMN=VALUE, or COLUMN~VALUE"
            )
        column, relation, value = match["column"].strip(), match["relation"], match["value"]
        sides = conditions.setdefault(column, ([], []))
        sides[relation.startswith("!")].append((relation[-1], value))
    return tuple(
        Rule(column, tuple(wanted), tuple(unwanted), reason or column + " is {value}")
        for column, (wanted, unwanted) in conditions.items()
    )


def read_rows(path: Path, columns: Iterable[str]) -> Iterator[dict[str, str]]:
    """The rows of a CSV file (.gz too; divided by comma, semicolon or tab) that holds ``columns``.

    Raises FileError where it cannot be read, UserError where a column is missing.
    """
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opened(path, "rt", newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            delimiter = max(",;\t", key=first.count)
            header = next(csv.reader([first], delimiter=delimiter), [])
            for column in columns:
                if column not in header:
                    known = ", ".join(repr(name) for name in header)
                    raise UserError(f"{path} has no column '{column}': it has {known or 'none'}")
            yield from csv.DictReader(file, header, delimiter=delimiter)
    except UserError:
        raise
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileError(f"{path} cannot be read as CSV: {error}") from None
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from None


def header_of(path: Path) -> list[str]:
    """The names of the columns, none where there is no row."""
    return list(next(read_rows(path, ()), {}))


def classify(row: dict[str, str], selection: Selection) -> int | str:
    """The class of a row, or why it is left out."""
    for rule in selection.keep:
        if not rule.meets(row):
            value = (row[rule.column] or "").strip() or "unknown"
            return sys.intern(rule.reason.format(value=value))
    healthy, diseased = (
        all(rule.meets(row) for rule in rules) for rules in (selection.healthy, selection.diseased)
    )
    if healthy and diseased:
        return "contradictory labels"
    if not healthy and not diseased:
        return "neither class"
    return DISEASED if diseased else HEALTHY


class Preset(NamedTuple):
    """What is known of the official files of a data set, for one finding."""

    finding: str
    selection: Selection
    box_columns: tuple[str, ...] | None
    box_keep: tuple[Rule, ...]


def preset_names() -> list[str]:
    return list(json.loads(PRESETS.read_text()))


def load_preset(name: str, finding: str | None = None) -> Preset:
    """The columns and conditions of presets.json; ``finding`` takes the place of its default."""
    data = json.loads(PRESETS.read_text())[name]
    finding = finding or data["finding"]

    def rules(texts: Iterable[str]) -> tuple[Rule, ...]:
        return parse_rules([text.format(finding=finding) for text in texts], "--finding")

    keep = data.get("keep", {}).items()
    selection = Selection(
        image_column=data["image_column"],
        healthy=rules(data["healthy"]),
        diseased=rules(data["diseased"]),
        keep=tuple(rules([text])[0]._replace(reason=reason) for text, reason in keep),
        patient_column=data.get("patient_column"),
        patient=re.compile(data["patient"]) if "patient" in data else None,
        traits=tuple(data["nuisance"]),
    )
    box_columns = tuple(data["box_columns"]) if "box_columns" in data else None
    return Preset(finding, selection, box_columns, rules(data.get("box_keep", ())))


def with_traits(selection: Selection, named: Iterable[str], header: list[str]) -> Selection:
    """The selection with the columns ``named`` as traits too, and only those it has of its own.

    The official files of a data set differ in their minor columns from release to release.
    """
    own = [name for name in selection.traits if name in header]
    return replace(selection, traits=tuple(dict.fromkeys((*own, *named))))


def add_nuisance(parser: Parser) -> None:
    """The options about what tells the classes apart without the disease."""
    text = (
        "nuisance columns (view, sex, scanner) to even out between the classes in each split: "
        "images are left out until each value has the same share in both"
    )
    parser.add_argument("--match", nargs="+", default=(), metavar="COLUMN", help=text)
    text = "columns of which to report how well they alone tell the classes apart"
    parser.add_argument("--nuisance", nargs="+", default=(), metavar="COLUMN", help=text)


class Chosen(NamedTuple):
    """What is kept of the row of an image."""

    label: int
    patient: str
    split: str | None
    traits: tuple[str, ...]


def collect(
    tables: list[Path],
    root: Path,
    selection: Selection,
    boxes: dict[str, tuple[Box, ...]] | None = None,
) -> tuple[list[Item], list[tuple[str, str]]]:
    """The items of both classes, and the rows left out with the reason.

    ``boxes``: of diseased images, by the cell of the image column. Raises UserError where a class
    has no row, or where more than 1 % and more than 10 files are missing.
    """
    rows, left_out = choose_rows(tables, selection)
    for label, rules in ((HEALTHY, selection.healthy), (DISEASED, selection.diseased)):
        if not any(chosen.label == label for chosen in rows.values()):
            refuse_no_row(tables, CLASS_NAMES[label], rules)
    locate = Locator(root)
    items, names, sources, missing = [], [], set(), 0
    for value, chosen in rows.items():
        source, name = locate(value)
        if source is None or source in sources:
            missing += source is None
            left_out.append((value, "missing file" if source is None else "listed twice"))
            continue
        sources.add(source)
        names.append(name)
        outline = boxes.get(value) if boxes and chosen.label == DISEASED else None
        label, patient, split, traits = chosen
        items.append(Item(source, "", patient, label, split, outline, traits))
    if missing > max(MISSING_NUMBER, MISSING_SHARE * len(rows)):
        raise UserError(
            f"{missing} of {len(rows)} files of the CSV are missing under {root}: is the download "
            "complete? Else take their rows out of the table"
        )
    return [i._replace(name=n) for i, n in zip(items, unique_names(names), strict=True)], left_out


def choose_rows(
    tables: list[Path], selection: Selection
) -> tuple[dict[str, Chosen], list[tuple[str, str]]]:
    """The images of both classes by the cell of the image column, and the rows left out.

    An image that several rows describe (one a reader, or a box) is taken where all put it into the
    same class.
    """
    verdicts: dict[str, int | str] = {}
    rows: dict[str, Chosen] = {}
    left_out, disputed = [], set()
    for table in tables:
        for row in read_rows(table, selection.columns()):
            value = (row[selection.image_column] or "").strip()
            verdict = classify(row, selection)
            if not value:
                left_out.append((value, "no path"))
            elif value in verdicts:
                disputed.update([value] if verdicts[value] != verdict else [])
                left_out.append((value, "listed twice"))
            elif isinstance(verdict, str):
                left_out.append((value, verdict))
            else:
                rows[value] = describe(row, value, verdict, selection)
            verdicts.setdefault(value, verdict)
    for value in disputed & rows.keys():
        del rows[value]
        left_out.append((value, "its rows disagree"))
    unknown = [value for value, chosen in rows.items() if not chosen.patient]
    option = f"--patient-column {selection.patient_column!r}"
    if selection.patient_column is None and selection.patient is not None:
        option = f"--patient {selection.patient.pattern!r}"
    refuse_unknown_patients(unknown, len(rows), option)
    for value in unknown:
        del rows[value]
        left_out.append((value, NO_PATIENT))
    return rows, left_out


def describe(row: dict[str, str], value: str, label: int, selection: Selection) -> Chosen:
    """What is kept of the row of image ``value``; its patient may be empty.

    Raises UserError where the split is unknown.
    """
    split = None
    if selection.split_column is not None:
        cell = (row[selection.split_column] or "").strip()
        split = SPLIT_NAMES.get(cell.lower())
        if split is None:
            known = ", ".join(SPLIT_NAMES)
            raise UserError(f"--split-column: {cell!r} of {value} is no split; these are: {known}")
    traits = tuple(sys.intern((row[name] or "").strip()) for name in selection.traits)
    return Chosen(label, sys.intern(patient_of(value, row, selection)), split, traits)


def patient_of(value: str, row: dict[str, str], selection: Selection) -> str:
    if selection.patient_column is not None:
        return (row[selection.patient_column] or "").strip()
    return value if selection.patient is None else match_patient(selection.patient, value)


def refuse_no_row(tables: list[Path], name: str, rules: tuple[Rule, ...]) -> None:
    """Raise UserError where no row meets the rules of a class; it says what the cells hold."""
    counts = {rule.column: Counter() for rule in rules}
    for table in tables:
        for row in read_rows(table, counts):
            if all(rule.meets(row) for rule in rules):
                return
            for column, counter in counts.items():
                counter[(row[column] or "").strip()] += 1
    found = "; ".join(
        f"{column!r} holds " + ", ".join(f"{v or 'nothing'} ({n})" for v, n in c.most_common(5))
        for column, c in counts.items()
    )
    raise UserError(f"no row of {tables[0]} is {name}: {found}")


class Locator:
    """The file that a cell means, and the part of the cell that names it there.

    Cells often start with folders that the disk has not, and leave out folders that it has. Tried
    in turn: the cell below ``root`` and below each folder in it, without its first 0, 1, ...
    folders; then, for a cell that is a bare name or its stem, the one file of that name anywhere
    below ``root``.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise UserError(f"{root} is no folder: pass that of the images to --images")
        self.root = root
        self.bases = [
            str(root),
            *sorted(entry.path for entry in os.scandir(root) if entry.is_dir()),
        ]
        self.last = (self.bases[0], 0)  # neighbouring rows lie alike
        self.by_name: dict[str, str | None] | None = None

    def __call__(self, value: str) -> tuple[str | None, str]:
        parts = value.replace("\\", "/").split("/")
        tries = [self.last, *((base, cut) for cut in range(len(parts)) for base in self.bases)]
        for base, cut in tries:
            tail = "/".join(parts[cut:])
            path = os.path.join(base, tail)  # noqa: PTH118 (ten times as fast, for 223,000 rows)
            if tail and os.path.isfile(path):  # noqa: PTH113
                self.last = (base, cut)
                return path, name_of(path, tail)
        if len(parts) > 1:
            return None, ""
        if self.by_name is None:
            self.by_name = index_names(self.root)
        path = self.by_name.get(value)
        return path, name_of(path or "", value)


def name_of(path: str, tail: str) -> str:
    """The name of the output file of ``path``, which the table calls ``tail``."""
    suffix = Path(path).suffix
    return "_".join(part for part in tail.removesuffix(suffix).split("/") if part)


def index_names(root: Path) -> dict[str, str | None]:
    """The one file below ``root`` by its name and by its stem; None where there are several."""
    index: dict[str, str | None] = {}
    for path in scan(root)[0]:
        for name in {path.name, path.stem}:
            index[name] = None if name in index else str(path)
    return index


def read_boxes(
    path: Path, image_column: str, columns: tuple[str, ...] | None, keep: tuple[Rule, ...]
) -> dict[str, tuple[Box, ...]]:
    """The boxes of each image by the cell of the image column; rows without numbers have none.

    ``columns``: those of x, y, width and height; None: these names, or x_min, y_min, x_max, y_max.
    Raises UserError where columns are missing or no row has a box.
    """
    corners = False
    if columns is None:
        header = header_of(path)
        columns = next((names for names in BOX_COLUMNS if set(names) <= set(header)), None)
        if columns is None:
            raise UserError(f"{path} has no columns {' '.join(BOX_COLUMNS[0])}: see --box-columns")
        corners = columns == BOX_COLUMNS[1]
    boxes: dict[str, tuple[Box, ...]] = {}
    for row in read_rows(path, [image_column, *columns, *(rule.column for rule in keep)]):
        numbers = [row[name] or "" for name in columns]
        if not all(rule.meets(row) for rule in keep) or not all(
            number.strip() for number in numbers
        ):
            continue
        value = row[image_column].strip()
        try:
            x, y, width, height = (float(number) for number in numbers)
        except ValueError:
            raise UserError(f"{path}: the box of {value} is no four numbers: {numbers}") from None
        if corners:
            width, height = width - x, height - y
        boxes[value] = (*boxes.get(value, ()), Box(x, y, width, height))
    if not boxes:
        raise UserError(f"no row of {path} holds a box that is kept: see --boxes and --box-keep")
    return boxes
