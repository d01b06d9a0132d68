"""Resizing of one image (H, W), and pixels made square."""

import numpy as np
from PIL import Image

SAME = 0.01  # spacings whose ratio is this close to 1 count as equal


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W), uint8 or float32, by bicubic interpolation, antialiased, of the same type."""
    if image.shape == (height, width):
        return image
    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize((width, height), Image.BICUBIC))


def resize_within(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """:func:`resize` within the range of the image, beyond which it goes beside sharp edges."""
    return np.clip(resize(image, height, width), image.min(), image.max())


def square_shape(shape: tuple[int, int], spacing: tuple[float, float]) -> tuple[int, int]:
    """Rows and columns of an image once its pixels are square, at the finer of its spacings.

    ``spacing``: of rows and of columns, in any unit. Spacings of 0 or that are not finite tell
    nothing, and the shape stays.
    """
    if not (np.isfinite(spacing).all() and min(spacing) > 0):
        return shape
    if max(spacing) / min(spacing) - 1 <= SAME:
        return shape
    return tuple(max(1, round(n * s / min(spacing))) for n, s in zip(shape, spacing, strict=True))


def square_pixels(image: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """An image (H, W), uint8 or float32, with square pixels, in its range: see square_shape."""
    return resize_within(image, *square_shape(image.shape, spacing))


def padding(height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Pixels (before, after) in rows and columns that make an image square."""
    side = max(height, width)
    return tuple(((side - n) // 2, side - n - (side - n) // 2) for n in (height, width))
