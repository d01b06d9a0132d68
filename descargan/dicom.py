"""DICOM images as a viewer shows them: decoded, rescaled, windowed, bright on dark."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from descargan.errors import UserError
from descargan.geometry import square_pixels
from descargan.pictures import LUMINANCE

if TYPE_CHECKING:
    from pydicom import Dataset

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
IDENTITY = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")
SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio")
SHOWN_BY = (
    *("BitsStored", "PixelRepresentation", "RescaleSlope", "RescaleIntercept"),
    *("ModalityLUTSequence", "VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    *SPACINGS,
)
GROUPS = (  # where enhanced multi-frame files keep that for each frame
    *("PixelValueTransformationSequence", "FrameVOILUTSequence", "PixelMeasuresSequence"),
)
STORAGE = b"1.2.840.10008.5.1.4.1.1."
# Classes: index of a medium; signals, presentations, reports, documents, outlines, doses, plans.
WITHOUT_IMAGE = (
    b"1.2.840.10008.1.3.10",
    *(STORAGE + c for c in (b"9.", b"11.", b"66", b"67", b"88.", b"104.")),
    *(STORAGE + b"481." + c for c in (b"2\0", b"3", b"4", b"5", b"8", b"9")),
)
SEGMENTATION = STORAGE + b"66.4"
HEAD = 512  # bytes of a file that tell all this


class Identity(NamedTuple):
    """Whose image a file holds, as hospitals number them. Never to be written to an output."""

    patient: str
    study: str
    series: str


def is_dicom(head: bytes) -> bool:
    """Whether a file whose first HEAD bytes are ``head`` is DICOM.

    By its mark, or, where the preamble is missing, by a first element of group 2 or 8.
    """
    if len(head) < 132:
        return False
    group, element, described = head[:2], head[2:4], head[4:8]
    bare = group in (b"\2\0", b"\x08\0") and element[1] == 0
    explicit_or_short = described[:2].isupper() or described[2:] == b"\0\0"
    return head[128:132] == b"DICM" or (bare and explicit_or_short)


def has_image(head: bytes) -> bool:
    """Whether the class that a DICOM file's ``head`` names is one of images, or not named."""
    return not class_in(head).startswith(WITHOUT_IMAGE)


def is_segmentation(head: bytes) -> bool:
    """Whether a DICOM file's ``head`` names the class of outlines that are stored as pixels."""
    return class_in(head).startswith(SEGMENTATION)


def class_in(head: bytes) -> bytes:
    """The class in the ``head`` of a DICOM file, and what follows; empty where it names none."""
    start = head.find(b"\2\0\2\0UI") + 8
    return b"" if start < 8 else head[start:]


def read_identity(path: Path) -> Identity:
    """The ids in a DICOM header, empty where it holds none. The pixels are not read."""
    dcmread = import_dcmread(path)
    with warnings.catch_warnings(action="ignore"):
        header = dcmread(path, force=True, stop_before_pixels=True, specific_tags=list(IDENTITY))
    return Identity(*(str(header.get(name) or "").strip() for name in IDENTITY))


def identity_of(path: Path) -> Identity | None:
    """The ids in the header of a file; None where it is no DICOM, or too broken to have one.

    Raises UserError where pydicom is not installed.
    """
    try:
        with path.open("rb") as file:
            return read_identity(path) if is_dicom(file.read(HEAD)) else None
    except UserError:
        raise
    except Exception:  # decoders raise anything on broken files, which reading the image reports
        return None


def read_frames(path: Path, single: bool = False) -> Iterator[np.ndarray]:
    """The frames (H, W), uint8 or float32, of a DICOM file.

    The modality's table or rescaling is applied, then the VOI table or the first window; padding
    is as dark as the darkest pixel, MONOCHROME1 is inverted, colour becomes luminance, and pixels
    are made square. Windowed values keep their unit (Hounsfield of CT, say).
    Raises UserError for a file without an image, for one that nothing installed can decode, and,
    with ``single``, for one of several frames.
    """
    dcmread = import_dcmread(path)
    with warnings.catch_warnings(action="ignore"):  # of odd elements
        dataset = dcmread(path, force=True)
        if "Rows" not in dataset or not any(name in dataset for name in PIXELS):
            raise UserError(f"{path} is DICOM without pixel data: remove it")
        number = int(dataset.get("NumberOfFrames") or 1)
    if single and number > 1:
        raise UserError(f"{path} holds {number} frames: save one per file")
    name_transfer_syntax(dataset)
    for index in range(number):
        with warnings.catch_warnings(action="ignore"):
            header = header_of_frame(dataset, index)
            image = presented(decode(dataset, index, path), dataset, header)
            image = square_pixels(image, spacing_of(header))
        yield image


def read_grid(path: Path) -> tuple[tuple[int, int], tuple[float, float]]:
    """Rows and columns of the frames of a DICOM file as they are stored, and its spacing.

    The pixels are not read.
    """
    dcmread = import_dcmread(path)
    with warnings.catch_warnings(action="ignore"):
        dataset = dcmread(path, force=True, stop_before_pixels=True)
        spacing = spacing_of(header_of_frame(dataset, 0))
    return (dataset.Rows, dataset.Columns), spacing


