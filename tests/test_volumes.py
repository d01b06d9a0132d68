"""NIfTI volumes: slices in one orientation with square pixels, maps back on the file's grid."""

import itertools
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from descargan.errors import UserError
from descargan.images import read_image, read_slices
from descargan.masks import read_masks
from descargan.volumes import AXES, read_volume, slices, write_map

FEW = settings(max_examples=30, deadline=None, derandomize=True)
FOLDER = Path(nibabel.__file__).parent / "tests" / "data"
SHAPE = (6, 7, 8)  # to the left, to the back, downwards
ORIENTATIONS = [
    "".join(letters)
    for axes in itertools.permutations(("LR", "PA", "SI"))
    for letters in itertools.product(*axes)
]


def head(shape=SHAPE):
    """Noise (X, Y, Z) that grows to the left, to the back and downwards."""
    return np.random.default_rng(0).random(shape).astype(np.float32)


def write(path, array, orientation="LPI", spacing=(1, 1, 1), kind=nibabel.Nifti1Image):
    """``array``, which grows to L, P and I with ``spacing`` in mm, stored in any orientation."""
    affine = np.diag([-spacing[0], -spacing[1], -spacing[2], 1.0])
    image = kind(array, affine)
    target = nibabel.orientations.axcodes2ornt(orientation)
    turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(affine), target)
    nibabel.save(image.as_reoriented(turn), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("volumes")


@FEW
@given(st.sampled_from(ORIENTATIONS), st.sampled_from(AXES))
def test_slices_do_not_depend_on_how_a_volume_is_stored(folder, orientation, axis):
    array = head()
    path = write(folder / "a.nii", array, orientation)
    assert nibabel.aff2axcodes(nibabel.load(path).affine) == tuple(orientation)
    along = AXES.index(axis)
    stored_along = next(
        i for i, letter in enumerate(orientation) if letter in ("LR", "PA", "SI")[along]
    )
    flipped = orientation[stored_along] not in "LPI"
    for number, image in slices(read_volume(path), axis).items():
        index = SHAPE[along] - 1 - number if flipped else number
        # Rows downwards or to the back, columns to the left or to the back.
        np.testing.assert_array_equal(image, np.take(array, index, along).T)


@FEW
@given(
    st.sampled_from(ORIENTATIONS),
    st.sampled_from(AXES),
    st.sampled_from([(1, 1, 1), (1, 2, 3.5), (0.5, 0.5, 4)]),
    st.sampled_from([".nii", ".nii.gz"]),
)
def test_a_map_comes_back_to_where_its_voxels_are(folder, orientation, axis, spacing, suffix):
    source = write(folder / f"a{suffix}", head(), orientation, spacing)
    volume = read_volume(source)
    maps = slices(volume, axis)
    missing = sorted(maps)[1]
    del maps[missing]
    write_map(folder / f"map{suffix}", volume, axis, maps)
    written, original = nibabel.load(folder / f"map{suffix}"), nibabel.load(source)
    np.testing.assert_array_equal(written.affine, original.affine)
    assert written.get_data_dtype() == np.float32
    along = next(
        i for i, letter in enumerate(orientation) if letter in ("LR", "PA", "SI")[AXES.index(axis)]
    )
    difference = np.moveaxis(written.get_fdata() - original.get_fdata(), along, 0)
    assert np.isnan(difference[missing]).all()
    difference = np.delete(difference, missing, axis=0)
    np.testing.assert_allclose(difference, 0, atol=0 if len(set(spacing)) == 1 else 0.4)


def test_a_map_keeps_nothing_of_the_header_that_could_name_somebody(tmp_path):
    source = nibabel.Nifti1Image(head(), np.eye(4))
    source.header["descrip"], source.header["db_name"] = b"Zebra 1950", b"OKAPI"
    source.header["cal_max"] = 900
    source.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"Zebra"))
    nibabel.save(source, tmp_path / "a.nii")
    assert b"Zebra" in (tmp_path / "a.nii").read_bytes()
    volume = read_volume(tmp_path / "a.nii")
    write_map(tmp_path / "map.nii", volume, "axial", slices(volume, "axial"))
    content = (tmp_path / "map.nii").read_bytes()
    assert b"Zebra" not in content
    assert b"OKAPI" not in content
    written = nibabel.load(tmp_path / "map.nii")
    assert written.header["cal_max"] == 0
    np.testing.assert_array_equal(written.get_fdata(), head())


