"""Compact networks: a generator that draws changes of its input, and a critic with three exits.

338,000 and 295,000 weights, whatever the size of the images. Every block is a convolution, group
normalisation and a ReLU, so that an image is treated alike in training and testing and in any
batch. Both are fully convolutional: images (B, C, H, W) in [-1, 1] with sides of multiples of 8.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from descargan import DISEASED
from descargan.errors import UserError
from descargan.layers import class_map
from descargan.maps import MAP_KINDS, upsample

STRIDE = 8  # of the coarsest maps, which sides of images are multiples of
GROUP = 8  # channels that are normalised together
DROPOUT = 0.1
HEAD_SCALE = 0.001  # standard deviation of the last weights: an untrained change is next to nothing
# Of the pooling at each exit, finest first: 0 is the mean, infinity the maximum.
SHARPNESS = (2.0, 2.0, 0.0)


class GroupNorm(nn.GroupNorm):
    """Group normalisation in float32 under autocast too: on a CPU it is three times as fast."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Convolution 3 x 3, group normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        GroupNorm(outputs // GROUP, outputs),
        nn.ReLU(inplace=True),
    )


def blocks(*widths: int) -> nn.Sequential:
    """A block from each width to the next."""
    return nn.Sequential(*map(block, widths[:-1], widths[1:]))


