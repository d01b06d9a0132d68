"""What the maps of the paper's networks find, read coarsely and with other statistics.

    python -m benchmarks.paper_maps runs/paper-64/netG_synthetic.pt --dataset-path warp-set-64 \\
        --figure docs/paper-64-maps.png

On the validation split of the synthetic data set, as tested and otherwise: with the mean over
flips, and with the generator's batch norms given the statistics of batches, as in training, or
those that they kept and never read. Beside them stand what is not reproduced of an image in its own
class, which is no sign of a disease, and the ground truth itself. Each is read pixel by pixel, as
the paper reads it, and smoothed, which finds a place and not the lines in it.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import center_of_mass, gaussian_filter
from torch import Tensor, nn

from benchmarks.runs import header, row
from descargan import DISEASED, HEALTHY, metrics
from descargan.checkpoints import fill, read_weights
from descargan.cli import Parser, run
from descargan.data import ImageDataset
from descargan.errors import UserError
from descargan.figures import example_figure, save_figure
from descargan.layers import BatchNorm, unrecorded
from descargan.models import Generator
from descargan.translator import all_flips

BATCH = 10
FLIPS = all_flips((2, 3))
SMOOTHINGS = (0, 1 / 32, 1 / 16)  # standard deviations, shares of a side
NEAR = 0.15  # of a side, from the centre of the disease
EXAMPLES = 4
TESTED, OWN, TRUTH = "as tested: statistics of each image", "in its own class", "ground truth"


def read_generator(path: Path, norm: str) -> Generator:
    """The generator in a file. Raises UserError where it is none of the paper's."""
    weights = read_weights(path)
    first = weights.get("down0.0.0.weight")
    if first is None:
        raise UserError(f"{path} holds no generator of the paper's: pass a netG_synthetic.pt")
    generator = Generator(1, len(first), norm=norm)
    fill(generator, weights, path)
    return generator


def translate(generator: nn.Module, images: Tensor, target: int, flips=((),)) -> Tensor:
    """Images (B, 1, H, W) in a class, the mean over flips, in the generator's mode."""
    total = 0
    with torch.inference_mode(), unrecorded(generator):
        for axes in flips:
            parts = images.flip(axes).split(BATCH)
            total = total + torch.cat([generator(part, target) for part in parts]).flip(axes)
    return total / len(flips)


def of_running_statistics(network: nn.Module) -> nn.Module:
    """The same network with PyTorch's own batch norms, which evaluate by running statistics."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, BatchNorm):
                norm = nn.BatchNorm2d(child.num_features, child.eps)
                norm.load_state_dict(child.state_dict())
                setattr(module, name, norm)
    return network.eval()


def healthy_images(generator: Generator, images: Tensor, classes: Tensor) -> dict[str, Tensor]:
    """What is made (B, 1, H, W) of images in mixed order, by how it comes about."""
    generator.eval()
    healthy, diseased = (translate(generator, images, c) for c in (HEALTHY, DISEASED))
    return {
        TESTED: healthy,
        "mean over four flips": translate(generator, images, HEALTHY, FLIPS),
        "statistics of batches of ten, as in training": translate(
            generator.train(), images, HEALTHY
        ),
        "running statistics": translate(of_running_statistics(generator), images, HEALTHY),
        OWN: torch.where((classes == HEALTHY).view(-1, 1, 1, 1), healthy, diseased),
    }


def smooth(difference: np.ndarray, share: float) -> np.ndarray:
    """|difference map| (H, W) smoothed, ``share`` of a side."""
    size = np.abs(difference)
    return gaussian_filter(size, share * len(size)) if share else size


def read(maps: np.ndarray, truths: np.ndarray) -> list[str]:
    """Cells of a row: AUROC and AUPRC at each smoothing, then how often the disease's place is hit.

    That is where the map, smoothed most, is strongest near the disease's centre.
    """
    cells = []
    for share in SMOOTHINGS:
        smoothed = [smooth(x, share) for x in maps]
        found = [metrics.pixel_metrics(x, t) for x, t in zip(smoothed, truths, strict=True)]
        names = "pixel_auroc", "pixel_auprc"
        cells.append(", ".join(f"{np.mean([f[name] for f in found]):.3f}" for name in names))
    peaks = [np.unravel_index(x.argmax(), x.shape) for x in smoothed]
    centres = [center_of_mass(np.abs(truth)) for truth in truths]
    away = np.linalg.norm(np.subtract(peaks, centres), axis=1) / truths.shape[-1]
    return [*cells, f"{(away < NEAR).mean():.3f}"]


def print_table(maps: dict[str, np.ndarray], truths: np.ndarray, classes: np.ndarray) -> None:
    of_disease = (classes == DISEASED) & truths.any(axis=(1, 2))
    titles = [
        f"smoothed by {share:.3f} of a side: AUROC, AUPRC" if share else "pixel AUROC, AUPRC"
        for share in SMOOTHINGS
    ]
    print(header(["maps", "MSE(a_h, r_h)", *titles, "strongest near the disease"]))
    for name, differences in {**maps, TRUTH: truths}.items():
        identity = np.square(differences[classes == HEALTHY]).mean()
        print(row([name, f"{identity:.4f}", *read(differences[of_disease], truths[of_disease])]))


def draw(
    path: Path, images: np.ndarray, healthy: np.ndarray, maps: np.ndarray, truths: np.ndarray
) -> None:
    """The images of a row, (B, H, W) each, and the map smoothed, white where it is strongest."""
    smoothed = np.stack([smooth(x, SMOOTHINGS[-1]) for x in maps])
    smoothed /= smoothed.max(axis=(1, 2), keepdims=True)
    columns = {
        "image": images,
        "pseudo-healthy": healthy,
        "difference map": maps,
        "smoothed": 2 * smoothed - 1,
        "ground truth": truths,
    }
    save_figure(example_figure(columns, ""), path)


def build_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generator", type=Path, help="file of the generator's weights")
    parser.add_argument("--dataset-path", type=Path, required=True, help="the synthetic data set")
    parser.add_argument("--image-size", type=int, default=64, help="default: 64")
    parser.add_argument("--generator-norm", choices=("batch", "instance"), default="batch")
    parser.add_argument("--figure", type=Path, help="picture to write")
    return parser


def main() -> None:
    typed = build_parser().parse_args()
    generator = read_generator(typed.generator, typed.generator_norm)
    dataset = ImageDataset("Synthetic", typed.dataset_path, "validate", typed.image_size)
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0))
    images, truths, classes = dataset.__getitems__(order.tolist())
    made = healthy_images(generator, images, classes)
    maps = {
        name: generator.kind.difference(images, healthy).numpy()[:, 0]
        for name, healthy in made.items()
    }
    truths = truths.numpy()[:, 0]
    print_table(maps, truths, classes.numpy())
    if typed.figure:
        shown = (classes == DISEASED).nonzero().flatten()[:EXAMPLES]
        pictures = (x[shown].numpy()[:, 0] for x in (images, made[TESTED]))
        draw(typed.figure, *pictures, maps[TESTED][shown], truths[shown])


if __name__ == "__main__":
    sys.exit(run(main))
