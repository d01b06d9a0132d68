"""Predict mode: images without labels, one or many, to maps, probabilities and scores."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from descargan.data import as_it_is, find_files
from descargan.errors import UserError
from descargan.figures import overlay
from descargan.files import write_atomically
from descargan.images import read_image, scale_to_range
from descargan.options import Options
from descargan.translator import Result, Translator

FIELDS = ("file", "probability", "anomaly_score", "error")


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
    """Write maps, pictures and ``predictions.csv`` to ``options.results_dir``.

    For FILE, at the file's own size: FILE.healthy.png, the pseudo-healthy image; FILE.map.npy, the
    difference map, float32 (H, W); FILE.overlay.png, the map over the image. A file that cannot be
    read is a row with its error. Returns how many there were.
    """
    paths = find_files(options.input)
    folder = options.input if options.input.is_dir() else options.input.parent
    results = options.results_dir
    results.mkdir(parents=True, exist_ok=True)
    names = [path.relative_to(folder) for path in paths]
    broken = 0
    table = results / "predictions.csv"
    with table.open("w", newline="") as file, tqdm(total=len(paths), unit="image") as progress:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        found = translate_files(translator, paths, options.batch_size, options.workers)
        for name, (original, result, error) in zip(names, found, strict=True):
            row = {"file": name.as_posix(), "error": error}
            if result is not None:
                row |= {"probability": result.probability, "anomaly_score": result.score}
                write_images(results / name, original, result)
            broken += bool(error)
            writer.writerow(row)
            file.flush()
            progress.update()
    print(f"{len(paths)} images, {broken} of them unreadable; written to {table}")
    return broken


def translate_files(
    translator: Translator, paths: list[Path], batch_size: int, workers: int
) -> Iterator[tuple[np.ndarray | None, Result | None, str]]:
    """For each file the image (H, W) and its result, or what is wrong with it."""
    loader = DataLoader(
        Files(paths),
        batch_size=batch_size,
        collate_fn=as_it_is,
        num_workers=workers if len(paths) > batch_size else 0,
    )
    for batch in loader:
        readable = [original for original, error in batch if not error]
        results = iter(translator.translate_originals(readable) if readable else ())
        for original, error in batch:
            yield original, None if error else next(results), error


def write_images(target: Path, original: np.ndarray, result: Result) -> None:
    """The three files of an image, at its own size (H, W), each written as a whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    image = scale_to_range(torch.from_numpy(original.astype(np.float32))[None, None])[0, 0].numpy()
    grey = np.rint(255 * np.clip((result.healthy + 1) / 2, 0, 1)).astype(np.uint8)
    buffer = io.BytesIO()
    np.save(buffer, result.difference)
    write_atomically(target.with_name(f"{target.name}.map.npy"), buffer.getvalue())
    for name, picture in (("healthy", grey), ("overlay", overlay(image, result.difference))):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, format="PNG")
        write_atomically(target.with_name(f"{target.name}.{name}.png"), buffer.getvalue())
