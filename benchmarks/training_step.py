"""Time of a training iteration: the release's order of computation against ours.

    python -m benchmarks.training_step
    python -m benchmarks.training_step --case 64/16/16 --rounds 10

The reference is the method in the release's order: a critic pass for the real images of each class,
one for the fakes of each, a gradient penalty for each with PyTorch's own ReLU, a third pass of all
real images for the classifier, fakes built with their graph in the critic's step, upsampling and
convolution apart, the default memory format, Adam tensor by tensor. Both run the same networks on
the same threads. The reference is timed with the C library's default handling of freed memory and
with that of the project; ours as it is by default, with ``--amp`` and with ``--save-memory``. First
the two are shown to give the same losses and gradients from the same weights, noise and
interpolation factors, with dropout off; then they are timed in turns, by the processor's time,
which others on the machine disturb less than the clock. They are compared in double precision, as
sums that cancel differ by more than 1e-4 in single precision, whatever their order.
"""

import argparse
import copy
import ctypes
import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from descargan import losses
from descargan.device import MMAP_MAX, TRIM_THRESHOLD, keep_freed_memory
from descargan.layers import Conv, MaxPool, ReLU, UpsampledConv
from descargan.models import Discriminator, Generator
from descargan.options import Options
from descargan.steps import Batch, TrainingState, train_step

CASES = {
    "64/16/16": (64, 16, 16, 10),
    "128/32/16": (128, 32, 16, 10),
    "256/64/32": (256, 64, 32, 2),
}
CYCLE = 5  # four iterations of the critic alone and one with the generator
OPTIONS = Options()
OURS = {
    "ours": OPTIONS,
    "ours, --amp": replace(OPTIONS, amp=True),
    "ours, --save-memory": replace(OPTIONS, save_memory=True),
}
MMAP_THRESHOLD = -3  # of glibc's mallopt


class PlainUpsampling(nn.Conv2d):
    """Nearest upsampling and a 3 x 3 convolution, one after the other."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.interpolate(x, scale_factor=2))


def plain(network: nn.Module) -> nn.Module:
    """The same network, with the same parameters, of PyTorch's own layers."""
    network = copy.deepcopy(network)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Sequential) and isinstance(child[0], MaxPool):
                setattr(module, name, nn.Sequential(nn.ReLU(inplace=True), nn.MaxPool2d(2)))
            elif isinstance(child, ReLU):
                setattr(module, name, nn.ReLU(inplace=True))
            elif isinstance(child, Conv):
                kind = PlainUpsampling if isinstance(child, UpsampledConv) else nn.Conv2d
                sizes = (child.in_channels, child.out_channels, child.kernel_size)
                conv = kind(*sizes, padding=1, dtype=child.weight.dtype)
                conv.load_state_dict(child.state_dict())
                setattr(module, name, conv)
    return network


def reference_step(
    networks: list[nn.Module],
    optimizers: list[torch.optim.Optimizer],
    images: Tensor,
    classes: Tensor,
    with_generator: bool,
) -> dict[str, Tensor]:
    """An iteration in the release's order. Returns the totals of the losses."""
    generator, discriminator = networks
    noise = OPTIONS.noise * torch.rand_like(images)
    real = images + noise
    shares = [(classes == c).double().mean().item() for c in (0, 1)]
    t = torch.rand(len(real), dtype=real.dtype)

    fakes = [generator(real, c) + noise for c in (0, 1)]
    adversarial, penalty = 0.0, 0.0
    for c in (0, 1):
        members = real[classes == c]
        of_real = discriminator(members, c)[0].mean()
        of_fake = discriminator(fakes[c].detach(), c)[0].mean()
        adversarial = adversarial + shares[c] * (of_fake - of_real)
        point = losses.interpolate(real, fakes[c].detach(), t)
        penalty = penalty + losses.gradient_penalty(lambda x, c=c: discriminator(x, c)[0], point)
    logits = discriminator(real, 0)[1]
    critic = 20 * adversarial + 10 * penalty + 5 * F.cross_entropy(logits, classes)
    update(discriminator, optimizers[1], critic)
    totals = {"critic/total": critic.detach()}
    if with_generator:
        optimizers[0].zero_grad()
        fakes = [generator(real, c) + noise for c in (0, 1)]
        total = 0.0
        for c in (0, 1):
            scores, logits = discriminator(fakes[c], c)
            total = total - scores.mean() + F.cross_entropy(logits, torch.full((len(real),), c))
            members = classes == c
            total = total + 50 * F.mse_loss(fakes[c][members], real[members])
        other = torch.where((classes == 0).view(-1, 1, 1, 1), fakes[1], fakes[0])
        back = generator(other, classes) + noise
        for c in (0, 1):
            members = classes == c
            total = total + 50 * F.mse_loss(back[members], real[members])
        update(generator, optimizers[0], total)
        totals["generator/total"] = total.detach()
    return totals


