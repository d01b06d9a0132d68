"""Images per second of a test: the release's way against ours; and of a folder of files.

    python -m benchmarks.inference
    python -m benchmarks.inference --part folder --files 10000
    python -m benchmarks.inference --part maps --run save_nets/pretrained --run runs/paper-64

The release's way: one image at a time, batch norm in training mode, upsampling and convolution
apart, the default memory format. Ours: batches of ten with the statistics of each image, in float32
and in mixed precision. All translate each image into a healthy one and classify it; they are timed
in turns, by the processor's time, which others on the machine disturb less than the clock.

The maps in mixed precision are held against those in float32, of trained networks on samples of the
synthetic data set: those that come along, or those of the runs named.

The folder holds files of 8 bits and 64 x 64, made for it, which ``--mode predict`` reads and writes
the maps of; the networks are those that come along. The growth of the resident memory is told after
each tenth of the files.
"""

import argparse
import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.training_step import CASES, Counter, memory_of_process, plain
from create_synthetic_dataset import make_sample
from descargan import HEALTHY, prediction
from descargan.device import speed_up_process
from descargan.models import Discriminator, Generator
from descargan.options import Options
from descargan.settings import settle
from descargan.translator import Translator, averaged_flips

PARTS = ("images", "maps", "folder")
BATCH = 10
SIDE = 64  # pixels, of the files in the folder and of the samples
SAMPLES = 20
PRETRAINED = Path("save_nets", "pretrained")


@torch.no_grad()
def as_released(networks: tuple[nn.Module, nn.Module], images: Tensor) -> Tensor:
    """The translations, one by one; each image is classified, too."""
    generator, discriminator = networks
    translated = []
    for image in images.split(1):
        translated.append(generator(image, HEALTHY))
        discriminator.classifier(discriminator.encode(image)).softmax(dim=1)
    return torch.cat(translated)


def ours(translator: Translator, amp: bool, images: Tensor) -> Tensor:
    translator.amp = amp
    return translator.translate(images).healthy


def compare(case: str, rounds: int) -> None:
    """Print images a second of each way and the ratios of times and of multiply-adds."""
    size, filters, critic_filters, _ = CASES[case]
    torch.manual_seed(0)
    networks = Generator(1, filters), Discriminator(1, critic_filters, size)
    theirs = plain(networks[0]).train(), plain(networks[1]).eval()
    translator = Translator(*networks)
    images = torch.rand(BATCH, 1, size, size) * 2 - 1
    ways: dict[str, Callable[[], Tensor]] = {
        "release's way": lambda: as_released(theirs, images),
        "ours": lambda: ours(translator, False, images),
        "ours, --amp": lambda: ours(translator, True, images),
    }
    operations = [count(ways[name]) for name in ("release's way", "ours")]
    torch.testing.assert_close(ways["ours"](), ways["release's way"](), rtol=0, atol=1e-3)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            start = time.process_time()
            work()
            seconds[name].append(time.process_time() - start)
    released = np.array(seconds["release's way"])
    print(f"{case}: ratio of multiply-adds {operations[0] / operations[1]:.2f}")
    for name, values in seconds.items():
        ratio, least = released / values, released.min() / min(values)
        print(
            f"  {name}: {BATCH / min(values):.2f} images/s, ratio of times {least:.2f} "
            f"({ratio.min():.2f} to {ratio.max():.2f})",
            flush=True,
        )


def count(work: Callable[[], Tensor]) -> float:
    with Counter() as counter:
        work()
    return counter.total


def compare_maps(runs: list[Path]) -> None:
    """Print how far difference maps in mixed precision are from those in float32."""
    samples = [
        make_sample(np.random.default_rng(n), SIDE, "atrophy" if n % 2 else None)[:1]
        for n in range(SAMPLES)
    ]
    images = torch.from_numpy(np.stack(samples).astype(np.float32))
    for folder in runs:
        translator = Translator.load(folder, device="cpu")
        full = translator.translate(images).difference
        translator.amp = True
        off = (translator.translate(images).difference - full).abs().flatten()
        print(
            f"maps of {folder}, --amp: largest difference {off.max():.4f}, of 99.9 % of the pixels "
            f"below {off.quantile(0.999):.4f}, mean {off.mean():.5f}"
        )


def predict_folder(files: int) -> None:
    """Print images a second of a folder, with the mean over flips and without, and its memory."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made, "images")
        folder.mkdir()
        rng = np.random.default_rng(0)
        for n in range(files):
            coarse = Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8))
            coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / f"{n:06}.png")
        for average in (False, True):
            options = settle({"mode": "predict", "input": folder, "save_dir": PRETRAINED})
            results = Path(made, f"results-{average}")
            options = replace(options, average_flips=average, results_dir=results)
            seconds, memory = time_prediction(options, files)
            flips = "mean over four flips" if average else "no flips"
            curve = ", ".join(f"{mebibytes:+.0f}" for mebibytes in memory)
            print(f"{flips}: {files / seconds:.1f} images/s; MiB after each tenth: {curve}")


def time_prediction(options: Options, files: int) -> tuple[float, list[float]]:
    """Seconds of a prediction, and by how much the memory has grown after each tenth of it."""
    translator = Translator.of(options)
    translator.flips = averaged_flips(options)
    memory: list[float] = []
    translated = prediction.translate_files

    def watched(*arguments: object) -> Iterator[prediction.Found]:
        for n, found in enumerate(translated(*arguments), 1):
            yield found
            if n % max(1, files // 10) == 0:
                memory.append(memory_of_process("VmRSS"))

    start = time.process_time()
    prediction.translate_files = watched
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            prediction.predict(options, translator)
    finally:
        prediction.translate_files = translated
    return time.process_time() - start, [now - memory[0] for now in memory]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--part", choices=PARTS, action="append", help="default: all")
    parser.add_argument("--case", choices=CASES, action="append", help="default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--run", type=Path, action="append", help="whose maps are compared")
    parser.add_argument("--files", type=int, default=10000, help="in the folder")
    options = parser.parse_args()
    parts = options.part or PARTS
    speed_up_process()
    if "images" in parts:
        for case in options.case or CASES:
            compare(case, options.rounds)
    if "maps" in parts:
        compare_maps(options.run or [PRETRAINED])
    if "folder" in parts:
        predict_folder(options.files)


if __name__ == "__main__":
    main()
