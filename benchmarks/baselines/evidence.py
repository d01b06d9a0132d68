"""The evidence map of a classifier: where its finer exit sees disease.

The discriminator of the compact networks, trained alone on its class loss as in the first
iterations of the recipe. Its exit at stride 4 draws a map of disease that is pooled by its largest
values (Pinheiro and Collobert, arXiv:1411.6228), so that the map says where the class was seen.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.baselines import (
    Budget,
    Explain,
    Explanation,
    Training,
    draw_balanced,
    mean_over_flips,
    spend,
    view,
)
from descargan import DISEASED, losses
from descargan.compact import Discriminator

LEARNING_RATE, BETAS, WEIGHT_DECAY = 1e-3, (0.5, 0.99), 1e-3
WARM_UP = 50  # iterations
LARGEST_NORM = 5.0  # of the gradient


def train(training: Training, budget: Budget, seed: int) -> Explain:
    torch.manual_seed(seed)
    network = Discriminator(image_size=training.images.shape[-1])
    optimizer = torch.optim.AdamW(
        network.parameters(), LEARNING_RATE, BETAS, weight_decay=WEIGHT_DECAY
    )
    for iteration, share in enumerate(spend(budget)):
        set_rate(optimizer, iteration, share)
        index = draw_balanced(training.classes)
        verdict = network(view(training, index))
        optimizer.zero_grad()
        losses.logistic_loss(verdict.disease, training.classes[index].float()).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), LARGEST_NORM)
        optimizer.step()
    network.eval()

    @torch.no_grad()
    def explain(batch: Tensor) -> Explanation:
        evidence = mean_over_flips(lambda x: draw_evidence(network, x), batch, training.flips)
        logits = network.classifier(network.encode(batch))
        return Explanation(evidence.sigmoid(), None, logits.softmax(dim=1)[:, DISEASED])

    return explain


def set_rate(optimizer: torch.optim.Optimizer, iteration: int, share: float) -> None:
    """Warm-up, then the root of what is left of the budget."""
    for group in optimizer.param_groups:
        group["lr"] = LEARNING_RATE * min(1.0, (iteration + 1) / WARM_UP) * (1 - share) ** 0.5


def draw_evidence(network: Discriminator, images: Tensor) -> Tensor:
    """The map of the finer exit, as logits of disease, at the size of images (B, 1, H, W)."""
    logits = network.exits[0](network.encode(images)[0])[:, :1]
    return F.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False)
