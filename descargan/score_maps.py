"""Score maps: how much of a difference map speaks for disease, at each pixel, from 0 up."""

import math
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from descargan import DISEASED, HEALTHY
from descargan.maps import ABOVE

Map = TypeVar("Map", Tensor, np.ndarray)
MOSTLY = 2.0
AGREED = 0.75
# Weights of a pixel and the eight around it by distance, a Gaussian of 0.7 pixels, and their
# standard deviation along an axis.
NEAR = np.exp(-np.add.outer(*2 * [np.square([-1, 0, 1])]) / (2 * 0.7**2)).ravel().tolist()
REACH = 0.647
ALIKE = 0.07  # how far apart pixels of an image in [-1, 1] are that are hardly one tissue
COARSEST = 64  # pixels a side, at which neighbours are next to each other
MIXING = 4  # rounds at each smaller distance
STEEPNESS = 4.0  # of the step that a layer rises by, at half of its largest value


def read(difference: Map, sign: int) -> Map:
    """The score map of a difference map, tensor or array.

    ``sign``: 1 where disease brightens, -1 where it darkens, 0 where it does either.
    """
    return (sign * difference).clip(0) if sign else abs(difference)


def diffuse(scores: Map, images: Map, share: float) -> Map:
    """Score maps (..., H, W), tensor or array, blurred among what is alike in their images.

    These are of the same shape, or one image (H, W) for all.

    By a ``share`` of the larger side, the standard deviation where all is of one brightness;
    nothing goes over an edge of the image, so that what was drawn a little beside an outline, or
    with holes, fills it. Rounds of joint bilateral means (Petschnigg et al. 2004) of each pixel and
    the eight around it. In larger images these are far apart first, then nearer and nearer, so that
    it takes no more rounds.
    """
    if isinstance(scores, np.ndarray):
        return diffuse(torch.from_numpy(scores), torch.from_numpy(images), share).numpy()
    shape, side = scores.shape, max(scores.shape[-2:])
    scores, images = (x.reshape(-1, 1, *shape[-2:]) for x in (scores, images))
    away = 2 ** max(0, int(math.log2(side / COARSEST)))
    rounds = round((share * side / (away * REACH)) ** 2)
    while away:
        unlike = neighbours(images, away) - images
        weights = images.new_tensor(NEAR).view(9, 1, 1, 1, 1)
        weights = weights * torch.exp(-unlike.square() / (2 * ALIKE**2))
        weights /= weights.sum(dim=0)
        for _ in range(rounds):
            scores = (weights * neighbours(scores, away)).sum(dim=0)
        away, rounds = away // 2, MIXING
    return scores.reshape(shape)


def neighbours(images: Tensor, away: int) -> Tensor:
    """Each pixel of images (B, C, H, W) and the eight around it, ``away`` pixels: (9, B, C, H, W).

    The border is repeated outside.
    """
    height, width = images.shape[-2:]
    padded = F.pad(images, (away,) * 4, mode="replicate")
    starts = [(y, x) for y in (0, away, 2 * away) for x in (0, away, 2 * away)]
    return torch.stack([padded[..., y : y + height, x : x + width] for y, x in starts])


def layer(scores: Map, images: Map) -> Map:
    """How much of a layer of brightness ABOVE score maps (..., H, W) are, as a generator draws it.

    ``images``: of the same shape, or one (H, W) for all.
    """
    return scores / (ABOVE - images)


def fill(layers: Map, probability: Map | float) -> Map:
    """Layers (..., H, W), tensor or array, nearly flat, such that one threshold suits all images.

    A lesion is drawn as a blob that is strongest in the middle, but has one strength, and ends at
    an outline: a step is made of it, at half of its own largest value. That counts by its fourth
    root, so that a threshold of strong lesions does not miss faint ones. And it is multiplied by
    the ``probability`` of disease (...), so that what is left in an image that the classifier takes
    for healthy counts less; NaN stands for 1.
    """
    if isinstance(layers, np.ndarray):
        return fill(torch.from_numpy(layers), probability).numpy()
    largest = layers.amax(dim=(-2, -1), keepdim=True)
    half = STEEPNESS / 2
    step = torch.tanh(STEEPNESS * layers / largest.clamp(min=1e-12) - half) / math.tanh(half)
    certain = torch.as_tensor(probability).to(layers).nan_to_num(1.0)[..., None, None]
    return certain * largest**0.25 * (1 + step).clamp(min=0) / 2


def show_through(images: Map, cover: float) -> Map:
    """How much a layer that covers changes the pixels of images (..., H, W), 1 the darkest.

    One of brightness ``1 / cover`` changes nothing that is as bright as itself; of 0, which is
    plainly added, all alike. A negative ``cover`` is that of a dark layer, which changes nothing
    that is as dark.
    """
    return (1 - cover * images).clip(0) / (1 + abs(cover))


def strengths(differences: Tensor) -> Tensor:
    """Mean squares of the brighter and the darker part of maps (B, C, H, W), (B, 2) in double."""
    parts = torch.stack([read(differences, sign) for sign in (1, -1)], dim=1)
    return parts.square().mean(dim=(2, 3, 4)).double()


def choose_sign(of_images: Tensor, classes: Tensor) -> int:
    """How to read difference maps, by the ``strengths`` (N, 2) and classes (N,) of their images.

    One sign alone is read where AGREED of the diseased images have MOSTLY times as much of it as of
    the other, beyond what healthy images have: no outlines are needed. Each image has one vote, as
    a disease that darkens some and brightens others may do one of it more strongly. In squares a
    lesion counts for more than the rest of an image, which, scaled, gets a little darker by a
    bright one.
    """
    excess = of_images[classes == DISEASED] - of_images[classes == HEALTHY].mean(dim=0)
    for sign, ours, other in ((1, *excess.T), (-1, *excess.flip(1).T)):
        if ((ours > 0) & (ours > MOSTLY * other)).double().mean() >= AGREED:
            return sign
    return 0
