"""Predict mode: images without labels, one or many, to maps, masks, probabilities and scores."""

import io
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain, groupby, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from descargan import CLASS_NAMES
from descargan.data import as_it_is
from descargan.errors import UserError, warn
from descargan.figures import grey, mask_picture, overlay
from descargan.files import naming, read_table, write_atomically, write_table
from descargan.layout import find_files
from descargan.names import ENDINGS, PREDICTIONS, VOLUME_ENDINGS, printable, result_name
from descargan.options import Options
from descargan.pipeline import ahead
from descargan.progress import progress_bar
from descargan.reading import Reading
from descargan.report import Card, Gallery, Said, write_report
from descargan.scores import Row
from descargan.sources import Picture, Preprocessing, as_shown, read_pictures, spans_of_series
from descargan.translator import Result, Translator
from descargan.volumes import is_volume, on_grid, read_volume, slice_number, write_map

AHEAD = 100  # images that are translated before the last is written, or a batch of them
NAMED = 5  # files that a sentence names at most
PART = re.compile(r"\.(frame|page)-\d+(?=\.)")  # in the name of a result
FIELDS = ("file", "slice", "predicted", "probability", "anomaly_score", "unlike_training", "error")


class Shot(NamedTuple):
    """A picture of a file, or what is wrong with the file."""

    path: Path
    picture: Picture | None
    error: str = ""


class Found(NamedTuple):
    """A picture, its result and what is said of it; without them where the file is broken."""

    path: Path
    picture: Picture | None
    result: Result | None
    row: Row


class Files(Dataset):
    """Image files of any size: all pictures of a file, or what is wrong with it."""

    def __init__(self, paths: list[Path], how: Preprocessing) -> None:
        self.paths, self.how = paths, how
        self.spans = spans_of_series(paths, how.scaling)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> list[Shot]:
        path = self.paths[index]
        try:
            pictures = read_pictures(path, self.how, self.spans.get(path))
        except UserError as error:
            return [Shot(path, None, str(error))]
        return [Shot(path, picture) for picture in pictures]


def predict(options: Options, translator: Translator) -> int:
    """Write maps, pictures, ``predictions.csv`` and ``report.html`` to ``options.results_dir``.

    For FILE, at the file's own size: FILE.healthy.png, the pseudo-healthy image; FILE.map.npy, the
    difference map, float32 (H, W); FILE.score.npy, the score map; FILE.overlay.png, the difference
    map over the image; FILE.mask.png, white where the score map is over the threshold, if there is
    one. Of several frames or pages each
    has its own, FILE.frame-001.map.npy and so on; a volume has volumes: see :func:`write_volumes`.
    A file that cannot be read is a row with its error. Returns how many there were. Raises
    UserError where none can be read, and then leaves an earlier prediction as it is, and where an
    image would be overwritten.
    """
    paths = find_files(options.input)
    folder = options.input if options.input.is_dir() else options.input.parent
    results = options.results_dir
    refuse_own_input(paths, folder, results)
    make_folder(results)
    earlier, written = earlier_files(results), set()
    rows, gallery = [], Gallery()
    found = ahead(translate_files(translator, paths, options), min(options.batch_size, AHEAD))
    try:
        of_files = groupby(found, lambda one: one.path)
        for path, group in progress_bar(of_files, total=len(paths), unit="file"):
            name, maps = path.relative_to(folder), {}
            for _, picture, result, said in group:
                rows.append({"file": printable(name.as_posix()), **said})
                if result is None:
                    continue
                image = as_shown(picture, translator.preprocessing.scaling)
                if is_volume(path):
                    maps[picture.name] = replace(result, flow=None)  # which takes half the memory
                else:
                    written |= write_images(results / of_slice(name, picture.name), image, result)
                gallery.add(describe_card(rows[-1], image, result))
            if maps:
                written |= write_volumes(results / name, path, translator, maps)
    finally:
        kept = not gallery.number and (results / PREDICTIONS).exists()
        if not kept:
            write_rows(results / PREDICTIONS, rows)
    if not gallery.number:
        more = "what is there stays" if kept else f"see 'error' in {results / PREDICTIONS}"
        raise UserError(
            f"none of the {len(rows)} images can be read, the first by this: {rows[0]['error']}; "
            f"{more}"
        )
    for path in earlier - written:
        path.unlink(missing_ok=True)
    return conclude(options, rows, gallery, translator.reading)


