"""DICOM: what pydicom's reference path shows; the files come with pydicom and nibabel."""

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut

from descargan.dicom import is_padding, read_identity
from descargan.errors import UserError
from descargan.images import is_image, read_image, read_slices

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
FOLDER = Path(pydicom.__file__).parent / "data" / "test_files"
FIRST_CR = FOLDER / "dicomdirtests" / "77654033" / "CR1" / "6154"  # MONOCHROME1


def same_picture(image, reference):
    """Whether two arrays differ by brightness and contrast alone."""
    slope, offset = np.polyfit(reference.ravel(), image.ravel(), 1)
    np.testing.assert_allclose(
        image, slope * reference + offset, atol=1e-4 * max(1, np.ptp(image)), rtol=0
    )
    return slope


def changed(tmp_path, name="MR_small.dcm", **elements):
    """A copy of a file with elements set, or removed where they are None."""
    dataset = pydicom.dcmread(FOLDER / name)
    for keyword, value in elements.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(tmp_path / "a.dcm")
    return tmp_path / "a.dcm"


MONOCHROME = [
    *("MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm"),
    *("MR_small_expb.dcm", "MR_small_padded.dcm", "MR_small_jp2klossless.dcm", "CT_small.dcm"),
    *("693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm", "examples_overlay.dcm", "image_dfl.dcm"),
    *("rtdose_1frame.dcm", "rtdose_rle_1frame.dcm", "liver_1frame.dcm", "JPEG2000.dcm"),
]


@pytest.mark.parametrize("name", MONOCHROME)
def test_monochrome_is_rescaled_and_windowed(name):
    dataset = pydicom.dcmread(FOLDER / name)
    values = apply_modality_lut(dataset.pixel_array, dataset)
    slope = same_picture(read_image(FOLDER / name)[0], apply_voi_lut(values, dataset))
    assert slope > 0


COLOUR = [
    *("SC_rgb_rle.dcm", "SC_rgb_jpeg.dcm", "SC_rgb_dcmtk_+eb+cr.dcm", "SC_rgb_gdcm_KY.dcm"),
    *("SC_ybr_full_422_uncompressed.dcm", "examples_rgb_color.dcm", "SC_rgb_small_odd.dcm"),
    *("SC_rgb_dcmtk_+eb+cy+s4.dcm", "ExplVR_BigEnd.dcm", "examples_jpeg2k.dcm"),
]


@pytest.mark.parametrize("name", COLOUR)
def test_colour_becomes_luminance(name):
    colour = pydicom.dcmread(FOLDER / name).pixel_array  # RGB, whatever is stored
    expected = np.asarray(Image.fromarray(colour).convert("L"))
    np.testing.assert_array_equal(read_image(FOLDER / name)[0], expected)


@pytest.mark.parametrize("name", ["SC_rgb_rle_16bit.dcm", "SC_rgb_rle_32bit.dcm"])
def test_colour_of_more_than_8_bits_keeps_its_bits(name):
    colour = pydicom.dcmread(FOLDER / name).pixel_array
    expected = colour @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(read_image(FOLDER / name)[0], expected, rtol=1e-6)


def test_palettes_are_applied():
    dataset = pydicom.dcmread(FOLDER / "examples_palette.dcm")
    colour = apply_color_lut(dataset.pixel_array, dataset)
    image = read_image(FOLDER / "examples_palette.dcm")[0]
    np.testing.assert_allclose(image, colour @ [0.299, 0.587, 0.114], rtol=1e-6)


@pytest.mark.parametrize("name", ["JPEGLSNearLossless_16.dcm", "MR_small_jpeg_ls_lossless.dcm"])
def test_jpeg_ls_is_read_with_the_decoder_of_the_medical_requirements(name):
    pytest.importorskip("gdcm")
    dataset = pydicom.dcmread(FOLDER / name)
    same_picture(read_image(FOLDER / name)[0], apply_voi_lut(dataset.pixel_array, dataset))


def test_lossless_jpeg_is_read_with_the_decoder_of_the_medical_requirements():
    pytest.importorskip("gdcm")
    lossless, plain = (read_image(FOLDER / f"SC_rgb_{n}.dcm") for n in ("jpeg_gdcm", "rle"))
    np.testing.assert_array_equal(lossless, plain)


