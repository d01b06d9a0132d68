"""Generator and discriminator of DeScarGAN (paper, section 2 and figure 2).

Both are plain convolutional networks. Their modules are named for what they do; the names that
the official weights use are mapped in ``descargan/checkpoints.py``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from descargan import DISEASED, HEALTHY, compact
from descargan.errors import UserError
from descargan.layers import BatchNorm, Conv, LastConv, MaxPool, ReLU, UpsampledConv, class_map
from descargan.maps import MAP_KINDS
from descargan.options import Options

SIZE_MULTIPLE = 64  # the discriminator halves the image six times
CLASS_UNITS = 64
DROPOUT = 0.1
BATCH_NORM_MOMENTUM = 0.01


def conv_block(inputs: int, outputs: int) -> nn.Sequential:
    """Convolution 3 x 3, batch norm, ReLU."""
    return nn.Sequential(
        Conv(inputs, outputs),
        BatchNorm(outputs, momentum=BATCH_NORM_MOMENTUM),
        nn.ReLU(inplace=True),
    )


def up_block(inputs: int, outputs: int) -> nn.Sequential:
    """Upsampling by 2, convolution 3 x 3, batch norm, ReLU."""
    return nn.Sequential(
        UpsampledConv(inputs, outputs),
        BatchNorm(outputs, momentum=BATCH_NORM_MOMENTUM),
        nn.ReLU(inplace=True),
    )


def image_head(filters: int, channels: int) -> nn.Sequential:
    """Full-resolution features to an image in (-1, 1)."""
    return nn.Sequential(
        conv_block(filters, filters),
        nn.Sequential(
            LastConv(filters, channels),
            BatchNorm(channels, momentum=BATCH_NORM_MOMENTUM),
        ),
        nn.Tanh(),
    )


def change_head(filters: int, channels: int, stride: int) -> nn.Sequential:
    """Full-resolution features to a map of changes, of 1 / ``stride`` the size."""
    return nn.Sequential(
        conv_block(filters, filters),
        nn.AvgPool2d(stride),
        LastConv(filters, channels),
    )


def through_own_head(
    heads: Sequence[nn.Module],
    x: Tensor,
    classes: Tensor | int,
    everyone: Tensor | None = None,
) -> Tensor:
    """Send each item of ``x`` (B, ...) through the head of its class.

    ``classes`` is one class for the whole batch, or an integer tensor (B,). With the tensor on the
    CPU no synchronisation with the device is needed. Batch norms in a head see the items of their
    class only.

    ``everyone`` are the classes of the whole batch where that is spread over processes. Each of
    them calls the same heads, if need be with no items: their batch norms wait for each other.
    """
    if isinstance(classes, int):
        return heads[classes](x)
    everyone = classes if everyone is None else everyone
    called = [bool((everyone == c).any()) for c in range(len(heads))]
    of_class = [(classes == c).nonzero().flatten() for c in range(len(heads))]
    back = torch.cat(of_class).argsort()
    *of_class, back = (index.to(x.device, non_blocking=True) for index in (*of_class, back))
    parts = zip(heads, of_class, called, strict=True)
    outputs = [head(x[index]) for head, index, call in parts if call]
    return torch.cat(outputs)[back]


class Generator(nn.Module):
    """Translates an image into a class (paper, figure 2, left).

    A U-Net whose input is the image and a one-hot map of the target class, with one head per
    target class and without a skip connection at full resolution.
    8,528,262 parameters at the defaults.

    ``translation`` says what the heads draw, an entry of ``maps.MAP_KINDS``: the whole "image", as
    in the paper, or the change of the input, which is nothing at initialisation.
    ``norm`` "instance" normalises by the statistics of each image in training too, not only in
    evaluation mode; "batch" by those of the batch, as in the paper.
    """

    def __init__(
        self,
        channels: int = 1,
        base_filters: int = 64,
        translation: str = "image",
        norm: str = "batch",
    ) -> None:
        super().__init__()
        f = base_filters
        self.translation, self.norm = translation, norm
        self.kind = kind = MAP_KINDS[translation]
        pool = nn.MaxPool2d(2)
        self.down0 = nn.Sequential(conv_block(channels + 2, f), conv_block(f, f))
        self.down1 = nn.Sequential(pool, conv_block(f, 2 * f), conv_block(2 * f, 2 * f))
        self.down2 = nn.Sequential(pool, conv_block(2 * f, 4 * f), conv_block(4 * f, 4 * f))
        self.down3 = nn.Sequential(pool, conv_block(4 * f, 8 * f), conv_block(8 * f, 8 * f))
        self.up3 = up_block(8 * f, 4 * f)
        self.merge2 = nn.Sequential(conv_block(8 * f, 4 * f), conv_block(4 * f, 4 * f))
        self.up2 = up_block(4 * f, 2 * f)
        self.merge1 = nn.Sequential(conv_block(4 * f, 2 * f), conv_block(2 * f, 2 * f))
        self.up1 = up_block(2 * f, f)
        drawn = kind.channels or channels
        self.heads = nn.ModuleList(
            change_head(f, drawn, kind.stride) if kind.changes_input else image_head(f, drawn)
            for _ in (HEALTHY, DISEASED)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, BatchNorm):
                module.per_image = norm == "instance"
        if kind.changes_input:
            for head in self.heads:
                nn.init.zeros_(head[-1].weight)

    def forward(
        self, images: Tensor, classes: Tensor | int, everyone: Tensor | None = None
    ) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] and target classes to images (B, C, H, W) in (-1, 1).

        ``classes`` is an integer tensor (B,), mixed classes allowed, or one int for all;
        ``everyone`` those of all processes' images, where several train. In evaluation mode each
        image is normalised by its own statistics, as the method tests.
        Raises UserError where H or W is no multiple of 64.
        """
        return self.kind.apply(images, self.draw(images, classes, everyone))

    def draw(self, images: Tensor, classes: Tensor | int, everyone: Tensor | None = None) -> Tensor:
        """What the heads draw (B, C, h, w), of which the map kind makes the translation."""
        check_size(images.shape[-2:])
        full = self.down0(torch.cat([images, class_map(images, classes)], dim=1))
        half = self.down1(full)
        quarter = self.down2(half)
        x = self.up3(self.down3(quarter))
        x = self.up2(self.merge2(torch.cat([x, quarter], dim=1)))
        x = self.up1(self.merge1(torch.cat([x, half], dim=1)))
        return through_own_head(self.heads, x, classes, everyone)