def test_pixels_are_made_square_at_the_finer_spacing(tmp_path):
    path = write(tmp_path / "a.nii", head((10, 12, 5)), spacing=(2, 1, 4))
    shapes = {axis: {s.image.shape for s in read_slices(path, axis)} for axis in AXES}
    assert shapes == {
        "axial": {(1, 12, 20)},
        "coronal": {(1, 10, 10)},
        "sagittal": {(1, 20, 12)},
    }


def test_names_carry_the_number_in_the_file(tmp_path):
    path = write(tmp_path / "a.nii.gz", head(), "RAS")
    named = list(read_slices(path, "coronal"))
    assert [s.name for s in named] == [f"coronal-{n:03d}" for n in range(7)]
    stored = nibabel.load(path).get_fdata()
    np.testing.assert_allclose(named[2].image[0], stored[::-1, 2, ::-1].T)


def test_slices_are_chosen_by_how_much_the_body_covers(tmp_path):
    array = np.zeros((40, 40, 10), np.float32)
    x, y, z = np.ogrid[:40, :40, :10]
    array[(x - 20) ** 2 + (y - 20) ** 2 + (3 * (z - 4.5)) ** 2 < 15**2] = 1
    path = write(tmp_path / "a.nii", array)
    areas = array.sum(axis=(0, 1))
    for share in (0, 0.3, 0.6, 1):
        wanted = [n for n in range(10) if areas[n] >= share * areas.max()]
        assert sorted(slices(read_volume(path), "axial", share)) == wanted


def test_no_data_is_the_smallest_value(tmp_path):
    array = head() + 3
    array[0], array[1, 0], array[1, 1] = np.nan, np.inf, -3.4e38
    volume = read_volume(write(tmp_path / "a.nii", array))
    smallest = min(array[2:].min(), array[1, 2:].min())
    assert (volume.array[0] == smallest).all()
    assert (volume.array[1, :2] == smallest).all()
    np.testing.assert_array_equal(volume.array[2:], array[2:])


@pytest.mark.parametrize("name", ["anatomical.nii", "reoriented_anat_moved.nii", "standard.nii.gz"])
def test_files_of_nibabel_are_read(name):
    """Big-endian integers, big-endian floats, other spacings."""
    image = nibabel.load(FOLDER / name)
    volume = read_volume(FOLDER / name)
    assert sorted(volume.array.shape) == sorted(image.shape)
    assert volume.array.sum(dtype=float) == pytest.approx(image.get_fdata().sum())
    assert len(list(read_slices(FOLDER / name))) == image.shape[2]


def test_an_oblique_volume_of_nifti_2_keeps_its_affine(tmp_path):
    image = nibabel.load(FOLDER / "example_nifti2.nii.gz").slicer[..., 0]
    assert nibabel.affines.obliquity(image.affine).max() > 0.1
    nibabel.save(image, tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz")
    write_map(tmp_path / "map.nii.gz", volume, "axial", slices(volume, "axial"))
    written = nibabel.load(tmp_path / "map.nii.gz")
    assert isinstance(written, nibabel.Nifti2Image)
    np.testing.assert_array_equal(written.affine, image.affine)
    np.testing.assert_allclose(written.get_fdata(), image.get_fdata(), atol=1e-3)


@pytest.mark.parametrize(("name", "number"), [("functional.nii", 20), ("example4d.nii.gz", 2)])
def test_several_volumes_are_refused(name, number):
    with pytest.raises(UserError, match=f"holds {number} volumes: save one per file"):
        list(read_slices(FOLDER / name))


def test_a_volume_is_not_one_picture(tmp_path):
    path = write(tmp_path / "a.nii", head())
    with pytest.raises(UserError, match="is a volume of 8 axial slices"):
        read_image(path)
    assert read_image(write(tmp_path / "b.nii", head((6, 7, 1)))).shape == (1, 7, 6)


def test_bad_volumes_are_refused_in_a_sentence(tmp_path):
    colour = np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colour, np.eye(4)), tmp_path / "colour.nii")
    write(tmp_path / "nan.nii", np.full(SHAPE, np.nan, np.float32))
    (tmp_path / "cut.nii.gz").write_bytes((FOLDER / "standard.nii.gz").read_bytes()[:100])
    (tmp_path / "broken.nii").write_bytes(b"broken")
    mentions = {"colour.nii": "no real", "nan.nii": "finite", "cut.nii.gz": "", "broken.nii": ""}
    for name, mention in mentions.items():
        with pytest.raises(UserError, match=f"{name}[^\\n]*{mention}[^\\n]*$"):
            list(read_slices(tmp_path / name))
    with pytest.raises(UserError, match="choose one of sagittal, coronal, axial"):
        list(read_slices(write(tmp_path / "a.nii", head()), axis="z"))


