"""Masks: lossy compression does not move their edge, and a picture in grey is none."""

import numpy as np
import pytest
from PIL import Image

from descargan.errors import UserError
from descargan.masks import read_mask

LESION = np.zeros((20, 30), bool)
LESION[4:10, 5:17] = True


def test_what_jpeg_blurs_at_the_edge_is_divided_in_the_middle(tmp_path):
    big = np.kron(LESION, np.ones((16, 16), bool))
    Image.fromarray(big.astype(np.uint8) * 255).save(tmp_path / "mask.jpg", quality=75)
    assert (read_mask(tmp_path / "mask.jpg") == big).mean() > 0.999


def test_a_picture_in_grey_is_no_mask(tmp_path):
    slope = np.tile(np.arange(256, dtype=np.uint8), (64, 1))
    Image.fromarray(slope).save(tmp_path / "image.png")
    with pytest.raises(UserError, match=r"image\.png is no mask"):
        read_mask(tmp_path / "image.png")


@pytest.mark.parametrize("values", [(1, 2), (127, 255)])
def test_a_mask_without_0_tells_no_lesion(tmp_path, values):
    Image.fromarray(np.where(LESION, *np.uint8(values)[::-1])).save(tmp_path / "mask.png")
    with pytest.raises(UserError, match=f"holds {values[0]}, {values[1]} and is no mask"):
        read_mask(tmp_path / "mask.png")


def test_a_mask_of_one_value_is_lesion_all_over(tmp_path):
    Image.new("L", (3, 2), 255).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png").all()
