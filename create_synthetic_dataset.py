"""Make the synthetic data set of the paper: two ellipses on waves, one shrunk by disease.

    python create_synthetic_dataset.py
    python create_synthetic_dataset.py --output ./warp-set-64 --image-size 64 --train 400
    python create_synthetic_dataset.py --output ./opacity --disease opacity

writes OUTPUT/{train,validate,test}/{healthy,diseased}/NNNN.npy, float32 arrays (2, H, W): the
image, in [-1, 1], and the ground truth, diseased minus healthy of the same sample in the unit of
the image (0 for healthy images). So the healthy counterpart of a diseased image is
``array[0] - array[1]``. OUTPUT/dataset.json holds the parameters.

The paper's disease is an atrophy: it moves what is there. An opacity adds something: a bright,
half-transparent fluid stands in ellipse 1 up to a level. Of both, half of the images each.
"""

import argparse
import json
import os
import sys
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import descargan.installed  # isort: skip # noqa: F401 (before what it looks for)
import numpy as np
from PIL import Image
from scipy import ndimage

from descargan import CLASS_NAMES, DISEASED, HEALTHY
from descargan.cli import Parser, count, natural, run
from descargan.errors import UserError
from descargan.files import built_whole, map_in_processes
from descargan.progress import progress_bar

FORMAT_VERSION = 1
SPLITS = ("train", "validate", "test")
COUNTS = (1600, 200, 200)  # of each class
PAPER_SIZE = 256  # every length below is in pixels of an image of this size
CENTRES = (50, 200)
CENTRE_DISTANCE = 120
SEMI_AXES = ((40.0, 20.0), (70.0, 35.0))
THICKNESS = (5.0, 0.7)
FREQUENCIES = ((0.2, 0.35), (0.35, 0.5))
AMPLITUDE = (0.2, 0.4)
SMOOTHING_SIGMA = 2.0
SHRINK_SIGMA = 0.19  # in coordinates where the image spans [-1, 1], as is the next
SHRINK_STRENGTH = 0.1
DISEASES = ("atrophy", "opacity", "both")
FLUID_LEVEL = (-0.2, 0.6)  # below the centre of ellipse 1, in its half height
FLUID_TILT = (-0.15, 0.15)
ARCH = 6.0  # pixels that the level is lower 40 pixels to either side than in the middle
SHORE = 4.0  # pixels in which the fluid comes to its full density
DENSITY = (0.5, 0.85)
BRIGHTNESS = (0.55, 0.75)  # where waves lie around 0 and rings are 1


class Ellipse(NamedTuple):
    """Outer contour and ring thickness, in pixels; ``angle`` in radians from the x axis."""

    x: int
    y: int
    semi_major: float
    semi_minor: float
    angle: float
    thickness: int


class Drawn(NamedTuple):
    """What a data set of a size is drawn by."""

    seed: int
    disease: str


PAPER = Drawn(seed=0, disease="atrophy")


def make_sample(rng: np.random.Generator, size: int, disease: str | None) -> np.ndarray:
    """One sample as float32 (2, size, size): image within [-1, 1], and diseased minus healthy.

    ``disease`` is "atrophy" or "opacity", or None for a healthy image.

    Sizes below 256 are drawn at 256 and averaged over the area of each pixel; above, geometry and
    frequencies are scaled. Both images of a pair are scaled by the range of the healthy one.
    """
    scale = max(size / PAPER_SIZE, 1.0)
    ellipses, rings = draw_ellipses(rng, scale)
    healthy = background(rng, ellipses, scale)
    healthy[rings] = 1.0
    healthy = smooth(healthy)
    if disease == "atrophy":
        image = shrink(healthy, ellipses[0])
    elif disease == "opacity":
        image = pour(rng, healthy, ellipses[0], scale)
    else:
        image = healthy
    # Scaled before they are made smaller: else healthy images alone would span exactly [-1, 1].
    low, high = healthy.min(), healthy.max()
    healthy, image = (downsample(2 * (x - low) / (high - low) - 1, size) for x in (healthy, image))
    return np.stack([image, image - healthy]).astype(np.float32)


def draw_ellipses(rng: np.random.Generator, scale: float) -> tuple[list[Ellipse], np.ndarray]:
    """Two ellipses and the mask (H, W) of their rings, redrawn until nothing meets or leaves."""
    size = round(PAPER_SIZE * scale)
    while True:
        centres = rng.integers(*(round(limit * scale) for limit in CENTRES), size=(2, 2))
        axes = [[rng.normal(axis, 1.0) * scale for axis in pair] for pair in SEMI_AXES]
        angles = rng.uniform(0, 2 * np.pi, size=2)
        thicknesses = [max(round(rng.normal(*THICKNESS) * scale), 1) for _ in SEMI_AXES]
        ellipses = [
            Ellipse(int(x), int(y), *pair, angle, thickness)
            for (x, y), pair, angle, thickness in zip(
                centres, axes, angles, thicknesses, strict=True
            )
        ]
        if np.hypot(*(centres[0] - centres[1])) <= CENTRE_DISTANCE * scale:
            continue
        if not all(inside(ellipse, size) for ellipse in ellipses):
            continue
        first, second = (ring(ellipse, size) for ellipse in ellipses)
        if not (first & second).any():
            return ellipses, first | second


