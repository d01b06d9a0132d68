"""An autoencoder of healthy images: what it cannot reproduce is taken for diseased.

(The usual reconstruction baseline, for example Baur et al., arXiv:2004.03271.)
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.baselines import Explain, Explanation, batches
from descargan import HEALTHY

FILTERS = 32
CODE = 128
LEARNING_RATE = 1e-3


def autoencoder(size: int) -> nn.Sequential:
    """Four convolutions of stride 2 down to a vector of CODE numbers, and the same back."""
    widths = [1, FILTERS, 2 * FILTERS, 4 * FILTERS, 4 * FILTERS]
    side = size // 16
    cells = widths[-1] * side**2
    layers: list[nn.Module] = []
    for i, o in pairwise(widths):
        layers += [nn.Conv2d(i, o, 4, stride=2, padding=1), nn.BatchNorm2d(o), nn.LeakyReLU(0.2)]
    layers += [nn.Flatten(), nn.Linear(cells, CODE), nn.Linear(CODE, cells)]
    layers += [nn.Unflatten(1, (widths[-1], side, side))]
    for i, o in pairwise(widths[::-1]):
        layers += [nn.BatchNorm2d(i), nn.LeakyReLU(0.2)]
        layers += [nn.ConvTranspose2d(i, o, 4, stride=2, padding=1)]
    return nn.Sequential(*layers, nn.Tanh())


def train(images: Tensor, classes: Tensor, seconds: float, seed: int) -> Explain:
    torch.manual_seed(seed)
    network = autoencoder(images.shape[-1])
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    healthy = classes == HEALTHY
    for batch, _ in batches(images[healthy], classes[healthy], seconds):
        optimizer.zero_grad()
        F.mse_loss(network(batch), batch).backward()
        optimizer.step()
    network.eval()

    @torch.no_grad()
    def explain(batch: Tensor) -> Explanation:
        healthy = network(batch)
        return Explanation(batch - healthy, healthy)

    return explain
