"""Generator and discriminator of DeScarGAN (paper, section 2 and figure 2).

Both are plain convolutional networks. Their modules are named for what they do; the names that
the official weights use are mapped in ``descargan/checkpoints.py``.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from descargan import DISEASED, HEALTHY
from descargan.errors import UserError

SIZE_MULTIPLE = 64  # the discriminator halves the image six times
CLASS_UNITS = 64
DROPOUT = 0.1
BATCH_NORM_MOMENTUM = 0.01
FLOW_STRIDE = 4  # a deformation is drawn at a quarter of the resolution, so that it is smooth
MAX_FLOW = 0.25  # where the image spans [-1, 1]


class BatchNorm(nn.SyncBatchNorm):
    """Batch normalisation that can normalise every image by its own statistics instead.

    Where several processes train on CUDA, the statistics are those of the whole batch; on the CPU,
    which PyTorch does not do that for, those of the images of each process.

    With ``per_image`` set (see :func:`per_image_normalisation`) the learnt scale and shift are
    kept, the mean and variance are those of each image and channel, and the running statistics
    are neither read nor written.
    """

    per_image = False

    def forward(self, x: Tensor) -> Tensor:
        if self.per_image:
            return normalise_each(x, self.weight, self.bias, self.eps)
        if x.is_cuda:
            return super().forward(x)
        return super(nn.SyncBatchNorm, self).forward(x)

    def _check_input_dim(self, x: Tensor) -> None:
        if x.dim() != 4:
            raise ValueError(f"a batch norm takes (B, C, H, W), not {tuple(x.shape)}")


def normalise_each(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalise every image and channel of (B, C, H, W) by its own mean and variance.

    PyTorch's group norm is off by up to 5e-4 in channels-last, its instance norm leaves the format.
    """
    if not x.is_cuda:  # the batch statistics of one image are its own; faster than formulas
        settings = None, None, weight, bias, True, 0.0, eps
        return torch.cat([F.batch_norm(image, *settings) for image in x.split(1)])
    variance, mean = torch.var_mean(x, dim=(2, 3), keepdim=True, correction=0)
    slope = (variance + eps).rsqrt() * weight[:, None, None]
    return torch.addcmul(bias[:, None, None] - mean * slope, x, slope)


@contextmanager
def per_image_normalisation(network: nn.Module) -> Iterator[None]:
    """Run ``network`` as it is run at test time, whatever the batch size.

    The release tests with its batch norm in training mode and one image at a time, so that each
    image is normalised by its own statistics. Inside this context every batch norm does just that
    for each image of a batch: a batch of 8 gives what 8 batches of 1 give. Gradients are off and
    dropout is disabled; the network's mode and its running statistics are left as they were.

    >>> with per_image_normalisation(generator):
    ...     pseudo_healthy = generator(images, HEALTHY)
    """
    norms = [module for module in network.modules() if isinstance(module, BatchNorm)]
    before = [norm.per_image for norm in norms]
    was_training = network.training
    network.eval()
    for norm in norms:
        norm.per_image = True
    try:
        with torch.no_grad():
            yield
    finally:
        for norm, per_image in zip(norms, before, strict=True):
            norm.per_image = per_image
        network.train(was_training)


class Convolution(torch.autograd.Function):
    """Convolution whose backward pass is faster than PyTorch's own, and gives the same.

    On the CPU the gradient of many weights over a large map is taken in the default memory format,
    where it takes a half to a fifth of the time; all else in that of ``x``, channels-last.

    A backward pass with a graph (``create_graph=True``) is itself such a convolution, where PyTorch
    differentiates it by convolutions with kernels as large as images. It gives the gradient of the
    input alone, which is what a gradient penalty takes; those of weight and bias are NaN then, so
    that nobody takes them unseen.
    """

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: int,
        padding: int,
        transposed: bool,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.settings = stride, padding, transposed
        return plain_convolution(x, weight, bias, stride, padding, transposed)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, transposed = ctx.settings
        channels = gradient.shape[1]
        if torch.is_grad_enabled():
            into = Convolution.apply(gradient, weight, None, stride, padding, not transposed)
            nan = gradient.new_full((), torch.nan)
            return into, nan.expand_as(weight), nan.expand(channels), None, None, None
        tensors, wanted = (gradient, x, weight), ctx.needs_input_grad[:3]
        settings = [channels], [stride] * 2, [padding] * 2, [1, 1], transposed, [0, 0], 1
        backward = torch.ops.aten.convolution_backward
        large = min(weight.shape[:2]) >= 32 and x[0, 0].numel() >= 32 * 32
        if x.is_cuda or not large or not wanted[1]:
            return *backward(*tensors, *settings, wanted), None, None, None
        contiguous = (tensor.contiguous() for tensor in tensors)
        _, of_weight, of_bias = backward(*contiguous, *settings, [False, True, wanted[2]])
        # After the copies are gone again.
        into = backward(*tensors, *settings, [wanted[0], False, False])[0] if wanted[0] else None
        return into, of_weight, of_bias, None, None, None


