"""A translation in the manner of VA-GAN (Baumgartner et al., arXiv:1711.08998).

A generator adds a map to diseased images only, so that a Wasserstein critic takes the sum for
healthy images; an L1 norm keeps the map small. The networks are those of DeScarGAN, with an
additive head, so that what differs is the method. The optimiser is that of the deformation recipe:
with the paper's (1e-4, betas 0 and 0.9, 5 critic steps) it finds nothing in the time given either.
"""

import torch
from torch import Tensor

from benchmarks.baselines import Budget, Explain, Explanation, Training, batches, draw, of_class
from descargan import DISEASED, HEALTHY, losses
from descargan.layers import evaluating
from descargan.models import Discriminator, Generator

FILTERS = 16
LEARNING_RATE = 5e-4
BETAS = (0.5, 0.999)
CRITIC_STEPS = 2
PENALTY, SPARSITY = 10.0, 100.0


def train(training: Training, budget: Budget, seed: int) -> Explain:
    torch.manual_seed(seed)
    generator = Generator(base_filters=FILTERS, translation="additive", norm="instance")
    critic = Discriminator(base_filters=FILTERS, image_size=training.images.shape[-1])
    optimizers = [
        torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, betas=BETAS, fused=True)
        for network in (generator, critic)
    ]
    healthy_images = of_class(training, HEALTHY)

    def score(x: Tensor) -> Tensor:
        return critic.score(critic.encode(x), HEALTHY)

    for iteration, (diseased, _) in enumerate(batches(of_class(training, DISEASED), budget)):
        healthy, _ = draw(healthy_images)
        with torch.no_grad():
            fake = generator(diseased, HEALTHY)
        optimizers[1].zero_grad()
        points = losses.interpolate(healthy, fake, torch.rand(len(healthy)))
        penalty = losses.gradient_penalty(score, points, of="mean")
        (score(fake).mean() - score(healthy).mean() + PENALTY * penalty).backward()
        optimizers[1].step()
        if iteration % CRITIC_STEPS == CRITIC_STEPS - 1:
            optimizers[0].zero_grad()
            fake = generator(diseased, HEALTHY)
            size_of_map = losses.change_loss(diseased, fake)
            (SPARSITY * size_of_map - score(fake).mean()).backward()
            optimizers[0].step()

    def explain(batch: Tensor) -> Explanation:
        with evaluating(generator):
            healthy = generator(batch, HEALTHY)
        return Explanation(batch - healthy, healthy)

    return explain
