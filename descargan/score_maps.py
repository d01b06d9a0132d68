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
COARSEST = 64  # pixels a side, at which neighbours are next to each other
MIXING = 4  # rounds at each smaller distance
STEEPNESS = 4.0  # of the step that a layer rises by, at half of its largest value
STRONGEST = 20.0  # of a layer that covers: all but opaque
ROUNDS = 8  # in which its strength is found


def read(difference: Map, sign: int) -> Map:
    """The score map of a difference map, tensor or array.

    ``sign``: 1 where disease brightens, -1 where it darkens, 0 where it does either.
    """
    return (sign * difference).clip(0) if sign else abs(difference)


def diffuse(scores: Tensor, images: Tensor, share: float, alike: float) -> Tensor:
    """Score maps (..., H, W), blurred among what is alike in their images.

    These are of the same shape, or one image (H, W) for all.

    By a ``share`` of the larger side, the standard deviation where all is of one brightness;
    ``alike``: how far apart pixels of an image in [-1, 1] are that are hardly one tissue. So
    nothing goes over an edge of the image, so that what was drawn a little beside an outline, or
    with holes, fills it. Rounds of joint bilateral means (Petschnigg et al. 2004) of each pixel and
    the eight around it. In larger images these are far apart first, then nearer and nearer, so that
    it takes no more rounds.
    """
    shape, side = scores.shape, max(scores.shape[-2:])
    scores, images = (x.reshape(-1, 1, *shape[-2:]) for x in (scores, images))
    away = 2 ** max(0, int(math.log2(side / COARSEST)))
    rounds = round((share * side / (away * REACH)) ** 2)
    while away:
        unlike = neighbours(images, away) - images
        weights = images.new_tensor(NEAR).view(9, 1, 1, 1, 1)
        weights = weights * torch.exp(-unlike.square() / (2 * alike**2))
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


def layer(scores: Tensor, images: Tensor) -> Tensor:
    """How much of a layer of brightness ABOVE score maps (..., H, W) are, as a generator draws it.

    ``images``: of the same shape, or one (H, W) for all.
    """
    return scores / (ABOVE - images)


def step(layers: Tensor) -> Tensor:
    """Where layers (..., H, W) lie, from 0 to 1: a step at half of each one's largest value.

    A lesion is drawn as a blob that is strongest in the middle, but has one strength, and ends at
    an outline.
    """
    half = STEEPNESS / 2
    shares = layers / layers.amax(dim=(-2, -1), keepdim=True).clamp(min=1e-12)
    return (1 + torch.tanh(STEEPNESS * shares - half) / math.tanh(half)).clamp(min=0) / 2


def fill(layers: Tensor, probability: Tensor | float) -> Tensor:
    """Layers (..., H, W), nearly flat, such that one threshold suits all images.

    Where each lies (:func:`step`), times the fourth root of its largest value, so that a threshold
    of strong lesions does not miss faint ones. And times the ``probability`` of disease (...), so
    that what is left in an image that the classifier takes for healthy counts less; NaN stands
    for 1.
    """
    largest = layers.amax(dim=(-2, -1), keepdim=True)
    return weigh(largest**0.25 * step(layers), probability)


def weigh(scores: Tensor, probability: Tensor | float) -> Tensor:
    """Score maps (..., H, W) times the probability of disease (...); NaN stands for 1."""
    return torch.as_tensor(probability).to(scores).nan_to_num(1.0)[..., None, None] * scores


def cover_up(region: Tensor, drawn: Tensor, images: Tensor, cover: float) -> Tensor:
    """How much a half-transparent layer of one brightness changes the region (..., H, W) it covers.

    A layer of brightness b = 1 / ``cover`` makes of a healthy pixel h what is seen, x = a b +
    (1 - a) h, so it changes it by x - h = k (b - x), k = a / (1 - a): the darker it is, the more,
    but by no more than x + 1, as no pixel of ``images`` is darker than -1. With 0 it is plainly
    added. Of each image its k, at most STRONGEST, is such that in all as much is changed as was
    ``drawn``, which knows how much better than where: by Newton's rounds, which come to it from
    below, as the sum of the changes grows ever more slowly with k.
    """
    under, room = (1 - cover * images).clamp(min=0), (1 + images).clamp(min=0)
    wanted = drawn.sum(dim=(-2, -1), keepdim=True)
    strength = torch.zeros_like(wanted)
    for _ in range(ROUNDS):
        change = region * torch.minimum(strength * under, room)
        rising = region * under * (strength * under < room)
        lacking = wanted - change.sum(dim=(-2, -1), keepdim=True)
        strength = strength + lacking / rising.sum(dim=(-2, -1), keepdim=True).clamp(min=1e-6)
        strength = strength.clamp(0, STRONGEST)
    return region * torch.minimum(strength * under, room)


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
