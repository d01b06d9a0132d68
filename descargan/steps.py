"""One iteration of training: the critic's step and the generator's, and the state they change."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from descargan import DISEASED, HEALTHY, losses
from descargan.device import autocast, half_precision
from descargan.distributed import Process, average_gradients, same_weights
from descargan.layers import unrecorded
from descargan.models import Discriminator, Generator
from descargan.options import Options, by_networks

ALONE = Process()
Terms = dict[str, Tensor]  # "critic/..." and "generator/...": what records and dashboard show


class Player(NamedTuple):
    """A network with what trains it."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler


class TrainingState:
    """All that training changes: both players, the averaged generator and the iteration.

    The one place that knows the layout of what training changes, on disk.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        options: Options,
        device: torch.device,
        process: Process = ALONE,
    ) -> None:
        self.generator, self.discriminator = (
            make_player(network, options, device) for network in (generator, discriminator)
        )
        self.iteration = 0
        for player in self.players:
            same_weights(player.network, process)
        self.averaged = copy.deepcopy(generator) if options.average else generator

    @property
    def players(self) -> tuple[Player, Player]:
        return self.generator, self.discriminator

    def weights(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Those that are tested: of the averaged generator and of the discriminator."""
        return plain_state(self.averaged), plain_state(self.discriminator.network)

    def set_learning_rate(self, rate: float) -> None:
        for player in self.players:
            for group in player.optimizer.param_groups:
                group["lr"] = rate

    def update_average(self, decay: float) -> None:
        """Move the averaged weights towards the generator's; statistics are never read."""
        ours, theirs = self.averaged.parameters(), self.generator.network.parameters()
        with torch.no_grad():
            torch._foreach_lerp_(list(ours), list(theirs), 1 - decay)

    def state_dict(self) -> dict[str, object]:
        state = {
            "iteration": self.iteration,
            "generator": plain_state(self.generator.network),
            "discriminator": plain_state(self.discriminator.network),
            "optimizers": [player.optimizer.state_dict() for player in self.players],
            "scalers": [player.scaler.state_dict() for player in self.players],
        }
        if self.averaged is not self.generator.network:
            state["averaged"] = plain_state(self.averaged)
        return state

    def fits(self, state: dict) -> bool:
        """Whether a state, as on disk, is of these networks."""
        theirs = state["generator"], state["discriminator"]
        return all(
            shapes(player.network.state_dict()) == shapes(weights)
            for player, weights in zip(self.players, theirs, strict=True)
        )

    def load_state_dict(self, state: dict) -> None:
        self.iteration = state["iteration"]
        self.averaged.load_state_dict(state.get("averaged", state["generator"]))
        names = ("generator", "discriminator")
        parts = zip(self.players, names, state["optimizers"], state["scalers"], strict=True)
        for player, name, optimizer, scaler in parts:
            player.network.load_state_dict(state[name])
            player.optimizer.load_state_dict(optimizer)
            if scaler:  # empty where no float16 was taken: what takes it begins with a new one
                player.scaler.load_state_dict(scaler)


def make_player(network: nn.Module, options: Options, device: torch.device) -> Player:
    """A network on its device, with its optimizer."""
    network.train().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(
        network.parameters(),
        lr=options.learning_rate,
        betas=(options.beta1, options.beta2),
        fused=True,
    )
    scaled = options.amp and half_precision(device) == torch.float16
    return Player(network, optimizer, torch.amp.GradScaler(device.type, enabled=scaled))


def plain_state(network: nn.Module) -> dict[str, Tensor]:
    """The weights of a network on the CPU, in the default memory format."""
    return {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}


def shapes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in weights.items()}


@dataclass
class Batch:
    """Images (B, 1, H, W) on their device, classes (B,) on the CPU, and the noise of an iteration.

    Where the batch is spread over processes, ``everyone`` holds the classes of all of it: class
    shares and counts are of the whole batch, and the mean of the processes' gradients is the
    gradient of the whole batch.
    """

    images: Tensor
    classes: Tensor
    noise: Tensor
    everyone: Tensor
    process: Process = ALONE
    real: Tensor = field(init=False)  # with noise

    def __post_init__(self) -> None:
        self.real = self.images + self.noise

    def __len__(self) -> int:
        return len(self.images)

    def source(self, generator: Generator) -> Tensor:
        """What is translated: noisy images (the paper), or clean ones, whose change is drawn."""
        return self.images if generator.kind.changes_input else self.real

    @property
    def share(self) -> float:
        """What a mean over these images counts for in the mean over the processes."""
        return len(self) * self.process.world / len(self.everyone)

    @property
    def counts(self) -> Tensor:
        """Images of each class in the whole batch, per process."""
        return torch.bincount(self.everyone, minlength=2).clamp(min=1) / self.process.world


