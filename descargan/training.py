"""The training loop: critic and classifier at every iteration, the generator at every fifth.

The random numbers of an iteration (flips, noise, interpolation factors, dropout) are a function of
the seed and the iteration alone, and the order of the images of the seed and the epoch. So a run
resumed at any iteration goes on exactly as if it had not been stopped.
"""

import argparse
import copy
import io
import math
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from descargan import DISEASED, HEALTHY, __version__, losses
from descargan.checkpoints import Run
from descargan.dashboard import Dashboard
from descargan.data import ImageDataset, load, random_flips, random_stream, shuffled_batches
from descargan.distributed import Process, average, average_gradients, largest, same_weights
from descargan.errors import UserError
from descargan.evaluation import example_batch, translate_examples, validate
from descargan.figures import example_figure, save_figure
from descargan.files import write_atomically, write_json
from descargan.models import Discriminator, Generator
from descargan.options import as_json

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-image", "scikit-learn", "visdom")
ALONE = Process()
Terms = dict[str, Tensor]


def critic_step(
    discriminator: Discriminator,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    real: Tensor,
    fakes: Sequence[Tensor],
    classes: Tensor,
    options: argparse.Namespace,
    everyone: Tensor,
    process: Process,
) -> Terms:
    """One step of critic and classifier on noisy real images and their noisy, detached fakes.

    ``fakes[c]`` is the whole batch (B, 1, H, W) translated into class c. Returns the loss terms,
    unweighted, the total and the norm of the gradient. For ``everyone`` see ``train_step``.
    """
    batch = len(real)
    share = batch * process.world / len(everyone)
    into_each = torch.arange(2).repeat_interleave(batch)
    t = torch.rand(batch, dtype=real.dtype, device=real.device)
    points = torch.cat([losses.interpolate(real, fake, t) for fake in fakes])

    optimizer.zero_grad()
    # Summed over the classes: the mean over the points of both is half of that. Its graph, the
    # largest of all, is gone before the next is built; in float32, as squares of small numbers.
    penalty = 2 * losses.gradient_penalty(
        lambda x: discriminator.score(discriminator.encode(x), into_each),
        points,
        of=options.penalty_of,
    )
    scaler.scale(share * options.critic_penalty * penalty).backward()

    with autocast(real.device, options.amp):
        features = discriminator.encode(torch.cat([real, *fakes]))
        scores = discriminator.score(features, torch.cat([classes, into_each])).to(real.dtype)
        logits = discriminator.classifier(features[:batch]).to(real.dtype)
    real_scores, *fake_scores = scores.split(batch)
    adversarial = losses.critic_adversarial_loss(real_scores, fake_scores, everyone)
    classification = losses.classification_loss(logits, classes)
    rest = options.critic_adversarial * adversarial + options.critic_class * classification
    scaler.scale(share * rest).backward()

    norm = apply_gradients(discriminator, optimizer, scaler, options.clip_norm, process)
    return {
        "critic/total": (rest + options.critic_penalty * penalty).detach(),
        "critic/adversarial": adversarial.detach(),
        "critic/gradient penalty": penalty.detach(),
        "critic/classification": classification.detach(),
        "critic/gradient norm": norm,
    }