def initialise(network: nn.Module) -> None:
    """Weights for ReLUs (He et al. 2015): smaller ones leave the classes at chance for long."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)


class Generator(nn.Module):
    """Translates an image into a class by a change that it draws.

    A U-Net whose input is the image and a one-hot map of the target class. It works at half of the
    resolution, each 2 x 2 pixels being its channels, and draws brightness for each of the four
    and a flow for all, so that this is smooth. ``translation`` names the kind of change, an
    entry of ``maps.MAP_KINDS``.

    Raises UserError for the translation "image", which is no change.
    """

    def __init__(self, channels: int = 1, translation: str = "additive") -> None:
        super().__init__()
        self.translation = translation
        self.kind = kind = MAP_KINDS[translation]
        if not kind.changes_input:
            raise UserError(
                f"compact networks draw a change, not --translation {translation}: choose another"
            )
        drawn = kind.channels or channels
        self.moved = 2 if kind.flow else 0  # the first maps of what is drawn
        self.lit = drawn - self.moved
        self.down1 = blocks(4 * channels + 2, 32, 32)
        self.down2 = blocks(32, 64, 64)
        self.down3 = blocks(64, 128, 64)
        self.merge2 = blocks(128, 64, 32)
        self.merge1 = blocks(64, 32, 32)
        self.head = nn.Conv2d(32, 2 * (self.moved + 4 * self.lit), 3, padding=1)
        initialise(self)
        nn.init.normal_(self.head.weight, std=HEAD_SCALE)

    def forward(self, images: Tensor, classes: Tensor | int) -> Tensor:
        """Images (B, C, H, W) and target classes to images (B, C, H, W).

        ``classes`` is an integer tensor (B,), mixed classes allowed, or one int for all.
        """
        return self.kind.apply(images, self.draw(images, classes))

    def draw(self, images: Tensor, classes: Tensor | int) -> Tensor:
        """The maps of the change of images (B, C, H, W) into their target classes, of their size.

        The last convolution is in float32 under autocast too: changes are small numbers.
        """
        packed = F.pixel_unshuffle(images, 2)
        half = self.down1(torch.cat([packed, class_map(packed, classes)], dim=1))
        quarter = self.down2(F.max_pool2d(half, 2))
        x = self.down3(F.max_pool2d(quarter, 2))
        x = self.merge2(torch.cat([F.interpolate(x, scale_factor=2), quarter], dim=1))
        x = self.merge1(torch.cat([F.interpolate(x, scale_factor=2), half], dim=1))
        with torch.autocast(images.device.type, enabled=False):
            x = self.head(x.to(self.head.weight.dtype))
        moved, lit = self.of_class(x, classes).split([self.moved, 4 * self.lit], dim=1)
        if not self.moved:
            return F.pixel_shuffle(lit, 2)
        moved = upsample(moved, images.shape[-2:])
        return torch.cat([moved, F.pixel_shuffle(lit, 2)], dim=1) if self.lit else moved

    def of_class(self, maps: Tensor, classes: Tensor | int) -> Tensor:
        """Maps (B, 2 C, h, w), drawn for both classes, to those of the target class."""
        if isinstance(classes, int):
            return maps.chunk(2, dim=1)[classes]
        diseased = (classes == DISEASED).to(maps.device, non_blocking=True).view(-1, 1, 1, 1)
        return torch.where(diseased, *maps.chunk(2, dim=1)[::-1])


class Verdict(NamedTuple):
    """What the discriminator says of images, at each of its exits, as logits.

    ``disease`` (exits, B); ``fakeness`` (exits, B, 2), by the critic of each class.
    """

    disease: Tensor
    fakeness: Tensor


class Discriminator(nn.Module):
    """A classifier and a critic per class on one encoder, with exits at strides 2, 4 and 8.

    Each exit draws a map of disease and one map of realness per class. The finer two, which see 14
    and 32 pixels, are pooled by their largest values, so that a small lesion counts; the coarsest
    by the mean. ``image_size`` is that of the images it is trained on; any multiple of 8 goes in.
    """

    size: Tensor

    def __init__(self, channels: int = 1, image_size: int = 256) -> None:
        super().__init__()
        self.register_buffer("size", torch.tensor(image_size))
        self.encoder = nn.ModuleList(
            [
                nn.Sequential(blocks(channels, 16, 16), nn.MaxPool2d(2), blocks(16, 32, 32)),
                nn.Sequential(nn.MaxPool2d(2), blocks(32, 64, 64), nn.Dropout2d(DROPOUT)),
                nn.Sequential(nn.MaxPool2d(2), blocks(64, 128, 128), nn.Dropout2d(DROPOUT)),
            ]
        )
        self.exits = nn.ModuleList(nn.Conv2d(width, 3, 1) for width in (32, 64, 128))
        initialise(self)

    @property
    def image_size(self) -> int:
        return int(self.size)

    def forward(self, images: Tensor) -> Verdict:
        """The verdict on images (B, C, H, W)."""
        return self.judge(self.encode(images))

    def encode(self, images: Tensor) -> list[Tensor]:
        """Images to features: 32, 64 and 128 channels at strides 2, 4 and 8."""
        features = []
        for part in self.encoder:
            images = part(images)
            features.append(images)
        return features

    def judge(self, features: list[Tensor]) -> Verdict:
        """Features to a verdict."""
        pooled = []
        for exit_, x, sharpness in zip(self.exits, features, SHARPNESS, strict=True):
            maps = exit_(x).float()
            signed = torch.cat([maps[:, :1], -maps[:, 1:]], dim=1)  # realness to fakeness
            pooled.append(pool(signed, sharpness))
        exits = torch.stack(pooled)
        return Verdict(exits[..., 0], exits[..., 1:])

    def classifier(self, features: list[Tensor]) -> Tensor:
        """Features to class logits (B, 2), the mean over the exits."""
        disease = self.judge(features).disease.mean(dim=0)
        return torch.stack([torch.zeros_like(disease), disease], dim=1)


def pool(maps: Tensor, sharpness: float) -> Tensor:
    """Maps (B, C, h, w) to one number each (B, C): ``log(mean(exp(s x))) / s``, the mean at s = 0.

    Between mean and maximum (Pinheiro and Collobert, arXiv:1411.6228).
    """
    values = maps.flatten(2)
    if sharpness == 0:
        return values.mean(dim=2)
    return (torch.logsumexp(sharpness * values, dim=2) - math.log(values.shape[2])) / sharpness
