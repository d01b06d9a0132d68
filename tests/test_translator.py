"""The flips that translations are averaged over."""

import numpy as np
import pytest
import torch
from conftest import ROOT

import create_synthetic_dataset as synthetic
from descargan import DISEASED, HEALTHY, device
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


@pytest.mark.parametrize("number", [2, 12])
def test_flips_in_one_pass_or_several_give_each_image_its_own_class(number):
    torch.manual_seed(0)
    networks = Generator(base_filters=2), Discriminator(base_filters=2, image_size=64)
    translator = Translator(*networks, flips=[[], [2]])
    images, classes = torch.rand(number, 1, 64, 64), torch.arange(number) % 2
    mixed, _ = translator.into(images, classes)
    for c in (HEALTHY, DISEASED):
        alone, _ = translator.into(images[classes == c], c)
        torch.testing.assert_close(mixed[classes == c], alone)


def test_mixed_precision_changes_the_maps_of_trained_networks_by_less_than_a_hundredth(monkeypatch):
    monkeypatch.setattr(device, "has_half_precision", lambda _: True)
    translator = Translator.load(ROOT / "save_nets" / "pretrained", device="cpu")
    drawn = [synthetic.make_sample(np.random.default_rng(n), 64, "atrophy") for n in range(2)]
    images = torch.from_numpy(np.stack(drawn)[:, :1].astype(np.float32))
    full = translator.translate(images)
    translator.amp = True
    mixed = translator.translate(images)
    for ours, theirs in zip(mixed[1:4], full[1:4], strict=True):
        assert ours.dtype == torch.float32
        assert 0 < (ours - theirs).abs().max() < 0.01
