"""The upper bound: a U-Net that is trained with the outlines.

It is the compact generator of the recipe, whose map is taken for logits of lesion, and it sees the
same views of the same images: so what it finds more is what outlines tell.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.baselines import Budget, Explain, Explanation, Training, learn, mean_over_flips
from descargan import DISEASED
from descargan.augmentation import augment
from descargan.compact import Generator
from descargan.data import random_flips


def train(training: Training, budget: Budget, seed: int) -> Explain:
    """Needs ``training.masks``."""
    torch.manual_seed(seed)
    network = Generator(translation="additive")

    def loss_of(index: Tensor) -> Tensor:
        images, masks = view_both(training, index)
        return loss(draw_lesion(network, images), masks)

    learn(network, loss_of, training, budget)

    @torch.no_grad()
    def explain(batch: Tensor) -> Explanation:
        lesion = mean_over_flips(lambda x: draw_lesion(network, x), batch, training.flips)
        return Explanation(lesion.sigmoid())

    return explain


def draw_lesion(network: Generator, images: Tensor) -> Tensor:
    """Logits of being lesion (B, 1, H, W), as the map that the generator draws."""
    return network.draw(images, DISEASED)


def view_both(training: Training, index: Tensor) -> tuple[Tensor, Tensor]:
    """Random views of images as ``augment`` makes them and, placed alike, of their masks.

    Masks are cut at one half.
    """
    both = torch.cat([training.images[index], 2 * training.masks[index] - 1], dim=1)
    change = partial(augment, masks=1) if training.augmented else random_flips
    views = change(both, *training.flips)
    images, masks = views.split(1, dim=1)
    return images, (masks > 0).float()


def loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Binary cross entropy and one less the soft Dice, over all pixels of the batch."""
    lesion = logits.sigmoid()
    overlap = (2 * (lesion * masks).sum() + 1) / (lesion.sum() + masks.sum() + 1)
    return F.binary_cross_entropy_with_logits(logits, masks) + 1 - overlap
