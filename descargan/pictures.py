"""Picture files as a viewer shows them: upright, on black, as greyscale, with all their bits.

Pillow reads them, and tifffile those TIFF that Pillow would cut to 8 bits or cannot open.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import tifffile
from PIL import ExifTags, Image

from descargan.errors import UserError

LUMINANCE = (0.299, 0.587, 0.114)  # of ITU-R 601, which Pillow uses
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
DEEP_COLOURS = tuple(tifffile.PHOTOMETRIC(i) for i in (0, 1, 2))  # white or black is 0, RGB
REDUCED = 1  # TIFF: a page that repeats another one smaller
UPRIGHT = {  # EXIF orientation to what sets it upright
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: a[::-1].T,
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: a.T[::-1],
}


def read_picture(path: Path) -> np.ndarray:
    """A picture as greyscale (H, W), uint8, or wider where the file holds more than 8 bits.

    Of a photograph with previews, the first picture. Raises UserError for several pictures, and for
    content that lies in the transparency alone.
    """
    with quiet():
        if is_tiff(path):
            numbers = page_numbers(path)
            if len(numbers) > 1:
                raise UserError(f"{path} holds {len(numbers)} pictures: save one per file")
            return read_page(path, numbers[0])
        with Image.open(path) as picture:
            number = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
            if number > 1:
                raise UserError(f"{path} holds {number} pictures: save one per file")
            return decode(picture, path)


def read_pages(path: Path) -> Iterator[np.ndarray]:
    """The pages (H, W) of a TIFF, as :func:`read_picture` gives one."""
    with quiet():
        numbers = page_numbers(path)
    for number in numbers:
        with quiet():
            image = read_page(path, number)
        yield image


def read_grid(path: Path) -> tuple[tuple[int, int], int]:
    """Rows and columns of a picture as it is stored, and its EXIF orientation, see UPRIGHT."""
    with quiet():
        if is_tiff(path):
            with tifffile.TiffFile(path) as file:
                page = file.pages[page_numbers(path)[0]].aspage()
                return (page.imagelength, page.imagewidth), orientation_of(page)
        with Image.open(path) as picture:
            return picture.size[::-1], orientation_in(picture)


def is_tiff(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in TIFF_STARTS


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings of odd tags; an error for pictures beyond Pillow's limit of 89 megapixels."""
    log = logging.getLogger("tifffile")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        log.setLevel(level)


def decode(picture: Image.Image, path: Path) -> np.ndarray:
    """The frame that an opened picture stands at, as greyscale (H, W)."""
    rawmode = picture.tile[0][3] if picture.tile else ""
    if picture.format == "JPEG2000" and picture.mode.startswith("RGB") and bits_of_jp2(path) > 8:
        raise UserError(f"{path} is JPEG 2000 in colour of more than 8 bits: save it as PNG")
    if picture.format == "PNG" and ";16" in rawmode and picture.mode.startswith("RGB"):
        grey = flatten(colour_of_16_bits(path, rawmode), picture.info.get("transparency"), path)
    elif picture.mode.startswith(("I", "F")):
        grey = np.asarray(picture)
        if "transparency" in picture.info:
            grey = flatten(grey[..., None], picture.info["transparency"], path)
    elif picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        grey = on_black(picture.convert("RGBA"), path)
    else:
        colour = picture.convert("RGB") if picture.mode == "P" else picture
        grey = np.asarray(colour.convert("L"))
    turn = UPRIGHT.get(orientation_in(picture))
    return grey if turn is None else turn(grey)


def orientation_in(picture: Image.Image) -> int:
    """The EXIF orientation of an opened picture, 1 of one that has none."""
    with suppress(Exception):  # a broken EXIF block tells no orientation
        return picture.getexif().get(ExifTags.Base.Orientation, 1)
    return 1


def colour_of_16_bits(path: Path, rawmode: str) -> np.ndarray:
    """Channels (H, W, C), uint16, of a PNG that Pillow would open with 8 bits a channel.

    Pillow unpacks one byte of each pair. Named as little-endian, the pairs give their other byte;
    grey and alpha have as many bytes as RGBA of 8 bits and are unpacked as such.
    """

    def unpacked(as_mode: str) -> np.ndarray:
        with Image.open(path) as picture:
            picture.tile = [tile._replace(args=as_mode) for tile in picture.tile]
            return np.asarray(picture).astype(np.uint16)

    if rawmode.startswith("LA"):
        octets = unpacked("RGBA")
        high, low = octets[..., ::2], octets[..., 1::2]
    else:
        high, low = unpacked(rawmode), unpacked(rawmode.replace("16B", "16L"))
    return high << 8 | low


def bits_of_jp2(path: Path) -> int:
    """Bits a channel of a JPEG 2000 file, from the size marker of its codestream."""
    content = path.read_bytes()
    start = content.find(b"\xff\x4f\xff\x51")
    return (content[start + 42] & 127) + 1