def wasserstein_step(state: TrainingState, batch: Batch, options: Options) -> Terms:
    """One iteration of the paper's: every ``critic_steps``-th is the generator's, too.

    While the critic is alone its fakes are the images themselves, as an untrained change is
    nothing: the critic of a class learns what those of the other class lack.
    """
    if state.iteration <= by_networks(options, "critic_alone"):
        return critic_step(state.discriminator, batch, [batch.real] * 2, options)
    return train_step(state, batch, options, state.iteration % options.critic_steps == 0)


def train_step(
    state: TrainingState, batch: Batch, options: Options, with_generator: bool = True
) -> Terms:
    """One iteration: the critic's step and, ``with_generator``, the generator's after it.

    Returns the loss terms, unweighted, the totals and the norms of the gradients.
    """
    generator = state.generator.network
    source = batch.source(generator)
    # The generator does not change in the critic's step, so its step takes the same translations.
    kept = with_generator and not options.save_memory
    with torch.set_grad_enabled(kept), autocast(source.device, options.amp):
        translations = [generator(source, c) for c in (HEALTHY, DISEASED)]
    fakes = [(t.detach() + batch.noise).to(batch.real.dtype) for t in translations]
    terms = critic_step(state.discriminator, batch, fakes, options)
    if with_generator:
        terms |= generator_step(state, batch, translations, options)
    return terms


def critic_step(player: Player, batch: Batch, fakes: list[Tensor], options: Options) -> Terms:
    """One step of critic and classifier on noisy real images and their noisy, detached fakes.

    ``fakes[c]`` is the whole batch (B, 1, H, W) translated into class c.
    """
    discriminator, real, number = player.network, batch.real, len(batch)
    into_each = torch.arange(2).repeat_interleave(number)
    t = torch.rand(number, dtype=real.dtype, device=real.device)
    points = torch.cat([losses.interpolate(real, fake, t) for fake in fakes])

    player.optimizer.zero_grad()
    # Summed over the classes: the mean over the points of both is half of that. Its graph, the
    # largest of all, is gone before the next is built; in float32, as squares of small numbers.
    penalty = 2 * losses.gradient_penalty(
        lambda x: discriminator.score(discriminator.encode(x), into_each),
        points,
        of=options.penalty_of,
    )
    player.scaler.scale(batch.share * options.critic_penalty * penalty).backward()

    with autocast(real.device, options.amp):
        features = discriminator.encode(torch.cat([real, *fakes]))
        scores = discriminator.score(features, torch.cat([batch.classes, into_each]))
        logits = discriminator.classifier(features[:number]).to(real.dtype)
    real_scores, *fake_scores = scores.to(real.dtype).split(number)
    adversarial = losses.critic_adversarial_loss(real_scores, fake_scores, batch.everyone)
    classification = losses.classification_loss(logits, batch.classes)
    rest = options.critic_adversarial * adversarial + options.critic_class * classification
    player.scaler.scale(batch.share * rest).backward()

    norm = apply_gradients(player, options.clip_norm, batch.process)
    return {
        "critic/total": (rest + options.critic_penalty * penalty).detach(),
        "critic/adversarial": adversarial.detach(),
        "critic/gradient penalty": penalty.detach(),
        "critic/classification": classification.detach(),
        "critic/gradient norm": norm,
    }


def generator_step(
    state: TrainingState, batch: Batch, translations: list[Tensor], options: Options
) -> Terms:
    """One step of the generator; every translation gets the batch's noise.

    ``translations[c]`` is what the generator makes of the whole batch for class c, with its graph.
    In parts, from the losses to the translations and from these to the weights: beside the graph of
    the translations only one other is in memory. To save memory they come without their graphs,
    which are made anew, one at a time.
    """
    player = state.generator
    leaves = [translation.detach().requires_grad_() for translation in translations]
    player.optimizer.zero_grad()
    terms, of_critic = critic_terms(state, batch, leaves, options)
    more, of_images, of_change = image_terms(state, batch, leaves, options)
    if options.save_memory:
        backward_anew(player.network, batch, leaves, options)
    else:
        torch.autograd.backward(translations, [leaf.grad for leaf in leaves])
    norm = apply_gradients(player, options.clip_norm, batch.process)
    total = {"generator/total": of_critic + of_images + of_change}
    return {**total, **terms, **more, "generator/gradient norm": norm}