def update(network: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), OPTIONS.clip_norm, foreach=False)
    optimizer.step()


class Side:
    """Networks, optimizers, and a step on them: ours with some options, or the reference."""

    def __init__(
        self, case: str, options: Options | None, dtype: torch.dtype = torch.float32
    ) -> None:
        size, filters, critic_filters, batch = CASES[case]
        torch.manual_seed(0)
        networks = [Generator(1, filters), Discriminator(1, critic_filters, size)]
        networks = [network.to(dtype) for network in networks]
        self.options = options
        self.images = torch.rand(batch, 1, size, size, dtype=dtype) * 2 - 1
        self.classes = torch.arange(batch) % 2
        if options is not None:
            self.images = self.images.to(memory_format=torch.channels_last)
            self.state = TrainingState(*networks, options, torch.device("cpu"))
            self.networks = [player.network for player in self.state.players]
            self.optimizers = [player.optimizer for player in self.state.players]
        else:
            self.networks = [plain(n) for n in networks]
            self.optimizers = [
                torch.optim.Adam(n.parameters(), lr=1e-4, betas=(0.5, 0.999), foreach=False)
                for n in self.networks
            ]

    def step(self, with_generator: bool) -> dict[str, Tensor]:
        if self.options is not None:
            noise = OPTIONS.noise * torch.rand_like(self.images)
            batch = Batch(self.images, self.classes, noise, self.classes)
            return train_step(self.state, batch, self.options, with_generator)
        return reference_step(
            self.networks, self.optimizers, self.images, self.classes, with_generator
        )


def assert_equal(case: str) -> None:
    """Same losses and gradients, to 1e-4, of both networks. Dropout is off: masks are shared."""
    sides = [Side(case, options, torch.float64) for options in (None, OPTIONS)]
    gradients, totals = [], []
    for side in sides:
        for module in side.networks[1].modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        for optimizer in side.optimizers:  # the same critic for the generator's step
            for group in optimizer.param_groups:
                group["lr"] = 0.0
        generator, discriminator = side.networks
        torch.manual_seed(1)
        side.step(with_generator=False)
        of_critic = [p.grad.clone() for p in discriminator.parameters()]
        torch.manual_seed(1)
        totals.append(side.step(with_generator=True))
        gradients.append([p.grad for p in generator.parameters()] + of_critic)
    for name in totals[0]:
        torch.testing.assert_close(totals[1][name], totals[0][name], rtol=1e-4, atol=0)
    # A bias before a batch norm has no gradient but rounding: against that of everything.
    least = 1e-6 * torch.stack([b.norm() for b in gradients[0]]).norm()
    worst = max(
        ((a - b).norm() / b.norm().clamp(min=least)).item()
        for a, b in zip(gradients[1], gradients[0], strict=True)
    )
    if worst > 1e-4:
        raise AssertionError(f"{case}: gradients differ by {worst:.1e}")
    print(f"  losses and gradients agree (largest relative difference {worst:.1e})")


def time_all(case: str, rounds: int) -> None:
    """Seconds of each kind of iteration, in turns, and the ratios with their spread."""
    reference = Side(case, None)
    ours = {name: Side(case, options) for name, options in OURS.items()}
    runs = {
        "reference": (reference, free_at_once),
        "reference, memory kept": (reference, keep_freed_memory),
        **{name: (side, keep_freed_memory) for name, side in ours.items()},
    }
    take_turns(runs, rounds)
    theirs, mine = cycle_flops(reference) / 2e9, cycle_flops(ours["ours"]) / 2e9
    print(f"  ratio of multiply-adds, whole cycle: {theirs / mine:.2f} ({mine:.0f} G in ours)")


