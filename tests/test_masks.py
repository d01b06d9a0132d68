"""Outlines: any two values are read, boxes are drawn, and nothing is interpolated to grey."""

import numpy as np
import pytest
from PIL import Image

from descargan.errors import UserError
from descargan.masks import Box, draw_boxes, find_masks, fit_mask, read_mask

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


def test_a_box_holds_the_pixels_whose_centre_is_in_it():
    mask = draw_boxes([Box(1.4, 2, 2.2, 1), Box(6, 6, 2, 2)], 8, 8)
    wanted = np.zeros((8, 8), bool)
    wanted[2, 1:4] = wanted[6:, 6:] = True
    np.testing.assert_array_equal(mask, wanted)


@pytest.mark.parametrize(
    ("box", "mention"),
    [(Box(0, 0, 30, 8), "out of the image"), (Box(-5, 0, 4, 4), "out"), (Box(1, 1, 0, 4), "empty")],
)
def test_a_box_that_is_no_part_of_the_image_is_refused(box, mention):
    with pytest.raises(UserError, match=mention):
        draw_boxes([box], 8, 8)


def masks(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(LESION).save(folder / name)


def test_masks_are_found_by_path_and_by_name(tmp_path):
    masks(tmp_path, "s1/7_mask.png", "s2/7_mask.tif", "deep/er/x_mask.bmp", "other.png")
    found = find_masks(["s1/7.jpg", "s2/7.png", "a/x.png", "y.png"], tmp_path, "_mask")
    wanted = ["s1/7_mask.png", "s2/7_mask.tif", "deep/er/x_mask.bmp"]
    assert found == [*(str(tmp_path / name) for name in wanted), None]


def test_a_name_that_several_images_have_finds_no_mask_in_another_folder(tmp_path):
    masks(tmp_path, "7.png", "8.png")
    assert find_masks(["s1/7.png", "s2/7.png", "8.png"], tmp_path, "")[:2] == [None, None]


def test_two_masks_of_an_image_are_refused(tmp_path):
    masks(tmp_path, "7.png", "7.tif")
    with pytest.raises(UserError, match="both masks"):
        find_masks(["7.png"], tmp_path, "")


def test_a_folder_without_any_mask_of_these_images_names_what_it_looked_for(tmp_path):
    masks(tmp_path, "8.png")
    with pytest.raises(UserError, match=r"7_seg\.png .*--mask-suffix"):
        find_masks(["7.png"], tmp_path, "_seg")
