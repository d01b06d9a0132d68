"""A variational autoencoder of healthy images: what it cannot reproduce is taken for diseased.

(Kingma and Welling, arXiv:1312.6114; as a detector of anomalies for example in Baur et al.,
arXiv:2004.03271.) The networks are those of the autoencoder. A test decodes the mean of the code.
"""

import torch
from torch import Tensor, nn

from benchmarks.baselines import Budget, Explain, Explanation, Training, batches, of_class
from benchmarks.baselines.autoencoder import CODE, LEARNING_RATE, decoder, encoder
from descargan import HEALTHY

NOISE = 0.25  # standard deviation of a pixel about what is decoded


def loss(images: Tensor, decoded: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Negative evidence lower bound of an image, without its constant; mean over the batch."""
    error = (images - decoded).square().flatten(1).sum(dim=1) / (2 * NOISE**2)
    divergence = (mean.square() + log_variance.exp() - log_variance - 1).sum(dim=1) / 2
    return (error + divergence).mean()


def train(training: Training, budget: Budget, seed: int) -> Explain:
    torch.manual_seed(seed)
    size = training.images.shape[-1]
    networks = nn.ModuleList([encoder(size, 2 * CODE), decoder(size)])
    encode, decode = networks
    optimizer = torch.optim.Adam(networks.parameters(), lr=LEARNING_RATE)
    for batch, _ in batches(of_class(training, HEALTHY), budget):
        optimizer.zero_grad()
        mean, log_variance = encode(batch).chunk(2, dim=1)
        code = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        loss(batch, decode(code), mean, log_variance).backward()
        optimizer.step()
    networks.eval()

    @torch.no_grad()
    def explain(batch: Tensor) -> Explanation:
        healthy = decode(encode(batch).chunk(2, dim=1)[0])
        return Explanation(batch - healthy, healthy)

    return explain
