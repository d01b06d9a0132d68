"""The saliency of a classifier: where the logits' gradient is large (Simonyan et al., 2013).

The classifier is that of DeScarGAN, alone; the gradient is averaged over noisy copies (SmoothGrad,
Smilkov et al., arXiv:1706.03825).
"""

import torch
from torch import Tensor

from benchmarks.baselines import Explain, Explanation, batches
from descargan import DISEASED, HEALTHY, losses
from descargan.evaluation import classify
from descargan.models import Discriminator

FILTERS = 16
LEARNING_RATE = 5e-4
COPIES = 16
NOISE = 0.1


def train(images: Tensor, classes: Tensor, seconds: float, seed: int) -> Explain:
    torch.manual_seed(seed)
    network = Discriminator(base_filters=FILTERS, image_size=images.shape[-1])
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, fused=True)

    def logits_of(x: Tensor) -> Tensor:
        return network.classifier(network.encode(x))

    for batch, labels in batches(images, classes, seconds):
        optimizer.zero_grad()
        losses.classification_loss(logits_of(batch), labels).backward()
        optimizer.step()
    network.eval()

    def explain(batch: Tensor) -> Explanation:
        total = torch.zeros_like(batch)
        for _ in range(COPIES):
            noisy = (batch + NOISE * torch.randn_like(batch)).requires_grad_()
            logits = logits_of(noisy)
            (gradient,) = torch.autograd.grad(
                (logits[:, DISEASED] - logits[:, HEALTHY]).sum(), noisy
            )
            total += gradient.abs()
        with torch.no_grad():
            probability = classify(network, batch)
        # The unit of a gradient is arbitrary: each map is given its own maximum.
        return Explanation(
            total / total.amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-12), None, probability
        )

    return explain
