"""Every loss term against a value computed by hand or by a plain, independent formula."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from descargan import losses
from descargan.layers import MaxPool
from descargan.models import Discriminator


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def maps(*values: float) -> torch.Tensor:
    """Score maps (B, 1, 2, 2), each with the given mean."""
    spread = torch.tensor([[[-1.0, 1.0], [2.0, -2.0]]])
    return torch.stack([value + spread for value in values])


def test_critic_adversarial_loss_by_hand():
    classes = torch.tensor([0, 1, 1, 1])
    real = maps(2.0, 4.0, 5.0, 6.0)
    fakes = [maps(1.0, 1.0, 1.0, 5.0), maps(0.0, 0.0, 4.0, 0.0)]
    # 1/4 * (2 - 2) + 3/4 * (1 - 5)
    assert losses.critic_adversarial_loss(real, fakes, classes).item() == pytest.approx(-3.0)


@pytest.mark.parametrize(("c", "expected"), [(0, 2.0 - 3.0), (1, 7.0 - 3.0)])
def test_critic_adversarial_loss_of_a_single_class(c, expected):
    classes = torch.tensor([c, c])
    loss = losses.critic_adversarial_loss(maps(2.0, 4.0), [maps(1.0, 3.0), maps(7.0, 7.0)], classes)
    assert loss.item() == pytest.approx(expected)


def test_class_shares_are_of_the_actual_batch():
    assert losses.class_shares(torch.tensor([1, 0, 1])) == pytest.approx([1 / 3, 2 / 3])


def test_interpolate_uses_one_factor_per_image():
    real, fake = torch.ones(2, 1, 2, 2), torch.zeros(2, 1, 2, 2)
    points = losses.interpolate(real, fake, torch.tensor([0.25, 1.0]))
    assert torch.equal(points, torch.tensor([0.25, 1.0]).view(2, 1, 1, 1).expand(2, 1, 2, 2))


def test_gradient_penalty_of_a_linear_critic():
    """score(x) = w . x, given 5 times in the map: the gradient of the sum is 5 w everywhere."""
    w = torch.rand(1, 4, 4) + 0.1
    points = torch.rand(3, 1, 4, 4)

    def score(x):
        return (x * w).flatten(1).sum(1)[:, None].expand(-1, 5)

    expected = (5 * w.norm() - 1).square()
    assert losses.gradient_penalty(score, points).item() == pytest.approx(expected.item(), rel=1e-5)
    of_mean = losses.gradient_penalty(score, points, of="mean").item()
    assert of_mean == pytest.approx((w.norm() - 1).square().item(), rel=1e-5)


def test_gradient_penalty_takes_the_norm_of_each_image():
    """score(x) = |x|^2 / 2 has gradient x: norms 3 and 5 give (2^2 + 4^2) / 2."""
    points = torch.zeros(2, 1, 2, 2)
    points[0, 0, 0, 0], points[1, 0, 0, 1], points[1, 0, 1, 0] = 3.0, 3.0, 4.0
    loss = losses.gradient_penalty(lambda x: x.square().flatten(1).sum(1)[:, None] / 2, points)
    assert loss.item() == pytest.approx(10.0)


def test_gradient_penalty_reaches_the_critic_as_finite_differences_say():
    discriminator = Discriminator(base_filters=1, image_size=64).double()
    points = torch.rand(2, 1, 64, 64, dtype=torch.double)

    def penalty():
        return losses.gradient_penalty(lambda x: discriminator(x, 0)[0], points)

    weight = discriminator.encoder[4][0].weight
    (gradient,) = torch.autograd.grad(penalty(), weight)
    step, index = 1e-6, (0, 0, 1, 1)
    with torch.no_grad():
        weight[index] += step
    above = penalty().item()
    with torch.no_grad():
        weight[index] -= 2 * step
    below = penalty().item()
    assert gradient[index].item() != 0
    assert gradient[index].item() == pytest.approx((above - below) / (2 * step), rel=1e-4)


@pytest.mark.parametrize(
    "size", [64, 128]
)  # the heads' maps are 2 x 2, a case of its own, and 4 x 4
def test_gradient_penalty_equals_that_of_pytorchs_own_layers(size):
    """The critic's own layers change the cost of the double backward pass, not its result."""
    discriminator = Discriminator(base_filters=2, image_size=size).double()
    points = torch.rand(3, 1, size, size, dtype=torch.double)

    def convolved(x, layer):
        return F.conv2d(x, layer.weight, layer.bias, padding=1)

    def plain(x):
        for layer in discriminator.encoder:
            is_pool = isinstance(layer[0], MaxPool)
            x = F.max_pool2d(x, 2) if is_pool else convolved(x, layer[0]).relu()
        first, second, last = discriminator.critics[1]
        return convolved(convolved(convolved(x, first[0]).relu(), second[0]).relu(), last)

    weights = [
        p for n, p in discriminator.named_parameters() if "weight" in n and "classifier" not in n
    ]
    ours = losses.gradient_penalty(lambda x: discriminator(x, 1)[0], points)
    reference = losses.gradient_penalty(plain, points)
    torch.testing.assert_close(ours, reference)
    for a, b in zip(
        torch.autograd.grad(ours, weights, allow_unused=True),
        torch.autograd.grad(reference, weights, allow_unused=True),
        strict=True,
    ):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b)


