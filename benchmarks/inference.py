"""Images per second of a test: the release's way against ours.

    python -m benchmarks.inference

The release's way: one image at a time, batch norm in training mode, upsampling and convolution
apart, the default memory format. Ours: batches of ten with the statistics of each image. Both
translate each image into a healthy one and classify it, and agree; they are timed in turns.
"""

import argparse
import time

import numpy as np
import torch

from benchmarks.training_step import CASES, plain
from descargan import HEALTHY
from descargan.device import speed_up_process
from descargan.models import Discriminator, Generator
from descargan.translator import Translator

BATCH = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--case", choices=CASES, action="append", help="default: all")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    speed_up_process()
    for case in options.case or CASES:
        size, filters, critic_filters, _ = CASES[case]
        torch.manual_seed(0)
        generator, discriminator = Generator(1, filters), Discriminator(1, critic_filters, size)
        their_generator, their_discriminator = plain(generator).train(), plain(discriminator).eval()
        translator = Translator(generator, discriminator)
        images = torch.rand(BATCH, 1, size, size) * 2 - 1

        @torch.no_grad()
        def release(
            images: torch.Tensor = images,
            generator: Generator = their_generator,
            discriminator: Discriminator = their_discriminator,
        ) -> torch.Tensor:
            translated = []
            for image in images.split(1):
                translated.append(generator(image, HEALTHY))
                discriminator.classifier(discriminator.encode(image)).softmax(dim=1)
            return torch.cat(translated)

        def ours(
            images: torch.Tensor = images, translator: Translator = translator
        ) -> torch.Tensor:
            return translator.translate(images).healthy

        torch.testing.assert_close(ours(), release(), rtol=0, atol=1e-3)
        seconds: dict[str, list[float]] = {"release": [], "ours": []}
        for _ in range(options.rounds):
            for name, work in (("release", release), ("ours", ours)):
                start = time.perf_counter()
                work()
                seconds[name].append(time.perf_counter() - start)
        ratio = np.divide(seconds["release"], seconds["ours"])
        speeds = {name: BATCH / np.median(values) for name, values in seconds.items()}
        print(
            f"{case}: release's way {speeds['release']:.2f} images/s, ours {speeds['ours']:.2f}; "
            f"ratio {np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
