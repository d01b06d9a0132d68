"""Predict mode: images without labels, one or many, to maps, probabilities and scores."""

import argparse
import csv
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from descargan.data import SUFFIXES, as_it_is
from descargan.errors import UserError
from descargan.evaluation import arrays, averaged_flips, translate
from descargan.figures import overlay
from descargan.images import fit, read_image, scale_to_range, unfit
from descargan.models import Discriminator, Generator

FIELDS = ("file", "probability", "anomaly_score", "error")


class Files(Dataset):
    """Image files of any size; a batch is a list of (original (1, H, W), what is wrong)."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[np.ndarray | None, str]:
        try:
            return read_image(self.paths[index])[:1], ""
        except UserError as error:
            return None, str(error)


def find_files(source: Path) -> list[Path]:
    """A file itself, or the images below a folder. Raises UserError where there is none."""
    if source.is_file():
        return [source]
    suffixes = SUFFIXES["Chexpert"]
    found = sorted(p for p in source.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
    if not found:
        problem = f"holds no image ({', '.join(suffixes)})" if source.is_dir() else "does not exist"
        raise UserError(f"{source} {problem}: pass a file or a folder to --input")
    return found


def predict(
    generator: Generator,
    discriminator: Discriminator,
    options: argparse.Namespace,
    device: torch.device,
) -> int:
    """Write maps, pictures and ``predictions.csv`` to ``options.results_dir``.

    For FILE, at the file's own size: FILE.healthy.png, the pseudo-healthy image; FILE.map.npy, the
    difference map, float32 (H, W); FILE.overlay.png, the map over the image. A file that cannot be
    read is a row with its error.
    """
    for network in (generator, discriminator):
        network.to(device, memory_format=torch.channels_last)
    paths = find_files(options.input)
    folder = options.input if options.input.is_dir() else options.input.parent
    results: Path = options.results_dir
    results.mkdir(parents=True, exist_ok=True)
    loader = DataLoader(
        Files(paths),
        batch_size=options.batch_size,
        collate_fn=as_it_is,
        num_workers=options.workers if len(paths) > options.batch_size else 0,
    )
    broken = 0
    table = results / "predictions.csv"
    with table.open("w", newline="") as file, tqdm(total=len(paths), unit="image") as progress:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        names = (path.relative_to(folder) for path in paths)
        for batch in loader:
            readable = [original for original, error in batch if not error]
            outcomes = iter(
                translate_originals(generator, discriminator, readable, options, device)
            )
            for original, error in batch:
                name = next(names)
                row = {"file": name.as_posix(), "error": error}
                if original is not None:
                    healthy, difference, row["probability"], row["anomaly_score"] = next(outcomes)
                    write_images(results / name, original[0], healthy, difference)
                broken += bool(error)
                writer.writerow(row)
            file.flush()
            progress.update(len(batch))
    print(f"{len(paths)} images, {broken} of them unreadable; written to {table}")
    return 0


def translate_originals(
    generator: Generator,
    discriminator: Discriminator,
    originals: list[np.ndarray],
    options: argparse.Namespace,
    device: torch.device,
) -> list[tuple[np.ndarray, np.ndarray, float, float]]:
    """Pseudo-healthy image, difference map, probability and anomaly score of each (1, H, W)."""
    if not originals:
        return []
    fitted = [fit(original, options.image_size).astype(np.float32) for original in originals]
    images = scale_to_range(torch.from_numpy(np.stack(fitted)))
    images = images.to(device, memory_format=torch.channels_last)
    classes = torch.zeros(len(images), dtype=torch.long)
    batch = translate(
        generator,
        discriminator,
        images,
        torch.zeros_like(images),
        classes,
        flips=averaged_flips(options),
    )
    scores = batch.difference.abs().mean(dim=(1, 2, 3))
    return list(
        zip(
            arrays(batch.healthy),
            arrays(batch.difference),
            batch.probability.tolist(),
            scores.tolist(),
            strict=True,
        )
    )


def write_images(
    target: Path, original: np.ndarray, healthy: np.ndarray, difference: np.ndarray
) -> None:
    """The three files of an image, at its own size (H, W)."""
    target.parent.mkdir(parents=True, exist_ok=True)
    size = original.shape
    image = scale_to_range(torch.from_numpy(original.astype(np.float32))[None, None])[0, 0].numpy()
    healthy, difference = unfit(healthy, *size), unfit(difference, *size)
    grey = np.rint(255 * np.clip((healthy + 1) / 2, 0, 1)).astype(np.uint8)
    Image.fromarray(grey).save(target.with_name(f"{target.name}.healthy.png"))
    np.save(target.with_name(f"{target.name}.map.npy"), difference)
    Image.fromarray(overlay(image, difference)).save(target.with_name(f"{target.name}.overlay.png"))
