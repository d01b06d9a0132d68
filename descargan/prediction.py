"""Predict mode: images without labels, one or many, to maps, masks, probabilities and scores."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from descargan import CLASS_NAMES
from descargan.checkpoints import Run
from descargan.data import as_it_is
from descargan.errors import UserError, warn
from descargan.figures import grey, mask_picture, overlay
from descargan.files import naming, write_atomically, write_table
from descargan.images import in_unit, read_image
from descargan.layout import find_files
from descargan.likeness import Likeness, read_likeness
from descargan.names import PREDICTIONS, printable, result_name
from descargan.options import Options
from descargan.reading import Reading, reading_of
from descargan.report import Card, Gallery, write_report
from descargan.translator import Result, Translator

FIELDS = ("file", "predicted", "probability", "anomaly_score", "unlike_training", "error")
Row = dict[str, str | int | float]


class Files(Dataset):
    """Image files of any size; a batch is a list of (original (H, W), what is wrong)."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[np.ndarray | None, str]:
        try:
            return read_image(self.paths[index])[0], ""
        except UserError as error:
            return None, str(error)


def predict(options: Options, translator: Translator) -> int:
    """Write maps, pictures, ``predictions.csv`` and ``report.html`` to ``options.results_dir``.

    For FILE, at the file's own size: FILE.healthy.png, the pseudo-healthy image; FILE.map.npy, the
    difference map, float32 (H, W); FILE.overlay.png, the map over the image; FILE.mask.png, white
    where the score map is over the threshold, if there is one. A file that cannot be read is a
    row with its error. Returns how many there were. Raises UserError where none can be read.
    """
    paths = find_files(options.input)
    folder = options.input if options.input.is_dir() else options.input.parent
    run, results = Run(options.save_dir, options.dataset), options.results_dir
    reading, likeness = reading_of(options), read_likeness(run.likeness)
    with naming(results):
        results.mkdir(parents=True, exist_ok=True)
    rows, gallery = [], Gallery()
    found = translate_files(translator, paths, options, likeness)
    try:
        for path, (original, result, said) in zip(tqdm(paths, unit="image"), found, strict=True):
            name = path.relative_to(folder)
            rows.append({"file": printable(name.as_posix()), **said})
            if result is not None:
                image = in_unit(original[None], translator.scaling)[0].numpy()
                write_images(results / name, image, result, reading)
                gallery.add(describe_card(rows[-1], image, result, reading))
    finally:
        write_table(
            results / PREDICTIONS, FIELDS, ([row.get(name, "") for name in FIELDS] for row in rows)
        )
    return conclude(options, rows, gallery, reading)


def conclude(options: Options, rows: list[Row], gallery: Gallery, reading: Reading) -> int:
    """Write the report and say what there is to say. Returns how many files cannot be read."""
    table = options.results_dir / PREDICTIONS
    broken = sum(bool(row["error"]) for row in rows)
    if broken == len(rows):
        raise UserError(f"none of the {broken} images can be read: see 'error' in {table}")
    unlike = sum(row.get("unlike_training") == 1 for row in rows)
    notes = [note for note in (reading.reason, unlike_sentence(unlike, len(rows))) if note]
    for note in notes:
        warn(note)
    summary = f"{len(rows)} images, {broken} of them unreadable"
    report = write_report(options, summary, gallery, notes)
    print(f"{summary}; written to {table}; to look at: {report}")
    return broken


def unlike_sentence(unlike: int, number: int) -> str:
    if not unlike:
        return ""
    return (
        f"{unlike} of {number} images are unlike those that the networks were trained on "
        "(column unlike_training): what is said of them means nothing"
    )


def translate_files(
    translator: Translator, paths: list[Path], options: Options, likeness: Likeness | None
) -> Iterator[tuple[np.ndarray | None, Result | None, Row]]:
    """For each file the image (H, W), its result, and what is said of it; or what is wrong."""
    loader = DataLoader(
        Files(paths),
        batch_size=options.batch_size,
        collate_fn=as_it_is,
        num_workers=options.workers if len(paths) > options.batch_size else 0,
    )
    for batch in loader:
        readable = [original for original, error in batch if not error]
        results = iter(translator.translate_originals(readable) if readable else ())
        unlike = iter(())
        if likeness is not None and readable:
            unlike = iter(likeness.is_unlike(translator.as_input(readable)))
        for original, error in batch:
            if error:
                yield original, None, {"error": printable(error)}
                continue
            result, flag = next(results), next(unlike, None)
            row: Row = {
                "predicted": int(result.probability > 0.5),
                "probability": result.probability,
                "anomaly_score": result.score,
                "unlike_training": "" if flag is None else int(flag),
                "error": "",
            }
            yield original, result, row


def write_images(target: Path, image: np.ndarray, result: Result, reading: Reading) -> None:
    """The files of an image (H, W) in [-1, 1], at its own size, each written as a whole."""

    def write(ending: str, content: bytes) -> None:
        write_atomically(target.parent / result_name(target.name, ending), content)

    with naming(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.save(buffer, result.difference)
    write(".map.npy", buffer.getvalue())
    write(".healthy.png", png(grey(result.healthy)))
    write(".overlay.png", png(overlay(image, result.difference)))
    if reading.threshold is not None:
        score = reading.score_map(result.difference)
        write(".mask.png", png(mask_picture(score, reading.threshold)))


def png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()


def describe_card(row: Row, image: np.ndarray, result: Result, reading: Reading) -> Card:
    """An image of the report."""
    panels = {
        "image": grey(image),
        "pseudo-healthy": grey(result.healthy),
        "map": overlay(image, result.difference),
    }
    if reading.threshold is not None:
        score = reading.score_map(result.difference)
        panels["mask"] = mask_picture(score, reading.threshold)
    said = f"{CLASS_NAMES[row['predicted']]}, P(disease) {row['probability']:.2f}"
    flag = "unlike the training images" if row["unlike_training"] == 1 else ""
    return Card(row["file"], row["anomaly_score"], said, flag, panels)