def test_without_nibabel_a_sentence_names_it(tmp_path, monkeypatch):
    path = write(tmp_path / "a.nii", head())
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(UserError, match=r"a\.nii.*pip install nibabel"):
        read_image(path)


def test_masks_of_a_volume_have_two_values_and_the_names_of_its_slices(tmp_path):
    labels = np.zeros((10, 10, 3), np.float32)
    labels[2:5, 3:7, 1] = 1
    labels[5:7, 3:7, 1] = 2
    path = write(tmp_path / "a.nii", labels, spacing=(2, 1, 1))
    masks = read_masks(path, path)
    image_names = [s.name for s in read_slices(tmp_path / "a.nii")]
    assert sorted(masks) == image_names
    expected = np.zeros((10, 20), bool)
    expected[3:7, 4:14] = True
    np.testing.assert_array_equal(masks["axial-001"], expected)
    assert not masks["axial-000"].any()


@pytest.mark.parametrize("orientation", ["LPI", "RAS", "PIR"])
def test_a_mask_lies_on_its_image_however_the_two_are_stored(tmp_path, orientation):
    image = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    lesion = image > 0.8
    image[lesion] = 9
    image_path = write(tmp_path / "image.nii", image, "LPI")
    mask_path = write(tmp_path / "mask.nii", lesion.astype(np.float32), orientation)
    masks = read_masks(mask_path, image_path)
    for name, shown in read_slices(image_path):
        np.testing.assert_array_equal(masks[name], shown[0] == 9)


def test_a_mask_that_lies_elsewhere_than_its_image_is_refused(tmp_path):
    array = np.ones((4, 5, 6), np.float32)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([-1, -1, 1, 1])), tmp_path / "image.nii")
    for name, affine, mention in [
        ("plain.nii", np.eye(4), "4 mm apart"),
        ("moved.nii", np.diag([-1, -1, 1, 1]) + np.eye(4, k=3) * 5, "5 mm apart"),
    ]:
        nibabel.save(nibabel.Nifti1Image(array, affine), tmp_path / name)
        with pytest.raises(UserError, match=rf"{name} and .* different places, {mention}"):
            read_masks(tmp_path / name, tmp_path / "image.nii")
    nibabel.save(nibabel.Nifti1Image(array[1:], np.diag([-1, -1, 1, 1])), tmp_path / "small.nii")
    with pytest.raises(UserError, match="differ in size: 3 x 5 x 6 and 4 x 5 x 6 voxels"):
        read_masks(tmp_path / "small.nii", tmp_path / "image.nii")


@pytest.mark.parametrize(("background", "lesion"), [(np.nan, 1), (1, 2)])
def test_a_mask_without_a_voxel_of_0_is_refused(tmp_path, background, lesion):
    path = write(tmp_path / "image.nii", head())
    labels = np.full(SHAPE, background, np.float32)
    labels[2:4, 2:4, 3] = lesion
    write(tmp_path / "mask.nii", labels)
    with pytest.raises(UserError, match=r"mask\.nii has no voxel of 0 and is no mask: save 0"):
        read_masks(tmp_path / "mask.nii", path)


def test_a_damaged_mask_is_refused_in_a_sentence(tmp_path):
    path = write(tmp_path / "a.nii.gz", head())
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"none" * 200):
        (tmp_path / "mask.nii.gz").write_bytes(content)
        with pytest.raises(UserError, match=r"mask\.nii\.gz cannot be read"):
            read_masks(tmp_path / "mask.nii.gz", path)