def generator_step(
    generator: Generator,
    discriminator: Discriminator,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    real: Tensor,
    translations: Sequence[Tensor],
    noise: Tensor,
    classes: Tensor,
    options: argparse.Namespace,
    everyone: Tensor,
    process: Process,
) -> Terms:
    """One step of the generator on noisy real images; every translation gets the same ``noise``.

    ``translations[c]`` is what the generator makes of the whole batch for class c, with its graph.
    Returns the loss terms, unweighted, the total and the norm of the gradient. For ``everyone`` see
    ``train_step``.
    """
    batch = len(real)
    share = batch * process.world / len(everyone)
    counts = torch.bincount(everyone, minlength=2).clamp(min=1) / process.world
    # In parts, from the losses to the translations and from these to the weights: beside the graph
    # of the translations only one other is in memory.
    leaves = [translation.detach().requires_grad_() for translation in translations]

    optimizer.zero_grad()
    discriminator.zero_grad()  # gradients of its own step, as large as its weights
    discriminator.requires_grad_(False)
    with autocast(real.device, options.amp):
        features = discriminator.encode(torch.cat([leaf + noise for leaf in leaves]))
        scores = discriminator.score(features, torch.arange(2).repeat_interleave(batch))
        logits = discriminator.classifier(features).to(real.dtype)
    adversarial = losses.generator_adversarial_loss(scores.to(real.dtype).split(batch))
    classification = sum(
        losses.classification_loss(part, c) for c, part in enumerate(logits.split(batch))
    )
    of_all = options.generator_adversarial * adversarial + options.generator_class * classification
    scaler.scale(share * of_all).backward()
    discriminator.requires_grad_(True)
    del features, scores, logits

    with autocast(real.device, options.amp):
        healthy = (classes == HEALTHY).to(real.device, non_blocking=True).view(-1, 1, 1, 1)
        own, other = (torch.where(healthy, *pair) for pair in (leaves, leaves[::-1]))
        # As in train_step: what only changes its input is given it without noise.
        source = other + noise if options.translation == "image" else other
        back = generator(source, classes) + noise
    identity = losses.identity_loss(real, (own + noise).to(real.dtype), classes, counts)
    reconstruction = losses.reconstruction_loss(real, back.to(real.dtype), classes, counts)
    change = losses.change_loss(real, (other + noise).to(real.dtype))
    of_classes = (
        options.generator_identity * identity + options.generator_reconstruction * reconstruction
    )
    of_change = options.generator_change * change
    scaler.scale(of_classes + share * of_change).backward()
    del back
    torch.autograd.backward(translations, [leaf.grad for leaf in leaves])
    norm = apply_gradients(generator, optimizer, scaler, options.clip_norm, process)
    return {
        "generator/total": (of_all + of_classes + of_change).detach(),
        "generator/adversarial": adversarial.detach(),
        "generator/identity": identity.detach(),
        "generator/reconstruction": reconstruction.detach(),
        "generator/classification": classification.detach(),
        "generator/change": change.detach(),
        "generator/gradient norm": norm,
    }


def train_step(
    networks: Sequence[nn.Module],
    optimizers: Sequence[torch.optim.Optimizer],
    scalers: Sequence[torch.amp.GradScaler],
    images: Tensor,
    classes: Tensor,
    with_generator: bool,
    options: argparse.Namespace,
    everyone: Tensor | None = None,
    process: Process = ALONE,
) -> Terms:
    """One iteration on a batch of images (B, 1, H, W), on their device, and classes, on the CPU.

    Where the batch is spread over processes, ``everyone`` holds the classes of all of it: class
    shares and counts are of the whole batch, and the mean of the processes' gradients is the
    gradient of the whole batch. ``networks``, ``optimizers`` and ``scalers`` are those of the
    generator and the discriminator.
    """
    generator, discriminator = networks
    everyone = classes if everyone is None else everyone
    noise = options.noise * torch.rand_like(images)
    real = images + noise
    # The paper translates noisy images. What only changes its input would hand their noise on and
    # then get it again, so that the critic could tell fakes by it: it translates clean ones.
    source = real if options.translation == "image" else images
    # The generator does not change in the critic's step, so its step takes the same translations.
    with torch.set_grad_enabled(with_generator), autocast(real.device, options.amp):
        translations = [generator(source, c) for c in (HEALTHY, DISEASED)]
    fakes = [(translation.detach() + noise).to(real.dtype) for translation in translations]
    terms = critic_step(
        discriminator,
        optimizers[1],
        scalers[1],
        real,
        fakes,
        classes,
        options,
        everyone,
        process,
    )
    if with_generator:
        terms |= generator_step(
            generator,
            discriminator,
            optimizers[0],
            scalers[0],
            real,
            translations,
            noise,
            classes,
            options,
            everyone,
            process,
        )
    return terms