def on_black(rgba: Image.Image, path: Path) -> np.ndarray:
    """A picture of mode RGBA over black, as uint8 (H, W)."""
    channels = np.asarray(rgba)
    refuse_content_in_alpha(channels[..., :3], channels[..., 3], path)
    black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
    return np.asarray(Image.alpha_composite(black, rgba).convert("RGB").convert("L"))


def flatten(channels: np.ndarray, transparent: object, path: Path) -> np.ndarray:
    """Channels (H, W, 1 to 4) over black, as float64 (H, W).

    2 and 4 channels end with alpha, unsigned; ``transparent``: the one grey or colour that a PNG
    declares transparent, or None.
    """
    count = channels.shape[-1]
    colour = channels[..., : 3 if count > 2 else 1]
    grey = colour @ np.array(LUMINANCE) if count > 2 else colour[..., 0].astype(np.float64)
    if count in (2, 4):
        refuse_content_in_alpha(colour, channels[..., -1], path)
        grey *= channels[..., -1] / np.iinfo(channels.dtype).max
    if transparent is not None:
        grey[(colour == np.array(transparent)).all(axis=-1)] = 0
    return grey


def refuse_content_in_alpha(colour: np.ndarray, alpha: np.ndarray, path: Path) -> None:
    """UserError where what can be seen of ``colour`` (H, W, C) is uniform but ``alpha`` is not."""
    seen = colour[alpha > 0]
    if len(seen) == 0 or (alpha.min() < alpha.max() and (seen == seen[0]).all()):
        raise UserError(
            f"{path} holds its content in the transparency alone: save it on a background"
        )


def page_numbers(path: Path) -> list[int]:
    """The pages of a TIFF, from 0, without those that repeat another one smaller."""
    with tifffile.TiffFile(path) as file:
        # By number: iterating, tifffile would follow pages that form a circle for ever.
        pages = [file.pages[i].aspage() for i in range(len(file.pages))]
        return [i for i, page in enumerate(pages) if not page.subfiletype & REDUCED] or [0]


def read_page(path: Path, number: int) -> np.ndarray:
    """A page of a TIFF as greyscale (H, W)."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[number].aspage()
        if page.bitspersample > 8 or page.sampleformat != tifffile.SAMPLEFORMAT.UINT:
            return deep_page(page, path, number)
    return by_pillow(path, number)


def by_pillow(path: Path, number: int) -> np.ndarray:
    # Opened by name, Pillow maps the file into memory and gets pages with an orientation wrong.
    with path.open("rb") as file, Image.open(file) as picture:
        picture.seek(number)
        picture.load()
        return decode(picture, path)


def deep_page(page: tifffile.TiffPage, path: Path, number: int) -> np.ndarray:
    """A page of more than 8 bits, or signed, as greyscale (H, W)."""
    rows, columns, samples = page.imagelength, page.imagewidth, page.samplesperpixel
    if rows * columns > Image.MAX_IMAGE_PIXELS:
        raise UserError(f"{path} has {columns} x {rows} pixels: at most 89 million are read")
    if page.photometric not in DEEP_COLOURS or samples > 4:
        raise UserError(f"{path} is neither grey nor RGB: save it as one of them, or with 8 bits")
    channels = pixels(page, path, number)
    channels = np.moveaxis(channels, 0, -1) if page.planarconfig == 2 else channels
    channels = channels.reshape(rows, columns, samples)
    if samples in (2, 4) and page.extrasamples[:1] != (tifffile.EXTRASAMPLE.UNASSALPHA,):
        channels = channels[..., :-1]  # no alpha, or one that the colours are multiplied by already
    grey = flatten(channels, None, path) if channels.shape[-1] > 1 else channels[..., 0]
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        white = 2**page.bitspersample - 1 if page.dtype.kind == "u" else 0
        grey = white - grey.astype(np.float64)
    turn = UPRIGHT.get(orientation_of(page))
    return grey if turn is None else turn(grey)


def pixels(page: tifffile.TiffPage, path: Path, number: int) -> np.ndarray:
    """A page as stored. Where tifffile lacks the codec, Pillow has it for one channel."""
    try:
        return page.asarray()
    except (ValueError, KeyError) as error:
        if "imagecodecs" not in str(error):
            raise
    if page.samplesperpixel == 1 and orientation_of(page) == 1:
        with Image.open(path) as picture:
            picture.seek(number)
            if picture.mode.startswith(("I", "F")):
                return np.asarray(picture).astype(page.dtype)
    raise UserError(
        f"{path} is compressed by {page.compression.name}, which is not read with more than 8 "
        "bits: save it uncompressed or by deflate"
    )


def orientation_of(page: tifffile.TiffPage) -> int:
    tag = page.tags.get(ExifTags.Base.Orientation.value)
    return tag.value if tag else 1