def plain_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, transposed: bool
) -> Tensor:
    return torch.convolution(
        x, weight, bias, [stride] * 2, [padding] * 2, [1, 1], transposed, [0, 0], 1
    )


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int = 1,
    padding: int = 1,
    transposed: bool = False,
) -> Tensor:
    """Convolution of images (B, C, H, W); in mixed precision PyTorch's own, which casts."""
    mixed = torch.is_autocast_enabled(x.device.type)
    function = plain_convolution if mixed else Convolution.apply
    return function(x, weight, bias, stride, padding, transposed)


class Conv(nn.Conv2d):
    """Convolution 3 x 3 or 1 x 1, with padding 1."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int = 3) -> None:
        super().__init__(inputs, outputs, kernel_size, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel_size == (3, 3) and x.shape[-2:] == (2, 2):
            return convolve_few_pixels(x, self.weight, self.bias)
        return convolve(x, self.weight, self.bias)


def convolve_few_pixels(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolution 3 x 3 with padding 1 as a matrix product: faster on maps of 2 x 2."""
    batch, channels, height, width = x.shape
    patches = F.unfold(x, 3, padding=1).view(batch, channels, 9, height * width)
    rows = patches.permute(0, 3, 2, 1).reshape(batch * height * width, 9 * channels)
    y = F.linear(rows, weight.permute(0, 2, 3, 1).flatten(1), bias)
    return y.view(batch, height, width, -1).permute(0, 3, 1, 2)


class UpsampledConv(Conv):
    """Nearest-neighbour upsampling by 2, then a 3 x 3 convolution with padding 1, as one operation.

    Each output pixel sees only 2 x 2 distinct input pixels, so the pair equals a transposed
    convolution of stride 2 with the kernel spread to 4 x 4: 4/9 of the multiplications, the same
    result. Parameters are those of the 3 x 3 convolution.
    """

    def forward(self, x: Tensor) -> Tensor:
        # Reversed because the convolution is transposed, then summed over every 2 x 2 shift.
        kernel = F.pad(self.weight.flip(2, 3).transpose(0, 1), (1, 1, 1, 1))
        kernel = kernel[..., :-1, :] + kernel[..., 1:, :]
        kernel = kernel[..., :-1] + kernel[..., 1:]
        return convolve(x, kernel, self.bias, stride=2, transposed=True)


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
            Conv(filters, channels),
            BatchNorm(channels, momentum=BATCH_NORM_MOMENTUM),
        ),
        nn.Tanh(),
    )


def change_head(filters: int, channels: int, stride: int) -> nn.Sequential:
    """Full-resolution features to a map of changes, of 1 / ``stride`` the size."""
    return nn.Sequential(
        conv_block(filters, filters),
        nn.AvgPool2d(stride),
        Conv(filters, channels),
    )


def deform(images: Tensor, flow: Tensor) -> Tensor:
    """Sample images (B, C, H, W) bilinearly at grid + flow (B, 2, h, w).

    The flow is (x, y) in coordinates where the image spans [-1, 1], and is upsampled to the size
    of the image; what comes in from outside is the border, repeated.
    """
    height, width = images.shape[-2:]
    flow = F.interpolate(flow, size=(height, width), mode="bilinear", align_corners=False)
    x, y = (torch.linspace(-1, 1, n, device=flow.device) for n in (width, height))
    grid = torch.stack([x.expand(height, width), y[:, None].expand(height, width)])
    return F.grid_sample(
        images, (grid + flow).permute(0, 2, 3, 1), padding_mode="border", align_corners=True
    )


