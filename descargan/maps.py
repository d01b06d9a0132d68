"""Kinds of map: what a generator draws, and what image and which difference map come of it.

A kind owns no module, so that the names of the weights do not depend on it. A new kind is one entry
of :data:`MAP_KINDS`, and its name in ``options.TRANSLATIONS``.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from descargan.images import scale_to_range

MAX_FLOW = 0.25  # where the image spans [-1, 1]


def rescaled_difference(images: Tensor, healthy: Tensor) -> Tensor:
    """``n(image) - n(pseudo-healthy image)``, n scaling each to [-1, 1] by its own range."""
    return scale_to_range(images) - scale_to_range(healthy)


def deform(images: Tensor, flow: Tensor) -> Tensor:
    """Sample images (B, C, H, W) bilinearly at grid + flow (B, 2, h, w).

    The flow is (x, y) in coordinates where the image spans [-1, 1], and is upsampled to the size
    of the image; what comes in from outside is the border, repeated.
    """
    height, width = images.shape[-2:]
    flow = upsample(flow, (height, width))
    x, y = (torch.linspace(-1, 1, n, device=flow.device) for n in (width, height))
    grid = torch.stack([x.expand(height, width), y[:, None].expand(height, width)])
    return F.grid_sample(
        images, (grid + flow).permute(0, 2, 3, 1), padding_mode="border", align_corners=True
    )


def upsample(drawn: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (B, C, h, w) to (B, C, H, W), bilinearly."""
    return F.interpolate(drawn, size=size, mode="bilinear", align_corners=False)


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


def bounded_flow(drawn: Tensor) -> Tensor:
    return MAX_FLOW * drawn.tanh()


MAP_KINDS = {
    "image": MapKind(lambda images, drawn: drawn, changes_input=False),  # the paper's
    "additive": MapKind(lambda images, drawn: images + drawn),
    "deformation": MapKind(
        lambda images, drawn: deform(images, bounded_flow(drawn)),
        channels=2,
        stride=4,
        flow=bounded_flow,
    ),
}
