"""Other methods on the same data, behind one interface.

Each module has a function ``train(images, classes, seconds, seed) -> Explain``: it learns from
training images (N, 1, H, W) in [-1, 1] and their classes (N,), for about ``seconds``, and returns
the function that explains a batch of images.
"""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from descargan.data import random_flips

BATCH = 10


class Explanation(NamedTuple):
    """What a method says of images (B, 1, H, W); None where it does not say it."""

    difference: Tensor  # like the difference map: diseased minus healthy, or any score of a pixel
    healthy: Tensor | None = None  # pseudo-healthy images
    probability: Tensor | None = None  # of disease (B,)


Explain = Callable[[Tensor], Explanation]


def batches(images: Tensor, classes: Tensor, seconds: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Random batches of flipped images and their classes, until the time is over."""
    end = time.monotonic() + seconds
    with tqdm(unit="it") as progress:
        while time.monotonic() < end:
            index = torch.randint(len(images), (BATCH,))
            yield random_flips(images[index], horizontal=True, vertical=True), classes[index]
            progress.update()
