"""The compact networks: their size, what they draw, and how exits are pooled."""

import pytest
import torch
from torch import nn

from descargan import DISEASED, HEALTHY, compact
from descargan.errors import UserError
from descargan.maps import MAP_KINDS

CHANGES = [name for name, kind in MAP_KINDS.items() if kind.changes_input]


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.fixture
def images() -> torch.Tensor:
    """Smooth, as images are: a deformation of noise is noise."""
    return nn.functional.avg_pool2d(torch.rand(4, 1, 72, 72) * 6 - 3, 9, stride=1)


def drawing(translation: str) -> compact.Generator:
    """A generator whose changes are large enough to be seen."""
    generator = compact.Generator(translation=translation)
    nn.init.normal_(generator.head.weight, std=0.1)
    return generator


def test_sizes():
    assert parameters(compact.Generator()) == 337_448
    assert parameters(compact.Discriminator()) == 294_873


@pytest.mark.parametrize("translation", CHANGES)
def test_untrained_generator_changes_next_to_nothing(translation, images):
    change = compact.Generator(translation=translation)(images, HEALTHY) - images
    assert 0 < change.abs().mean() < (0.03 if translation == "layer" else 0.02)


@pytest.mark.parametrize("translation", CHANGES)
def test_an_image_is_translated_alike_in_any_batch_and_mode(translation, images):
    generator, images = drawing(translation).double(), images.double()
    classes = torch.tensor([0, 1, 1, 0])
    together = generator(images, classes)
    generator.eval()
    alone = [generator(image[None], int(c)) for image, c in zip(images, classes, strict=True)]
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize("translation", CHANGES)
def test_the_classes_have_changes_of_their_own(translation, images):
    generator = drawing(translation)
    healthy, diseased = (generator(images, c) for c in (HEALTHY, DISEASED))
    assert healthy.shape == diseased.shape == images.shape
    assert not torch.allclose(healthy, diseased, atol=1e-3)


def test_brightness_is_drawn_pixel_by_pixel(images):
    """Neighbours that share features have weights of their own."""
    rows = drawing("additive").draw(images, HEALTHY)
    assert rows.shape == images.shape
    pairs = rows.unflatten(-1, (32, 2))
    assert (pairs[..., 0] - pairs[..., 1]).abs().mean() > 0.1 * rows.abs().mean()


def test_a_flow_is_drawn_at_half_of_the_resolution(images):
    """Bilinear upsampling by 2: the same drawn value from the two pixels on either side of it."""
    for translation in ("deformation", "combined"):
        rows = drawing(translation).draw(images, HEALTHY)[:, :2, 1:-1]
        a, b, c, d = (rows[..., i : i + 56 : 2, :] for i in range(4))
        torch.testing.assert_close(1.5 * b - 0.5 * a, 1.5 * c - 0.5 * d, atol=1e-4, rtol=1e-4)


def test_compact_networks_draw_no_whole_images():
    with pytest.raises(UserError, match="--translation image"):
        compact.Generator(translation="image")


def test_the_discriminator_judges_at_three_exits(images):
    verdict = compact.Discriminator()(images)
    assert verdict.disease.shape == (3, 4)
    assert verdict.fakeness.shape == (3, 4, 2)


def test_class_logits_are_the_mean_over_the_exits(images):
    discriminator = compact.Discriminator().eval()
    features = discriminator.encode(images)
    logits = discriminator.classifier(features)
    expected = discriminator(images).disease.mean(dim=0)
    torch.testing.assert_close(logits[:, DISEASED] - logits[:, HEALTHY], expected)


@pytest.mark.parametrize(("exit_", "pixels"), [(0, 14), (1, 32)])
def test_finer_exits_see_few_pixels(exit_, pixels):
    discriminator = compact.Discriminator().eval()
    for module in discriminator.modules():
        if isinstance(module, nn.GroupNorm):  # else every pixel sees all of the image
            module.forward = lambda x: x
    image = torch.rand(1, 1, 128, 128, requires_grad=True)
    discriminator.encode(image)[exit_][..., 16, 16].sum().backward()
    rows = image.grad[0, 0].any(dim=1).nonzero()
    assert pixels - 4 <= rows.max() - rows.min() + 1 <= pixels


def test_pooling_lies_between_mean_and_maximum():
    maps = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]])
    assert compact.pool(maps, 0.0).item() == 1.5
    expected = torch.log(torch.exp(4 * maps).mean()) / 4
    assert compact.pool(maps, 4.0).item() == pytest.approx(expected.item())
    assert compact.pool(maps, 100.0).item() == pytest.approx(3 - torch.log(torch.tensor(4)) / 100)


def test_a_real_image_is_not_fake():
    """A critic's map is of realness: what raises it lowers the fakeness of its class alone."""
    discriminator = compact.Discriminator().eval()
    features = discriminator.encode(torch.rand(2, 1, 64, 64))
    before = discriminator.judge(features).fakeness
    with torch.no_grad():
        for exit_ in discriminator.exits:
            exit_.bias[1 + DISEASED] += 1
    after = discriminator.judge(features).fakeness
    torch.testing.assert_close(after[..., DISEASED], before[..., DISEASED] - 1)
    torch.testing.assert_close(after[..., HEALTHY], before[..., HEALTHY])


def test_the_change_is_drawn_in_float32_under_autocast(images):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert drawing("additive").draw(images, HEALTHY).dtype == torch.float32