def write_rows(table: Path, rows: list[Row]) -> None:
    write_table(table, FIELDS, ([row.get(name, "") for name in FIELDS] for row in rows))


def results_of(targets: set[Path]) -> set[Path]:
    """Every file that may be written for images of these names, in the folder of the results."""
    endings = ENDINGS + VOLUME_ENDINGS
    return {path.with_name(result_name(path.name, e)) for path in targets for e in endings}


def refuse_own_input(paths: list[Path], folder: Path, results: Path) -> None:
    """Raise UserError where an image in a folder has the name of a result, or is an earlier one."""
    named_so = [path for path in paths if path.name.endswith(ENDINGS + VOLUME_ENDINGS)]
    if not named_so:
        return
    coming = results_of({results / path.relative_to(folder) for path in paths})
    written = {path.resolve() for path in coming | earlier_files(results)}
    for path in named_so:
        name = path.resolve()
        if name in written or name.with_name(PART.sub("", name.name)) in written:
            raise UserError(
                f"{path} is an image to predict and has the name of a result, which would replace "
                "it: pass another --results-dir, or rename it"
            )


def earlier_files(results: Path) -> set[Path]:
    """What an earlier prediction has left in a folder, by its table: of other images, old masks."""
    try:
        rows = [(Path(row["file"]), row["slice"]) for row in read_table(results / PREDICTIONS)]
    except (OSError, KeyError, ValueError, TypeError):  # none, or no table of ours
        return set()
    inside = [row for row in rows if not row[0].is_absolute() and ".." not in row[0].parts]
    named = {of_slice(*row) for row in inside} | {name for name, _ in inside}
    return {path for path in results_of({results / name for name in named}) if path.is_file()}


def conclude(options: Options, rows: list[Row], gallery: Gallery, reading: Reading) -> int:
    """Write the report and say what there is to say. Returns how many files cannot be read."""
    table = options.results_dir / PREDICTIONS
    broken = [row["file"] for row in rows if row["error"]]
    unlike = sum(row.get("unlike_training") == 1 for row in rows)
    read = len(rows) - len(broken)
    notes = [reading.reason, unlike_sentence(unlike, read), broken_sentence(broken)]
    notes = [note for note in notes if note]
    for note in notes:
        warn(note)
    summary = f"{read} images"
    diseased = sum(row.get("predicted") == 1 for row in rows)
    verdict = f"{diseased} of {summary} are called diseased by the classifier"
    report = write_report(options, Said(verdict, summary, notes, reading.masks), gallery)
    print(f"{summary}; written to {table}; to look at: {report}")
    return len(broken)


def unlike_sentence(unlike: int, number: int) -> str:
    if not unlike:
        return ""
    return (
        f"{unlike} of {number} images are unlike those that the networks were trained on "
        f"(column unlike_training of {PREDICTIONS}): what is said of them means nothing"
    )


def broken_sentence(files: list[str]) -> str:
    if not files:
        return ""
    more = f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
    return (
        f"{len(files)} of the files cannot be read and are left out: {', '.join(files[:NAMED])}"
        f"{more}; the column 'error' of {PREDICTIONS} says why"
    )


def translate_files(translator: Translator, paths: list[Path], options: Options) -> Iterator[Found]:
    """The pictures of all files in order, translated in batches, whatever file they are of."""
    for batch in in_batches(read_files(translator, paths, options), options.batch_size):
        pictures = [shot.picture for shot in batch if shot.picture is not None]
        results = iter(translator.translate_pictures(pictures) if pictures else ())
        for path, picture, error in batch:
            if picture is None:
                yield Found(path, None, None, {"error": printable(error)})
                continue
            result = next(results)
            unlike = result.unlike_training
            row: Row = {
                "slice": picture.name,
                "predicted": result.predicted,
                "probability": result.probability,
                "anomaly_score": result.score,
                "unlike_training": "" if unlike is None else int(unlike),
                "error": "",
            }
            yield Found(path, picture, result, row)


