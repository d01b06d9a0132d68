"""One iteration with logistic critics: each says real or fake, of the images of its class.

Where Wasserstein critics drown a faint sign of disease in all that tells a fake from a photograph,
these stop to pull once an image is taken for real. The critic of a class learns from images
translated into it from the other. Classifier and critics answer at every exit of the discriminator;
losses are means over the exits and over the batch, in which both classes are balanced.
"""

import math

import torch
from torch import Tensor

from descargan import losses
from descargan.device import autocast
from descargan.distributed import average
from descargan.options import Options, by_networks
from descargan.steps import Batch, Terms, TrainingState, apply_gradients

WARM_UP = 50  # iterations: the first gradients are so large that Adam remembers them for hundreds
PENALTY_EVERY = 8  # iterations, as it is the dearest term
# Share of the critics' weight in the generator's loss where nothing moves: see moves().
STILL = 0.3


def logistic_step(state: TrainingState, batch: Batch, options: Options) -> Terms:
    """One iteration: the critic's step and, after the first ones, the generator's after it.

    Until then there are no fakes, as an untrained change is nothing.

    ``state.iteration`` counts this one. Returns the loss terms, unweighted, the totals and the
    norms of the gradients.
    """
    alone = state.iteration <= by_networks(options, "critic_alone")
    # With dropout, a classifier of some seeds stays at chance for all of that time.
    state.discriminator.network.train(not alone)
    if alone:
        return critic_step(state, batch, None, options)
    generator, kind = state.generator.network, state.generator.network.kind
    images, others = batch.real.repeat(2, 1, 1, 1), 1 - batch.classes
    with autocast(images.device, options.amp):
        drawn = generator.draw(images, torch.cat([others, batch.classes]))
    drawn = drawn.to(images.dtype)
    into_other, into_own = drawn.chunk(2)
    fakes = kind.apply(batch.real, into_other)
    terms = critic_step(state, batch, fakes.detach(), options)
    amounts = [kind.amount(batch.real, x) for x in (into_other, into_own)]
    return terms | generator_step(state, batch, fakes, amounts, options)


def critic_step(
    state: TrainingState, batch: Batch, fakes: Tensor | None, options: Options
) -> Terms:
    """One step of classifier and critics on real images and, where given, detached ``fakes``.

    ``fakes`` (B, 1, H, W) are the images translated into the other class.
    """
    player, number = state.discriminator, len(batch)
    player.optimizer.zero_grad()
    images = batch.real if fakes is None else torch.cat([batch.real, fakes])
    with autocast(images.device, options.amp):
        verdict = player.network(images)
    classes = batch.classes.to(images.device, images.dtype, non_blocking=True)
    classification = losses.logistic_loss(verdict.disease[:, :number], classes)
    terms = {"critic/classification": classification}
    total = options.critic_class * classification
    if fakes is not None:
        real = losses.of_class(verdict.fakeness[:, :number], batch.classes)
        fake = losses.of_class(verdict.fakeness[:, number:], 1 - batch.classes)
        adversarial = losses.logistic_loss(real, 0.0) + losses.logistic_loss(fake, 1.0)
        terms["critic/adversarial"] = adversarial
        total = total + options.critic_adversarial * adversarial
    player.scaler.scale(batch.share * total).backward()
    due = options.critic_penalty and state.iteration % PENALTY_EVERY == 0
    if fakes is not None and moves(state) and due:
        penalty, weighted = penalise(state, batch, how_sure(fake, batch), options)
        terms["critic/gradient penalty"] = penalty
        total = total.detach() + weighted
    # Without a limit, which would take from the penalty: it is rare and large.
    norm = apply_gradients(player, math.inf, batch.process)
    terms = {name: term.detach() for name, term in terms.items()}
    return {"critic/total": total.detach(), **terms, "critic/gradient norm": norm}


def moves(state: TrainingState) -> bool:
    """Whether the generator moves tissue, and so needs critics that lead it.

    A moved edge is nowhere near its place, so critics that are sure of it give a flow no direction:
    they are penalised, which makes them smoother. What is added or taken away needs no direction,
    and a smoother classifier sees less of it. There the critics weigh less, too: by more they have
    whole images repainted, once the disease is gone, for whatever else the classes differ in.
    """
    return state.generator.network.kind.flow is not None


def how_sure(fake: Tensor, batch: Batch) -> Tensor:
    """1 where every fake of the whole batch is known and 0 where half of them are, or fewer.

    ``fake`` (exits, B) is how the critics answer to the fakes of this process.
    """
    known = batch.share * (fake.detach().mean(dim=0) > 0).to(fake.dtype).mean()
    average([known], batch.process)
    return (2 * known - 1).clamp(min=0)


def penalise(
    state: TrainingState, batch: Batch, sureness: Tensor, options: Options
) -> tuple[Tensor, Tensor]:
    """Add the gradient of the penalty on how steep class and critics are at real images.

    It grows with the ``sureness`` of :func:`how_sure`. In float32, as squares of small numbers.
    Returns it, and what it counts for in the total.
    """
    signs = (1 - 2 * batch.classes).to(batch.real.device, batch.real.dtype, non_blocking=True)

    def score(images: Tensor) -> Tensor:
        verdict = state.discriminator.network(images)
        fakeness = losses.of_class(verdict.fakeness, batch.classes)
        return (fakeness + signs * verdict.disease).mean(dim=0)

    penalty = losses.gradient_norm(score, batch.real)
    weighted = options.critic_penalty * PENALTY_EVERY * sureness * penalty
    state.discriminator.scaler.scale(batch.share * weighted).backward()
    return penalty, weighted


def generator_step(
    state: TrainingState, batch: Batch, fakes: Tensor, amounts: list[Tensor], options: Options
) -> Terms:
    """One step of the generator on its translations into the other class, ``fakes``.

    ``amounts`` is how much it changed the images for the other class, and for their own.
    """
    player, discriminator = state.generator, state.discriminator.network
    generator, others = player.network, 1 - batch.classes
    player.optimizer.zero_grad()
    discriminator.requires_grad_(False)
    with autocast(fakes.device, options.amp):
        verdict = discriminator(fakes)
    wanted = others.to(fakes.device, fakes.dtype, non_blocking=True)
    classification = losses.logistic_loss(verdict.disease, wanted)
    adversarial = losses.logistic_loss(losses.of_class(verdict.fakeness, others), 0.0)
    terms = {
        "generator/adversarial": adversarial,
        "generator/classification": classification,
        "generator/change": amounts[0],
        "generator/identity": amounts[1],
    }
    of_critics = options.generator_adversarial * (1.0 if moves(state) else STILL)
    total = (
        of_critics * adversarial
        + options.generator_class * classification
        + options.generator_change * amounts[0]
        + options.generator_identity * amounts[1]
    )
    if options.generator_reconstruction:
        with autocast(fakes.device, options.amp):
            back = generator(fakes, batch.classes).to(fakes.dtype)
        terms["generator/reconstruction"] = losses.change_loss(batch.real, back)
        total = total + options.generator_reconstruction * terms["generator/reconstruction"]
    player.scaler.scale(batch.share * total).backward()
    discriminator.requires_grad_(True)
    norm = apply_gradients(player, options.clip_norm, batch.process)
    terms = {name: term.detach() for name, term in terms.items()}
    return {"generator/total": total.detach(), **terms, "generator/gradient norm": norm}
