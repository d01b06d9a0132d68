"""One image: read from a file, fitted to the networks' size and back, scaled to [-1, 1]."""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from descargan.errors import UserError


def range_scaling(images: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and offset (B, 1, 1, 1) that take each image of (B, C, H, W) to [-1, 1].

    A constant image goes to 0.
    """
    low, high = (f(images, dim=(1, 2, 3), keepdim=True) for f in (torch.amin, torch.amax))
    constant = high == low
    slope = torch.where(constant, 0.0, 2 / (high - low).where(~constant, 1.0))
    return slope, torch.where(constant, 0.0, -1 - low * slope)


def scale_to_range(images: Tensor) -> Tensor:
    """Each image of (B, C, H, W) by its own minimum and maximum to [-1, 1]: ``n`` of the paper."""
    slope, offset = range_scaling(images)
    return images * slope + offset


def read_image(path: Path) -> np.ndarray:
    """An image file as (1, H, W), or (2, H, W) with ground truth, uint8 or float32 and finite."""
    try:
        array = read_npy(path) if path.suffix.lower() == ".npy" else read_picture(path)
    except UserError:
        raise
    except Exception as error:  # decoders raise anything on broken files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} cannot be read as an image: {reason}") from error
    if array.size == 0 or not np.isfinite(array).all():
        problem = "is empty" if array.size == 0 else "holds NaN or infinity"
        raise UserError(f"{path} {problem}: mend or remove it")
    return array


def read_npy(path: Path) -> np.ndarray:
    array = np.load(path, allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise UserError(f"{path} holds no array of real numbers: write one of float32")
    shape = array.shape
    if array.ndim == 2:
        array = array[None]
    elif array.ndim == 3 and shape[0] not in (1, 2) and shape[2] == 1:
        array = array.transpose(2, 0, 1)
    if array.ndim != 3 or array.shape[0] not in (1, 2):
        raise UserError(
            f"{path} has shape {shape}: (H, W), (1, H, W), (H, W, 1) or (2, H, W) are read"
        )
    return np.ascontiguousarray(array, dtype=None if array.dtype == np.uint8 else np.float32)


def read_picture(path: Path) -> np.ndarray:
    """A picture as greyscale (1, H, W), uint8, or float32 where it holds more than 8 bits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd tags, say; what matters is an error
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path) as picture:
            if getattr(picture, "n_frames", 1) > 1:
                raise UserError(f"{path} holds {picture.n_frames} pictures: save one per file")
            if picture.mode.startswith(("I", "F")):
                return np.asarray(picture, dtype=np.float32)[None]
            if picture.mode == "P":
                picture = picture.convert("RGB")
            return np.asarray(picture.convert("L"))[None]


def fit(array: np.ndarray, size: int) -> np.ndarray:
    """(1, H, W) padded to a square with its minimum, then resized to (1, size, size), antialiased.

    Padding keeps what lies at the border (an effusion does); nothing is cut or distorted.
    """
    height, width = array.shape[-2:]
    rows, columns = padding(height, width)
    if rows != (0, 0) or columns != (0, 0):
        array = np.pad(array, ((0, 0), rows, columns), constant_values=array.min())
    if array.shape[-1] == size:
        return array
    resized = Image.fromarray(array[0]).resize((size, size), Image.BICUBIC)
    return np.asarray(resized)[None]


def unfit(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """What :func:`fit` did, undone: (S, S) to float32 (height, width)."""
    side = max(height, width)
    picture = Image.fromarray(np.ascontiguousarray(image, dtype=np.float32))
    resized = np.asarray(picture.resize((side, side), Image.BICUBIC))
    (top, _), (left, _) = padding(height, width)
    return resized[top : top + height, left : left + width]


def padding(height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Pixels (before, after) in rows and columns that make an image square."""
    side = max(height, width)
    return tuple(((side - n) // 2, side - n - (side - n) // 2) for n in (height, width))
