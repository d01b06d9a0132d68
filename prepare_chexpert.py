"""Prepare CheXpert for main.py: images of one finding against images of no finding.

    python prepare_chexpert.py --chexpert-root CheXpert-v1.0-small --output chexpert

reads the release as it is downloaded (train.csv, valid.csv and the JPEGs) and writes
OUTPUT/{Train,Validate,Test}/{Healthy control,Images showing pleural effusion}/*.png, with no
patient in two splits. Images are padded to a square, not cropped: an effusion lies at the border.
OUTPUT/manifest.csv says where each came from, OUTPUT/left_out.csv which were left out and why.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import descargan.installed  # noqa: F401
from descargan.cli import Parser, run
from descargan.errors import UserError
from descargan.preparation import (
    Source,
    add_options,
    chosen_options,
    prepare,
    refuse_sources_in,
)
from descargan.tables import (
    Selection,
    add_nuisance,
    collect,
    header_of,
    load_preset,
    parse_rules,
    with_traits,
)

PROJECTION = "AP/PA"


def find_tables(root: Path) -> list[Path]:
    """train.csv and valid.csv in the release's folder or one in it (the full one has batches)."""
    folders = [root, *sorted(p for p in root.iterdir() if p.is_dir())] if root.is_dir() else []
    found = [folder / name for name in ("train.csv", "valid.csv") for folder in folders]
    found = [path for path in found if path.is_file()]
    if not any(path.name == "train.csv" for path in found):
        raise UserError(f"{root} holds no train.csv: pass the release's folder to --chexpert-root")
    return found


def select(arguments: argparse.Namespace, header: list[str]) -> Selection:
    """What the options ask for, on top of what the preset says of the columns."""
    finding = arguments.finding
    if PROJECTION in header and finding not in (known := header[header.index(PROJECTION) + 1 :]):
        raise UserError(f"--finding {finding!r} is no column: choose one of {', '.join(known)}")
    selection = load_preset("chexpert", finding).selection
    view, uncertain = selection.keep
    keep = []
    if arguments.view != "both":
        keep += parse_rules([f"{view.column}={arguments.view}"], "--view", view.reason)
    if arguments.projection != "both":
        condition = f"{PROJECTION}={arguments.projection}"
        keep += parse_rules([condition], "--projection", "{value} projection")
    if arguments.uncertain == "exclude":
        keep.append(uncertain)
    elif arguments.uncertain == "positive":
        both = parse_rules([f"{finding}=1", f"{finding}=-1"], "--finding")
        selection = replace(selection, diseased=both)
    named = (*arguments.match, *arguments.nuisance)
    return with_traits(replace(selection, keep=tuple(keep)), named, header)


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
    add_nuisance(parser)
    add_options(parser)
    return parser


def main() -> None:
    arguments = build_parser().parse_args()
    options = chosen_options(arguments)
    root = arguments.chexpert_root
    tables = find_tables(root)
    refuse_sources_in(options.output, tables)
    selection = select(arguments, header_of(tables[0]))
    items, left_out = collect(tables, root, selection)
    folders = ("Healthy control", f"Images showing {arguments.finding.lower()}")
    about = {name: getattr(arguments, name) for name in ("finding", "view", "projection")}
    about |= {"source": str(root), "uncertain": arguments.uncertain}
    prepare(Source(items, folders, left_out, selection.traits, about, "Chexpert"), options)


if __name__ == "__main__":
    sys.exit(run(main))