def apply_gradients(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    clip_norm: float,
    process: Process,
) -> Tensor:
    """Average the gradient of a network over the processes, clip it to a norm, and step.

    Returns the norm before clipping.
    """
    average_gradients(network, process)
    scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
    scaler.step(optimizer)
    scaler.update()
    return norm


def autocast(device: torch.device, enabled: bool) -> torch.autocast:
    return torch.autocast(device.type, dtype=half_precision(device), enabled=enabled)


def half_precision(device: torch.device) -> torch.dtype:
    """bfloat16, or float16 on GPUs that lack it."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16


def train(
    generator: Generator,
    discriminator: Discriminator,
    training: ImageDataset,
    validation: ImageDataset,
    options: argparse.Namespace,
    device: torch.device,
    run: Run,
    dashboard: Dashboard,
    process: Process = ALONE,
) -> int:
    """Train both networks, save them to ``run`` after each epoch, and return the exit status.

    The status is 0, or 128 plus the number of the signal that stopped it. Raises UserError where a
    loss is no longer finite, or the run to resume does not fit.
    """
    whole_batch = options.batch_size * process.world
    per_epoch = len(epoch_batches(training, options, 0, process))
    networks = [n.to(device, memory_format=torch.channels_last) for n in (generator, discriminator)]
    optimizers = [
        torch.optim.Adam(
            network.parameters(),
            lr=options.learning_rate,
            betas=(options.beta1, options.beta2),
            fused=True,
        )
        for network in networks
    ]
    scaled = options.amp and half_precision(device) == torch.float16
    scalers = [torch.amp.GradScaler(device.type, enabled=scaled) for _ in networks]
    averaged = copy.deepcopy(generator) if options.average else generator
    fingerprint = training.fingerprint()

    iteration, resumed = 0, options.resume != "off" and run.is_resumable()
    for network in networks:
        same_weights(network, process)
    if resumed:
        state = load_fitting_state(run, fingerprint, whole_batch)
        restore(state, networks, optimizers, scalers)
        averaged.load_state_dict(state.get("averaged", state["generator"]))
        iteration = state["iteration"]
    if process.is_first:
        run.folder.mkdir(parents=True, exist_ok=True)
        run.rewind_metrics(iteration if resumed else -1)
        description = describe_run(options, fingerprint)
        write_json(run.options, description)
        dashboard.describe(description)

    def save() -> None:
        if not process.is_first:
            return
        state = {
            "iteration": iteration,
            "fingerprint": fingerprint,
            "whole_batch": whole_batch,
            "generator": plain_state(generator),
            "discriminator": plain_state(discriminator),
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            "scalers": [scaler.state_dict() for scaler in scalers],
        }
        if options.average:
            state["averaged"] = plain_state(averaged)
        run.save(state)

    def record(kind: str, values: dict[str, float]) -> None:
        if not process.is_first:
            return
        line = {"kind": kind, "iteration": iteration, "epoch": iteration / per_epoch, **values}
        run.append_metrics(line)
        dashboard.add(line)

    if process.is_first:
        for line in run.read_metrics():
            dashboard.add(line)
        print(
            f"{len(training)} training and {len(validation)} validation images, {per_epoch} "
            f"iterations of {whole_batch} an epoch, on {process.world} x {device.type}; "
            f"writing to {run.folder}"
        )
    examples = example_batch(validation)

    def check_on_validation() -> None:
        if not process.is_first:
            return
        values = validate(averaged, discriminator, validation, options, device)
        before = best_choice(run)
        record("validation", values)
        if iteration and values["choice"] > before:
            run.save_best(plain_state(averaged), plain_state(discriminator))
        columns = translate_examples(averaged, discriminator, examples, options, device)
        keep_examples(run, columns, iteration / per_epoch)
        dashboard.show_examples(columns)

    if iteration == 0:
        check_on_validation()  # the untrained networks, to compare with
    pending: list[tuple[int, Terms]] = []
    latest: dict[str, float] = {}
    with (
        stop_on_signals() as stopped_by,
        tqdm(
            total=options.epochs * per_epoch,
            initial=iteration,
            unit="it",
            disable=not process.is_first,
        ) as progress,
    ):
        stop = 0
        while iteration < options.epochs * per_epoch and not stop:
            epoch, done = divmod(iteration, per_epoch)
            batches = epoch_batches(training, options, epoch, process)[done:]
            mine = [batch[process.rank :: process.world] for batch in batches]
            loaded = load(training, mine, options.workers, device.type == "cuda")
            for batch, (images, _, classes) in zip(batches, loaded, strict=True):
                torch.manual_seed(random_stream(options.seed, 1, iteration, process.rank))
                if options.decay == "linear":
                    left = 1 - iteration / (options.epochs * per_epoch)
                    set_learning_rate(optimizers, left * options.learning_rate)
                images = images.to(device, non_blocking=True, memory_format=torch.channels_last)
                images = random_flips(images, options.flip != "none", options.flip == "both")
                iteration += 1
                with_generator = iteration % options.critic_steps == 0
                terms = train_step(
                    networks,
                    optimizers,
                    scalers,
                    images,
                    classes,
                    with_generator,
                    options,
                    training.classes[batch],
                    process,
                )
                if with_generator and options.average:
                    follow(averaged, generator, options.average)
                pending.append((iteration, terms))
                progress.update()
                due = iteration % options.log_every == 0 or iteration % per_epoch == 0
                if due or (stopped_by and process.world == 1):
                    means = fetch(pending, run, process)
                    pending.clear()
                    record("losses", means)
                    latest |= means
                    progress.set_postfix(summary(latest))
                    # Processes stop together: at the next record, as the signal reaches each alone.
                    stop = largest(max(stopped_by, default=0), device, process)
                if stop:
                    break
            if iteration % per_epoch == 0:
                epoch = iteration // per_epoch
                if epoch % options.validate_every == 0 or epoch == options.epochs:
                    check_on_validation()
            save()
    if process.is_first and stop:
        print(f"stopped and saved at iteration {iteration}; to go on: {resume_command(options)}")
    elif process.is_first:
        print_progress([line for line in run.read_metrics() if line["kind"] == "validation"])
    return 128 + stop if stop else 0


def epoch_batches(
    training: ImageDataset, options: argparse.Namespace, epoch: int, process: Process
) -> list[Tensor]:
    """Indices of the whole batches of an epoch, over all processes.

    A last one that leaves a process without an image is dropped.
    """
    size = options.batch_size * process.world
    batches = shuffled_batches(len(training), size, options.seed, epoch)
    return [batch for batch in batches if len(batch) >= process.world]


def best_choice(run: Run) -> float:
    """The highest "choice" of the validations so far, that of the untrained networks left out."""
    choices = [x.get("choice") for x in run.read_metrics() if x["iteration"]]
    return max((choice for choice in choices if choice is not None), default=-math.inf)


def print_progress(validations: list[dict]) -> None:
    """What training has changed on the validation split, from the first epoch to the last."""
    first, last = validations[0], validations[-1]
    print(f"{'validation':<40}{'epoch':>6} {first['epoch']:<6g}{'epoch':>6} {last['epoch']:<6g}")
    for name, value in last.items():
        if name not in ("kind", "iteration", "epoch"):
            pair = (first.get(name), value)
            print(
                f"{name:<40}" + "".join("  undefined" if v is None else f"{v:12.4f}" for v in pair)
            )


def keep_examples(run: Run, columns: dict[str, np.ndarray], epoch: float) -> None:
    """Write the translated examples, as arrays and as a picture."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **columns)
    write_atomically(run.examples, buffer.getvalue())
    save_figure(
        example_figure(columns, f"Fixed validation batch after epoch {epoch:g}"), run.picture
    )


