"""Is an image like those that the networks were trained on?

Networks say something of any image, of noise too, and are as sure of it. So a run keeps what its
training images look like in a few numbers; an image far from them is flagged. The distance is
Mahalanobis', with the covariance of Ledoit and Wolf (2004), as images may be few.
"""

import io
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from descargan.checkpoints import stored_arrays
from descargan.data import ImageDataset, load
from descargan.files import write_atomically
from descargan.images import scale_to_range

CELLS = 4  # the image is described in so many rows and columns of cells
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
SAMPLE = 1000  # most images of a split that are looked at
LEAST_SPREAD = 0.02  # of a number that hardly varies, such as a black border
SCALES = (1, 4)  # pixels that count as one where neighbours are compared
KEPT = 0.99  # share of the validation images within the limit, before its margin


@dataclass(frozen=True)
class Likeness:
    """Centre (D,) and precision (D, D) of the training images, and the largest distance."""

    centre: np.ndarray
    precision: np.ndarray
    limit: float

    def is_unlike(self, images: Tensor) -> list[bool]:
        """Whether each image of (B, 1, S, S) is unlike those trained on."""
        return (self.distance(describe(images)) > self.limit).tolist()

    def distance(self, described: np.ndarray) -> np.ndarray:
        """Of described images (B, D): (B,)."""
        off = described - self.centre
        return np.sqrt(np.einsum("bi,ij,bj->b", off, self.precision, off))


def describe(images: Tensor) -> np.ndarray:
    """Images (B, 1, S, S) of any range in a few numbers (B, D), which do not depend on the range.

    Of each cell the mean, and the logarithm of the mean step between neighbours at two scales; of
    the whole image some quantiles.
    """
    images = scale_to_range(images.detach().cpu().float())
    described = [F.adaptive_avg_pool2d(images, CELLS).flatten(1)]
    for scale in SCALES:
        coarse = F.avg_pool2d(images, scale)
        steps = (coarse.diff(dim=2)[..., :-1].abs() + coarse.diff(dim=3)[:, :, :-1].abs()) / 2
        described.append((F.adaptive_avg_pool2d(steps, CELLS).flatten(1) + 0.01).log())
    described.append(torch.quantile(images.flatten(1), torch.tensor(LEVELS), dim=1).T)
    return torch.cat(described, dim=1).numpy()


def fit_likeness(training: Iterable[Tensor], validation: Iterable[Tensor]) -> Likeness:
    """What training images have in common, and how far images not trained on may be from it.

    Both are batches (B, 1, S, S). The fewer validation images, the wider the margin.
    """
    from sklearn.covariance import LedoitWolf  # seconds that a prediction need not wait

    known = np.concatenate([describe(images) for images in training])
    spread = np.maximum(known.std(axis=0), LEAST_SPREAD)
    precision = LedoitWolf().fit(known / spread).precision_ / np.outer(spread, spread)
    fitted = Likeness(known.mean(axis=0), precision, np.inf)
    unseen = np.concatenate([fitted.distance(describe(images)) for images in validation])
    margin = 1 + 2 / np.sqrt(len(unseen))
    return Likeness(fitted.centre, precision, margin * float(np.quantile(unseen, KEPT)))


def keep_likeness(path: Path, training: ImageDataset, validation: ImageDataset) -> None:
    """Fit it to the images of a run, and write it."""
    fitted = fit_likeness(sample(training), sample(validation))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{k: np.float32(v) for k, v in asdict(fitted).items()})
    write_atomically(path, buffer.getvalue())


def sample(dataset: ImageDataset) -> Iterator[Tensor]:
    """Some images of a split, evenly spread, in batches."""
    number = min(SAMPLE, len(dataset))
    indices = torch.linspace(0, len(dataset) - 1, number).round().long()
    return (images for images, _, _ in load(dataset, list(indices.split(100))))


def read_likeness(path: Path) -> Likeness | None:
    """What stands in a file; None where there is none. Raises UserError where it is damaged."""
    try:
        with stored_arrays(path) as stored:
            return Likeness(stored["centre"], stored["precision"], float(stored["limit"]))
    except FileNotFoundError:
        return None
