"""What of a difference map speaks for disease."""

import numpy as np
import pytest
import torch

from descargan import score_maps
from descargan.maps import lift_layer
from descargan.reading import Reading


@pytest.mark.parametrize("make", [np.array, torch.tensor])
def test_maps_are_read_by_one_sign_or_both(make):
    difference = make([[-0.5, 0.0], [0.25, 1.0]])
    for sign, expected in (
        (1, [[0, 0], [0.25, 1]]),
        (-1, [[0.5, 0], [0, 0]]),
        (0, [[0.5, 0], [0.25, 1]]),
    ):
        assert score_maps.read(difference, sign).tolist() == expected


@pytest.mark.parametrize(
    ("diseased", "sign"),
    [
        ([[0.4, 0.1]] * 4, 1),
        ([[0.1, 0.4]] * 4, -1),
        ([[0.2, 0.15]] * 4, 0),
        ([[0.05, 0.02]] * 4, 0),  # no more of either than in healthy images
        ([[0.4, 0.1]] * 3 + [[0.1, 0.4]], 1),
        ([[0.4, 0.1]] * 2 + [[0.1, 9.0]] * 2, 0),
    ],
)
def test_the_sign_is_that_of_three_in_four_diseased_images(diseased, sign):
    of_images = torch.tensor([[0.1, 0.05], [0.1, 0.07], *diseased]).double()
    assert score_maps.choose_sign(of_images, torch.tensor([0, 0] + [1] * 4)) == sign


@pytest.mark.parametrize("cover", [None, 0.0, 1.5])
def test_a_map_is_read_alike_as_a_tensor_and_as_an_array(cover):
    differences, images = torch.rand(2, 3, 1, 64, 64)
    probability = torch.tensor([[0.2], [0.6], [torch.nan]])
    reading = Reading(None, sign=1, diffusion=0.02, cover=cover)
    found = reading.score_map(differences, images, probability)[:, 0].numpy()
    arrays = differences[:, 0].numpy(), images[:, 0].numpy()
    together = reading.score_map(*arrays, probability[:, 0].numpy())
    np.testing.assert_allclose(together, found, atol=1e-6)
    for one, image, p, expected in zip(*arrays, probability[:, 0].tolist(), found, strict=True):
        np.testing.assert_allclose(reading.score_map(one, image, p), expected, atol=1e-6)


