"""The saliency of a classifier: where the logits' gradient is large (Simonyan et al., 2013).

The classifier is a ResNet-18 (that of DeScarGAN, which has no normalisation, does not learn
alone within the time); the gradient is averaged over noisy copies (SmoothGrad, Smilkov et al.,
arXiv:1706.03825).
"""

import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from benchmarks.baselines import Budget, Explain, Explanation, Training, batches
from descargan import DISEASED, HEALTHY, losses

LEARNING_RATE = 1e-3
COPIES = 16
NOISE = 0.1


def train(training: Training, budget: Budget, seed: int) -> Explain:
    torch.manual_seed(seed)
    network = resnet18(num_classes=2)
    network.conv1 = nn.Conv2d(1, 64, 3, padding=1, bias=False)  # one channel, small images
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, fused=True)
    for batch, labels in batches(training, budget):
        optimizer.zero_grad()
        losses.classification_loss(network(batch), labels).backward()
        optimizer.step()
    network.eval()

    def explain(batch: Tensor) -> Explanation:
        total = torch.zeros_like(batch)
        for _ in range(COPIES):
            noisy = (batch + NOISE * torch.randn_like(batch)).requires_grad_()
            logits = network(noisy)
            (gradient,) = torch.autograd.grad(
                (logits[:, DISEASED] - logits[:, HEALTHY]).sum(), noisy
            )
            total += gradient.abs()
        with torch.no_grad():
            probability = network(batch).softmax(dim=1)[:, DISEASED]
        # The unit of a gradient is arbitrary: each map is given its own maximum.
        return Explanation(
            total / total.amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-12), None, probability
        )

    return explain
