"""Maps that took no network, to show what a metric rewards: they know nothing of the disease."""

from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks.baselines import Explain, Explanation
from descargan.trivial import trivial_maps


def draw(name: str, batch: Tensor) -> Explanation:
    """One of the maps that stand below every test."""
    maps = [trivial_maps(image[0].numpy())[name] for image in batch]
    return Explanation(torch.from_numpy(np.stack(maps)).float()[:, None])


NAMES = ("smoothed intensity", "intensity", "centre", "nothing")
TRIVIAL: dict[str, Explain] = {name: partial(draw, name) for name in NAMES}


def magnitude(batch: Tensor) -> Explanation:
    """|image|."""
    return Explanation(batch.abs())


# As the table of the synthetic data set names them.
MAPS: dict[str, Explain] = {
    "zeros": TRIVIAL["nothing"],
    "|image|": magnitude,
    "centre blob": TRIVIAL["centre"],
}