def read_files(translator: Translator, paths: list[Path], options: Options) -> Iterator[Shot]:
    """The pictures of all files in order; volumes are large, so they are read one at a time."""
    parallel = len(paths) > options.batch_size and not any(map(is_volume, paths))
    loader = DataLoader(
        Files(paths, translator.preprocessing),
        batch_size=None,
        collate_fn=as_it_is,
        num_workers=options.workers if parallel else 0,
    )
    return chain.from_iterable(loader)


def in_batches(shots: Iterator[Shot], size: int) -> Iterator[list[Shot]]:
    while batch := list(islice(shots, size)):
        yield batch


def of_slice(name: Path, part: str) -> Path:
    """What the results of a part of a file are named by: FILE, or FILE.frame-001."""
    return name.with_name(f"{name.name}.{part}") if part else name


def write_volumes(
    target: Path, source: Path, translator: Translator, found: Mapping[str, Result]
) -> set[Path]:
    """Write the files of the volume ``source``, on its grid, NaN on slices that were not taken.

    ``found`` has the results by the names of their slices. Gives the files that were written.
    FILE.map.nii.gz, the difference map; FILE.score.nii.gz, the score map; FILE.healthy.nii.gz, the
    pseudo-healthy image, in the unit of images in [-1, 1]; FILE.mask.nii.gz, 1 where the score map
    is over the threshold, if there is one, and else 0.
    """
    make_folder(target.parent)
    volume, axis = read_volume(source), translator.preprocessing.axis
    results = {slice_number(name): result for name, result in found.items()}
    scores = {n: on_grid(result.score_map, volume, axis) for n, result in results.items()}
    written = {
        ".map.nii.gz": {n: result.difference for n, result in results.items()},
        ".score.nii.gz": scores,
        ".healthy.nii.gz": {n: result.healthy for n, result in results.items()},
    }
    if translator.reading.threshold is not None:  # of the scores as they are written
        written[".mask.nii.gz"] = {n: translator.reading.mask(s) for n, s in scores.items()}
    paths = [target.parent / result_name(target.name, ending) for ending in written]
    for path, maps in zip(paths, written.values(), strict=True):
        write_map(path, volume, axis, maps)
    return set(paths)


def write_images(target: Path, image: np.ndarray, result: Result) -> set[Path]:
    """Write the files of an image (H, W) in [-1, 1], at its own size, each as a whole; gives them.

    All at once, as most of the time goes by until the disk has them.
    """
    make_folder(target.parent)
    contents = {
        ".map.npy": npy(result.difference),
        ".score.npy": npy(result.score_map),
        ".healthy.png": png(grey(result.healthy)),
        ".overlay.png": png(overlay(image, result.difference)),
    }
    if result.mask is not None:
        contents[".mask.png"] = png(mask_picture(result.mask))
    paths = [target.parent / result_name(target.name, ending) for ending in contents]
    with ThreadPoolExecutor(len(paths)) as threads:
        list(threads.map(write_atomically, paths, contents.values()))
    return set(paths)


def make_folder(folder: Path) -> None:
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()


def describe_card(row: Row, image: np.ndarray, result: Result) -> Card:
    """An image of the report."""
    panels = {
        "image": grey(image),
        "pseudo-healthy": grey(result.healthy),
        "map": overlay(image, result.difference),
    }
    if result.mask is not None:
        panels["mask"] = mask_picture(result.mask)
    said = f"{CLASS_NAMES[row['predicted']]}, P(disease) {row['probability']:.2f}"
    flag = "unlike the training images" if row["unlike_training"] == 1 else ""
    name = " ".join(filter(None, (row["file"], row["slice"])))
    return Card(name, row["anomaly_score"], said, flag, panels)