def test_a_missing_decoder_is_named():
    """In another process, since pydicom looks for its decoders once."""
    code = (
        "import sys; sys.modules['gdcm'] = None\n"
        "from pathlib import Path\n"
        "from descargan.dicom import read_frames\n"
        f"next(read_frames(Path({str(FOLDER)!r}, 'SC_rgb_jpeg_gdcm.dcm')))"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install -r requirements-medical.txt brings a decoder" in outcome.stderr


def test_without_pydicom_a_sentence_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(UserError, match=r"MR_small.*pip install pydicom"):
        read_image(FOLDER / "MR_small.dcm")


def test_monochrome1_is_inverted():
    dataset = pydicom.dcmread(FIRST_CR)
    assert dataset.PhotometricInterpretation == "MONOCHROME1"
    shown = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset)
    assert same_picture(read_image(FIRST_CR)[0], shown) < 0


def test_monochrome1_of_8_bits_is_inverted(tmp_path):
    path = changed(tmp_path, "image_dfl.dcm", PhotometricInterpretation="MONOCHROME1")
    image = read_image(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, 255 - read_image(FOLDER / "image_dfl.dcm"))


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("centre", "width"), [(600, 800), ([900, 1], [300.5, 1]), (700, 20)])
def test_windows_are_those_of_pydicom(tmp_path, function, centre, width):
    path = changed(tmp_path, WindowCenter=centre, WindowWidth=width, VOILUTFunction=function)
    dataset = pydicom.dcmread(path)
    same_picture(read_image(path)[0], apply_voi_lut(dataset.pixel_array, dataset))


@pytest.mark.parametrize("width", [None, "", 0, 1])
def test_without_a_usable_window_all_values_are_shown(tmp_path, width):
    path = changed(tmp_path, WindowWidth=width)
    np.testing.assert_array_equal(read_image(path)[0], pydicom.dcmread(path).pixel_array)


def test_a_windowed_image_keeps_its_unit():
    image = read_image(FOLDER / "693_J2KI.dcm")  # CT, window 40, 100
    assert (image.min(), image.max()) == (-10, 89)


def test_tables_of_values_of_interest(tmp_path):
    dataset = pydicom.dcmread(FOLDER / "MR_small.dcm")
    del dataset.WindowCenter, dataset.WindowWidth
    table = Dataset()
    table.LUTDescriptor = [4096, 0, 16]
    table.LUTData = np.sqrt(np.arange(4096) * 1e6).astype("<u2").tobytes()
    table["LUTData"].VR = "OW"
    dataset.VOILUTSequence = [table]
    dataset.save_as(tmp_path / "a.dcm")
    expected = apply_voi_lut(dataset.pixel_array, dataset)
    np.testing.assert_array_equal(read_image(tmp_path / "a.dcm")[0], expected)


def test_an_empty_table_leaves_the_window_as_it_is(tmp_path):
    expected = read_image(FOLDER / "MR_small.dcm")
    path = changed(tmp_path, VOILUTSequence=[])
    assert "VOILUTSequence" in pydicom.dcmread(path)
    np.testing.assert_array_equal(read_image(path), expected)


@pytest.mark.parametrize("value", [("SS", -2000), ("US", 63536)])  # of the same bits
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_as_dark_as_the_darkest_pixel(tmp_path, photometric, value):
    dataset = pydicom.dcmread(FOLDER / "MR_small.dcm")
    stored = dataset.pixel_array.copy()
    stored[:20] = -2000
    dataset.PixelData = stored.tobytes()
    dataset.add_new("PixelPaddingValue", *value)
    dataset.add_new("PixelPaddingRangeLimit", value[0], None)
    dataset.PhotometricInterpretation = photometric
    del dataset.WindowCenter, dataset.WindowWidth
    dataset.save_as(tmp_path / "a.dcm")
    image = read_image(tmp_path / "a.dcm")[0]
    assert (image[:20] == image[20:].min()).all()
    sign = -1 if photometric == "MONOCHROME1" else 1
    np.testing.assert_array_equal(image[20:], sign * stored[20:])


@pytest.mark.parametrize(("value", "darkest"), [(0, 9), (4095, 0), (65535, 0)])
def test_padding_of_another_size_than_the_pixels_is_none(value, darkest):
    stored = np.array([[0, 9], [127, 255]], np.uint8)
    dataset = pydicom.Dataset()
    dataset.add_new("PixelPaddingValue", "US", value)
    assert stored[~is_padding(stored, dataset)].min() == darkest
    assert is_padding(stored, dataset).sum() == (value == 0)


def test_pixels_are_made_square(tmp_path):
    path = changed(tmp_path, PixelSpacing=[1.5, 0.5])
    image = read_image(path)[0]
    plain = read_image(FOLDER / "MR_small.dcm")[0]
    assert image.shape == (192, 64)
    np.testing.assert_allclose(image[1::3][2:-2], plain[2:-2], atol=150)
    assert plain.min() <= image.min() <= image.max() <= plain.max()


