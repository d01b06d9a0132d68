"""Prepare your own two groups for main.py: a folder of healthy and a folder of diseased images.

    python prepare_folders.py --healthy controls --diseased patients --output my-data

writes OUTPUT/{Train,Validate,Test}/{Healthy control,Diseased}/*.png, padded to a square, resized.
Where several images belong to one patient, --patient says how the file name tells: a regular
expression whose first group, or whole match, is the patient. No patient is in two splits.
"""

import argparse
import os
import re
import sys
from pathlib import Path

from descargan import DISEASED, HEALTHY
from descargan.cli import Parser, run
from descargan.data import SUFFIXES
from descargan.errors import UserError
from descargan.preparation import Item, add_options, prepare


def regular_expression(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None


def collect(folder: Path, label: int, pattern: re.Pattern[str] | None) -> list[Item]:
    """The images below a folder. Raises UserError where there are none, or one tells no patient."""
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: see --healthy and --diseased")
    items = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in SUFFIXES["Chexpert"] or not path.is_file():
            continue
        relative = path.relative_to(folder).as_posix()
        patient = relative
        if pattern is not None:
            match = pattern.search(relative)
            if match is None:
                raise UserError(f"--patient {pattern.pattern!r} matches nothing in {relative}")
            patient = match.group(1) if pattern.groups else match.group()
        name = relative.replace("/", "_").replace(".", "-")  # a.png and a.jpg stay apart
        items.append(Item(path, name, patient, label))
    if not items:
        raise UserError(f"{folder} holds no image ({', '.join(SUFFIXES['Chexpert'])})")
    return items


def build_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--healthy", type=Path, required=True, metavar="DIR", help="folder of healthy images")
    add("--diseased", type=Path, required=True, metavar="DIR", help="folder of diseased images")
    text = "regular expression of the patient in the path (default: each image is a patient)"
    add("--patient", type=regular_expression, metavar="REGEX", help=text)
    add_options(parser)
    return parser


def main() -> None:
    options = build_parser().parse_args()
    items = collect(options.healthy, HEALTHY, options.patient)
    items += collect(options.diseased, DISEASED, options.patient)
    about = {"healthy": str(options.healthy), "diseased": str(options.diseased)}
    about |= {"seed": options.seed, "image_size": options.image_size}
    folders = ("Healthy control", "Diseased")
    prepare(items, [], folders, options, about, options.workers or os.cpu_count() or 1)


if __name__ == "__main__":
    sys.exit(run(main))