def critic_conv(inputs: int, outputs: int) -> nn.Sequential:
    """Convolution 3 x 3, ReLU."""
    return nn.Sequential(Conv(inputs, outputs), ReLU())


def critic_pool() -> nn.Sequential:
    """Max-pooling by 2, ReLU: what pooling after the ReLU gives, with a quarter of its work."""
    return nn.Sequential(MaxPool(), ReLU())


def critic_head(filters: int) -> nn.Sequential:
    """Encoder features to a score map, whose border is the last bias alone (padding of a 1 x 1)."""
    return nn.Sequential(
        critic_conv(filters, filters),
        critic_conv(filters, filters),
        Conv(filters, 1, kernel_size=1),
    )


class Discriminator(nn.Module):
    """A critic per class and a classifier on one encoder (paper, figure 2, right).

    No normalisation. 18,170,180 parameters at the defaults.
    """

    def __init__(self, channels: int = 1, base_filters: int = 32, image_size: int = 256) -> None:
        super().__init__()
        check_size((image_size, image_size))
        f = base_filters
        self.image_size = image_size
        self.encoder = nn.Sequential(
            nn.Sequential(Conv(channels, f)),
            critic_pool(),
            nn.Sequential(Conv(f, 2 * f)),
            critic_pool(),
            critic_conv(2 * f, 4 * f),
            nn.Sequential(Conv(4 * f, 4 * f)),
            critic_pool(),
            critic_conv(4 * f, 8 * f),
            nn.Sequential(Conv(8 * f, 8 * f)),
            critic_pool(),
            critic_conv(8 * f, 8 * f),
            nn.Sequential(Conv(8 * f, 8 * f)),
            critic_pool(),
            critic_conv(8 * f, 16 * f),
        )
        self.critics = nn.ModuleList(critic_head(16 * f) for _ in (HEALTHY, DISEASED))
        self.classifier = nn.Sequential(
            critic_conv(16 * f, 16 * f),
            nn.Sequential(Conv(16 * f, 16 * f)),
            critic_pool(),
            nn.Flatten(),
            nn.Linear(16 * f * (image_size // SIZE_MULTIPLE) ** 2, CLASS_UNITS),
            nn.ReLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(CLASS_UNITS, 2),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_normal_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor, classes: Tensor | int) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) to the score maps of their classes (B, 1, h, w) and logits (B, 2).

        h = H / 32 + 2. ``classes`` as for the generator. One pass of the encoder.
        Raises UserError where the images have another size than the network was built for.
        """
        features = self.encode(images)
        return self.score(features, classes), self.classifier(features)

    def encode(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to features (B, 16 f, H / 32, W / 32)."""
        if images.shape[-2:] != (self.image_size, self.image_size):
            raise UserError(
                f"the discriminator was built for images of {self.image_size} x {self.image_size}, "
                f"not {images.shape[-2]} x {images.shape[-1]}: pass the size to --image-size"
            )
        return self.encoder(images)

    def score(self, features: Tensor, classes: Tensor | int) -> Tensor:
        """Features to the score maps of the critics of ``classes`` (B, 1, h, w)."""
        return through_own_head(self.critics, features, classes)


def check_size(size: Sequence[int], multiple: int = SIZE_MULTIPLE) -> None:
    """Raise UserError unless both sides are positive multiples of 64, or of what is given."""
    if any(side < multiple or side % multiple for side in size):
        raise UserError(
            f"images of {' x '.join(map(str, size))} pixels do not fit the networks: "
            f"both sides must be multiples of {multiple} (see --image-size)"
        )


def build_networks(options: Options) -> tuple[nn.Module, nn.Module]:
    """Both networks, with new weights, as the options say."""
    if options.translation == "auto":
        raise UserError("--translation auto is chosen by a training: name a kind to build networks")
    if options.networks == "compact":
        check_size(2 * (options.image_size,), compact.STRIDE)
        return (
            compact.Generator(translation=options.translation),
            compact.Discriminator(image_size=options.image_size),
        )
    generator = Generator(
        base_filters=options.base_filters,
        translation=options.translation,
        norm=options.generator_norm,
    )
    discriminator = Discriminator(
        base_filters=options.critic_filters, image_size=options.image_size
    )
    return generator, discriminator
