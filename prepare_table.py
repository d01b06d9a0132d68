"""Prepare images that a table labels for main.py.

    python prepare_table.py --preset nih --table Data_Entry_2017.csv --images images --output nih
    python prepare_table.py --table labels.csv --images images --output my-data \\
        --image-column file --healthy 'findings=No Finding' --diseased 'findings~Effusion'

writes OUTPUT/{Train,Validate,Test}/{Healthy control,Diseased}/*.png, padded to a square, resized,
with no patient in two splits.

Conditions are COLUMN=VALUE (the whole cell), COLUMN~VALUE (one entry of a list in the cell), and
!= and !~ for the contrary. Of several on one column any suffices; those on different columns must
all be met, and so must each != and !~. --boxes names a table of rectangles around what is
diseased, which become masks; tests then score the maps by them.
"""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

import descargan.installed  # noqa: F401
from descargan import DISEASED
from descargan.cli import Parser, run
from descargan.conversion import Item
from descargan.errors import UserError
from descargan.outlines import Box, find_masks
from descargan.patients import code_patients
from descargan.preparation import (
    Source,
    add_options,
    chosen_options,
    prepare,
    refuse_sources_in,
    regular_expression,
    unique_names,
)
from descargan.tables import (
    Preset,
    Selection,
    add_nuisance,
    collect,
    header_of,
    load_preset,
    parse_rules,
    preset_names,
    read_boxes,
    with_traits,
)

RECORDED = ("table", "images", "preset", "finding", "healthy", "diseased", "keep", "boxes", "masks")


def select(arguments: argparse.Namespace) -> Preset:
    """What the options say of the columns, and where they are silent the preset."""
    if arguments.preset is not None:
        preset = load_preset(arguments.preset, arguments.finding)
    elif arguments.finding is not None:
        raise UserError("--finding belongs to a --preset: say it in --diseased")
    else:
        needed = {"--image-column": arguments.image_column, "--healthy": arguments.healthy}
        for option, given in {**needed, "--diseased": arguments.diseased}.items():
            if not given:
                raise UserError(f"{option} is needed where no --preset is given (see --help)")
        preset = Preset("", Selection(arguments.image_column, (), ()), None, ())
    given = {
        name: getattr(arguments, name)
        for name in ("image_column", "patient_column", "split_column", "patient")
        if getattr(arguments, name) is not None
    }
    if arguments.patient is not None:
        given.setdefault("patient_column", None)
    for name in ("healthy", "diseased", "keep"):
        if getattr(arguments, name):
            given[name] = parse_rules(getattr(arguments, name), f"--{name}")
    selection = replace(preset.selection, **given)
    named = (*arguments.match, *arguments.nuisance)
    selection = with_traits(selection, named, header_of(arguments.table[0]))
    preset = preset._replace(selection=selection)
    if arguments.box_columns is not None:
        preset = preset._replace(box_columns=tuple(arguments.box_columns))
    if arguments.box_keep:
        preset = preset._replace(box_keep=parse_rules(arguments.box_keep, "--box-keep"))
    return preset


def build_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    text = "CSV files, .gz too, with a row for each image"
    add("--table", type=Path, nargs="+", required=True, metavar="CSV", help=text)
    text = "folder of the images (default: that of the first table)"
    add("--images", type=Path, metavar="DIR", help=text)
    text = "columns and conditions of the official files; the options below go before"
    add("--preset", choices=preset_names(), help=text)
    add("--finding", metavar="NAME", help="disease of the preset, in its own words")
    text = "column of the file: its path, its name, or its name without suffix, in any folder"
    add("--image-column", metavar="COLUMN", help=text)
    text = "rows of the {} class"
    for name in ("healthy", "diseased"):
        add(f"--{name}", nargs="+", metavar="CONDITION", help=text.format(name))
    add("--keep", nargs="+", metavar="CONDITION", help="rows to take at all (default: all)")
    text = (
        "column of the patient (default: the patient in the header of DICOM, else each image is a "
        "patient)"
    )
    add("--patient-column", metavar="COLUMN", help=text)
    text = "regular expression of the patient in the image column, where no column has it"
    add("--patient", type=regular_expression, metavar="REGEX", help=text)
    text = "column of the split: train, validate or test; one that it lacks is taken from train"
    add("--split-column", metavar="COLUMN", help=text)
    text = "CSV file of boxes, with the same image column, in pixels of the images as stored"
    add("--boxes", type=Path, metavar="CSV", help=text)
    text = "columns of left, top, width, height (default: these of x y width height or x_min ...)"
    add("--box-columns", nargs=4, metavar="COLUMN", help=text)
    text = "boxes to take (default: all, which suits a table of boxes of one disease)"
    add("--box-keep", nargs="+", metavar="CONDITION", help=text)
    text = "folder of outlines of the diseased images: 0, and anything else on the lesion"
    add("--masks", type=Path, metavar="DIR", help=text)
    text = "what the names of the masks have more, such as _mask (default: nothing)"
    add("--mask-suffix", default="", metavar="TEXT", help=text)
    add_nuisance(parser)
    add_options(parser)
    return parser


def find_boxes(arguments: argparse.Namespace, preset: Preset) -> dict[str, tuple[Box, ...]]:
    if arguments.boxes is None:
        return {}
    column = preset.selection.image_column
    return read_boxes(arguments.boxes, column, preset.box_columns, preset.box_keep)


def add_masks(items: list[Item], root: Path, folder: Path, suffix: str) -> list[Item]:
    """The diseased items with the masks of their names; each may lie in another folder."""
    indices = [i for i, item in enumerate(items) if item.label == DISEASED]
    relatives = [Path(os.path.relpath(items[i].source, root)).as_posix() for i in indices]
    items = list(items)
    for i, masks in zip(indices, find_masks(relatives, folder, suffix), strict=True):
        items[i] = items[i]._replace(masks=masks)
    return items


def main() -> None:
    arguments = build_parser().parse_args()
    options = chosen_options(arguments)
    if arguments.boxes is not None and arguments.masks is not None:
        raise UserError("--boxes and --masks say the same: pass one of them")
    read = (*arguments.table, arguments.images, arguments.boxes, arguments.masks)
    refuse_sources_in(options.output, read)
    preset = select(arguments)
    root = arguments.images or arguments.table[0].parent
    boxes = find_boxes(arguments, preset)
    items, left_out = collect(arguments.table, root, preset.selection, boxes, arguments.masks)
    if preset.selection.patient_column is None and preset.selection.patient is None:
        items = code_patients(items)
        names = unique_names(item.name for item in items)
        items = [item._replace(name=name) for item, name in zip(items, names, strict=True)]
    if arguments.masks is not None:
        items = add_masks(items, root, arguments.masks, arguments.mask_suffix)
    if boxes or arguments.masks is not None:
        outlined = [item.is_outlined for item in items if item.label == DISEASED]
        print(f"{sum(outlined)} of {len(outlined)} diseased images are outlined")
    name = f"Images showing {preset.finding.lower()}" if preset.finding else "Diseased"
    about = {key: getattr(arguments, key) for key in RECORDED}
    source = Source(items, ("Healthy control", name), left_out, preset.selection.traits, about)
    prepare(source, options)


if __name__ == "__main__":
    sys.exit(run(main))
