"""Outlines: boxes are drawn, and the mask of an image is found by its name."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from descargan.errors import UserError
from descargan.masks import read_mask
from descargan.outlines import Box, apart_from_masks, draw_boxes, find_masks
from descargan.scanning import scan

LESION = np.zeros((20, 30), bool)
LESION[4:10, 5:17] = True


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
    assert found == [*((str(tmp_path / name),) for name in wanted), ()]


def test_an_image_has_the_masks_of_all_its_lesions(tmp_path):
    masks(tmp_path, "b (1)_mask.png", "b (1)_mask_2.png", "b (1)_mask_1.png", "b (10)_mask.png")
    masks(tmp_path, "c_mask-01.png", "c_mask-02.png", "d_mask.png", "d_masked_1.png")
    found = find_masks(["b (1).png", "b (10).png", "c.png", "d.png"], tmp_path, "_mask")
    names = [[Path(one).name for one in each] for each in found]
    first = ["b (1)_mask.png", "b (1)_mask_1.png", "b (1)_mask_2.png"]
    assert names == [first, ["b (10)_mask.png"], ["c_mask-01.png", "c_mask-02.png"], ["d_mask.png"]]


def test_a_mask_that_may_be_of_another_image_with_its_number_is_said(tmp_path, capsys):
    masks(tmp_path, "7_mask.png", "7_mask_1.png")
    find_masks(["7.png", "7_1.png"], tmp_path, "_mask")
    assert "7_mask_1.png: if it is of 7_1, name it 7_1_mask" in capsys.readouterr().err
    masks(tmp_path, "7_1_mask.png")
    find_masks(["7.png", "7_1.png", "8_1.png"], tmp_path, "_mask")
    masks(tmp_path, "s1/9_1.png")
    find_masks(["s1/9_1.png", "s2/9_1.png"], tmp_path, "")
    assert not capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["", "_1"])
def test_a_number_is_of_another_image_where_no_word_stands_before_it(tmp_path, suffix):
    masks(tmp_path, f"7{suffix}.png", f"7{suffix}_1.png")
    assert find_masks(["7.png"], tmp_path, suffix) == [(str(tmp_path / f"7{suffix}.png"),)]


def test_a_name_that_several_images_have_finds_no_mask_in_another_folder(tmp_path):
    masks(tmp_path, "7.png", "8.png")
    assert find_masks(["s1/7.png", "s2/7.png", "8.png"], tmp_path, "")[:2] == [(), ()]


def test_two_masks_of_an_image_are_refused(tmp_path):
    masks(tmp_path, "7.png", "7.tif", "8_seg.png", "8_seg_1.png", "8_seg_1.tif")
    for name, suffix in (("7.png", ""), ("8.png", "_seg")):
        with pytest.raises(UserError, match="both masks"):
            find_masks([name], tmp_path, suffix)


def test_a_folder_without_any_mask_of_these_images_names_what_it_looked_for(tmp_path):
    masks(tmp_path, "8.png")
    with pytest.raises(UserError, match=r"7_seg\.png .*--mask-suffix"):
        find_masks(["7.png"], tmp_path, "_seg")


def test_a_name_of_numbers_has_no_suffix(tmp_path):
    masks(tmp_path, "1.2.840.5.png", "1.2.840.6.png")
    found = find_masks(["1.2.840.5", "1.2.840.6"], tmp_path, "")
    assert found == [(str(tmp_path / "1.2.840.5.png"),), (str(tmp_path / "1.2.840.6.png"),)]


@pytest.mark.parametrize(
    ("folder", "suffix", "outlines"),
    [
        (None, "", ["b_mask.png", "b_Seg_2.nii.gz", "sub/masks/x.png"]),
        ("drawn", "", ["b_mask.png", "b_Seg_2.nii.gz", "sub/masks/x.png", "drawn/a.png"]),
        (".", "-m", ["b_mask.png", "b_Seg_2.nii.gz", "sub/masks/x.png", "a-m.png"]),
        (
            "/elsewhere",
            "_gt",
            ["b_mask.png", "b_Seg_2.nii.gz", "sub/masks/x.png", "b_gt.png", "b_gt_1.png"],
        ),
    ],
)
def test_masks_among_images_are_told_by_folder_and_name(tmp_path, folder, suffix, outlines):
    names = ["a.png", "a-m.png", "b.png", "b_mask.png", "b_Seg_2.nii.gz", "b_gt.png", "b_2.png"]
    names += ["c_mask.png", "segment.png", "mask.png", "sub/x.png", "sub/masks/x.png"]
    names += ["b_segment1.png", "b_labelled.png", "a-mri.png", "b_gt_1.png", "b_gt1.png"]
    paths = [tmp_path / name for name in [*names, "drawn/a.png"]]
    where = None if folder is None else tmp_path / folder
    images, found = apart_from_masks(paths, tmp_path, where, suffix)
    assert sorted(found) == sorted(tmp_path / name for name in outlines)
    assert sorted(images + found) == sorted(paths)


def test_a_number_after_a_suffix_without_a_letter_makes_no_mask_of_an_image(tmp_path):
    paths = [tmp_path / name for name in ("a.png", "a_1.png", "a_1_2.png")]
    assert apart_from_masks(paths, tmp_path, tmp_path, "_1") == ([paths[0], paths[2]], [paths[1]])


def test_masks_that_nothing_tells_from_images_are_refused(tmp_path):
    with pytest.raises(UserError, match="say --mask-suffix"):
        apart_from_masks([], tmp_path / "patients", tmp_path, "")


def test_a_dicom_segmentation_is_a_mask_and_no_image(tmp_path):
    shutil.copy(get_testdata_file("liver_1frame.dcm"), tmp_path / "7.dcm")
    assert scan(tmp_path)[0] == []
    assert find_masks(["7.png"], tmp_path, "") == [(str(tmp_path / "7.dcm"),)]
    assert read_mask(tmp_path / "7.dcm").any()
