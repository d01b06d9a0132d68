"""Masks: any two values are read, and nothing is interpolated to grey."""

import numpy as np
import pytest
from PIL import Image

from descargan.errors import UserError
from descargan.masks import fit_mask, read_mask

LESION = np.zeros((20, 30), bool)
LESION[4:10, 5:17] = True


@pytest.mark.parametrize(
    "picture",
    [
        LESION,
        LESION.astype(np.uint8),
        LESION.astype(np.uint8) * 255,
        np.dstack([LESION * np.uint8(200), LESION * np.uint8(0), LESION * np.uint8(9)]),
        LESION.astype(np.uint16) * 65535,
    ],
    ids=["1 bit", "0 and 1", "0 and 255", "colour", "16 bits"],
)
def test_any_two_values_are_a_mask(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), LESION)


def test_every_label_but_nothing_is_lesion(tmp_path):
    labels = LESION.astype(np.uint8)
    labels[5:7, 6:9] = 4
    Image.fromarray(labels).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), LESION)


def test_a_mask_of_nothing_or_of_everything_is_one(tmp_path):
    for value in (0, 255):
        Image.fromarray(np.full((9, 9), value, np.uint8)).save(tmp_path / "mask.png")
        assert (read_mask(tmp_path / "mask.png") == bool(value)).all()


def test_what_jpeg_blurs_at_the_edge_is_divided_in_the_middle(tmp_path):
    big = np.kron(LESION, np.ones((16, 16), bool))
    Image.fromarray(big.astype(np.uint8) * 255).save(tmp_path / "mask.jpg", quality=75)
    assert (read_mask(tmp_path / "mask.jpg") == big).mean() > 0.999


def test_a_picture_in_grey_is_no_mask(tmp_path):
    slope = np.tile(np.arange(256, dtype=np.uint8), (64, 1))
    Image.fromarray(slope).save(tmp_path / "image.png")
    with pytest.raises(UserError, match=r"image\.png is no mask"):
        read_mask(tmp_path / "image.png")


def test_a_pixel_of_a_smaller_mask_needs_half_its_area():
    mask = np.zeros((8, 8), bool)
    mask[0:2, 0] = True  # 2 of 4 pixels
    mask[2, 2] = True  # 1 of 4
    mask[4:8, 4:8] = True
    wanted = np.zeros((4, 4), bool)
    wanted[0, 0] = wanted[2:, 2:] = True
    np.testing.assert_array_equal(fit_mask(mask, 4), wanted)


def test_a_mask_is_padded_as_its_image_is():
    small = fit_mask(LESION, 30)
    assert small.shape == (30, 30)
    np.testing.assert_array_equal(small[5:25], LESION)
    assert not small[:5].any()
    assert not small[25:].any()
