"""The loss terms of DeScarGAN as pure functions of tensors (paper, section 2, equations 1 to 8).

Each returns one number, unweighted; ``descargan/steps.py`` weights and adds them. Score maps are
(B, 1, h, w), images (B, C, H, W), classes an integer tensor (B,) with 0 = healthy, 1 = diseased.
A batch may hold one class only: the terms of the other are 0 then, never NaN.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def critic_adversarial_loss(
    real_scores: Tensor, fake_scores: Sequence[Tensor], classes: Tensor
) -> Tensor:
    """Wasserstein distance of fakes from real images, negated: what the critic minimises.

    ``sum_c p_c * (mean D_c(G(a, c)) - mean over real images of class c of D_c(a))``, with p_c the
    share of class c in the batch, whose ``classes`` are (B,) or, where the batch is spread over
    processes, those of all of it. ``real_scores`` holds each real image's score map by the critic
    of its own class; ``fake_scores[c]`` the score maps of the whole batch translated into class c.
    """
    shares = class_shares(classes, len(fake_scores))
    fake = sum(p * scores.mean() for p, scores in zip(shares, fake_scores, strict=True))
    # p_c times the mean over class c, summed over the classes, is the mean over the batch.
    return fake - real_scores.mean()


def interpolate(real: Tensor, fake: Tensor, t: Tensor) -> Tensor:
    """Points between real and fake images: ``t * real + (1 - t) * fake``, one t (B,) per image."""
    t = t.view(-1, 1, 1, 1)
    return t * real + (1 - t) * fake


def gradient_penalty(score: Callable[[Tensor], Tensor], points: Tensor, of: str = "sum") -> Tensor:
    """Mean over images of ``(||grad_x sum(score(x))||_2 - 1)^2`` at ``points`` (B, C, H, W).

    The sum runs over the whole score map of an image (the paper), or it is the mean ``of`` the map;
    the norm runs over all pixels of the image. The result can be differentiated with respect to
    the critic's parameters.
    """
    points = points.detach().requires_grad_()
    maps = score(points).flatten(1)
    values = maps.sum(dim=1) if of == "sum" else maps.mean(dim=1)
    (gradient,) = torch.autograd.grad(values.sum(), points, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


def classification_loss(logits: Tensor, classes: Tensor | int) -> Tensor:
    """Cross entropy of logits (B, 2) against classes (B,), or against one class for all."""
    if isinstance(classes, int):
        classes = torch.full((len(logits),), classes)
    return F.cross_entropy(logits, classes.to(logits.device, non_blocking=True))


def generator_adversarial_loss(fake_scores: Sequence[Tensor]) -> Tensor:
    """``-sum_c mean D_c(G(a, c))``, with ``fake_scores[c]`` as for the critic."""
    return -sum(scores.mean() for scores in fake_scores)


def identity_loss(
    images: Tensor, own_translations: Tensor, classes: Tensor, counts: Tensor | None = None
) -> Tensor:
    """``sum_c MSE(a, G(a, c))`` over images a of class c: translation into the own class."""
    return classwise_mse(images, own_translations, classes, counts)


def reconstruction_loss(
    images: Tensor, reconstructions: Tensor, classes: Tensor, counts: Tensor | None = None
) -> Tensor:
    """``sum_c MSE(a, G(G(a, other(c)), c))`` over images a of class c: there and back."""
    return classwise_mse(images, reconstructions, classes, counts)


def change_loss(images: Tensor, translations: Tensor) -> Tensor:
    """Mean of ``|G(a, other(c)) - a|``: a translation into the other class changes little.

    Not in the paper; VA-GAN has it (Baumgartner et al., arXiv:1711.08998, equation 5).
    """
    return (translations - images).abs().mean()


def classwise_mse(
    target: Tensor, output: Tensor, classes: Tensor, counts: Tensor | None = None
) -> Tensor:
    """Squared error summed over the images of each class, over its count, summed over the classes.

    ``counts`` (2,) are those of ``classes``, or given where the batch is spread over processes.
    """
    per_image = (target - output).square().flatten(1).mean(dim=1)
    members = F.one_hot(classes, 2)
    counts = members.sum(dim=0).clamp(min=1) if counts is None else counts
    weights = (members / counts).sum(dim=1)
    return (per_image * weights.to(per_image, non_blocking=True)).sum()


def class_shares(classes: Tensor, number: int = 2) -> list[float]:
    """Share of each class among the images of the batch: count / actual batch length."""
    return [(classes == c).double().mean().item() for c in range(number)]


def logistic_loss(logits: Tensor, target: Tensor | float) -> Tensor:
    """Binary cross entropy of logits against targets in 0 and 1, the mean over all exits.

    ``logits`` (exits, B); ``target`` is (B,), or one number for all.
    """
    target = torch.as_tensor(target, dtype=logits.dtype, device=logits.device)
    return F.binary_cross_entropy_with_logits(logits, target.expand_as(logits))


def of_class(fakeness: Tensor, classes: Tensor) -> Tensor:
    """The fakeness (exits, B) that the critic of each image's class sees, out of (exits, B, 2)."""
    index = classes.to(fakeness.device, non_blocking=True).view(1, -1, 1)
    return fakeness.gather(2, index.expand(len(fakeness), -1, 1))[..., 0]


def gradient_norm(score: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Mean over real images (B, C, H, W) of ``||grad_x score(x)||_2^2``, ``score`` giving (B,).

    The penalty R1 of Mescheder et al. (arXiv:1801.04406), without its factor. It can be
    differentiated with respect to the critic's parameters.
    """
    points = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(score(points).sum(), points, create_graph=True)
    return gradient.square().flatten(1).sum(dim=1).mean()