def through_own_head(heads: Sequence[nn.Module], x: Tensor, classes: Tensor | int) -> Tensor:
    """Send each item of ``x`` (B, ...) through the head of its class.

    ``classes`` is one class for the whole batch, or an integer tensor (B,). With the tensor on the
    CPU no synchronisation with the device is needed. Batch norms in a head see the items of their
    class only.
    """
    if isinstance(classes, int):
        return heads[classes](x)
    of_class = [(classes == c).nonzero().flatten().to(x.device) for c in range(len(heads))]
    outputs = [head(x[index]) for head, index in zip(heads, of_class, strict=True) if len(index)]
    return torch.cat(outputs)[torch.cat(of_class).argsort()]


class Generator(nn.Module):
    """Translates an image into a class (paper, figure 2, left).

    A U-Net whose input is the image and a one-hot map of the target class, with one head per
    target class and without a skip connection at full resolution.
    8,528,262 parameters at the defaults.

    ``translation`` says what the heads draw: the whole "image", as in the paper, or the change of
    the input, which is nothing at initialisation: an "additive" map, or a "deformation".
    ``norm`` "instance" normalises by the statistics of each image in training too, not only in
    testing; "batch" by those of the batch, as in the paper.
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
        self.translation = translation
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
        make_head = {
            "image": lambda: image_head(f, channels),
            "additive": lambda: change_head(f, channels, stride=1),
            "deformation": lambda: change_head(f, 2, stride=FLOW_STRIDE),
        }[translation]
        self.heads = nn.ModuleList(make_head() for _ in (HEALTHY, DISEASED))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, BatchNorm):
                module.per_image = norm == "instance"
        if translation != "image":
            for head in self.heads:
                nn.init.zeros_(head[-1].weight)

    def forward(self, images: Tensor, classes: Tensor | int) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] and target classes to images (B, C, H, W) in (-1, 1).

        ``classes`` is an integer tensor (B,), mixed classes allowed, or one int for all.
        Raises UserError where H or W is no multiple of 64.
        """
        check_size(images.shape[-2:])
        full = self.down0(torch.cat([images, class_map(images, classes)], dim=1))
        half = self.down1(full)
        quarter = self.down2(half)
        x = self.up3(self.down3(quarter))
        x = self.up2(self.merge2(torch.cat([x, quarter], dim=1)))
        x = self.up1(self.merge1(torch.cat([x, half], dim=1)))
        x = through_own_head(self.heads, x, classes)
        if self.translation == "additive":
            return images + x
        if self.translation == "deformation":
            return deform(images, MAX_FLOW * x.tanh())
        return x


# The critic is piecewise linear: masks and places of maxima are constants to autograd, say the
# functions below. PyTorch's own send tensors of zeros back through the whole forward graph in the
# double backward pass of the gradient penalty.


class PiecewiseReLU(torch.autograd.Function):
    """ReLU whose mask is a constant to autograd."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        y = x.relu()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(gradient, y.detach(), 0)


class PiecewiseMaxPool(torch.autograd.Function):
    """Max-pooling by 2 where the places of the maxima are constants to autograd."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        y, places = F.max_pool2d(x, 2, return_indices=True)
        ctx.save_for_backward(places)
        last = x.is_contiguous(memory_format=torch.channels_last)
        ctx.layout = x.shape, torch.channels_last if last else torch.contiguous_format
        return y

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (places,) = ctx.saved_tensors
        shape, layout = ctx.layout
        # The input's layout matters here, and not its values: the largest maps are not kept.
        like = torch.empty(
            shape, dtype=gradient.dtype, device=gradient.device, memory_format=layout
        )
        return torch.ops.aten.max_pool2d_with_indices_backward(
            gradient, like, [2, 2], [2, 2], [0, 0], [1, 1], False, places
        )


class ReLU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return PiecewiseReLU.apply(x)


class MaxPool(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return PiecewiseMaxPool.apply(x)


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


def class_map(images: Tensor, classes: Tensor | int) -> Tensor:
    """One-hot map (B, 2, H, W) of the target classes, channels [healthy, diseased]."""
    batch, _, height, width = images.shape
    if isinstance(classes, int):
        classes = torch.full((batch,), classes)
    one_hot = F.one_hot(classes, 2).to(images.device, images.dtype, non_blocking=True)
    return one_hot[:, :, None, None].expand(batch, 2, height, width)


def check_size(size: Sequence[int]) -> None:
    """Raise UserError unless both sides are positive multiples of 64."""
    if any(side < SIZE_MULTIPLE or side % SIZE_MULTIPLE for side in size):
        raise UserError(
            f"images of {' x '.join(map(str, size))} pixels do not fit the networks: "
            f"both sides must be multiples of {SIZE_MULTIPLE} (see --image-size)"
        )