def import_dcmread(path: Path) -> Callable:
    try:
        from pydicom import dcmread
    except ImportError:
        raise UserError(f"{path} is DICOM, read with pydicom: pip install pydicom") from None
    return dcmread


def name_transfer_syntax(dataset: "Dataset") -> None:
    """A file without the header that names its encoding is uncompressed, as it was parsed."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if getattr(dataset, "file_meta", None) is None:
        dataset.file_meta = FileMetaDataset()
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit


def decode(dataset: "Dataset", index: int, path: Path) -> np.ndarray:
    """A frame as stored, (H, W) or (H, W, 3)."""
    from pydicom.pixels import pixel_array

    if dataset.Rows * dataset.Columns > Image.MAX_IMAGE_PIXELS:
        raise UserError(f"{path} has more than 89 million pixels: save a smaller image")
    try:
        return pixel_array(dataset, index=index)
    except RuntimeError as error:
        syntax = dataset.file_meta.TransferSyntaxUID.name
        missing = "missing dependencies" in str(error)
        install = "pip install -r requirements-medical.txt brings a decoder"
        mend = install if missing else "save it uncompressed"
        raise UserError(f"{path} is DICOM in {syntax} and cannot be decoded: {mend}") from error


def presented(stored: np.ndarray, dataset: "Dataset", header: "Dataset") -> np.ndarray:
    """A stored frame as it is shown, (H, W), uint8 or float32; ``header``: what tells how."""
    from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi

    photometric = dataset.PhotometricInterpretation
    if photometric == "PALETTE COLOR":
        stored = apply_color_lut(stored, dataset)
    if stored.ndim == 3:
        if stored.dtype == np.uint8:
            return np.asarray(Image.fromarray(stored).convert("L"))
        return (stored @ np.array(LUMINANCE)).astype(np.float32)
    image = apply_modality_lut(stored, header)
    if header.get("VOILUTSequence"):
        image = apply_voi(image, header)
    else:
        image = windowed(image, header)
    if photometric == "MONOCHROME1":
        image = 255 - image if image.dtype == np.uint8 else -image.astype(np.float64)
    padding = is_padding(stored, dataset)
    if padding.any() and not padding.all():
        image = np.where(padding, image[~padding].min(), image)
    return image if image.dtype == np.uint8 else image.astype(np.float32)


def header_of_frame(dataset: "Dataset", index: int) -> "Dataset":
    """What tells how a frame is shown: from its functional groups, else from the file's header."""
    from pydicom import Dataset

    header = Dataset()
    header.file_meta = dataset.file_meta  # which tells the byte order of tables
    places = [dataset]
    for name, item in (("Shared", 0), ("PerFrame", index)):
        groups = dataset.get(f"{name}FunctionalGroupsSequence")
        if groups:
            places += [groups[item][group][0] for group in GROUPS if group in groups[item]]
    for place in places:
        for keyword in SHOWN_BY:
            if place.get(keyword) is not None:
                header[keyword] = place[keyword]
    return header


def windowed(image: np.ndarray, header: "Dataset") -> np.ndarray:
    """Values clipped to the first window (DICOM PS3.3, C.11.2.1.2), or bent by its sigmoid.

    A window that is empty or of no width is none: all values are shown.
    """
    window = [np.atleast_1d(header.get(f"Window{part}", [])) for part in ("Center", "Width")]
    if not all(values.size for values in window) or float(window[1][0]) <= 1:
        return image
    centre, width = (float(values[0]) for values in window)
    function = header.get("VOILUTFunction", "LINEAR")
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            return centre + width * (1 / (1 + np.exp(-4 * (image - centre) / width)) - 0.5)
    if function != "LINEAR_EXACT":
        centre, width = centre - 0.5, width - 1
    return np.clip(image, centre - width / 2, centre + width / 2)


def is_padding(stored: np.ndarray, dataset: "Dataset") -> np.ndarray:
    """Where a stored frame (H, W) holds the value that marks pixels outside of the image."""
    first = dataset.get("PixelPaddingValue")
    last = dataset.get("PixelPaddingRangeLimit")
    if not isinstance(first, int):
        return np.zeros(stored.shape, bool)
    ends = np.array([first, first if last is None else last])
    if stored.dtype.kind in "iu":  # written as unsigned beside signed pixels, a value of these bits
        most = 2 ** (8 * stored.dtype.itemsize)
        fits = (ends >= -most // 2) & (ends < most)
        ends = ends.astype(stored.dtype) if fits.all() else ends
    return (stored >= ends.min()) & (stored <= ends.max())


def spacing_of(dataset: "Dataset") -> tuple[float, float]:
    """Size of a pixel along rows and columns, in whatever unit the header has; 1, 1 if none."""
    for keyword in SPACINGS:
        spacing = dataset.get(keyword)
        if spacing is not None and not isinstance(spacing, str) and len(spacing) == 2:
            return tuple(float(value) for value in spacing)
    return 1.0, 1.0
