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
    learn,
    mean_over_flips,
    view,
)
from descargan import DISEASED, losses
from descargan.compact import Discriminator

WEIGHT_DECAY = 1e-3


def train(training: Training, budget: Budget, seed: int) -> Explain:
    torch.manual_seed(seed)
    network = Discriminator(image_size=training.images.shape[-1])

    def loss_of(index: Tensor) -> Tensor:
        verdict = network(view(training, index))
        return losses.logistic_loss(verdict.disease, training.classes[index].float())

    learn(network, loss_of, training, budget, WEIGHT_DECAY)

    @torch.no_grad()
    def explain(batch: Tensor) -> Explanation:
        evidence = mean_over_flips(lambda x: draw_evidence(network, x), batch, training.flips)
        logits = network.classifier(network.encode(batch))
        return Explanation(evidence.sigmoid(), None, logits.softmax(dim=1)[:, DISEASED])

    return explain


def draw_evidence(network: Discriminator, images: Tensor) -> Tensor:
    """The map of the finer exit, as logits of disease, at the size of images (B, 1, H, W)."""
    logits = network.exits[0](network.encode(images)[0])[:, :1]
    return F.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False)
