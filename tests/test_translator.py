"""The flips that translations are averaged over."""

import numpy as np
import pytest
import torch
from conftest import ROOT

import create_synthetic_dataset as synthetic
from descargan import DISEASED, HEALTHY, compact, device, metrics
from descargan.errors import UserError
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


@torch.no_grad()
@pytest.mark.parametrize("translation", ["additive", "layer", "fine-deformation", "combined"])
def test_networks_see_larger_images_reduced_and_their_change_is_made_at_the_size_of_those(
    translation,
):
    torch.manual_seed(0)
    networks = compact.Generator(1, translation), compact.Discriminator(image_size=64)
    torch.nn.init.normal_(networks[0].head.weight, std=0.05)
    translator, images = Translator(*networks), torch.rand(2, 1, 128, 128)
    reduced = images.unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(-2, -1))
    found, small = translator.translate(images), translator.translate(reduced)
    drawn = translator.draw(reduced, HEALTHY)
    expected = networks[0].kind.apply(images, drawn)
    torch.testing.assert_close(found.healthy, expected, atol=1e-4, rtol=1e-4)
    finer = torch.nn.functional.interpolate(drawn, (128, 128), mode="bilinear", align_corners=False)
    if translation == "layer":
        torch.testing.assert_close(found.healthy, images - finer * (2 - images))
    assert (found.healthy - images).abs().mean() > 0.02
    torch.testing.assert_close(found.probability, small.probability)
    torch.testing.assert_close(translator.suspicion(images), translator.suspicion(reduced))
    if small.flow is not None:
        assert found.flow.shape == (2, 2, 128, 128)
        torch.testing.assert_close(found.flow[..., ::2, ::2], small.flow, atol=0.05, rtol=0)


def test_results_of_files_are_finer_where_they_are_made_from_larger_images():
    """A pattern finer than the networks see stays in the pseudo-healthy image of a larger size."""
    torch.manual_seed(0)
    translator = Translator(compact.Generator(1, "layer"), compact.Discriminator(image_size=64))
    stripes = np.tile([[0, 255]], (128, 64)).astype(np.uint8)
    assert np.abs(np.diff(translator(stripes).healthy)).mean() < 0.1
    translator.size = 128
    assert np.abs(np.diff(translator(stripes).healthy)).mean() > 1.9


@pytest.mark.parametrize(
    ("translation", "size", "taken"),
    [
        ("additive", 64, True),
        ("additive", 65, True),
        ("additive", 32, False),
        ("additive", 64.5, False),
        ("additive", "large", False),
        ("image", 64, True),
        ("image", 128, False),
    ],
)
def test_a_size_that_the_networks_do_not_take_is_refused(translation, size, taken):
    networks = Generator(1, 2, translation), Discriminator(base_filters=2, image_size=64)
    translator = Translator(*networks)
    if taken:
        translator.size = size
        assert translator.size == size
    else:
        with pytest.raises(UserError, match=f"is 64.*{size}"):
            translator.size = size
        assert translator.size == 64


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
    dtypes = torch.float32, torch.float32, torch.float64  # of images, maps and probabilities
    for ours, theirs, dtype in zip(mixed[1:4], full[1:4], dtypes, strict=True):
        assert ours.dtype == dtype
        assert 0 < (ours - theirs).abs().max() < 0.01


def test_images_of_which_the_classifier_is_sure_are_told_apart(monkeypatch):
    discriminator = compact.Discriminator(image_size=64)
    logits = torch.tensor([[0.0, 18.0], [0.0, 20.0], [0.0, 22.0], [0.0, 25.0]])
    monkeypatch.setattr(discriminator, "classifier", lambda features: logits)
    translator = Translator(compact.Generator(1, "layer"), discriminator)
    probability = translator.classify(torch.zeros(4, 1, 64, 64)).numpy()
    assert metrics.auroc(np.array([0, 0, 1, 1]), probability) == 1