def extent(ellipse: Ellipse) -> tuple[float, float]:
    """Half width and half height of the box around an ellipse."""
    cos, sin = np.cos(ellipse.angle), np.sin(ellipse.angle)
    a, b = ellipse.semi_major, ellipse.semi_minor
    return float(np.hypot(a * cos, b * sin)), float(np.hypot(a * sin, b * cos))


def inside(ellipse: Ellipse, size: int) -> bool:
    half_width, half_height = extent(ellipse)
    return (
        half_width <= ellipse.x <= size - 1 - half_width
        and half_height <= ellipse.y <= size - 1 - half_height
    )


def ring(ellipse: Ellipse, size: int) -> np.ndarray:
    """Mask (size, size) of the band between the contour and the one ``thickness`` within it."""
    half_width, half_height = extent(ellipse)
    rows = slice(int(ellipse.y - half_height), int(ellipse.y + half_height) + 2)
    columns = slice(int(ellipse.x - half_width), int(ellipse.x + half_width) + 2)
    y = np.arange(size)[rows, None] - ellipse.y
    x = np.arange(size)[columns] - ellipse.x
    mask = np.zeros((size, size), bool)
    mask[rows, columns] = within(ellipse, x, y, 0) & ~within(ellipse, x, y, ellipse.thickness)
    return mask


def within(ellipse: Ellipse, x: np.ndarray, y: np.ndarray, inset: float) -> np.ndarray:
    """Where points, given from the centre, lie in the ellipse with semi-axes less ``inset``."""
    cos, sin = np.cos(ellipse.angle), np.sin(ellipse.angle)
    along, across = (x * cos + y * sin) ** 2, (y * cos - x * sin) ** 2
    a, b = ellipse.semi_major - inset, ellipse.semi_minor - inset
    return along / a**2 + across / b**2 <= 1 if min(a, b) > 0 else np.zeros(along.shape, bool)


def background(rng: np.random.Generator, ellipses: list[Ellipse], scale: float) -> np.ndarray:
    """Two waves, each around the centre of an ellipse: ``sum h sin(r f)``, r in whole pixels."""
    size = round(PAPER_SIZE * scale)
    frequencies = [rng.uniform(*limits) / scale for limits in FREQUENCIES]
    amplitudes = rng.uniform(*AMPLITUDE, size=2)
    distances = distance_table(size)
    waves = [
        (amplitude * np.sin(np.arange(2 * size) * frequency)).astype(np.float32)[
            distances[size - e.y : 2 * size - e.y, size - e.x : 2 * size - e.x]
        ]
        for e, frequency, amplitude in zip(ellipses, frequencies, amplitudes, strict=True)
    ]
    return waves[0] + waves[1]


@cache
def distance_table(size: int) -> np.ndarray:
    """Distance in whole pixels from the middle of a table (2 size, 2 size); a window of it is the
    distance from any centre."""
    offsets = np.arange(-size, size)
    return np.rint(np.hypot(offsets[:, None], offsets)).astype(np.intp)


def smooth(image: np.ndarray) -> np.ndarray:
    """3 x 3 Gaussian of sigma 2, with reflection at the border."""
    kernel = np.exp(-np.array([1.0, 0.0, 1.0]) / (2 * SMOOTHING_SIGMA**2))
    kernel /= kernel.sum()
    for axis in (0, 1):
        image = ndimage.correlate1d(image, kernel, axis=axis, mode="mirror")
    return image


def shrink(image: np.ndarray, ellipse: Ellipse) -> np.ndarray:
    """The image (H, W) drawn together towards the centre of ``ellipse``, with bilinear sampling.

    Each pixel takes its value from further out, by the negative gradient of a Gaussian at the
    centre: nothing at the centre, most at one sigma, nothing far away.
    """
    size = len(image)
    unit = (size - 1) / 2  # pixels in one unit of [-1, 1]
    x = (np.arange(size) - ellipse.x) / unit
    y = (np.arange(size) - ellipse.y) / unit
    gauss_x, gauss_y = (np.exp(-(z**2) / (2 * SHRINK_SIGMA**2)) for z in (x, y))
    shift_x, shift_y = gauss_y[:, None] * (x * gauss_x), (y * gauss_y)[:, None] * gauss_x
    strength = SHRINK_STRENGTH * unit / max(np.abs(shift_x).max(), np.abs(shift_y).max())
    # Pixels that move by less than a thousandth stay, so that the ground truth is exactly 0 there.
    moved = np.hypot(shift_x, shift_y) * strength > 1e-3
    rows, columns = (axis.nonzero()[0] for axis in (moved.any(axis=1), moved.any(axis=0)))
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    moved = moved[window]
    grid_y, grid_x = np.nonzero(moved)
    at_y = grid_y + rows[0] + strength * shift_y[window][moved]
    at_x = grid_x + columns[0] + strength * shift_x[window][moved]
    result = image.copy()
    result[window][moved] = ndimage.map_coordinates(image, [at_y, at_x], order=1, mode="mirror")
    return result


