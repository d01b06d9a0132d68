"""Prepare CheXpert for main.py: images of one finding against images of no finding.

    python prepare_chexpert.py --chexpert-root CheXpert-v1.0-small --output chexpert

reads the release as it is downloaded (train.csv, valid.csv and the JPEGs) and writes
OUTPUT/{Train,Validate,Test}/{Healthy control,Images showing pleural effusion}/*.png, with no
patient in two splits. Images are padded to a square, not cropped: an effusion lies at the border.
OUTPUT/manifest.csv says where each came from, OUTPUT/left_out.csv which were left out and why.
"""

import argparse
import csv
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from descargan import DISEASED, HEALTHY
from descargan.cli import Parser, run
from descargan.errors import UserError
from descargan.preparation import Item, add_options, prepare

NO_FINDING = "No Finding"
COLUMNS = ("Path", "Frontal/Lateral", "AP/PA", NO_FINDING)


def read_rows(root: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """Rows of train.csv and valid.csv, each with the folder that its file lies in."""
    folders = [root, *sorted(p for p in root.iterdir() if p.is_dir())] if root.is_dir() else []
    found = [f / name for name in ("train.csv", "valid.csv") for f in folders]
    found = [path for path in found if path.is_file()]
    if not any(path.name == "train.csv" for path in found):
        raise UserError(f"{root} holds no train.csv: pass the release's folder to --chexpert-root")
    for path in found:
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file)
                missing = [c for c in COLUMNS if c not in (reader.fieldnames or ())]
                if missing:
                    raise UserError(f"{path} has no column '{missing[0]}': is it CheXpert's?")
                for row in reader:
                    yield path.parent, row
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{path} cannot be read as CSV: {error}") from None


def locate(folder: Path, path: str) -> tuple[Path, tuple[str, ...]]:
    """The file of a row, and its parts from the patient on.

    Paths start with the release's name (CheXpert-v1.0-small/train/patient00001/...), which need not
    be that of the folder on disk.
    """
    parts = Path(path.strip()).parts
    start = next((i for i, part in enumerate(parts) if part in ("train", "valid")), 0)
    return folder.joinpath(*parts[start:]), parts[start + 1 :]


def classify(row: dict[str, str], options: argparse.Namespace) -> int | str:
    """The class of a row, or why it is left out."""
    view, projection = row["Frontal/Lateral"].strip(), row["AP/PA"].strip()
    if options.view != "both" and view.lower() != options.view:
        return f"{view or 'unknown'} view"
    if options.projection != "both" and projection != options.projection:
        return f"{projection or 'unknown'} projection"
    finding, healthy = (value(row, column) for column in (options.finding, NO_FINDING))
    if finding == -1:
        if options.uncertain == "exclude":
            return "uncertain label"
        finding = 1.0 if options.uncertain == "positive" else 0.0
    if finding == 1 and healthy == 1:
        return "contradictory labels"
    if finding == 1:
        return DISEASED
    return HEALTHY if healthy == 1 else "neither class"


def value(row: dict[str, str], column: str) -> float | None:
    """1, 0, -1 or None for an empty or unreadable cell."""
    try:
        return float(row[column])
    except (TypeError, ValueError):
        return None


def collect(options: argparse.Namespace) -> tuple[list[Item], list[tuple[str, str]]]:
    """The items of both classes, and the rows left out with the reason."""
    items, left_out, seen = [], [], set()
    for folder, row in read_rows(options.chexpert_root):
        if options.finding not in row:
            known = ", ".join(list(row)[5:])
            raise UserError(f"--finding {options.finding!r} is no column: choose one of {known}")
        source, parts = locate(folder, row["Path"] or "")
        label = classify(row, options)
        if not isinstance(label, int):
            left_out.append((str(source), label))
        elif not parts or source in seen:
            left_out.append((str(source), "no path" if not parts else "listed twice"))
        elif not source.is_file():
            left_out.append((str(source), "missing file"))
        else:
            seen.add(source)
            name = "_".join(parts).rsplit(".", 1)[0]
            items.append(Item(source, name, parts[0], label))
    return items, left_out


def build_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    text = "folder of the release, which holds train.csv"
    add("--chexpert-root", type=Path, required=True, metavar="DIR", help=text)
    text = "column of the disease (default: Pleural Effusion)"
    add("--finding", default="Pleural Effusion", metavar="NAME", help=text)
    add(
        "--view", choices=("frontal", "lateral", "both"), default="frontal", help="default: frontal"
    )
    add("--projection", choices=("AP", "PA", "both"), default="both", help="default: both")
    text = "what an uncertain label (-1) of the finding counts as (default: exclude)"
    add("--uncertain", choices=("exclude", "positive", "negative"), default="exclude", help=text)
    add_options(parser)
    return parser


def main() -> None:
    options = build_parser().parse_args()
    items, left_out = collect(options)
    missing = sum(reason == "missing file" for _, reason in left_out)
    if missing > max(10, 0.01 * (missing + len(items))):
        raise UserError(
            f"{missing} of {missing + len(items)} files of the CSV are missing under "
            f"{options.chexpert_root}: is the download complete?"
        )
    folders = ("Healthy control", f"Images showing {options.finding.lower()}")
    about = {
        "source": str(options.chexpert_root),
        **{k: getattr(options, k) for k in ("finding", "view", "projection", "uncertain", "seed")},
        "image_size": options.image_size,
    }
    workers = options.workers or os.cpu_count() or 1
    prepare(items, left_out, folders, options, about, workers)


if __name__ == "__main__":
    sys.exit(run(main))
