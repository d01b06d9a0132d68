"""Outlines come to lie where their pictures are, and no picture is written over another."""

import nibabel
import numpy as np
import pydicom
import pytest
import tifffile
from PIL import ExifTags, Image
from pydicom.data import get_testdata_file

from descargan import DISEASED
from descargan.conversion import Form, Item, Plan, convert, read_outlines
from descargan.errors import UserError
from descargan.images import read_slices
from descargan.outlines import Box

DARK, BRIGHT = 1000, 3000
BOX = Box(10, 20, 8, 4)
FORM = Form(16, "png", "minmax", "axial", 0.0)


def marked(dtype=np.uint16):
    """40 x 30 pixels, bright in BOX alone."""
    array = np.full((40, 30), DARK, dtype)
    array[20:24, 10:18] = BRIGHT
    return array


def boxed(path):
    """The picture of a file and the mask of BOX on it."""
    images = [one.image for one in read_slices(path)]
    masks = read_outlines(Item(str(path), "a", "a", DISEASED, None, (BOX,)), [""], images, "axial")
    return images[0][0], masks[0]


@pytest.mark.parametrize("spacing", [(1, 1), (1, 2), (0.2, 0.1)])
def test_boxes_lie_in_pixels_as_stored_where_pixels_are_not_square(tmp_path, spacing):
    dataset = pydicom.dcmread(get_testdata_file("MR_small.dcm"))
    dataset.Rows, dataset.Columns = marked().shape
    dataset.PixelData, dataset.PixelSpacing = marked(np.int16).tobytes(), list(spacing)
    del dataset.WindowCenter, dataset.WindowWidth
    dataset.save_as(tmp_path / "a.dcm")
    image, mask = boxed(tmp_path / "a.dcm")
    assert mask.shape == image.shape
    assert mask.mean() == pytest.approx(8 * 4 / 1200)
    np.testing.assert_array_equal(mask, image > (DARK + BRIGHT) / 2)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_boxes_lie_in_pixels_as_stored_where_a_picture_is_turned(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / f"a{suffix}"
    Image.fromarray((marked() // 16).astype(np.uint8)).save(path, exif=exif)
    image, mask = boxed(path)
    np.testing.assert_array_equal(mask, image == BRIGHT // 16)


def test_boxes_on_an_array_and_on_a_deep_turned_tiff(tmp_path):
    np.save(tmp_path / "a.npy", marked())
    tifffile.imwrite(tmp_path / "a.tif", marked(), extratags=[(274, "H", 1, 6, True)])
    for name in ("a.npy", "a.tif"):
        image, mask = boxed(tmp_path / name)
        np.testing.assert_array_equal(mask, image == BRIGHT)


def test_an_outline_of_one_picture_is_not_that_of_a_stack(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([marked(), marked() + 1]))
    Image.fromarray(marked() > DARK).save(tmp_path / "mask.png")
    images = [one.image for one in read_slices(tmp_path / "a.tif")]
    item = Item(str(tmp_path / "a.tif"), "a", "a", DISEASED)
    masked = item._replace(masks=(str(tmp_path / "mask.png"),))
    for outlined, problem in (
        (masked, "other slices"),
        (item._replace(boxes=(BOX,)), "2 pictures"),
    ):
        with pytest.raises(UserError, match=problem):
            read_outlines(outlined, ["page-001", "page-002"], images, "axial")


def test_pages_have_the_masks_of_a_file_of_as_many(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([marked(), marked()[::-1]]))
    lesions = np.stack([marked(), marked()[::-1]]) > DARK
    tifffile.imwrite(tmp_path / "mask.tif", lesions.astype(np.uint8), photometric="minisblack")
    images = [one.image for one in read_slices(tmp_path / "a.tif")]
    item = Item(str(tmp_path / "a.tif"), "a", "a", 1, masks=(str(tmp_path / "mask.tif"),))
    masks = read_outlines(item, ["page-001", "page-002"], images, "axial")
    for image, mask in zip(images, masks, strict=True):
        np.testing.assert_array_equal(mask, image[0] == BRIGHT)


def test_boxes_on_a_volume_are_refused(tmp_path):
    path = tmp_path / "a.nii"
    nibabel.save(nibabel.Nifti1Image(marked(np.float32)[..., None], np.eye(4)), path)
    with pytest.raises(UserError, match=r"a\.nii is a volume"):
        boxed(path)


def test_a_page_is_not_written_over_another_image(tmp_path):
    pages = np.random.default_rng(0).integers(0, 255, (3, 20, 20), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack")
    Image.fromarray(pages[0]).save(tmp_path / "b.png")
    root, output = tmp_path / "root", tmp_path / "out"
    for source, name, problem in [
        ("b.png", "a_page-002", None),
        ("a.tif", "a", f"{tmp_path / 'a.tif'} would be written over another image"),
    ]:
        plan = Plan(Item(str(tmp_path / source), name, "p", DISEASED), "Train", "Diseased")
        found = convert(plan, root, output, FORM)[0].problem
        assert found == problem if problem is None else found.startswith(problem)
    assert [path.name for path in (root / "Train" / "Diseased").iterdir()] == ["a_page-002.png"]