def test_weights_of_the_critic_have_no_gradient_with_a_graph():
    """A convolution gives the gradient of its input alone then; NaN tells whoever takes another."""
    discriminator = Discriminator(base_filters=2, image_size=128)
    score = discriminator(torch.rand(1, 1, 128, 128), 0)[0].sum()
    weight = discriminator.encoder[2][0].weight
    (gradient,) = torch.autograd.grad(score, weight, create_graph=True)
    assert gradient.isnan().all()


def test_classification_loss_is_the_negative_log_likelihood():
    logits, classes = torch.randn(5, 2), torch.tensor([0, 1, 1, 0, 1])
    z = logits.double().numpy()
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    expected = -np.log(p[np.arange(5), classes.numpy()]).mean()
    assert losses.classification_loss(logits, classes).item() == pytest.approx(expected, rel=1e-5)
    one_class = losses.classification_loss(logits, 1).item()
    assert one_class == pytest.approx(-np.log(p[:, 1]).mean(), rel=1e-5)


def test_generator_adversarial_loss_by_hand():
    loss = losses.generator_adversarial_loss([maps(1.0, 3.0), maps(5.0, -1.0)])
    assert loss.item() == pytest.approx(-(2.0 + 2.0))


@pytest.mark.parametrize("loss", [losses.identity_loss, losses.reconstruction_loss])
def test_identity_and_reconstruction_sum_the_mean_of_each_class(loss):
    images = torch.zeros(3, 1, 2, 2)
    outputs = torch.tensor([1.0, 2.0, 4.0]).view(3, 1, 1, 1).expand(3, 1, 2, 2)
    # class 0: 1; class 1: (4 + 16) / 2
    assert loss(images, outputs, torch.tensor([0, 1, 1])).item() == pytest.approx(11.0)


@pytest.mark.parametrize(("c", "expected"), [(0, 2.5), (1, 2.5)])
def test_identity_loss_of_a_single_class_has_no_term_of_the_other(c, expected):
    outputs = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1).expand(2, 1, 2, 2).clone().requires_grad_()
    loss = losses.identity_loss(torch.zeros(2, 1, 2, 2), outputs, torch.tensor([c, c]))
    assert loss.item() == pytest.approx(expected)
    loss.backward()
    assert torch.isfinite(outputs.grad).all()


def test_logistic_loss_is_the_mean_binary_cross_entropy_over_exits_and_images():
    logits, target = torch.randn(2, 3), torch.tensor([0.0, 1.0, 1.0])
    p = 1 / (1 + np.exp(-logits.double().numpy()))
    expected = -np.log(np.where(target.numpy() == 1, p, 1 - p)).mean()
    assert losses.logistic_loss(logits, target).item() == pytest.approx(expected, rel=1e-5)
    assert losses.logistic_loss(logits, 1.0).item() == pytest.approx(-np.log(p).mean(), rel=1e-5)


def test_fakeness_is_that_of_the_images_own_class():
    fakeness = torch.arange(12.0).view(2, 3, 2)  # exits, images, classes
    expected = torch.tensor([[0.0, 3.0, 5.0], [6.0, 9.0, 11.0]])
    assert torch.equal(losses.of_class(fakeness, torch.tensor([0, 1, 1])), expected)


def test_gradient_norm_by_hand():
    """score(x) = |x|^2 / 2 has gradient x: squared norms 9 and 25 have the mean 17."""
    images = torch.zeros(2, 1, 2, 2)
    images[0, 0, 0, 0], images[1, 0, 0, 1], images[1, 0, 1, 0] = 3.0, 3.0, 4.0
    loss = losses.gradient_norm(lambda x: x.square().flatten(1).sum(1) / 2, images)
    assert loss.item() == pytest.approx(17.0)
