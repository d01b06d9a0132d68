"""Other methods on the same data, behind one interface.

Each module has a function ``train(training, budget, seed) -> Explain``: it learns from a
:class:`Training` for about as long as a :class:`Budget` says, and returns the function that
explains a batch of images.
"""

import math
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import NamedTuple

import torch
from torch import Tensor, nn

from descargan import DISEASED, HEALTHY
from descargan.augmentation import augment
from descargan.data import random_flips
from descargan.progress import progress_bar
from descargan.translator import all_flips

BATCH = 10
LEARNING_RATE, BETAS = 1e-3, (0.5, 0.99)
WARM_UP = 50  # iterations
LARGEST_NORM = 5.0  # of the gradient


class Training(NamedTuple):
    """What a method may learn from."""

    images: Tensor  # (N, 1, H, W) in [-1, 1]
    classes: Tensor  # (N,)
    flips: tuple[bool, bool]  # whether images may be mirrored left-right and up-down
    augmented: bool = True  # also turned, scaled, shifted, brighter and darker
    masks: Tensor | None = None  # (N, 1, H, W) of 0 and 1, for the upper bound alone


class Budget(NamedTuple):
    """How long a method may learn; what ends first ends it."""

    seconds: float = math.inf  # of the processor, in this process
    iterations: float = math.inf


class Explanation(NamedTuple):
    """What a method says of images (B, 1, H, W); None where it does not say it."""

    difference: Tensor  # like the difference map: diseased minus healthy, or any score of a pixel
    healthy: Tensor | None = None  # pseudo-healthy images
    probability: Tensor | None = None  # of disease (B,)


Explain = Callable[[Tensor], Explanation]


def spend(budget: Budget) -> Iterator[float]:
    """One number an iteration until the budget is spent: the share of it that is."""
    start = time.process_time()
    with progress_bar(unit="it") as progress:
        for iteration in count():
            seconds = time.process_time() - start
            share = max(seconds / budget.seconds, iteration / budget.iterations)
            if share >= 1:
                return
            yield share
            progress.update()


def batches(training: Training, budget: Budget) -> Iterator[tuple[Tensor, Tensor]]:
    """Random batches as :func:`draw` makes them, until the budget is spent."""
    return (draw(training) for _ in spend(budget))


def draw(training: Training) -> tuple[Tensor, Tensor]:
    """Random views of BATCH random images, and their classes."""
    index = torch.randint(len(training.images), (BATCH,))
    return view(training, index), training.classes[index]


def view(training: Training, index: Tensor) -> Tensor:
    """Random views of images."""
    change = augment if training.augmented else random_flips
    return change(training.images[index], *training.flips)


def of_class(training: Training, label: int) -> Training:
    """The images of one class, without masks."""
    chosen = training.classes == label
    kept = {"images": training.images[chosen], "classes": training.classes[chosen]}
    return training._replace(**kept, masks=None)


def draw_balanced(classes: Tensor) -> Tensor:
    """Indices of BATCH healthy and as many diseased images of (N,), drawn with replacement."""
    members = [(classes == label).nonzero().flatten() for label in (HEALTHY, DISEASED)]
    return torch.cat([of[torch.randint(len(of), (BATCH,))] for of in members])


def mean_over_flips(
    draw: Callable[[Tensor], Tensor], images: Tensor, flips: tuple[bool, bool]
) -> Tensor:
    """What ``draw`` makes of images (B, C, H, W), as the mean over them mirrored and mirrored back.

    As the recipe does it, with the flips of its training.
    """
    chosen = all_flips([axis for axis, wanted in zip((3, 2), flips, strict=True) if wanted])
    return sum(draw(images.flip(axes)).flip(axes) for axes in chosen) / len(chosen)


def learn(
    network: nn.Module,
    loss_of: Callable[[Tensor], Tensor],
    training: Training,
    budget: Budget,
    weight_decay: float = 0.0,
) -> None:
    """Optimise a network as the recipe does its own, on ``loss_of`` the indices of a batch.

    The rate warms up, then falls with the root of what is left of the budget.
    """
    optimizer = torch.optim.AdamW(
        network.parameters(), LEARNING_RATE, BETAS, weight_decay=weight_decay
    )
    for iteration, share in enumerate(spend(budget)):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (iteration + 1) / WARM_UP) * (1 - share) ** 0.5
        optimizer.zero_grad()
        loss_of(draw_balanced(training.classes)).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), LARGEST_NORM)
        optimizer.step()
    network.eval()
