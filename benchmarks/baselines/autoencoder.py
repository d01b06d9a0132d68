"""An autoencoder of healthy images: what it cannot reproduce is taken for diseased.

(The usual reconstruction baseline, for example Baur et al., arXiv:2004.03271.)
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.baselines import Budget, Explain, Explanation, Training, batches, of_class
from descargan import HEALTHY

WIDTHS = (1, 32, 64, 128, 128)  # channels of the maps, from the image down to the smallest
CODE = 128
LEARNING_RATE = 1e-3


def encoder(size: int, outputs: int) -> nn.Sequential:
    """Images (B, 1, size, size) to numbers (B, outputs), by four convolutions of stride 2."""
    layers: list[nn.Module] = []
    for i, o in pairwise(WIDTHS):
        layers += [nn.Conv2d(i, o, 4, stride=2, padding=1), nn.BatchNorm2d(o), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(WIDTHS[-1] * (size // 16) ** 2, outputs))


def decoder(size: int) -> nn.Sequential:
    """Codes (B, CODE) to images (B, 1, size, size) in (-1, 1): the encoder's way back."""
    side = size // 16
    layers: list[nn.Module] = [nn.Linear(CODE, WIDTHS[-1] * side**2)]
    layers += [nn.Unflatten(1, (WIDTHS[-1], side, side))]
    for i, o in pairwise(WIDTHS[::-1]):
        layers += [nn.BatchNorm2d(i), nn.LeakyReLU(0.2)]
        layers += [nn.ConvTranspose2d(i, o, 4, stride=2, padding=1)]
    return nn.Sequential(*layers, nn.Tanh())


def train(training: Training, budget: Budget, seed: int) -> Explain:
    torch.manual_seed(seed)
    size = training.images.shape[-1]
    network = nn.Sequential(encoder(size, CODE), decoder(size))
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    for batch, _ in batches(of_class(training, HEALTHY), budget):
        optimizer.zero_grad()
        F.mse_loss(network(batch), batch).backward()
        optimizer.step()
    network.eval()

    @torch.no_grad()
    def explain(batch: Tensor) -> Explanation:
        healthy = network(batch)
        return Explanation(batch - healthy, healthy)

    return explain
