"""Prepare your own two groups for main.py: a folder of healthy and a folder of diseased images.

    python prepare_folders.py --healthy controls --diseased patients --output my-data

writes OUTPUT/{Train,Validate,Test}/{Healthy control,Diseased}/*.png, padded to a square, resized.
Where several images belong to one patient, --patient says how the file name tells: a regular
expression whose first group, or whole match, is the patient. No patient is in two splits.
--masks names a folder of outlines of the diseased images; tests then score the maps by them.
"""

import argparse
import re
import sys
from collections import Counter
from pathlib import Path

import descargan.installed  # noqa: F401
from descargan import DISEASED, HEALTHY
from descargan.cli import Parser, run
from descargan.conversion import Item
from descargan.errors import UserError
from descargan.kinds import PICTURES
from descargan.outlines import apart_from_masks, find_masks
from descargan.patients import code_patients
from descargan.preparation import (
    NO_PATIENT,
    Source,
    add_options,
    chosen_options,
    match_patient,
    prepare,
    refuse_overlap,
    refuse_unknown_patients,
    regular_expression,
    unique_names,
)
from descargan.scanning import kinds, scan


def collect(
    folder: Path,
    label: int,
    pattern: re.Pattern[str] | None,
    masks: Path | None = None,
    mask_suffix: str = "",
) -> tuple[list[Item], list[tuple[str, str]]]:
    """The images below a folder, and what is passed over with the reason.

    Without a pattern each file is a patient. Raises UserError where there are no images, or the
    pattern tells no patient of many.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: see --healthy and --diseased")
    found, passed_over = scan(folder)
    paths, outlines = apart_from_masks(found, folder, masks, mask_suffix)
    passed_over += [(path, "mask of another image") for path in outlines]
    if not paths:
        reasons = Counter(reason for _, reason in passed_over).most_common(3)
        found = "; passed over: " + ", ".join(f"{n} {reason}" for reason, n in reasons)
        raise UserError(f"{folder} holds no image ({PICTURES}){found if reasons else ''}")
    print(f"{folder}: {kinds(paths)}")
    relatives = [path.relative_to(folder).as_posix() for path in paths]
    # a.png and a.jpg stay apart
    names = [relative.replace("/", "_").replace(".", "-") for relative in relatives]
    patients = relatives
    if pattern is not None:
        patients = [match_patient(pattern, relative) for relative in relatives]
        unknown = [r for r, patient in zip(relatives, patients, strict=True) if not patient]
        refuse_unknown_patients(unknown, len(paths), f"--patient {pattern.pattern!r}")
        passed_over += [(folder / relative, NO_PATIENT) for relative in unknown]
    items = [
        Item(str(path), name, patient, label)
        for path, name, patient in zip(paths, names, patients, strict=True)
        if patient
    ]
    return items, [(str(path), reason) for path, reason in passed_over]


def refuse_contradiction(healthy: Path, diseased: Path) -> None:
    """Raise UserError where images of one class would also be of the other."""
    first, second = healthy.resolve(), diseased.resolve()
    if first.is_relative_to(second) or second.is_relative_to(first):
        raise UserError(
            f"--healthy {healthy} and --diseased {diseased} are the same or lie in each other, so "
            "images would be in both classes: move them apart"
        )


def add_masks(items: list[Item], folder: Path, suffix: str, roots: tuple[Path, Path]) -> list[Item]:
    """The items with their masks; one of a name in both classes is the diseased image's."""
    relatives = [Path(item.source).relative_to(roots[item.label]).as_posix() for item in items]
    diseased = {r for r, item in zip(relatives, items, strict=True) if item.label == DISEASED}
    asked = [
        i for i, item in enumerate(items) if item.label == DISEASED or relatives[i] not in diseased
    ]
    items = list(items)
    found = find_masks([relatives[i] for i in asked], folder, suffix)
    for i, masks in zip(asked, found, strict=True):
        items[i] = items[i]._replace(masks=masks)
    without = sum(item.label == DISEASED and not item.is_outlined for item in items)
    if without:
        print(f"{without} diseased images have no mask in {folder}")
    return items


def mention_same_names(items: list[Item], roots: tuple[Path, Path]) -> None:
    """Say where file names of both classes are taken for one patient."""
    names = [
        {Path(item.source).relative_to(root).as_posix() for item in items if item.label == c}
        for c, root in zip((HEALTHY, DISEASED), roots, strict=True)
    ]
    both = len(names[HEALTHY] & names[DISEASED] & {item.patient for item in items})
    if both:
        print(
            f"{both} file names are in both {roots[0]} and {roots[1]}: each counts as one patient"
        )


def build_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--healthy", type=Path, required=True, metavar="DIR", help="folder of healthy images")
    add("--diseased", type=Path, required=True, metavar="DIR", help="folder of diseased images")
    text = (
        "regular expression of the patient in the path (default: the patient in the header of "
        "DICOM, else each file is a patient)"
    )
    add("--patient", type=regular_expression, metavar="REGEX", help=text)
    text = "folder of outlines of the diseased images: 0, and anything else on the lesion"
    add("--masks", type=Path, metavar="DIR", help=text)
    text = "what the names of the masks have more, such as _mask (default: nothing)"
    add("--mask-suffix", default="", metavar="TEXT", help=text)
    add_options(parser)
    return parser


def main() -> None:
    arguments = build_parser().parse_args()
    options = chosen_options(arguments)
    roots = (arguments.healthy, arguments.diseased)
    inputs = {"--healthy": roots[0], "--diseased": roots[1], "--masks": arguments.masks}
    for option, folder in inputs.items():
        if folder is not None:
            refuse_overlap(options.output, option, folder)
    how = arguments.patient, arguments.masks, arguments.mask_suffix
    healthy, passed_over = collect(arguments.healthy, HEALTHY, *how)
    diseased, more = collect(arguments.diseased, DISEASED, *how)
    refuse_contradiction(*roots)
    items = healthy + diseased
    if arguments.patient is None:
        items = code_patients(items)
    # Masks lie in one folder for both classes.
    names = unique_names(item.name for item in items)
    items = [item._replace(name=name) for item, name in zip(items, names, strict=True)]
    if arguments.patient is None:
        mention_same_names(items, roots)
    if arguments.masks is not None:
        items = add_masks(items, arguments.masks, arguments.mask_suffix, roots)
    about = {option.strip("-"): str(folder) for option, folder in inputs.items() if folder}
    folders = ("Healthy control", "Diseased")
    prepare(Source(items, folders, passed_over + more, arguments=about), options)


if __name__ == "__main__":
    sys.exit(run(main))