@pytest.mark.parametrize("name", ["SC_rgb_rle_2frame.dcm", "rtdose.dcm", "examples_ybr_color.dcm"])
def test_frames_are_slices(name):
    number = int(pydicom.dcmread(FOLDER / name).NumberOfFrames)
    with pytest.raises(UserError, match=f"holds {number} frames: save one per file"):
        read_image(FOLDER / name)
    frames = list(read_slices(FOLDER / name))
    assert len(frames) == number
    assert [frames[0].name, frames[-1].name] == ["frame-001", f"frame-{number:03d}"]


def test_frames_have_their_own_rescaling_and_window(tmp_path):
    dataset = pydicom.dcmread(FOLDER / "rtdose.dcm")
    stored = dataset.pixel_array
    groups = []
    for index in range(len(stored)):
        rescaling, window, group = Dataset(), Dataset(), Dataset()
        rescaling.RescaleSlope, rescaling.RescaleIntercept = index + 1, -5
        window.WindowCenter, window.WindowWidth = 1e6 * (index + 1), 1e5
        group.PixelValueTransformationSequence, group.FrameVOILUTSequence = [rescaling], [window]
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    dataset.save_as(tmp_path / "a.dcm")
    for index, frame in enumerate(read_slices(tmp_path / "a.dcm")):
        centre = 1e6 * (index + 1) - 0.5
        expected = np.clip(stored[index] * (index + 1.0) - 5, centre - 49999.5, centre + 49999.5)
        np.testing.assert_allclose(frame.image[0], expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["rtplan.dcm", "rtstruct.dcm", "reportsi.dcm", "test-SR.dcm"])
def test_files_without_pixel_data_are_refused(name):
    with pytest.raises(UserError, match="without pixel data"):
        read_image(FOLDER / name)


def test_a_truncated_file_is_refused_in_a_sentence():
    with pytest.raises(UserError, match=r"MR_truncated.dcm cannot be read as an image: \S[^\n]*$"):
        read_image(FOLDER / "MR_truncated.dcm")


@pytest.mark.parametrize("suffix", ["", ".dcm", ".png", ".12", ".IMA", ".nothing"])
def test_dicom_is_recognised_by_its_content(tmp_path, suffix):
    path = tmp_path / f"1.2.840{suffix}"
    path.write_bytes((FOLDER / "MR_small.dcm").read_bytes())
    assert is_image(path)
    np.testing.assert_array_equal(read_image(path), read_image(FOLDER / "MR_small.dcm"))


def test_dicom_without_preamble_and_header_is_recognised(tmp_path):
    content = (FOLDER / "MR_small.dcm").read_bytes()
    dataset = pydicom.dcmread(FOLDER / "MR_small.dcm")
    length = dataset.file_meta.FileMetaInformationGroupLength
    (tmp_path / "a").write_bytes(content[132 + 12 + length :])
    assert is_image(tmp_path / "a")
    np.testing.assert_array_equal(read_image(tmp_path / "a"), read_image(FOLDER / "MR_small.dcm"))


@pytest.mark.parametrize(
    "name",
    ["rtplan.dcm", "test-SR.dcm", "waveform_ecg.dcm", "reportsi.dcm", "liver.dcm", "rtdose.dcm"],
)
def test_dicom_of_a_class_without_images_is_no_image(name):
    assert not is_image(FOLDER / name)


def test_the_index_of_a_medium_is_no_image():
    assert not is_image(FOLDER / "dicomdirtests" / "DICOMDIR")
    assert is_image(FIRST_CR)


def test_identity_is_that_of_the_header(tmp_path):
    identity = read_identity(FIRST_CR)
    dataset = pydicom.dcmread(FIRST_CR)
    assert identity == (dataset.PatientID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID)
    assert read_identity(changed(tmp_path, PatientID=None)).patient == ""
    (tmp_path / "a.dcm").write_bytes(b"broken")
    assert read_identity(tmp_path / "a.dcm") == ("", "", "")


def test_mutated_files_are_read_or_refused_in_one_sentence(tmp_path):
    rng = random.Random(0)
    sound = (FOLDER / "MR_small.dcm").read_bytes()
    sentences = []
    for number in range(60):
        content = bytearray(sound)
        for _ in range(rng.randint(1, 8)):
            position = rng.randrange(2000)  # the header, rather than pixels
            content[position : position + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 3))
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(content)
        try:
            assert np.isfinite(read_image(path)).all()
        except UserError as error:
            sentences.append((path, str(error)))
    assert len(sentences) > 10
    assert all(str(path) in text and "\n" not in text for path, text in sentences)
