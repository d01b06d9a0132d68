"""Tables of labels: which rows are healthy, which are diseased, where their files and boxes are."""

import csv
import gzip
import json
import os
import re
import sys
import zlib
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
from descargan.locating import Place, locate, name_of
from descargan.outlines import Box
from descargan.preparation import (
    NO_PATIENT,
    match_patient,
    refuse_unknown_patients,
    unique_names,
)
from descargan.shortcuts import refuse_scattered

CONDITION = re.compile(r"(?P<column>.+?)(?P<relation>!=|!~|=|~)(?P<value>.*)", re.DOTALL)
SPLIT_NAMES = {"train": "Train", "training": "Train", "test": "Test", "testing": "Test"}
SPLIT_NAMES |= dict.fromkeys(("validate", "validation", "valid", "val", "dev"), "Validate")
PRESETS = Path(__file__).with_name("presets.json")
BOX_COLUMNS = (("x", "y", "width", "height"), ("x_min", "y_min", "x_max", "y_max"))
MISSING_SHARE, MISSING_NUMBER = 0.01, 10  # more than both is an error
DISAGREE, SEVERAL_FIT = "its rows disagree", "several files fit"  # reasons of what is left out


class Rule(NamedTuple):
    """What the cell of a column must be: one of the wanted, none of the unwanted.

    Each of both is (relation, value) with '=' for the whole cell and '~' for one of its parts.
    ``reason`` says why a row is left out that does not meet it; {value} stands for the cell.
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
    except (UnicodeDecodeError, csv.Error, EOFError, zlib.error) as error:
        raise FileError(f"{path} cannot be read as CSV: {error}") from None
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from None


def header_of(path: Path) -> list[str]:
    """The names of the columns, none where there is no row."""
    return list(next(read_rows(path, ()), {}))


def why_not_kept(row: dict[str, str], keep: tuple[Rule, ...]) -> str | None:
    """The reason of the first rule that a row does not meet."""
    for rule in keep:
        if not rule.meets(row):
            value = (row[rule.column] or "").strip() or "unknown"
            return sys.intern(rule.reason.replace("{value}", value))
    return None


def classify(row: dict[str, str], selection: Selection) -> int | str:
    """The class of a row, or why it has none."""
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


class Rows(NamedTuple):
    """What the tables say, by the cell of the image column."""

    chosen: dict[str, Chosen]
    verdicts: dict[str, int | str]  # of each cell in a row that is kept: the class, or why none
    tables: list[list[str]]  # these cells, by the first table that has them
    left_out: list[tuple[str, str]]  # cell and reason


def collect(
    tables: list[Path],
    root: Path,
    selection: Selection,
    boxes: dict[str, tuple[Box, ...]] | None = None,
    masks: Path | None = None,
) -> tuple[list[Item], list[tuple[str, str]]]:
    """The items of both classes, and the rows left out with the reason.

    ``boxes``: of diseased images, by the cell of the image column; ``masks``: a folder that holds
    no images. Raises UserError where a class
    has no row, where more than 1 % and more than 10 files are not found, or where a nuisance column
    is scattered.
    """
    rows = choose_rows(tables, selection)
    for label, rules in ((HEALTHY, selection.healthy), (DISEASED, selection.diseased)):
        if not any(chosen.label == label for chosen in rows.chosen.values()):
            refuse_no_row(tables, CLASS_NAMES[label], rules)
    places = locate(root, rows.tables, masks)
    keep_one_row_a_file(rows, places)
    items, names, lost = [], [], {}
    for cell, (label, patient, split, traits) in rows.chosen.items():
        place = places[cell]
        if len(place.paths) != 1:
            lost[cell] = SEVERAL_FIT if place.paths else "missing file"
            continue
        names.append(name_of(place))
        around = (boxes or {}).get(cell, ()) if label == DISEASED else ()
        items.append(Item(place.paths[0], "", patient, label, split, around, traits))
    refuse_lost(lost, len(rows.chosen), root)
    for index, name in enumerate(selection.traits):
        refuse_scattered(name, [item.traits[index] for item in items])
    items = [i._replace(name=n) for i, n in zip(items, unique_names(names), strict=True)]
    return items, [*rows.left_out, *lost.items()]


def choose_rows(tables: list[Path], selection: Selection) -> Rows:
    """The images of both classes, and the rows left out.

    An image that several rows describe (one a reader, or a box) is taken where all that are kept
    put it into the same class.
    """
    rows = Rows({}, {}, [], [])
    for table in tables:
        rows.tables.append([])
        for row in read_rows(table, selection.columns()):
            value = (row[selection.image_column] or "").strip()
            reason = why_not_kept(row, selection.keep) if value else "no path"
            if reason is not None:
                rows.left_out.append((value, reason))
                continue
            verdict = classify(row, selection)
            if value in rows.verdicts:
                if rows.verdicts[value] != verdict:
                    rows.verdicts[value] = DISAGREE
                rows.left_out.append((value, "listed twice"))
                continue
            rows.verdicts[value] = verdict
            rows.tables[-1].append(value)
            if isinstance(verdict, str):
                rows.left_out.append((value, verdict))
            else:
                rows.chosen[value] = describe(row, value, verdict, selection)
    for value in [value for value in rows.chosen if rows.verdicts[value] == DISAGREE]:
        leave_out(rows, value, DISAGREE)
    unknown = [value for value, chosen in rows.chosen.items() if not chosen.patient]
    option = f"--patient-column {selection.patient_column!r}"
    if selection.patient_column is None and selection.patient is not None:
        option = f"--patient {selection.patient.pattern!r}"
    refuse_unknown_patients(unknown, len(rows.chosen), option)
    for value in unknown:
        leave_out(rows, value, NO_PATIENT)
    return rows


def leave_out(rows: Rows, cell: str, reason: str) -> None:
    del rows.chosen[cell]
    rows.left_out.append((cell, reason))


def keep_one_row_a_file(rows: Rows, places: dict[str, Place]) -> None:
    """Leave out all cells but the first that mean one file, and that one too where they disagree.

    Two tables may write one file in two ways: with its suffix or folder, and without.
    """
    spellings: dict[str, list[str]] = {}
    for cell, place in places.items():
        if len(place.paths) == 1:
            spellings.setdefault(os.path.abspath(place.paths[0]), []).append(cell)  # noqa: PTH100
    for cells in spellings.values():
        agree = len({rows.verdicts[cell] for cell in cells}) == 1
        chosen = [cell for cell in cells if cell in rows.chosen]
        for cell in chosen[1:] if agree else chosen:
            leave_out(rows, cell, "listed twice" if agree else DISAGREE)


def refuse_lost(lost: dict[str, str], number: int, root: Path) -> None:
    """Raise UserError where too many of a number of cells have no file, or several that fit."""
    if len(lost) <= max(MISSING_NUMBER, MISSING_SHARE * number):
        return
    ambiguous = [cell for cell, reason in lost.items() if reason == SEVERAL_FIT]
    first = next(iter(lost))
    mend = (
        f"is the download complete, and does {first!r} start from there? Else take their rows out "
        "of the table"
    )
    if ambiguous:
        mend = (
            f"several files fit {len(ambiguous)} of them, such as {ambiguous[0]!r}: write their "
            "folders into the table, or pass the folder of the images alone to --images"
        )
    raise UserError(f"{len(lost)} of {number} files of the CSV are missing under {root}: {mend}")


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
        cell = (row[selection.patient_column] or "").strip()
        whole = cell.removesuffix(".0")  # written so where another cell of the column is empty
        return whole if whole.isdigit() else cell
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
        value = (row[image_column] or "").strip()
        numbers = [row[name] or "" for name in columns]
        told = value and all(number.strip() for number in numbers)
        if not told or not all(rule.meets(row) for rule in keep):
            continue
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
