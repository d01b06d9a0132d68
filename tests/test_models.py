"""Generator and discriminator, against the paper's figures and plain reference computations."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from descargan import DISEASED, HEALTHY
from descargan.errors import UserError
from descargan.layers import BatchNorm, UpsampledConv, evaluating
from descargan.maps import MAP_KINDS, deform
from descargan.models import Discriminator, Generator, change_head, image_head
from descargan.options import TRANSLATIONS


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.fixture
def images() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(8, 1, 64, 64) * 2 - 1


@pytest.fixture
def generator() -> Generator:
    torch.manual_seed(0)
    generator = Generator(base_filters=4)
    for module in generator.modules():
        if isinstance(module, BatchNorm):  # at 1 and 0 a lost scale or shift would not be seen
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return generator


def test_parameter_counts_are_those_of_the_paper():
    assert parameters(Generator()) == 8_528_262
    assert parameters(Discriminator()) == 18_170_180


@pytest.mark.parametrize(("size", "side"), [(64, 4), (128, 6), (256, 10)])
def test_score_map_has_a_border_that_is_the_bias_alone(size, side):
    discriminator = Discriminator(base_filters=2, image_size=size)
    scores, logits = discriminator(torch.rand(3, 1, size, size), torch.tensor([0, 1, 0]))
    assert scores.shape == (3, 1, side, side)
    assert logits.shape == (3, 2)
    border = torch.ones(side, side, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    biases = torch.stack([discriminator.critics[c][2].bias for c in (0, 1, 0)])
    assert torch.equal(scores[:, 0, border], biases.expand(3, int(border.sum())))


def test_generator_takes_any_multiple_of_64_and_any_number_of_channels():
    output = Generator(channels=3, base_filters=2)(torch.rand(2, 3, 64, 192), DISEASED)
    assert output.shape == (2, 3, 64, 192)
    assert output.abs().max() < 1


@pytest.mark.parametrize("side", [0, 32, 96, 250])
def test_other_sizes_are_a_clear_error(side):
    with pytest.raises(UserError, match="multiples of 64"):
        Discriminator(image_size=side)
    with pytest.raises(UserError, match="multiples of 64"):
        Generator(base_filters=2)(torch.rand(1, 1, side, 64), HEALTHY)


def test_discriminator_refuses_images_of_another_size():
    with pytest.raises(UserError, match="built for images of 128 x 128"):
        Discriminator(base_filters=2, image_size=128)(torch.rand(1, 1, 64, 64), HEALTHY)


def test_each_image_goes_through_the_head_of_its_class(generator, images):
    classes = torch.tensor([0, 1, 1, 0, 1, 0, 0, 1])
    with evaluating(generator):
        mixed = generator(images, classes)
        alone = [generator(images[i : i + 1], int(c)) for i, c in enumerate(classes)]
        other = [generator(images[i : i + 1], 1 - int(c)) for i, c in enumerate(classes)]
    torch.testing.assert_close(mixed, torch.cat(alone), atol=1e-4, rtol=0)
    assert (mixed - torch.cat(other)).abs().amax(dim=(1, 2, 3)).min() > 0.01


@pytest.mark.parametrize("head", [image_head(32, 1), change_head(32, 2, stride=2)])
def test_a_head_without_images_learns_nothing_and_keeps_its_statistics(head):
    """Where another process has the images of its class; with as many filters as are large."""
    before = [buffer.clone() for name, buffer in head.named_buffers() if "running" in name]
    features = torch.rand(0, 32, 64, 64, requires_grad=True)
    drawn = head(features)
    drawn.sum().backward()
    assert len(drawn) == 0
    assert features.grad.shape == features.shape
    assert not any(parameter.grad.any() for parameter in head.parameters())
    after = [buffer for name, buffer in head.named_buffers() if "running" in name]
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


def test_each_score_comes_from_the_critic_of_its_class(images):
    discriminator = Discriminator(base_filters=2, image_size=64)
    classes = torch.tensor([0, 1, 1, 0, 1, 0, 0, 1])
    scores, _ = discriminator(images, classes)
    features = discriminator.encoder(images)
    for i, c in enumerate(classes):
        alone = discriminator.critics[c](features[i : i + 1])
        torch.testing.assert_close(scores[i : i + 1], alone)


def test_generator_has_no_skip_connection_at_full_resolution(generator, images):
    """Whatever differs within 2 x 2 pixels reaches the output through max-pooling only."""
    seen = {}
    generator.up1.register_forward_hook(
        lambda m, inputs, out: seen.update(inputs=inputs[0], out=out)
    )
    generator(images, HEALTHY)
    assert seen["inputs"].shape[-2:] == (32, 32)
    assert seen["out"].shape[1:] == (4, 64, 64)


def test_target_class_is_in_the_input_too(generator, images):
    """With equal heads the two translations still differ, by the class map alone."""
    generator.heads[1].load_state_dict(generator.heads[0].state_dict())
    with evaluating(generator):
        healthy, diseased = generator(images, HEALTHY), generator(images, DISEASED)
    assert (healthy - diseased).abs().max() > 1e-3


def test_upsampled_convolution_equals_upsampling_then_convolving():
    torch.manual_seed(0)
    conv, x = UpsampledConv(5, 3).double(), torch.randn(2, 5, 6, 8, dtype=torch.double)
    x.requires_grad_()
    plain = F.conv2d(F.interpolate(x, scale_factor=2), conv.weight, conv.bias, padding=1)
    ours = conv(x)
    torch.testing.assert_close(ours, plain)
    weights = torch.randn_like(plain)
    for ours_gradient, plain_gradient in zip(
        torch.autograd.grad((ours * weights).sum(), [x, conv.weight, conv.bias]),
        torch.autograd.grad((plain * weights).sum(), [x, conv.weight, conv.bias]),
        strict=True,
    ):
        torch.testing.assert_close(ours_gradient, plain_gradient)


def test_evaluation_does_not_depend_on_the_batch_size(generator, images):
    with evaluating(generator):
        together = generator(images, HEALTHY)
        alone = torch.cat([generator(image[None], HEALTHY) for image in images])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)


def test_evaluation_equals_batch_statistics_of_one_image(generator, images):
    with evaluating(generator):
        ours = generator(images[:1], HEALTHY)
    with torch.no_grad():
        release = generator.train()(images[:1], HEALTHY)
    torch.testing.assert_close(ours, release, atol=1e-5, rtol=0)


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_leaves_no_trace(generator, images, training):
    generator.train(training)
    before = {key: value.clone() for key, value in generator.state_dict().items()}
    with evaluating(generator):
        generator(images, HEALTHY)
    assert generator.training is training
    for key, value in generator.state_dict().items():
        assert torch.equal(value, before[key]), key
    plain = generator(images, HEALTHY)
    assert plain.requires_grad
    assert generator.down0[0][1].num_batches_tracked == int(training)


def test_initialisation_is_kaiming_in_the_generator_and_xavier_in_the_discriminator():
    torch.manual_seed(0)
    conv = Generator().merge2[0][0]
    assert conv.weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)
    assert not conv.bias.any()
    conv = Discriminator().encoder[8][0]
    assert conv.weight.std().item() == pytest.approx((2 / (2 * 256 * 9)) ** 0.5, rel=0.01)
    assert not conv.bias.any()


CHANGES = [name for name, kind in MAP_KINDS.items() if kind.changes_input]


def test_every_kind_of_map_is_an_option():
    assert tuple(MAP_KINDS) == TRANSLATIONS


@pytest.mark.parametrize("translation", CHANGES)
def test_a_generator_of_changes_starts_at_the_identity(translation, images):
    generator = Generator(base_filters=2, translation=translation)
    for c in (HEALTHY, DISEASED):
        torch.testing.assert_close(generator(images, c), images, atol=1e-4, rtol=0)


def test_deformation_moves_the_image_by_the_flow(images):
    """One pixel to the right is a shift of 2 / (W - 1) along x."""
    flow = torch.zeros(8, 2, 16, 16)
    flow[:, 0] = 2 / 63
    moved = deform(images, flow)
    torch.testing.assert_close(moved[..., :-1], images[..., 1:], atol=1e-4, rtol=0)
    torch.testing.assert_close(moved[..., -1], images[..., -1], atol=1e-4, rtol=0)
