"""Images per second that the loader delivers, against what a training step takes.

    python -m benchmarks.data_loading

Data sets of 4,000 and of 100,000 files of 64 x 64 with ground truth, the larger one made of hard
links to the files of the smaller: its 3 GiB do not fit the cache, so that processes read the files.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import torch

from create_synthetic_dataset import write_dataset
from descargan.data import ImageDataset, load, random_flips, shuffled_batches
from descargan.models import build_networks
from descargan.options import Options
from descargan.steps import Batch, TrainingState, train_step

BATCH = 10
SECONDS = 20.0
COPIES = 25


def delivered(dataset: ImageDataset, workers: int) -> float:
    """Images per second of an epoch, flips included, of its first 20 seconds at most."""
    start, images = time.perf_counter(), 0
    for batch, _, _ in load(dataset, shuffled_batches(dataset.classes, BATCH, 0, 0), workers):
        images += len(random_flips(batch, horizontal=True, vertical=True))
        if time.perf_counter() - start > SECONDS:
            break
    return images / (time.perf_counter() - start)


def consumed() -> float:
    """Images per second of training with few filters, critic alone, the fastest there is here."""
    torch.manual_seed(0)
    options = Options(image_size=64, base_filters=16, critic_filters=16)
    state = TrainingState(*build_networks(options), options, torch.device("cpu"))
    images, classes = torch.rand(BATCH, 1, 64, 64), torch.arange(BATCH) % 2
    batch = Batch(images, classes, options.noise * torch.rand_like(images), classes)
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        train_step(state, batch, options, with_generator=False)
        seconds.append(time.perf_counter() - start)
    return BATCH / min(seconds)


def main() -> None:
    argparse.ArgumentParser(description=__doc__.split("\n\n")[0]).parse_args()
    step = consumed()
    print(f"a training step at 64/16/16 takes {step:.0f} images/s")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_dataset(root / "small", 64, (2000, 1, 1))
        for path in (root / "small").glob("*/*/*.npy"):
            folder = root / "large" / path.parent.relative_to(root / "small")
            folder.mkdir(parents=True, exist_ok=True)
            for copy in range(COPIES):
                os.link(path, folder / f"{path.stem}-{copy}.npy")
        for folder in ("small", "large"):
            start = time.perf_counter()
            dataset = ImageDataset("Synthetic", root / folder, "train", 64)
            opened = time.perf_counter() - start
            where = "files" if dataset.cache is None else "memory"
            for workers in (0, 2) if dataset.cache is None else (0,):
                speed = delivered(dataset, workers)
                print(
                    f"{len(dataset)} images, from {where}, {workers} workers: opened in "
                    f"{opened:.1f} s, {speed:.0f} images/s, {speed / step:.0f} times the step's",
                    flush=True,
                )


if __name__ == "__main__":
    main()