def pour(rng: np.random.Generator, image: np.ndarray, ellipse: Ellipse, scale: float) -> np.ndarray:
    """The image (H, W) with the inside of ``ellipse`` filled by a fluid up to a level.

    The level is tilted and arched; the fluid lets some of the image through.
    """
    y = np.arange(len(image))[:, None] - ellipse.y
    x = np.arange(len(image)) - ellipse.x
    level = extent(ellipse)[1] * rng.uniform(*FLUID_LEVEL) + rng.uniform(*FLUID_TILT) * x
    level = level + ARCH * scale * ((x / (SEMI_AXES[0][0] * scale)) ** 2 - 0.5)
    depth = (y - level) / (SHORE * scale)
    density, brightness = rng.uniform(*DENSITY), rng.uniform(*BRIGHTNESS)
    inside_ring = within(ellipse, x, y, ellipse.thickness)
    # In the image's precision, so that the ground truth is exactly 0 where nothing stands.
    alpha = np.where(inside_ring, depth.clip(0, 1) * density, 0.0).astype(image.dtype)
    return (1 - alpha) * image + alpha * image.dtype.type(brightness)


def downsample(image: np.ndarray, size: int) -> np.ndarray:
    """Mean over the area of each pixel of (size, size)."""
    if len(image) == size:
        return image
    return np.asarray(Image.fromarray(image.astype(np.float32)).resize((size, size), Image.BOX))


def disease_of(index: int, disease: str) -> str:
    """The disease of a diseased image: of ``both``, atrophy and opacity take turns."""
    return DISEASES[index % 2] if disease == "both" else disease


def write_sample(job: tuple[int, int, int], root: Path, size: int, drawn: Drawn) -> None:
    """Make and write sample (split, class, index): a function of these and ``drawn`` alone."""
    split, c, index = job
    rng = np.random.default_rng(np.random.SeedSequence([drawn.seed, split, c, index]))
    np.save(
        root / SPLITS[split] / CLASS_NAMES[c] / f"{index:04d}.npy",
        make_sample(rng, size, disease_of(index, drawn.disease) if c == DISEASED else None),
    )


def write_dataset(
    output: Path,
    size: int = PAPER_SIZE,
    counts: tuple[int, int, int] = COUNTS,
    drawn: Drawn = PAPER,
    workers: int | None = None,
    overwrite: bool = False,
) -> None:
    """Write all samples and ``dataset.json`` to ``output``, as a whole or not at all.

    Shows a progress bar. Raises UserError where ``output`` exists, unless ``overwrite``.
    """
    with built_whole(output, "dataset.json", overwrite) as root:
        for split in SPLITS:
            for name in CLASS_NAMES:
                (root / split / name).mkdir(parents=True)
        jobs = [
            (split, c, index)
            for split, number in enumerate(counts)
            for c in (HEALTHY, DISEASED)
            for index in range(number)
        ]
        work = partial(write_sample, root=root, size=size, drawn=drawn)
        workers = workers or os.cpu_count() or 1
        for _ in progress_bar(map_in_processes(work, jobs, workers), total=len(jobs), unit="image"):
            pass
        parameters = {
            "format_version": FORMAT_VERSION,
            "image_size": size,
            "seed": drawn.seed,
            "images_per_class": dict(zip(SPLITS, counts, strict=True)),
            "channels": ["image", "ground truth: diseased minus healthy, in the unit of the image"],
            "healthy_counterpart": "channel 0 minus channel 1",
        }
        if (
            drawn.disease != "atrophy"
        ):  # else the description is what it was before there were others
            parameters["disease"] = drawn.disease
        (root / "dataset.json").write_text(json.dumps(parameters, indent=2) + "\n")
    print(f"{len(jobs)} images of {size} x {size} in {output}")


def build_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add(
        "--output", type=Path, default=Path("warp-set"), help="folder to make (default: ./warp-set)"
    )
    for split, default in zip(SPLITS, COUNTS, strict=True):
        text = f"images of each class in {split} (default: {default})"
        add(f"--{split}", type=count, default=default, metavar="N", help=text)
    add("--image-size", type=count, default=PAPER_SIZE, metavar="N", help="default: 256")
    text = "what disease does: move, add, or half of the images each (default: atrophy)"
    add("--disease", choices=DISEASES, default="atrophy", help=text)
    add("--seed", type=natural, default=0, metavar="N", help="default: 0")
    text = "processes (default: one per core); the images do not depend on it"
    add("--workers", type=count, default=os.cpu_count() or 1, metavar="N", help=text)
    add("--overwrite", action="store_true", help="replace an existing data set")
    return parser


def main() -> None:
    options = build_parser().parse_args()
    if options.image_size < 16:
        raise UserError("--image-size must be at least 16: below, the rings cannot be drawn")
    write_dataset(
        options.output,
        options.image_size,
        (options.train, options.validate, options.test),
        Drawn(options.seed, options.disease),
        options.workers,
        options.overwrite,
    )


if __name__ == "__main__":
    sys.exit(run(main))
