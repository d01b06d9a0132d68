"""What the scaling of intensities costs and saves on real images, and what trivial maps score.

    DESCARGAN_DATA=DIR python -m benchmarks.reading

DIR holds lgg (slices of the brain with outlines, laid out as a data set) and nih (chest X-rays in
folders). For minmax and percentile: how much of the tumour is clipped, how much of the image, and
what contrast the anatomy keeps beside a marker; then the trivial maps at 64 x 64, and the speed.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from descargan.data import ImageDataset
from descargan.images import read_image
from descargan.masks import read_mask
from descargan.scaling import SCALINGS, intensity_range, scale
from descargan.trivial import measure_trivial

MARKER = 8  # pixels a side, four times as bright as the brightest
NOTICEABLE = 0.05  # share of a tumour that is clipped


def read_all(paths: list[Path]) -> list[np.ndarray]:
    """Images (H, W)."""
    return [read_image(path)[0] for path in paths]


def tumours(root: Path) -> None:
    """How much of the outlined tumour is at or over the brightest value that is told apart."""
    paths = sorted(root.glob("*/tumour/*.png"))
    shares = []
    for path, image in zip(paths, read_all(paths), strict=True):
        _, high = intensity_range(image, "percentile")
        mask = read_mask(path.parents[1] / "masks" / path.name)
        shares.append((image[mask] > high).mean())
    shares = np.array(shares)
    print(
        f"lgg, percentile: of a tumour {shares.mean():.2%} is clipped in the mean, "
        f"{shares.max():.0%} at most; more than {NOTICEABLE:.0%} in "
        f"{(shares > NOTICEABLE).sum()} of {len(shares)} slices"
    )


def clipped(images: list[np.ndarray], name: str) -> None:
    shares = []
    for image in images:
        low, high = intensity_range(image, "percentile")
        shares.append(((image < low) | (image > high)).mean())
    median, most = np.percentile(shares, (50, 99))
    print(f"{name}, percentile: clipped is {median:.2%} of an image (median), {most:.1%} (99 %)")


def beside_a_marker(images: list[np.ndarray], name: str) -> None:
    """Contrast (standard deviation) of the anatomy with a marker, as a share of that without."""
    for scaling in SCALINGS:
        kept, alike = [], []
        for image in images:
            image = image.astype(np.float32)
            marked = image.copy()
            marked[:MARKER, :MARKER] = 4 * image.max()
            plain, found = (scale(x, *intensity_range(x, scaling)) for x in (image, marked))
            kept.append(found[MARKER:].std() / plain[MARKER:].std())
            alike.append(np.corrcoef(found[MARKER:].ravel(), plain[MARKER:].ravel())[0, 1])
        print(
            f"{name}, {scaling}: beside a marker the anatomy keeps {np.median(kept):.0%} of its "
            f"contrast (median), correlation with the unmarked image {np.min(alike):.3f} at least"
        )


def trivial(root: Path) -> None:
    for scaling in SCALINGS:
        dataset = ImageDataset("Folder", root, "test", 64, scaling=scaling)
        for name, found in measure_trivial(dataset).items():
            values = ", ".join(f"{key} {entry['value']:.3f}" for key, entry in found.items())
            print(f"lgg at 64 x 64, {scaling}, {name}: {values}")


def speed(paths: list[Path], name: str) -> None:
    def rate(work: Callable[[Path], object]) -> float:
        start = time.perf_counter()
        for path in paths:
            work(path)
        return len(paths) / (time.perf_counter() - start)

    read = rate(read_image)
    ranged = rate(lambda path: intensity_range(read_image(path), "percentile"))
    print(f"{name}: {read:.0f} images a second read, {ranged:.0f} read and their percentiles found")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--images", type=int, default=300, metavar="N", help="of each (default: 300)"
    )
    number = parser.parse_args().images
    if "DESCARGAN_DATA" not in os.environ:
        print("DESCARGAN_DATA names no folder of real images: nothing is measured")
        return
    data = Path(os.environ["DESCARGAN_DATA"])
    for name, pattern in (("lgg", "*/*/p*.png"), ("nih", "*/*.png")):
        paths = [p for p in sorted((data / name).glob(pattern)) if p.parent.name != "masks"]
        paths = paths[:: max(1, len(paths) // number)]
        images = read_all(paths)
        clipped(images, name)
        beside_a_marker(images, name)
        speed(paths, name)
    tumours(data / "lgg")
    trivial(data / "lgg")


if __name__ == "__main__":
    main()
