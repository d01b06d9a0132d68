"""The folders of a data set: which files are the images of a split, their classes and masks.

ROOT/{train,validate,test}/{healthy class, other class}/image files, and masks/ beside the two
classes where there are outlines; folder names in any case.
"""

from collections import Counter
from pathlib import Path, PurePath
from typing import NoReturn

from descargan import DISEASED, HEALTHY
from descargan.commands import command
from descargan.errors import FileError, UserError, warn
from descargan.files import place_of, read_json, read_table
from descargan.images import is_image
from descargan.kinds import PICTURES, Kind
from descargan.names import ENDINGS, PREDICTIONS, VOLUME_ENDINGS, printable
from descargan.scanning import (
    SEGMENTED,
    is_hidden,
    scan,
    suffix_of,
    why_no_image,
    without_suffix,
)

HEALTHY_NAMES = frozenset(
    {"healthy", "healthy control", "healthy controls", "control", "controls"}
    | {"normal", "normals", "no finding", "no findings"}
)
MASKS = "masks"  # folder beside the two class folders
PREPARATION = "preparation.json"  # how a data set was made, in its folder
MANIFEST = "manifest.csv"


def find_images(
    root: Path, split: str, kind: Kind, healthy_class: str | None = None
) -> tuple[list[Path], list[int]]:
    """Paths of a split, sorted within healthy then diseased, and their classes.

    What is passed over is said. Raises UserError, which names the folder at fault.
    """
    if kind.prepared and (root / PREPARATION).is_file():
        refuse_own_images(root)
    folder = find_split(root, split)
    paths, classes = [], []
    directories = class_folders(folder, healthy_class)
    for c, directory in zip((HEALTHY, DISEASED), directories, strict=True):
        found, passed_over = [], Counter()
        for path in sorted(directory.iterdir()):
            if is_hidden(path.name):
                continue
            if path.suffix.lower() == kind.suffixes if kind.prepared else is_image(path):
                found.append(path)
            else:
                passed_over["folder" if path.is_dir() else suffix_of(path) or "no suffix"] += 1
        if not found:
            if kind.prepared and any(map(is_image, directory.iterdir())):
                refuse_own_images(directory)
            raise FileError(f"{directory} holds no image ({kind.suffixes}): both classes need some")
        if passed_over:
            others = ", ".join(f"{number} {what}" for what, number in passed_over.most_common())
            warn(f"{directory}: {len(found)} images taken, passed over: {others}")
        paths += found
        classes += [c] * len(found)
    return paths, classes


def refuse_own_images(folder: Path) -> NoReturn:
    raise UserError(
        f"{folder} holds images of your own and none of the synthetic set, which is all that the "
        "networks of the project know: train on yours, with --dataset Folder"
    )


def find_masks(root: Path, split: str, images: list[Path]) -> dict[int, Path]:
    """The mask of each image that has one, by its index: SPLIT/masks/NAME of any picture type.

    NAME is that of the image, or CLASS/NAME. Raises UserError for a mask of no image.
    """
    folders = [p for p in subfolders(find_split(root, split)) if p.name.lower() == MASKS]
    if not folders:
        return {}
    by_name: dict[str, list[int]] = {}
    for index, path in enumerate(images):
        # What looks like a suffix may be none.
        for name in {path.name, without_suffix(Path(path.name))}:
            by_name.setdefault(name, []).append(index)
            by_name.setdefault(f"{path.parent.name}/{name}", []).append(index)
    masks: dict[int, Path] = {}
    for path in sorted(folders[0].rglob("*")):
        if not is_image(path) and why_no_image(path) != SEGMENTED:
            continue
        found = by_name.get(without_suffix(path.relative_to(folders[0])), [])
        if len(found) != 1 or found[0] in masks:
            problem = "is of no image" if not found else "could be of several images, or is double"
            raise FileError(f"{path} {problem} of this split: name it as its image, or remove it")
        masks[found[0]] = path
    return masks


def read_preparation(root: Path) -> dict[str, str | float | None]:
    """How the images of a data set were made of their files: options that its training takes over.

    None where it is not known, and of ``scaling`` where the images are as they were stored. Raises
    UserError where the file is damaged.
    """
    stored = read_json(root / PREPARATION) if root.is_dir() else {}
    return {name: stored.get(name) for name in ("scaling", "axis", "slices")}


