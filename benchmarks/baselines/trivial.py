"""Maps that look at nothing, to show what a metric rewards: they find no disease."""

import torch
from torch import Tensor

from benchmarks.baselines import Explain, Explanation


def zeros(batch: Tensor) -> Explanation:
    return Explanation(torch.zeros_like(batch), batch)


def brightness(batch: Tensor) -> Explanation:
    """|image|."""
    return Explanation(batch.abs())


def blob(batch: Tensor) -> Explanation:
    """A Gaussian at the centre of every image."""
    axis = torch.linspace(-1, 1, batch.shape[-1])
    gauss = torch.exp(-(axis[:, None] ** 2 + axis**2) / (2 * 0.4**2))
    return Explanation(gauss.expand_as(batch))


MAPS: dict[str, Explain] = {"zeros": zeros, "|image|": brightness, "centre blob": blob}