def time_ours(case: str, rounds: int) -> None:
    """The same without the reference, which takes most of the time."""
    sides = {name: Side(case, options) for name, options in OURS.items()}
    take_turns({name: (side, keep_freed_memory) for name, side in sides.items()}, rounds)


def take_turns(runs: dict[str, tuple[Side, Callable[[], None]]], rounds: int) -> None:
    """Time sides, each with the memory it is to have, and print what they took."""
    seconds = {(name, kind): [] for name in runs for kind in (False, True)}
    for side in {id(side): side for side, _ in runs.values()}.values():
        side.step(True)
    for _ in range(rounds):
        for name, (side, prepare) in runs.items():
            prepare()
            for kind in (False, True):
                start = time.process_time()
                side.step(kind)
                seconds[name, kind].append(time.process_time() - start)
    report_times(seconds)


def report_times(seconds: dict[tuple[str, bool], list[float]]) -> None:
    """Print the least time of each side and kind of iteration, and the ratios with their spread."""
    times = {}
    runs = dict.fromkeys(name for name, _ in seconds)
    for name in runs:
        alone, both = (np.array(seconds[name, kind]) for kind in (False, True))
        times[name] = {
            "whole cycle": (CYCLE - 1) * alone + both,
            "critic alone": alone,
            "with generator": both,
        }
        texts = [f"{label} {t.min():.3f} s" for label, t in times[name].items()]
        print(f"  {name}: {', '.join(texts)}")
    first, *others = runs
    for name in others:
        for label, ours in times[name].items():
            theirs = times[first][label]
            ratio, least = theirs / ours, theirs.min() / ours.min()
            spread = f"{least:.2f} ({ratio.min():.2f} to {ratio.max():.2f})"
            print(f"  {first} over {name}, {label}: {spread}")


def free_at_once() -> None:
    """glibc's default again, which keep_freed_memory changes: the thresholds that it grows to."""
    libc = ctypes.CDLL(None)
    libc.mallopt(MMAP_MAX, 65536)
    libc.mallopt(MMAP_THRESHOLD, 32 * 2**20)
    libc.mallopt(TRIM_THRESHOLD, 64 * 2**20)
    libc.malloc_trim(0)


class Counter(TorchDispatchMode):
    """Adds up the floating-point operations of all convolutions and matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN204
        out = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


def cycle_flops(side: Side) -> float:
    total = []
    for kind in (False, True):
        with Counter() as counter:
            side.step(kind)
        total.append(counter.total)
    return (CYCLE - 1) * total[0] + total[1]


def peak_memory(case: str, options: Options | None) -> float:
    """Growth of the largest resident memory over two iterations, MiB, in this process."""
    side = Side(case, options)
    gc.collect()
    before = memory_of_process("VmRSS")
    side.step(True)
    side.step(False)
    return memory_of_process("VmHWM") - before


def memory_of_process(which: str) -> float:
    """MiB of this process, from the kernel; not the rusage's, which a child has from its parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which)) / 1024


def compare_memory(case: str) -> None:
    """Peak memory of each side, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.training_step", "--case", case, "--memory-of"]
    memory = {
        name: float(subprocess.run([*command, name], capture_output=True, check=True).stdout)
        for name in ("reference", *OURS)
    }
    for name, value in memory.items():
        print(f"  peak memory of {name}: {value:.0f} MiB, {value / memory['reference']:.2f}")


def main() -> None:
    parts = {"check": assert_equal, "time": None, "ours": None, "memory": compare_memory}
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--case", choices=CASES, action="append", help="default: all")
    parser.add_argument("--part", choices=parts, action="append", help="default: all but ours")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-of", choices=("reference", *OURS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    if options.memory_of:
        if options.memory_of in OURS:
            keep_freed_memory()
        print(peak_memory(options.case[0], OURS.get(options.memory_of)))
        return
    print(f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}")
    parts["time"] = partial(time_all, rounds=options.rounds)
    parts["ours"] = partial(time_ours, rounds=options.rounds)
    for case in options.case or CASES:
        print(f"{case}:", flush=True)
        for part in options.part or ("check", "time", "memory"):
            parts[part](case)


if __name__ == "__main__":
    main()
