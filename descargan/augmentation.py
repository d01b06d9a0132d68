"""Random views of images: turned, scaled, shifted, mirrored, brighter or darker.

The same for both classes, so that neither position nor brightness gives a class away.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from descargan.data import random_flips

ROTATION = math.radians(12)  # each drawn from U(-limit, limit)
LOG_SCALE = 0.12
SHIFT = 0.12  # where the image spans [-1, 1]: 6 % of the frame
LOG_GAIN = 0.2
LOG_GAMMA = 0.25
OUTSIDE = -1.0  # what comes in over the border: the darkest value
# Probability of a change: what is sampled anew is blurred a little, so that networks that have
# never seen a sharp image take one for something else.
CHANGED = 0.5


def augment(images: Tensor, horizontal: bool, vertical: bool, masks: int = 0) -> Tensor:
    """A random view of each image (B, C, H, W) in [-1, 1], the same for its channels.

    Mirrored left-right and up-down with probability 1/2 each, where wanted; turned, scaled,
    shifted, brighter or darker with probability CHANGED. The last ``masks`` channels keep their
    contrast. A function of the images and PyTorch's random stream alone.
    """
    changed = torch.rand(len(images), device=images.device).lt(CHANGED).view(-1, 1, 1, 1)
    placed = place(images, horizontal, vertical)
    lit, kept = placed.split([placed.shape[1] - masks, masks], dim=1)
    views = torch.cat([change_contrast(lit), kept], dim=1)
    return torch.where(changed, views, random_flips(images, horizontal, vertical))


def place(images: Tensor, horizontal: bool, vertical: bool) -> Tensor:
    """Images turned, scaled, shifted and mirrored at random, sampled bilinearly."""
    angle, log_scale, x, y = (
        symmetric(images, limit) for limit in (ROTATION, LOG_SCALE, SHIFT, SHIFT)
    )
    mirror_x, mirror_y = (random_signs(images, wanted) for wanted in (horizontal, vertical))
    height, width = images.shape[-2:]
    cos, sin = angle.cos() * log_scale.exp(), angle.sin() * log_scale.exp()
    # Sides may differ: turned in pixels, not in coordinates where both span [-1, 1].
    matrices = torch.stack(
        [
            torch.stack([mirror_x * cos, -mirror_y * sin * height / width, x], dim=1),
            torch.stack([mirror_x * sin * width / height, mirror_y * cos, y], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    # Zeros come in from outside, so what is outside is made zero for the sampling.
    return F.grid_sample(images - OUTSIDE, grid, align_corners=False) + OUTSIDE


def change_contrast(images: Tensor) -> Tensor:
    """Images as ``gain * u ** gamma`` with u = (x + 1) / 2, gain and gamma drawn for each."""
    gain, gamma = (
        symmetric(images, limit).exp().view(-1, 1, 1, 1) for limit in (LOG_GAIN, LOG_GAMMA)
    )
    unit = ((images + 1) / 2).clamp(min=0)
    return 2 * gain * unit**gamma - 1


def symmetric(images: Tensor, limit: float) -> Tensor:
    """A number from U(-limit, limit) for each image (B,)."""
    return limit * (2 * torch.rand(len(images), dtype=images.dtype, device=images.device) - 1)


def random_signs(images: Tensor, random: bool) -> Tensor:
    """1 or -1 for each image (B,), or 1 for all."""
    if not random:
        return images.new_ones(len(images))
    return torch.rand(len(images), device=images.device).lt(0.5).to(images.dtype) * 2 - 1
