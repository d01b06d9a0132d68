"""Layers of both networks: exact, and faster than PyTorch's own, which they stand for.

Batch norm that can normalise each image by itself, convolutions with a faster backward pass, and
piecewise linear layers for the gradient penalty.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm(nn.SyncBatchNorm):
    """Batch normalisation that can normalise every image by its own statistics instead.

    Where several processes train on CUDA, the statistics are those of the whole batch; on the CPU,
    which PyTorch does not do that for, those of the images of each process.

    In evaluation mode, and with ``per_image`` set in training too, the mean and variance are those
    of each image and channel. The release tests with its batch norm in training mode and one image
    at a time, which is the same; running statistics are written, as there, and never read.
    """

    per_image = False

    def forward(self, x: Tensor) -> Tensor:
        if self.per_image or not self.training:
            return normalise_each(x, self.weight, self.bias, self.eps)
        if x.is_cuda:
            # The statistics of no images have their precision, those of others that of the weights:
            # processes could not gather both.
            return super().forward(x if len(x) else x.to(self.weight.dtype))
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
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the networks' modes are put back afterwards.

    What is computed inside cannot enter a graph later: ``clone()`` can.

    >>> with evaluating(generator):
    ...     pseudo_healthy = generator(images, HEALTHY)
    """
    before = [network.training for network in networks]
    for network in networks:
        network.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for network, was_training in zip(networks, before, strict=True):
            network.train(was_training)


@contextmanager
def unrecorded(network: nn.Module) -> Iterator[None]:
    """Batch norms write no running statistics: for a pass that is computed a second time."""
    norms = [module for module in network.modules() if isinstance(module, BatchNorm)]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


def class_map(images: Tensor, classes: Tensor | int) -> Tensor:
    """One-hot map (B, 2, H, W) of the target classes, channels [healthy, diseased]."""
    batch, _, height, width = images.shape
    if isinstance(classes, int):
        classes = torch.full((batch,), classes)
    one_hot = F.one_hot(classes, 2).to(images.device, images.dtype, non_blocking=True)
    return one_hot[:, :, None, None].expand(batch, 2, height, width)


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
        large = min(weight.shape[:2]) >= 32 and x.shape[2] * x.shape[3] >= 32 * 32
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
    if torch.is_autocast_enabled(x.device.type):
        # Not torch.convolution, which is not cast on the CPU.
        function = F.conv_transpose2d if transposed else F.conv2d
        return function(x, weight, bias, stride, padding)
    return Convolution.apply(x, weight, bias, stride, padding, transposed)


class Conv(nn.Conv2d):
    """Convolution 3 x 3 or 1 x 1, with padding 1."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int = 3) -> None:
        super().__init__(inputs, outputs, kernel_size, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel_size == (3, 3) and x.shape[-2:] == (2, 2):
            return convolve_few_pixels(x, self.weight, self.bias)
        return convolve(x, self.weight, self.bias)


def convolve_few_pixels(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolution 3 x 3 with padding 1 as matrix products: faster on maps of 2 x 2."""
    batch, channels, height, width = x.shape
    pixels = x.flatten(2).transpose(1, 2)
    # The nine neighbours of each pixel, picked by ones and zeros: faster than F.unfold here.
    one_each = torch.eye(height * width, dtype=x.dtype, device=x.device)
    picks = F.unfold(one_each.view(-1, 1, height, width), 3, padding=1).permute(2, 1, 0)
    rows = (picks.flatten(0, 1) @ pixels).view(batch * height * width, 9 * channels)
    y = F.linear(rows, weight.permute(0, 2, 3, 1).flatten(1), bias)
    return y.view(batch, height, width, -1).permute(0, 3, 1, 2)


class LastConv(Conv):
    """The convolution that draws: in float32 under autocast too, as changes are small numbers."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(self.weight.dtype))


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
