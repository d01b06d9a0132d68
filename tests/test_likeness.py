"""Images unlike those trained on are told apart: noise, inverted images, photographs."""

import numpy as np
import pytest
import torch
from conftest import ROOT, succeed
from PIL import Image
from skimage import data

from descargan.data import ImageDataset
from descargan.errors import UserError
from descargan.images import fit, scale_to_range
from descargan.likeness import Likeness, describe, fit_likeness, read_likeness

PHOTOGRAPHS = (data.camera, data.astronaut, data.coffee, data.chelsea, data.rocket, data.coins)
PHOTOGRAPHS += (data.page, data.moon, data.brick, data.grass, data.gravel, data.hubble_deep_field)


@pytest.fixture(scope="module")
def shipped() -> Likeness:
    """To all images: that of the networks which come first."""
    return read_likeness(ROOT / "save_nets" / "pretrained-first" / "likeness_synthetic.npz")


@pytest.fixture(scope="module")
def unseen(tmp_path_factory) -> torch.Tensor:
    """20 + 20 images that no network was trained on."""
    folder = tmp_path_factory.mktemp("unseen") / "set"
    sizes = ("--image-size", 64, "--train", 1, "--validate", 1, "--test", 20, "--seed", 4321)
    succeed("create_synthetic_dataset.py", "--output", folder, *sizes, "--workers", 1)
    dataset = ImageDataset("Synthetic", folder, "test", 64)
    return dataset.__getitems__(list(range(len(dataset))))[0]


def noise(kind: str) -> torch.Tensor:
    draw = {"uniform": torch.rand, "normal": torch.randn}[kind]
    return scale_to_range(draw(40, 1, 64, 64, generator=torch.Generator().manual_seed(0)))


def photographs() -> torch.Tensor:
    greys = [np.asarray(Image.fromarray(photo()).convert("L")) for photo in PHOTOGRAPHS]
    return scale_to_range(torch.from_numpy(np.stack([fit(g[None], 64) for g in greys])).float())


def share(likeness: Likeness, images: torch.Tensor) -> float:
    return np.mean(likeness.is_unlike(images))


def test_few_unseen_images_of_the_same_kind_are_flagged(shipped, unseen):
    assert share(shipped, unseen) <= 0.05


@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_noise_is_flagged(shipped, kind):
    assert share(shipped, noise(kind)) >= 0.95


def test_a_constant_with_weak_noise_is_flagged(shipped):
    assert share(shipped, 0.3 + 0.01 * noise("normal")) >= 0.95


def test_inverted_images_are_flagged(shipped, unseen):
    assert share(shipped, -unseen) >= 0.95


def test_photographs_are_flagged(shipped):
    assert share(shipped, photographs()) >= 0.95


def test_the_range_of_an_image_does_not_matter(unseen):
    np.testing.assert_allclose(describe(40 * unseen + 7), describe(unseen), atol=1e-3)


def test_a_border_that_is_always_black_does_not_hide_what_differs(unseen):
    """A number that does not vary at all among the training images has no distance of its own."""
    framed = unseen.clone()
    framed[..., :32] = -1
    likeness = fit_likeness([framed[::2]], [framed[1::2]])
    assert share(likeness, framed) <= 0.05
    assert share(likeness, framed.flip(3)) >= 0.95


def test_a_run_keeps_what_its_images_look_like(trained):
    assert read_likeness(trained / "likeness_synthetic.npz").limit > 0


def test_weights_without_it_flag_nothing(tmp_path):
    assert read_likeness(tmp_path / "likeness_synthetic.npz") is None


def test_a_damaged_file_is_refused(tmp_path):
    (tmp_path / "likeness.npz").write_bytes(b"x")
    with pytest.raises(UserError, match="is damaged"):
        read_likeness(tmp_path / "likeness.npz")
