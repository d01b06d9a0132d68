"""What is made of what a generator draws."""

import math

import pytest
import torch

from descargan import maps
from descargan.maps import MAP_KINDS


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 1, 16, 16) * 2 - 1


def flow(x: float, y: float = 0.0) -> torch.Tensor:
    """Drawn maps (1, 2, 65, 65) of one displacement everywhere."""
    drawn = torch.tensor([x, y]) / maps.MAX_FLOW
    return drawn.atanh().view(1, 2, 1, 1).expand(1, 2, 65, 65)


@pytest.mark.parametrize("name", [name for name, kind in MAP_KINDS.items() if kind.changes_input])
def test_nothing_drawn_changes_nothing(name, images):
    kind = MAP_KINDS[name]
    drawn = torch.zeros(2, kind.channels or 1, 16, 16)
    torch.testing.assert_close(kind.apply(images, drawn), images, atol=1e-5, rtol=0)
    assert kind.amount(images, drawn).item() == pytest.approx(0, abs=1e-6)


def test_a_layer_is_lifted_with_what_it_took_from_the_contrast(images):
    """The image under half a layer of what is brighter than all images."""
    covered = 0.5 * images + 0.5 * maps.ABOVE
    drawn = torch.ones_like(images)
    torch.testing.assert_close(MAP_KINDS["layer"].apply(covered, drawn), images)
    expected = (images - covered).abs().mean()
    torch.testing.assert_close(MAP_KINDS["layer"].amount(covered, drawn), expected)


def test_a_layer_darkens_the_brightest_too():
    white = torch.ones(1, 1, 8, 8)
    assert (MAP_KINDS["layer"].apply(white, 0.1 * white) < white).all()


def test_a_deformation_samples_elsewhere():
    ramp = torch.linspace(-1, 1, 65).expand(1, 1, 65, 65)
    moved = MAP_KINDS["deformation"].apply(ramp, flow(0.1))
    torch.testing.assert_close(moved[..., 10:50], ramp[..., 10:50] + 0.1)


def test_a_fine_deformation_moves_edges_without_blurring_them():
    """A line of one pixel, moved by half of one: bilinearly it is two of half its contrast."""
    line = -torch.ones(1, 1, 64, 64)
    line[..., 32] = 1.0
    half = torch.cat([torch.full((1, 1, 32, 32), 1 / 63), torch.zeros(1, 1, 32, 32)], dim=1)
    drawn = torch.atanh(half / maps.MAX_FLOW)
    fine, coarse = (MAP_KINDS[k].apply(line, drawn) for k in ("fine-deformation", "deformation"))
    assert coarse[0, 0, 32].max().item() == pytest.approx(0.0, abs=1e-5)
    assert fine[0, 0, 32].max().item() == pytest.approx(0.1875, abs=1e-5)  # of a cubic, a = -0.75


def test_the_amount_of_a_deformation_is_how_far_it_moves():
    """0.15 and 0.2 of 0.25 are 0.6 and 0.8: the largest in length."""
    amount = MAP_KINDS["deformation"].amount(torch.zeros(1, 1, 65, 65), flow(0.15, 0.2))
    assert amount.item() == pytest.approx(maps.LARGEST_FLOW)


def test_combined_moves_first_and_lifts_a_layer_then():
    ramp = torch.linspace(-1, 1, 65).expand(1, 1, 65, 65)
    drawn = torch.cat([flow(0.1), torch.full((1, 1, 65, 65), 0.3)], dim=1)
    kind = MAP_KINDS["combined"]
    expected = 1.3 * (ramp + 0.1) - 0.3 * maps.ABOVE
    torch.testing.assert_close(kind.apply(ramp, drawn)[..., 10:50], expected[..., 10:50])
    moved = MAP_KINDS["deformation"].apply(ramp, drawn[:, :2])
    amount = maps.LARGEST_FLOW * 0.1 / maps.MAX_FLOW
    amount += (0.3 * (maps.ABOVE - moved)).abs().mean().item()
    assert kind.amount(ramp, drawn).item() == pytest.approx(amount, rel=1e-4)
    torch.testing.assert_close(kind.flow(drawn)[0, 0], torch.full((65, 65), 0.1))


def test_a_displacement_has_a_gradient_where_nothing_moves_yet():
    drawn = torch.zeros(1, 2, 4, 4, requires_grad=True)
    maps.displacement(drawn).backward()
    assert torch.isfinite(drawn.grad).all()


def test_the_difference_of_a_change_is_not_rescaled():
    images = torch.tensor([[[[0.0, 0.5]]]])
    healthy = torch.tensor([[[[-0.5, 0.5]]]])
    assert MAP_KINDS["layer"].difference(images, healthy).tolist() == [[[[0.5, 0.0]]]]
    assert math.isclose(MAP_KINDS["additive"].difference(images, healthy).abs().sum().item(), 0)