def is_in_one_unit(root: Path, scaling: str) -> bool:
    """Whether the images of a data set were brought to one unit by ``scaling`` in its preparation.

    Then black is -1, white is 1, and scaling each image anew would take slices of a volume apart.
    """
    stored = read_json(root / PREPARATION)
    return bool(stored.get("in_one_unit")) and stored.get("scaling") == scaling


def read_patients(root: Path, images: list[Path]) -> list[str]:
    """The patient of each image, by the ``manifest.csv`` of a prepared data set.

    Empty where there is none, or where it does not name every image with a patient.
    """
    try:
        patients = {row["file"]: row["patient"] for row in read_table(root / MANIFEST)}
    except (OSError, KeyError, ValueError):
        return []
    found = [patients.get(printable(path.relative_to(root).as_posix())) for path in images]
    return found if all(found) else []


def find_files(source: Path) -> list[Path]:
    """A file itself, or the images below a folder, without masks and results of predictions there.

    What is passed over is said. Raises UserError where there is none.
    """
    if source.is_file():
        return [source]
    found, passed_over = scan(source) if source.is_dir() else ([], [])
    if (source / PREDICTIONS).is_file():
        endings = ENDINGS + VOLUME_ENDINGS
        results = [path for path in found if path.name.endswith(endings)]
        found = [path for path in found if not path.name.endswith(endings)]
        passed_over += [(path, "result of a prediction") for path in results]
    masks = {path for path in found if is_of_masks(path.relative_to(source).parent)}
    found = [path for path in found if path not in masks]
    passed_over += [(path, "mask") for path in masks]
    if passed_over:
        reasons = Counter(reason for _, reason in passed_over).most_common()
        warn(f"{source}: passed over " + ", ".join(f"{n} x {reason}" for reason, n in reasons))
    if not found:
        problem = "is neither a file nor a folder" if source.exists() else "does not exist"
        problem = f"holds no image ({PICTURES})" if source.is_dir() else problem
        raise FileError(f"{source} {problem}: pass a file or a folder to --input")
    return found


def masks_inside(root: Path, masks: Path | None) -> PurePath | None:
    """The path of a folder of masks below ``root``; None where it lies elsewhere, or is that."""
    if masks is None or place_of(root) not in place_of(masks).parents:
        return None
    return place_of(masks).relative_to(place_of(root))


def is_of_masks(folder: PurePath, masks: PurePath | None = None) -> bool:
    """Whether a folder, by its path below a root, is ``masks`` or called so, or lies in one."""
    named = MASKS in map(str.lower, folder.parts)
    return named or (masks is not None and folder.is_relative_to(masks))


def find_split(root: Path, split: str) -> Path:
    """The folder of a split, in any case."""
    if not root.is_dir():
        raise FileError(
            f"{root} is no folder: pass the data set's to --dataset-path; "
            f"{command('prepare_folders.py', '--help')} says how to make one of your images"
        )
    found = folders_of(root, split)
    if len(found) != 1:
        problem = "has no folder" if not found else "has several folders for"
        words = "--healthy", "DIR", "--diseased", "DIR", "--output", "DIR"
        making = command("prepare_folders.py", *words)
        raise UserError(
            f"{root} {problem} '{split}': a training needs train and validate, a test needs test; "
            f"of two folders of images '{making}' makes them"
        )
    return found[0]


def folders_of(root: Path, split: str) -> list[Path]:
    names = {"validate": ("validate", "validation", "valid", "val")}.get(split, (split,))
    return [path for path in subfolders(root) if path.name.lower() in names]


def class_folders(folder: Path, healthy_class: str | None) -> tuple[Path, Path]:
    """The folders of the healthy and of the diseased class, told apart by name."""
    folders = [p for p in subfolders(folder) if p.name.lower() != MASKS]
    names = ", ".join(repr(p.name) for p in folders) or "none"
    if len(folders) != 2:
        raise UserError(f"{folder} must hold two class folders; it holds {names}")
    wanted = HEALTHY_NAMES if healthy_class is None else {canonical(healthy_class)}
    matches = [canonical(p.name) in wanted for p in folders]
    if sum(matches) != 1:
        raise UserError(
            f"{folder} holds the class folders {names}: name the healthy one with --healthy-class"
        )
    return (folders[0], folders[1]) if matches[0] else (folders[1], folders[0])


def has_class(root: Path, name: str) -> bool:
    """Whether a data set has class folders of that name."""
    return any(canonical(path.name) == canonical(name) for path in root.glob("*/*"))


def canonical(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


def subfolders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
