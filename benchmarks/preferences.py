"""What the losses say of a run's pseudo-healthy images, and of the true counterparts.

    python -m benchmarks.preferences runs/benchmark/fast-0 --data warp-set-64

Over the diseased validation images of the synthetic data set: the critic's score of the healthy
class (more is healthier), the classification loss against healthy, the error of the translation
back, the change of the input, and the distance to the true counterpart, of (a) the pseudo-healthy
images, (b) the same where |ground truth| > 0.05, and the input elsewhere, (c) the true
counterparts, (d) the input. A loss that is lower for (a) than for (c) drives the generator away
from the truth; where none is, the generator has not reached what its losses ask for.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.synthetic import open_split
from descargan import DISEASED, HEALTHY, losses
from descargan.device import speed_up_process
from descargan.layers import evaluating
from descargan.models import Discriminator, Generator
from descargan.translator import Translator

INSIDE = 0.05  # of |ground truth|: the disease changed the pixel


@torch.no_grad()
def describe(
    images: Tensor, source: Tensor, counterpart: Tensor, networks: tuple[Generator, Discriminator]
) -> dict[str, float]:
    """What stands in the columns, of ``images`` made of ``source``."""
    generator, discriminator = networks
    features = discriminator.encode(images)
    with evaluating(generator):
        back = generator(images, DISEASED)
    logits = discriminator.classifier(features)
    return {
        "critic": discriminator.score(features, HEALTHY).mean().item(),
        "classification": losses.classification_loss(logits, HEALTHY).item(),
        "back": (back - source).square().mean().item(),
        "change": losses.change_loss(source, images).item(),
        "to counterpart": (images - counterpart).square().mean().item(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, default=Path("warp-set-64"))
    options = parser.parse_args()
    speed_up_process()
    dataset = open_split(options.data, "validate")
    diseased = (dataset.classes == DISEASED).nonzero().flatten()
    source, truth, _ = dataset.__getitems__(diseased)
    translator = Translator.load(options.run)
    networks = translator.generator, translator.discriminator
    with torch.no_grad(), evaluating(networks[0]):
        healthy = networks[0](source, HEALTHY)
    counterpart = source - truth
    rows = {
        "pseudo-healthy": healthy,
        "its changes inside only": torch.where(truth.abs() > INSIDE, healthy, source),
        "true counterpart": counterpart,
        "input": source,
    }
    for number, (name, images) in enumerate(rows.items()):
        said = describe(images, source, counterpart, networks)
        if number == 0:
            print("| images | " + " | ".join(said) + " |\n" + "| --- " * (1 + len(said)) + "|")
        print(f"| {name} | " + " | ".join(f"{value:.4f}" for value in said.values()) + " |")


if __name__ == "__main__":
    main()
