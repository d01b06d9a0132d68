"""What trained networks make of images: difference maps, classes, and the metrics of both.

The generator runs with per-image normalisation throughout, so that no result depends on the batch
it was computed in.
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from descargan import DISEASED, HEALTHY, metrics
from descargan.data import ImageDataset, load
from descargan.images import scale_to_range
from descargan.layers import per_image_normalisation
from descargan.models import Discriminator, Generator


class Translations(NamedTuple):
    """A batch of images and what the networks make of it; all images (B, 1, H, W) on the device."""

    images: Tensor
    truth: Tensor
    classes: Tensor
    healthy: Tensor  # translation into healthy: the pseudo-healthy image
    diseased: Tensor | None  # translation into diseased, where asked for
    difference: Tensor  # n(image) - n(pseudo-healthy), in [-2, 2]
    probability: Tensor  # of disease, by the classifier (B,)


def translate(
    generator: Generator,
    discriminator: Discriminator,
    images: Tensor,
    truth: Tensor,
    classes: Tensor,
    both: bool = False,
    flips: Sequence[Sequence[int]] = ((),),
) -> Translations:
    """Translate images in [-1, 1] into healthy ones, and into diseased ones where ``both``.

    A translation is the mean over ``flips``, the axes that images are flipped along before it and
    back after it.
    """

    def into(target: int) -> Tensor:
        turned = [generator(images.flip(axes), target).flip(axes) for axes in flips]
        return sum(turned) / len(turned)

    with per_image_normalisation(generator), per_image_normalisation(discriminator):
        healthy = into(HEALTHY)
        diseased = into(DISEASED) if both else None
        probability = classify(discriminator, images)
    difference = scale_to_range(images) - scale_to_range(healthy)
    return Translations(images, truth, classes, healthy, diseased, difference, probability)


def classify(discriminator: Discriminator, images: Tensor) -> Tensor:
    """Probability of disease (B,)."""
    logits = discriminator.classifier(discriminator.encode(images))
    return logits.softmax(dim=1)[:, DISEASED]


def translate_split(
    generator: Generator,
    discriminator: Discriminator,
    dataset: ImageDataset,
    options: argparse.Namespace,
    device: torch.device,
    both: bool = False,
) -> Iterator[Translations]:
    """All images of a split, in order, in batches."""
    flips = averaged_flips(options)
    batches = list(torch.arange(len(dataset)).split(options.batch_size))
    for images, truth, classes in load(dataset, batches, options.workers):
        images = images.to(device, memory_format=torch.channels_last)
        yield translate(generator, discriminator, images, truth.to(device), classes, both, flips)


def averaged_flips(options: argparse.Namespace) -> list[list[int]]:
    """The flips that translations are averaged over: none, or all that training draws from."""
    flip = options.flip if options.average_flips else "none"
    axes = {"none": [], "horizontal": [3], "both": [2, 3]}[flip]
    return [list(chosen) for n in range(len(axes) + 1) for chosen in combinations(axes, n)]


def arrays(batch: Tensor) -> np.ndarray:
    """(B, 1, H, W) as numpy (B, H, W)."""
    return batch[:, 0].cpu().numpy()


def validate(
    generator: Generator,
    discriminator: Discriminator,
    dataset: ImageDataset,
    options: argparse.Namespace,
    device: torch.device,
) -> dict[str, float]:
    """The numbers that say after each epoch how far training is, over the validation split.

    Accuracy of the classifier on real images, on images translated into their own class and into
    the other (the share taken for that class), Cohen's kappa on real images; MSE(a_h, r_h) of
    healthy images; for Synthetic the localisation metrics, averaged over the diseased images.
    "choice" is what the best weights are chosen by, without pixel labels: kappa times the share
    taken for the other class (the classifier is fooled, and worth fooling), minus the root of
    MSE(a_h, r_h) (what is healthy is kept).
    """
    labels, predicted, to_own, to_other, identity, located = [], [], [], [], [], []
    for batch in translate_split(generator, discriminator, dataset, options, device, both=True):
        with per_image_normalisation(discriminator):
            translated = [
                (classify(discriminator, image) > 0.5).long().cpu()
                for image in (batch.healthy, batch.diseased)
            ]
        classes = batch.classes
        own = torch.where(classes == HEALTHY, *translated)
        other = torch.where(classes == HEALTHY, *reversed(translated))
        labels.append(classes)
        predicted.append((batch.probability > 0.5).long().cpu())
        to_own.append(own == classes)
        to_other.append(other != classes)
        for c, difference, truth in zip(
            classes.tolist(), arrays(batch.difference), arrays(batch.truth), strict=True
        ):
            if c == HEALTHY:
                identity.append(np.square(difference).mean())
            elif truth.any():
                located.append(metrics.map_metrics(difference, truth))
    labels, predicted = torch.cat(labels).numpy(), torch.cat(predicted).numpy()
    result = {
        "accuracy": metrics.accuracy(labels, predicted),
        "accuracy translated into own class": torch.cat(to_own).double().mean().item(),
        "accuracy translated into other class": torch.cat(to_other).double().mean().item(),
        "kappa": metrics.kappa(labels, predicted),
        "mse_healthy": float(np.mean(identity)),
    }
    fooled = result["kappa"] * result["accuracy translated into other class"]
    result["choice"] = fooled - result["mse_healthy"] ** 0.5
    for name in located[0] if located else ():
        values = np.array([values[name] for values in located])
        result[name] = float(np.nanmean(values)) if not np.isnan(values).all() else np.nan
    return result


def example_batch(dataset: ImageDataset, each: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """A fixed batch of a split: ``each`` diseased images, then a healthy one, evenly spread."""
    indices = []
    for c, number in ((DISEASED, each), (HEALTHY, 1)):
        members = (dataset.classes == c).nonzero().flatten()
        chosen = np.linspace(0, len(members) - 1, min(number, len(members))).round()
        indices += [int(members[int(i)]) for i in chosen]
    return dataset.__getitems__(indices)


def translate_examples(
    generator: Generator,
    discriminator: Discriminator,
    examples: tuple[Tensor, Tensor, Tensor],
    options: argparse.Namespace,
    device: torch.device,
) -> dict[str, np.ndarray]:
    """Columns of the dashboard's pictures, each (B, H, W): see ``figures.example_figure``."""
    images, truth, classes = examples
    images, truth = images.to(device), truth.to(device)
    batch = translate(
        generator, discriminator, images, truth, classes, both=True, flips=averaged_flips(options)
    )
    other = torch.where(
        (classes == HEALTHY).view(-1, 1, 1, 1).to(device), batch.diseased, batch.healthy
    )
    with per_image_normalisation(generator):
        back = generator(other, classes)
    columns = {
        "image": batch.images,
        "pseudo-healthy": batch.healthy,
        "pseudo-diseased": batch.diseased,
        "reconstruction": back,
        "difference map": batch.difference,
    }
    if truth.any():
        columns["ground truth"] = batch.truth
    return {name: arrays(column) for name, column in columns.items()}
