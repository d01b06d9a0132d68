"""What networks make of a batch of images, and how that of two is joined."""

from typing import NamedTuple

import torch
from torch import Tensor


class Translations(NamedTuple):
    """A batch of images and what the networks make of it, on the device; images (B, 1, H, W)."""

    images: Tensor
    healthy: Tensor  # translation into healthy: the pseudo-healthy image
    difference: Tensor  # the difference map, of the map kind: n(image) - n(pseudo-healthy image)
    probability: Tensor  # of disease, by the classifier (B,)
    flow: Tensor | None  # (B, 2, H, W), (x, y) where the image spans [-1, 1], if tissue is moved
    score_map: Tensor  # how much speaks for disease, see ``Reading.score_map``
    score: Tensor  # the anomaly score (B,), see ``Reading.anomaly_score``


def join(first: Translations, second: Translations, kept: Tensor, unit: float) -> Translations:
    """Of each image the translation by the first networks where ``kept`` (B,), else the second's.

    ``unit`` brings score maps of the second to what those of the first are measured in. The
    probability is the first's, which have learnt from all images. What moves nothing has a flow
    of 0 where the others have one.
    """
    flows = first.flow, second.flow
    still = next((torch.zeros_like(flow) for flow in flows if flow is not None), None)
    flows = [still if flow is None else flow for flow in flows]
    first = first._replace(flow=flows[0])
    scores = second.score_map * unit
    second = second._replace(score_map=scores, probability=first.probability, flow=flows[1])
    return Translations(
        *(
            None if ours is None else torch.where(kept.view(-1, *[1] * (ours.dim() - 1)), ours, x)
            for ours, x in zip(first, second, strict=True)
        )
    )