def backward_anew(
    generator: Generator, batch: Batch, leaves: list[Tensor], options: Options
) -> None:
    """Go back from the translations to the weights by graphs of the same translations, made anew.

    ``leaves[c]`` holds the gradient of the translations into class c.
    """
    source = batch.source(generator)
    for target, leaf in enumerate(leaves):
        with unrecorded(generator), autocast(source.device, options.amp):
            translation = generator(source, target)
        translation.backward(leaf.grad)


def critic_terms(
    state: TrainingState, batch: Batch, leaves: list[Tensor], options: Options
) -> tuple[Terms, Tensor]:
    """What critic and classifier say of the translations, ``leaves``, which get its gradient.

    Returns the terms, and their weighted sum.
    """
    discriminator, dtype, number = state.discriminator.network, batch.real.dtype, len(batch)
    discriminator.zero_grad()  # gradients of its own step, as large as its weights
    discriminator.requires_grad_(False)
    with autocast(batch.real.device, options.amp):
        features = discriminator.encode(torch.cat([leaf + batch.noise for leaf in leaves]))
        scores = discriminator.score(features, torch.arange(2).repeat_interleave(number))
        logits = discriminator.classifier(features).to(dtype)
    adversarial = losses.generator_adversarial_loss(scores.to(dtype).split(number))
    classification = sum(
        losses.classification_loss(part, c) for c, part in enumerate(logits.split(number))
    )
    total = options.generator_adversarial * adversarial + options.generator_class * classification
    state.generator.scaler.scale(batch.share * total).backward()
    discriminator.requires_grad_(True)
    terms = {
        "generator/adversarial": adversarial.detach(),
        "generator/classification": classification.detach(),
    }
    return terms, total.detach()


def image_terms(
    state: TrainingState, batch: Batch, leaves: list[Tensor], options: Options
) -> tuple[Terms, Tensor, Tensor]:
    """How far the translations, ``leaves``, are from the images; they get its gradient.

    Returns the terms, and the weighted sums of those that are summed over the classes by their
    counts, and of the change, which is a mean over the images of this process.
    """
    generator, real, noise = state.generator.network, batch.real, batch.noise
    with autocast(real.device, options.amp):
        healthy = (batch.classes == HEALTHY).to(real.device, non_blocking=True).view(-1, 1, 1, 1)
        own, other = (torch.where(healthy, *pair) for pair in (leaves, leaves[::-1]))
        source = other if generator.kind.changes_input else other + noise
        back = generator(source, batch.classes, batch.everyone) + noise
    # As the images, the translations are compared with their noise.
    own, other, back = (x.to(real.dtype) for x in (own + noise, other + noise, back))
    identity = losses.identity_loss(real, own, batch.classes, batch.counts)
    reconstruction = losses.reconstruction_loss(real, back, batch.classes, batch.counts)
    change = losses.change_loss(real, other)
    of_images = (
        options.generator_identity * identity + options.generator_reconstruction * reconstruction
    )
    of_change = options.generator_change * change
    state.generator.scaler.scale(of_images + batch.share * of_change).backward()
    terms = {
        "generator/identity": identity.detach(),
        "generator/reconstruction": reconstruction.detach(),
        "generator/change": change.detach(),
    }
    return terms, of_images.detach(), of_change.detach()


def apply_gradients(player: Player, clip_norm: float, process: Process) -> Tensor:
    """Average the gradient of a network over the processes, clip it to a norm, and step.

    Returns the norm before clipping; 0 of a step that a scaler skips.
    """
    average_gradients(player.network, process)
    player.scaler.unscale_(player.optimizer)
    norm = nn.utils.clip_grad_norm_(player.network.parameters(), clip_norm)
    player.scaler.step(player.optimizer)
    player.scaler.update()
    # A scaler (of float16) finds its scale by steps that overflow, which it skips: no fault.
    return norm.nan_to_num(nan=0.0, posinf=0.0) if player.scaler.is_enabled() else norm
