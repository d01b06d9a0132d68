"""Reading images of every kind: the picture is the one that a viewer shows, or a sentence."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from descargan.errors import UserError
from descargan.images import is_image, read_image, read_slices
from descargan.masks import fit_mask, read_mask

FEW = settings(max_examples=30, deadline=None, derandomize=True)
LUMINANCE = [0.299, 0.587, 0.114]


def pattern(height=24, width=20, channels=None, dtype=np.uint16):
    """Noise over the whole range of ``dtype``, reproducible."""
    shape = (height, width) if channels is None else (height, width, channels)
    most = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1e4
    return (np.random.default_rng(0).random(shape) * most).astype(dtype)


def png16(path, array):
    """A PNG of 16 bits a channel, filtered by Sub; (H, W, 2 to 4)."""
    height, width, channels = array.shape
    octets = array.astype(">u2").view(np.uint8).reshape(height, -1)
    size = 2 * channels
    filtered = octets.copy()
    filtered[:, size:] -= octets[:, :-size]
    rows = b"".join(b"\1" + row.tobytes() for row in filtered)
    colour_type = {2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
            for name, data in chunks
        )
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("images")


# Pictures


@FEW
@given(st.integers(2, 4), st.integers(1, 9), st.integers(1, 9))
def test_png_of_16_bits_in_colour_or_with_alpha_keeps_its_bits(folder, channels, height, width):
    array = pattern(height, width, channels)
    array[0, 0, -1] = 50000  # alpha: something can be seen, whatever the size
    png16(folder / "a.png", array)
    colour = array[..., : 3 if channels > 2 else 1].astype(float)
    expected = colour @ LUMINANCE if channels > 2 else colour[..., 0]
    if channels in (2, 4):
        expected = expected * (array[..., -1] / 65535)
    assert read_image(folder / "a.png").dtype == np.float32
    np.testing.assert_allclose(read_image(folder / "a.png")[0], expected, rtol=1e-6)


@FEW
@given(
    st.sampled_from(["u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"]),
    st.sampled_from(["minisblack", "miniswhite"]),
    st.sampled_from("<>"),
    st.sampled_from([None, "zlib"]),
    st.integers(1, 9),
)
def test_tiff_of_any_depth(folder, kind, photometric, byteorder, compression, width):
    array = pattern(7, width, dtype=np.dtype(kind))
    path = folder / "a.tif"
    tifffile.imwrite(
        path, array, photometric=photometric, byteorder=byteorder, compression=compression
    )
    white = np.iinfo(kind).max if kind[0] == "u" else 0
    expected = white - array.astype(float) if photometric == "miniswhite" else array
    np.testing.assert_allclose(read_image(path)[0], expected, rtol=1e-6)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize(("channels", "alpha"), [(3, None), (4, "unassalpha"), (4, "assocalpha")])
def test_tiff_of_16_bits_in_colour(tmp_path, planar, channels, alpha):
    array = pattern(channels=channels)
    stored = array if planar == "contig" else np.moveaxis(array, 2, 0)
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.ascontiguousarray(stored),
        photometric="rgb",
        planarconfig=planar,
        extrasamples=alpha and [alpha],
    )
    expected = array[..., :3] @ LUMINANCE
    if alpha == "unassalpha":  # the other has been multiplied already
        expected *= array[..., 3] / 65535
    np.testing.assert_allclose(read_image(tmp_path / "a.tif")[0], expected, rtol=1e-6)


def test_complex_numbers_are_refused(tmp_path):
    array = (pattern(dtype=np.dtype("f4")) + 5j).astype(np.complex64)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
    with pytest.raises(UserError, match=r"a\.tif holds no real numbers"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f4"])
def test_tiff_compressed_by_lzw(tmp_path, dtype):
    array = pattern(dtype=np.dtype(dtype))
    Image.fromarray(array).save(tmp_path / "a.tif", compression="tiff_lzw")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[0], array.astype(np.float32))


def test_deep_colour_that_no_decoder_keeps_is_refused(tmp_path):
    Image.fromarray(pattern(channels=3, dtype=np.uint8)).save(tmp_path / "a.jp2")
    content = bytearray((tmp_path / "a.jp2").read_bytes())
    content[content.index(b"\xff\x4f\xff\x51") + 42] = 11  # bits of a channel, less one
    (tmp_path / "a.jp2").write_bytes(content)
    with pytest.raises(UserError, match="more than 8 bits: save it as PNG"):
        read_image(tmp_path / "a.jp2")


@pytest.mark.parametrize("suffix", [".webp", ".jp2", ".jpg", ".jfif", ".jpeg", ".bmp"])
@pytest.mark.parametrize("channels", [None, 3])
def test_pictures_of_8_bits_are_what_pillow_shows(tmp_path, suffix, channels):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(pattern(channels=channels, dtype=np.uint8)).save(path)
    with Image.open(path) as picture:
        np.testing.assert_array_equal(read_image(path)[0], np.asarray(picture.convert("L")))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_tiff_of_any_mode_is_what_pillow_shows(tmp_path, mode):
    picture = Image.fromarray(pattern(dtype=np.uint8)).convert(mode)
    picture.save(tmp_path / "a.tif")
    if mode == "P":
        picture = picture.convert("RGB")
    expected = picture if mode.startswith(("I", "F")) else picture.convert("L")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[0], np.asarray(expected))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [(s, np.uint8) for s in (".png", ".jpg", ".tif", ".webp")]
    + [(s, np.uint16) for s in (".png", ".tif")],
)
def test_orientation_is_applied(tmp_path, orientation, suffix, dtype):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{suffix}"
    Image.fromarray(pattern(dtype=dtype)).save(path, exif=exif)
    # From memory: opened by name, Pillow gets uncompressed TIFF wrong.
    with Image.open(io.BytesIO(path.read_bytes())) as picture:
        picture.load()
        upright = ImageOps.exif_transpose(picture)
        expected = np.asarray(upright if dtype == np.uint16 else upright.convert("L"))
    assert expected.shape == ((24, 20) if orientation < 5 else (20, 24))
    np.testing.assert_array_equal(read_image(path)[0], expected)


def test_a_broken_exif_block_tells_no_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.fromarray(pattern(dtype=np.uint8))
    picture.save(tmp_path / "a.jpg", exif=exif.tobytes()[:12])
    assert read_image(tmp_path / "a.jpg").shape == (1, 24, 20)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("LA", "PNG"), ("LA", "TIFF"), ("RGBA", "PNG"), ("RGBA", "TIFF"), ("RGBA", "WEBP")],
)
def test_transparency_lies_on_black(tmp_path, mode, kind):
    array = pattern(channels=2 if mode == "LA" else 4, dtype=np.uint8)
    path = tmp_path / f"a.{kind.lower()}"
    Image.fromarray(array).save(path, kind, **({"lossless": True} if kind == "WEBP" else {}))
    with Image.open(path) as picture:
        rgba = picture.convert("RGBA")
    black = Image.new("RGBA", rgba.size, "black")
    expected = np.asarray(Image.alpha_composite(black, rgba).convert("RGB").convert("L"))
    np.testing.assert_array_equal(read_image(path)[0], expected)


def test_white_hidden_under_transparency_is_black(tmp_path):
    array = np.dstack([np.full((8, 8), 255, np.uint8), np.zeros((8, 8), np.uint8)])
    array[2:4, 2:6] = [[100, 255], [200, 255], [100, 255], [200, 255]]
    Image.fromarray(array).save(tmp_path / "a.png")
    expected = np.zeros((8, 8))
    expected[2:4, 2:6] = [100, 200, 100, 200]
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[0], expected)


@pytest.mark.parametrize(
    ("value", "channels", "dtype"),
    [(10, None, np.uint8), (10, None, np.uint16), ((10, 20, 30), 3, np.uint8)],
)
def test_a_colour_declared_transparent_is_black(tmp_path, value, channels, dtype):
    array = pattern(channels=channels, dtype=dtype)
    array[3, 4] = value
    Image.fromarray(array).save(tmp_path / "a.png", transparency=value)
    assert read_image(tmp_path / "a.png")[0, 3, 4] == 0


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_content_in_the_transparency_alone_is_refused(tmp_path, channels, dtype):
    array = pattern(channels=channels, dtype=dtype)
    array[..., :-1] = 0
    path = tmp_path / "a.png"
    png16(path, array) if dtype == np.uint16 else Image.fromarray(array).save(path)
    with pytest.raises(UserError, match="in the transparency alone: save it on a background"):
        read_image(path)


def test_the_picture_of_a_photograph_with_a_preview(tmp_path):
    picture, preview = (Image.fromarray(pattern(n, n, 3, np.uint8)) for n in (24, 6))
    picture.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[preview])
    assert [s.image.shape for s in read_slices(tmp_path / "a.jpg")] == [(1, 24, 24)]


def test_several_pages_of_a_tiff_are_slices_without_previews(tmp_path):
    array = pattern(channels=None)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page in (array, array // 2):
            file.write(page)
            file.write(page[::2, ::2], subfiletype=1)
    with pytest.raises(UserError, match="holds 2 pictures: save one per file"):
        read_image(tmp_path / "a.tif")
    pages = list(read_slices(tmp_path / "a.tif"))
    assert [page.name for page in pages] == ["page-001", "page-002"]
    np.testing.assert_array_equal(pages[1].image[0], array // 2)


def test_pages_that_form_a_circle_are_read_once(tmp_path):
    array = pattern()
    tifffile.imwrite(tmp_path / "a.tif", [array, array // 2], photometric="minisblack")
    content = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        first, second = (page.offset for page in file.pages)
        tags = len(file.pages[1].aspage().tags)
    end = second + 2 + 12 * tags
    content[end : end + 4] = struct.pack("<I", first)
    (tmp_path / "a.tif").write_bytes(content)
    assert len(list(read_slices(tmp_path / "a.tif"))) == 2


def test_an_animation_is_refused(tmp_path):
    frames = [Image.fromarray(pattern(dtype=np.uint8) // n) for n in (1, 2, 3)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    with pytest.raises(UserError, match="holds 3 pictures"):
        read_image(tmp_path / "a.webp")


@pytest.mark.parametrize("no_data", [-3.4e38, 3.4e38, -1.7e308])
def test_a_mark_of_no_data_is_as_small_as_the_smallest_value(tmp_path, no_data):
    array = pattern(dtype=np.float64) + 5
    expected = array.copy()
    array[2:5], expected[2:5] = no_data, np.delete(array, [2, 3, 4], axis=0).min()
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_allclose(read_image(tmp_path / "a.npy")[0], expected, rtol=1e-6)
    np.save(tmp_path / "a.npy", np.full((4, 4), no_data))
    with pytest.raises(UserError, match="holds no data"):
        read_image(tmp_path / "a.npy")


# What counts as an image in a folder


@pytest.mark.parametrize("name", ["._a.png", ".DS_Store", ".a.png", "Thumbs.db", "a.csv", "README"])
def test_what_systems_leave_beside_images_is_none(tmp_path, name):
    (tmp_path / name).write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X        ")
    assert not is_image(tmp_path / name)


@pytest.mark.parametrize("name", ["a.JFIF", "a.webp", "a.jp2", "a.nii.gz", "a.dcm", "a.tiff"])
def test_a_file_with_the_suffix_of_an_image_counts_even_if_broken(tmp_path, name):
    (tmp_path / name).write_bytes(b"broken")
    assert is_image(tmp_path / name)
    with pytest.raises(UserError, match=r"a\."):
        read_image(tmp_path / name)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "npy"])
def test_a_picture_without_a_suffix_is_recognised(tmp_path, kind):
    array = pattern(dtype=np.uint8)
    with (tmp_path / "IM0001").open("wb") as file:
        np.save(file, array) if kind == "npy" else Image.fromarray(array).save(file, kind)
    assert is_image(tmp_path / "IM0001")
    assert read_image(tmp_path / "IM0001").shape == (1, 24, 20)


def test_folders_and_missing_files_are_no_images(tmp_path):
    (tmp_path / "a.png").mkdir()
    assert not is_image(tmp_path / "a.png")
    assert not is_image(tmp_path / "b.png")


# Masks


@pytest.mark.parametrize("values", [(0, 1), (0, 255), (0, 2)])
@pytest.mark.parametrize("mode", ["L", "RGB", "1"])
def test_a_mask_is_what_is_not_0(tmp_path, values, mode):
    mask = pattern(dtype=np.uint8) > 200
    picture = Image.fromarray(np.where(mask, values[1], values[0]).astype(np.uint8))
    Image.fromarray(mask).save(tmp_path / "a.png") if mode == "1" else picture.convert(mode).save(
        tmp_path / "a.png"
    )
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), mask)


def test_labels_are_all_diseased_and_grey_edges_are_halved(tmp_path):
    labels = pattern(dtype=np.uint8) % 3
    Image.fromarray(labels).save(tmp_path / "labels.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "labels.png"), labels > 0)
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:40] = 255
    Image.fromarray(mask).save(tmp_path / "mask.jpg", quality=50)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.jpg"), mask > 0)


def test_an_empty_mask_is_empty_and_values_below_0_are_no_mask(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 4)))
    assert not read_mask(tmp_path / "a.npy").any()
    np.save(tmp_path / "a.npy", -np.eye(4))
    with pytest.raises(UserError, match="is no mask"):
        read_mask(tmp_path / "a.npy")


def test_a_mask_is_fitted_by_area_where_its_image_is():
    mask = np.zeros((8, 4), bool)
    mask[0:2, 0:2] = True  # a whole pixel of the fitted mask
    mask[2, 2:4] = True  # half of one
    mask[4, 0] = True  # a quarter of one
    expected = np.zeros((4, 4), bool)
    expected[0, 1] = expected[1, 2] = True
    np.testing.assert_array_equal(fit_mask(mask, 4), expected)
    assert fit_mask(mask, 64).shape == (64, 64)