def set_learning_rate(optimizers: Sequence[torch.optim.Optimizer], rate: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate


def follow(averaged: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the parameters of ``averaged`` towards those of ``network``."""
    with torch.no_grad():
        torch._foreach_lerp_(list(averaged.parameters()), list(network.parameters()), 1 - decay)


def plain_state(network: nn.Module) -> dict[str, Tensor]:
    """The weights of a network on the CPU, in the default memory format."""
    return {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}


def load_fitting_state(run: Run, fingerprint: str, whole_batch: int) -> dict:
    """The training state of a run. Raises UserError where it is of other images or batches."""
    state = run.load_state()
    if state["fingerprint"] != fingerprint:
        raise UserError(
            f"{run.state} was trained on other images than --dataset-path holds now: "
            "restore them, or train into another --save-dir"
        )
    if state["whole_batch"] != whole_batch:
        raise UserError(
            f"{run.state} was trained with batches of {state['whole_batch']}, not {whole_batch}: "
            "go on with as many processes as before, or train into another --save-dir"
        )
    return state


def restore(
    state: dict,
    networks: Sequence[nn.Module],
    optimizers: Sequence[torch.optim.Optimizer],
    scalers: Sequence[torch.amp.GradScaler],
) -> None:
    """Load a training state into all that it is made of."""
    for network, name in zip(networks, ("generator", "discriminator"), strict=True):
        network.load_state_dict(state[name])
    for part, saved in zip(
        [*optimizers, *scalers], [*state["optimizers"], *state["scalers"]], strict=True
    ):
        part.load_state_dict(saved)


def fetch(pending: list[tuple[int, Terms]], run: Run, process: Process) -> dict[str, float]:
    """Means of the loss terms since the last record, over the processes, in one transfer.

    Raises UserError on the first value that is not finite.
    """
    names = [(i, name) for i, terms in pending for name in terms]
    values = torch.stack([terms[name].float() for i, terms in pending for name in terms])
    average([values], process)
    collected: dict[str, list[float]] = {}
    for (iteration, name), value in zip(names, values.tolist(), strict=True):
        if not math.isfinite(value):
            kept = f"{run.state} holds the last good checkpoint" if run.is_resumable() else ""
            raise UserError(
                f"'{name}' is {value} at iteration {iteration}: training stopped; try a lower "
                f"--learning-rate{', or without --amp' if 'norm' in name else ''}. "
                f"{kept or 'Nothing was saved yet'}"
            )
        collected.setdefault(name, []).append(value)
    return {name: sum(column) / len(column) for name, column in collected.items()}


def summary(means: dict[str, float]) -> dict[str, str]:
    """What stands beside the progress bar."""
    shown = {"critic/total": "critic", "generator/total": "generator"}
    shown["generator/identity"] = "identity"
    return {short: f"{means[name]:.3g}" for name, short in shown.items() if name in means}


def describe_run(options: argparse.Namespace, fingerprint: str) -> dict:
    """All that it takes to repeat a run."""
    versions = {package: version(package) for package in PACKAGES}
    return {
        "options": as_json(options),
        "dataset_fingerprint": fingerprint,
        "versions": {"descargan": __version__, "python": sys.version.split()[0], **versions},
    }


def resume_command(options: argparse.Namespace) -> str:
    command = f"python main.py --resume --save-dir {shlex.quote(str(options.save_dir))}"
    return command if options.dataset == "Synthetic" else f"{command} --dataset {options.dataset}"


@contextmanager
def stop_on_signals() -> Iterator[list[int]]:
    """A list that SIGINT or SIGTERM adds its number to, so that the loop can end and save.

    A second one acts at once.
    """
    received: list[int] = []
    handled = (signal.SIGINT, signal.SIGTERM)
    old = {number: signal.getsignal(number) for number in handled}

    def note(number: int, _frame: object) -> None:
        received.append(number)
        for each in handled:
            signal.signal(each, old[each])

    for number in handled:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number in handled:
            signal.signal(number, old[number])
