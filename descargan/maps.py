"""Kinds of map: what a generator draws, and what image and which difference map come of it.

A kind owns no module, so that the names of the weights do not depend on it. A new kind is one entry
of :data:`MAP_KINDS`, and its name in ``options.TRANSLATIONS``.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from descargan.images import scale_to_range

MAX_FLOW = 0.25  # where the image spans [-1, 1]
# Brightness of what a layer consists of, above the images' [-1, 1], so that the brightest can be
# made darker too: at 1 it cannot, far above 1 the layer is plain addition.
ABOVE = 2.0
# What the largest flow counts for, where a change of brightness counts for its size.
LARGEST_FLOW = 0.05


def rescaled_difference(images: Tensor, healthy: Tensor) -> Tensor:
    """``n(image) - n(pseudo-healthy image)``, n scaling each to [-1, 1] by its own range."""
    return scale_to_range(images) - scale_to_range(healthy)


def plain_difference(images: Tensor, healthy: Tensor) -> Tensor:
    """``image - pseudo-healthy image``: an outlier in one of them does not rescale all of it."""
    return images - healthy


def deform(images: Tensor, flow: Tensor, mode: str = "bilinear") -> Tensor:
    """Sample images (B, C, H, W), by ``mode`` of grid_sample, at grid + flow (B, 2, h, w).

    The flow is (x, y) in coordinates where the image spans [-1, 1], and is upsampled to the size
    of the image; what comes in from outside is the border, repeated.
    """
    height, width = images.shape[-2:]
    flow = upsample(flow, (height, width))
    x, y = (torch.linspace(-1, 1, n, device=flow.device) for n in (width, height))
    grid = torch.stack([x.expand(height, width), y[:, None].expand(height, width)])
    places = (grid + flow).permute(0, 2, 3, 1)
    return F.grid_sample(images, places, mode, padding_mode="border", align_corners=True)


def upsample(drawn: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (B, C, h, w) to (B, C, H, W), bilinearly; those of that size as they are."""
    if drawn.shape[-2:] == size:
        return drawn
    return F.interpolate(drawn, size=size, mode="bilinear", align_corners=False)


def add(images: Tensor, drawn: Tensor) -> Tensor:
    """Images and the change that is drawn."""
    return images + upsample(drawn, images.shape[-2:])


def lift_layer(images: Tensor, drawn: Tensor) -> Tensor:
    """Images less a layer, ``drawn (ABOVE - images)``: more of it where they are darker.

    A half-transparent layer over an image hides what is under it as it adds brightness. Taken off,
    what shines through gets its contrast back, by one map, so that it is learnt soon.
    """
    return images - upsample(drawn, images.shape[-2:]) * (ABOVE - images)


def bounded_flow(drawn: Tensor) -> Tensor:
    return MAX_FLOW * drawn.tanh()


def displace(images: Tensor, drawn: Tensor, mode: str = "bilinear") -> Tensor:
    """Images at the places of a flow: drawn (B, 2, h, w). ``mode`` as for :func:`deform`."""
    return deform(images, bounded_flow(drawn), mode)


def move_and_lift(images: Tensor, drawn: Tensor) -> Tensor:
    """Images moved by the first two maps drawn (B, 3, h, w), then a layer lifted by the third."""
    return lift_layer(displace(images, drawn[:, :2]), drawn[:, 2:])


def amount_of_both(images: Tensor, drawn: Tensor) -> Tensor:
    """How far tissue is moved, and how much what comes of it is changed beyond that."""
    moved = displace(images, drawn[:, :2])
    return displacement(drawn[:, :2]) + brightening(moved, lift_layer(moved, drawn[:, 2:]))


def brightening(images: Tensor, changed: Tensor) -> Tensor:
    """How much images were changed, as mean |change| in their unit."""
    return (changed - images).abs().mean()


def displacement(drawn: Tensor) -> Tensor:
    """How far tissue is moved: a mean, of which the largest flow makes LARGEST_FLOW.

    Not by the change of pixels: an edge that moves by a little changes them as much as one that
    moves by its width, so that a penalty on them holds a flow at nothing.
    """
    return LARGEST_FLOW * drawn.tanh().square().sum(dim=1).add(1e-12).sqrt().mean()


class MapKind(NamedTuple):
    """What a generator's heads draw, and what comes of it.

    ``apply(images, drawn)`` is the translation (B, C, H, W) of what is drawn (B, channels, h, w);
    it brings that to the size of the images where it is smaller (``upsample``). ``changes_input``:
    what is drawn is a change of the input. Then it is nothing at initialisation, and the input goes
    in without noise, which would be handed on and then added again, so that the critic could tell
    fakes by it.
    """

    apply: Callable[[Tensor, Tensor], Tensor]
    changes_input: bool = True
    channels: int | None = None  # of what is drawn; None: those of the image
    stride: int = 1  # what is drawn has 1 / stride of the size, so that it is smooth
    # (images, pseudo-healthy images) to the difference map.
    difference: Callable[[Tensor, Tensor], Tensor] = rescaled_difference
    # What is drawn as a displacement (B, 2, h, w), (x, y) where the image spans [-1, 1].
    flow: Callable[[Tensor], Tensor] | None = None
    # (images, drawn) to how much is changed, which logistic critics' recipe keeps small.
    amount: Callable[[Tensor, Tensor], Tensor] | None = None


DEFORMATION = MapKind(
    displace,
    channels=2,
    stride=4,
    flow=bounded_flow,
    amount=lambda images, drawn: displacement(drawn),
)

MAP_KINDS = {
    "image": MapKind(lambda images, drawn: drawn, changes_input=False),  # the paper's
    "additive": MapKind(
        add,
        amount=lambda images, drawn: drawn.abs().mean(),
    ),
    "deformation": DEFORMATION,
    # Bilinear sampling blurs the thin edges that it moves, by a finer flow more of them.
    "fine-deformation": DEFORMATION._replace(apply=partial(displace, mode="bicubic"), stride=2),
    "layer": MapKind(
        lift_layer,
        difference=plain_difference,
        amount=lambda images, drawn: brightening(images, lift_layer(images, drawn)),
    ),
    "combined": MapKind(  # a deformation, then a layer
        move_and_lift,
        channels=3,
        difference=plain_difference,
        flow=lambda drawn: bounded_flow(drawn[:, :2]),
        amount=amount_of_both,
    ),
}


def suits(kind: MapKind, size: int, trained: int) -> bool:
    """Whether images of ``size`` can be translated by networks of a kind ``trained`` on others.

    Larger ones can where a change of the input is drawn, which is made at their size.
    """
    return size == trained or (size > trained and kind.changes_input)
