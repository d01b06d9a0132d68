"""The flips that translations are averaged over."""

import pytest
import torch

from descargan.models import Discriminator, Generator
from descargan.options import Options
from descargan.translator import Translator, averaged_flips


@pytest.mark.parametrize(
    ("flip", "average", "axes"),
    [
        ("both", False, [[]]),
        ("none", True, [[]]),
        ("horizontal", True, [[], [3]]),
        ("both", True, [[], [2], [3], [2, 3]]),
    ],
)
def test_translations_are_averaged_over_the_flips_of_training(flip, average, axes):
    assert averaged_flips(Options(flip=flip, average_flips=average)) == axes


@torch.no_grad()
def test_an_average_is_the_mean_of_the_translations_flipped_back():
    torch.manual_seed(0)
    networks = Generator(base_filters=2), Discriminator(base_filters=2, image_size=64)
    images = torch.rand(2, 1, 64, 64)

    def healthy(images, flips=((),)):
        return Translator(*networks, flips=flips).translate(images).healthy

    expected = (healthy(images) + healthy(images.flip(3)).flip(3)) / 2
    torch.testing.assert_close(healthy(images, [[], [3]]), expected)
    assert not torch.allclose(expected, healthy(images), atol=1e-3)