@pytest.mark.parametrize("side", [64, 128, 256])
def test_what_is_of_one_brightness_is_blurred_by_a_share_of_the_side(side):
    point = torch.zeros(side // 2 + 1, side)
    point[side // 4, side // 2] = 1
    blurred = score_maps.diffuse(point, torch.zeros_like(point), 0.04, 0.07)
    assert blurred.sum() == pytest.approx(1, abs=1e-3)
    for x in (torch.arange(side) - side // 2, torch.arange(side // 2 + 1)[:, None] - side // 4):
        assert (blurred * x**2).sum().sqrt() == pytest.approx(0.04 * side, rel=0.15)


@pytest.mark.parametrize("side", [64, 256])
def test_nothing_is_blurred_over_an_edge_of_the_image(side):
    x = torch.arange(side).expand(side, side)
    image = torch.where(x < side // 2, -0.2, 0.2)
    scores = torch.where(x < side // 2, 0.0, 2 * torch.rand(side, side))
    blurred = score_maps.diffuse(scores, image, 0.04, 0.07)
    assert blurred[:, : side // 2].max() < 1e-3
    assert blurred[:, side // 2 :].mean() == pytest.approx(1, abs=0.05)
    assert blurred[:, side // 2 :].std() < 0.3


def test_a_pixel_that_is_alone_keeps_its_score():
    """Such as one of noise; what is around it is not brightened by it."""
    image, scores = torch.zeros(64, 64), torch.zeros(64, 64)
    image[30, 30], scores[30, 30] = 0.5, 1.0
    torch.testing.assert_close(score_maps.diffuse(scores, image, 0.04, 0.07), scores)


def test_a_layer_is_what_the_generator_draws():
    images, drawn = torch.rand(2, 1, 1, 8, 8)
    difference = images - lift_layer(images, drawn)
    torch.testing.assert_close(score_maps.layer(difference, images), drawn)


def test_a_blob_is_filled_to_half_of_its_strength():
    layers = torch.tensor([[[1.0, 0.8, 0.5, 0.2, 0.0]]])
    found = score_maps.fill(layers, torch.ones(1))[0, 0].tolist()
    assert found[0] == pytest.approx(1)
    assert found[1] > 0.9
    assert found[2] == pytest.approx(0.5)
    assert found[3] < 0.1
    assert found[4] == 0


def test_a_faint_lesion_is_nearer_to_a_strong_one_where_filled():
    layers = torch.tensor([[[0.4096, 0.2048]], [[0.0016, 0.0008]], [[0.0, 0.0]]])
    expected = torch.tensor([[[0.8, 0.4]], [[0.2, 0.1]], [[0.0, 0.0]]])
    torch.testing.assert_close(score_maps.fill(layers, torch.ones(3)), expected)


def test_what_the_classifier_takes_for_healthy_counts_less():
    layers = torch.full((3, 2, 2), 0.0625)
    found = score_maps.fill(layers, torch.tensor([1.0, 0.25, torch.nan]))[:, 0, 0]
    torch.testing.assert_close(found, torch.tensor([0.5, 0.125, 0.5]))


HEALTHY_PIXELS = torch.tensor([[[-1.0, -0.6, -0.2, 0.2]], [[-0.9, -0.3, 0.3, 0.5]]])


@pytest.mark.parametrize("opacity", [0.3, 0.8])
def test_a_layer_that_covers_is_found_by_how_much_it_changes_in_all(opacity):
    """Of one brightness, wherever it was drawn: its opacity is that of each image."""
    opacities = torch.tensor([opacity, 0.5])[:, None, None]
    region = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    images = torch.lerp(HEALTHY_PIXELS, torch.tensor(0.8), region * opacities)
    changed = images - HEALTHY_PIXELS
    drawn = torch.zeros_like(changed)
    drawn[..., 2] = changed.sum(dim=(1, 2))[:, None]
    found = score_maps.cover_up(region.expand_as(images), drawn, images, 1 / 0.8)
    torch.testing.assert_close(found, changed)


def test_a_layer_that_is_added_changes_all_alike():
    region = torch.tensor([[[1.0, 0.5, 0.0]]])
    found = score_maps.cover_up(region, torch.full((1, 1, 3), 0.1), torch.zeros(1, 1, 3), 0.0)
    torch.testing.assert_close(found, torch.tensor([[[0.2, 0.1, 0.0]]]))


def test_nothing_was_darker_than_the_darkest_there_is():
    """However much was drawn: what is as bright as the layer is not changed at all."""
    images = torch.tensor([[[-0.9, -0.2, 0.4, 0.5, 0.9]]])
    found = score_maps.cover_up(torch.ones(1, 1, 5), torch.full((1, 1, 5), 9.0), images, 2.0)
    torch.testing.assert_close(found, torch.tensor([[[0.1, 0.8, 1.4, 0.0, 0.0]]]))


def test_where_nothing_is_drawn_a_layer_changes_nothing():
    nothing = torch.zeros(1, 4, 4)
    found = score_maps.cover_up(score_maps.step(nothing), nothing, nothing, 1.0)
    assert not found.any()


@pytest.mark.parametrize("sign", [1, -1])
def test_a_score_map_ranks_pixels_by_what_a_layer_of_fluid_hides(sign):
    """Drawn as a blob, and covering waves: the darkest of them differ most from what is seen."""
    y, x = torch.meshgrid(*2 * [torch.linspace(-1, 1, 64)], indexing="ij")
    healthy = -0.8 * torch.cos(9 * x)
    fluid = (y.abs() < 0.3) & (x.abs() < 0.5)
    image = torch.where(fluid, 0.3 * healthy + 0.7 * 0.8, healthy)
    blob = torch.exp(-(x**2 + y**2) / 0.3) * fluid * (score_maps.ABOVE - image)
    truth, errors = (image - healthy)[fluid], []
    for cover in (0.0, 1 / 0.8):
        reading = Reading(None, sign=sign, diffusion=0.04, cover=cover)
        scores = reading.score_map(sign * 0.3 * blob, sign * image, 1.0)
        errors.append(1 - np.corrcoef(scores[fluid], truth)[0, 1])
    assert errors[1] < 0.25 * errors[0]
