"""A translation in the manner of Fixed-Point GAN (Siddiquee et al., ICCV 2019).

An image is translated into both classes; into its own it must not change. Networks and step are
those of DeScarGAN, with an additive map and weights in that method's manner; optimiser, critic and
norm are those of the deformation recipe, and the cycle and identity losses are squares, not
absolute values.
"""

import torch
from torch import Tensor

from benchmarks.baselines import Budget, Explain, Explanation, Training, draw, spend
from descargan.models import build_networks
from descargan.options import RECIPES, Options
from descargan.steps import Batch, TrainingState, wasserstein_step
from descargan.translator import Translator, averaged_flips

SETTINGS = {
    **RECIPES["deformation"],
    "translation": "additive",
    "critic_alone": 0,
    "generator_identity": 10.0,
    "generator_reconstruction": 10.0,
    "generator_class": 1.0,
    "generator_change": 0.0,
}
FLIP_NAMES = {(False, False): "none", (True, False): "horizontal", (True, True): "both"}


def train(training: Training, budget: Budget, seed: int) -> Explain:
    torch.manual_seed(seed)
    size, flip = training.images.shape[-1], FLIP_NAMES[training.flips]
    options = Options(**SETTINGS, image_size=size, flip=flip)
    state = TrainingState(*build_networks(options), options, torch.device("cpu"))
    for share in spend(budget):
        state.set_learning_rate((1 - share) * options.learning_rate)
        images, classes = draw(training)
        state.iteration += 1
        noise = options.noise * torch.rand_like(images)
        wasserstein_step(state, Batch(images, classes, noise, classes), options)
        state.update_average(options.average)
    networks = state.averaged, state.discriminator.network
    translator = Translator(*networks, flips=averaged_flips(options))

    def explain(batch: Tensor) -> Explanation:
        found = translator.translate(batch)
        return Explanation(batch - found.healthy, found.healthy, found.probability)

    return explain
