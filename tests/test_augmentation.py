"""Random views of images: each kind of change, and where its numbers come from."""

import pytest
import torch

from descargan import augmentation
from descargan.augmentation import OUTSIDE, augment, change_contrast, place


@pytest.fixture
def still(monkeypatch):
    """All random limits at 0; a test raises the one it is about."""
    for name in ("ROTATION", "LOG_SCALE", "SHIFT", "LOG_GAIN", "LOG_GAMMA"):
        monkeypatch.setattr(augmentation, name, 0.0)
    return monkeypatch


def blob(row: int = 32, column: int = 32) -> torch.Tensor:
    """A bright spot of 8 x 8 pixels around a place, on the darkest value."""
    image = torch.full((1, 1, 64, 64), OUTSIDE)
    image[..., row - 4 : row + 4, column - 4 : column + 4] = 1.0
    return image


def centre(image: torch.Tensor) -> tuple[float, float]:
    mass = image[0, 0] - OUTSIDE
    pixels = torch.arange(64.0) + 0.5
    return tuple((mass.sum(axis) * pixels).sum().item() / mass.sum().item() for axis in (1, 0))


def test_without_limits_an_image_stays(still):
    image = torch.rand(3, 1, 64, 64) * 2 - 1
    torch.testing.assert_close(augment(image, False, False), image, atol=1e-5, rtol=1e-5)


def test_half_of_the_images_stay_as_sharp_as_they_are():
    images = torch.rand(400, 1, 16, 16) * 2 - 1
    kept = (augment(images, False, False) == images).flatten(1).all(dim=1)
    assert 0.4 < kept.float().mean() < 0.6


def test_what_comes_in_from_outside_is_dark(still):
    still.setattr(augmentation, "SHIFT", 0.5)
    image = place(torch.ones(8, 1, 64, 64), False, False)
    assert image.min() == OUTSIDE
    assert image.max() == 1


def test_a_shift_is_at_most_its_share_of_the_frame(still):
    still.setattr(augmentation, "SHIFT", 0.12)
    centres = torch.tensor([centre(place(blob(), False, False)) for _ in range(40)])
    assert (centres - 32).abs().max() <= 0.06 * 64 + 0.01
    assert (centres - 32).abs().max() > 0.04 * 64


def test_a_rotation_keeps_the_distance_from_the_middle(still):
    still.setattr(augmentation, "ROTATION", 0.2)
    centres = torch.tensor([centre(place(blob(32, 52), False, False)) for _ in range(40)]) - 32
    torch.testing.assert_close(centres.norm(dim=1), torch.full((40,), 20.0), atol=0.05, rtol=0)
    angles = torch.atan2(centres[:, 0], centres[:, 1])
    assert 0.15 < angles.abs().max() <= 0.2 + 1e-3


def test_a_rotation_turns_in_pixels_where_the_sides_differ(still):
    still.setattr(augmentation, "ROTATION", 0.2)
    image = torch.full((1, 1, 64, 128), OUTSIDE)
    image[..., 28:36, 100:108] = 1.0
    mass = place(image, False, False)[0, 0] - OUTSIDE
    y = (mass.sum(1) * (torch.arange(64.0) - 31.5)).sum() / mass.sum()
    x = (mass.sum(0) * (torch.arange(128.0) - 63.5)).sum() / mass.sum()
    assert torch.hypot(x, y).item() == pytest.approx(40, abs=0.1)


def test_scaling_changes_the_area(still):
    still.setattr(augmentation, "LOG_SCALE", 0.12)
    masses = [(place(blob(), False, False) - OUTSIDE).sum().item() for _ in range(40)]
    areas = [mass / (blob() - OUTSIDE).sum().item() for mass in masses]
    assert 0.75 < min(areas) < 0.9
    assert 1.1 < max(areas) < 1.3


@pytest.mark.parametrize(("horizontal", "vertical"), [(True, False), (False, True), (True, True)])
def test_mirroring_along_the_wanted_axes_alone(still, horizontal, vertical):
    image = torch.rand(1, 1, 64, 64)
    seen = torch.cat([place(image, horizontal, vertical) for _ in range(30)])
    views = [
        image.flip([axis for axis, turned in ((3, h), (2, v)) if turned])
        for h in ((False, True) if horizontal else (False,))
        for v in ((False, True) if vertical else (False,))
    ]
    close = [(seen - view).abs().amax(dim=(1, 2, 3)) < 1e-4 for view in views]
    assert torch.stack(close).sum(dim=0).eq(1).all()
    assert all(one.any() for one in close)


def test_contrast_is_gain_and_gamma_of_the_unit_range(still):
    image = torch.full((200, 1, 1, 1), 0.0)  # u = 1/2
    still.setattr(augmentation, "LOG_GAMMA", 0.25)
    u = (change_contrast(image) + 1) / 2
    assert 0.5 ** (2.7183**0.25) - 1e-4 <= u.min() < u.max() <= 0.5 ** (2.7183**-0.25) + 1e-4
    still.setattr(augmentation, "LOG_GAMMA", 0.0)
    still.setattr(augmentation, "LOG_GAIN", 0.2)
    u = (change_contrast(image) + 1) / 2
    assert 0.5 * 2.7183**-0.2 - 1e-4 <= u.min() < u.max() <= 0.5 * 2.7183**0.2 + 1e-4


def test_the_darkest_value_stays():
    dark = torch.full((4, 1, 8, 8), OUTSIDE)
    assert (change_contrast(dark) == OUTSIDE).all()


def test_a_view_is_a_function_of_the_random_stream():
    image = torch.rand(3, 1, 64, 64)
    torch.manual_seed(5)
    first = augment(image, True, True)
    assert not torch.equal(first, augment(image, True, True))
    torch.manual_seed(5)
    assert torch.equal(first, augment(image, True, True))
