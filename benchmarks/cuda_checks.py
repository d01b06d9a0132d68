"""What only a GPU can show: that it computes what the CPU does, and that nothing waits or breaks.

Each function takes a device, so that the same lines run on the CPU; ``benchmarks/cuda.py`` reports
what they return and ``tests/test_cuda.py`` asserts it.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple
from unittest import mock

import torch
from torch import Tensor, nn

from benchmarks.graphs import GraphTraining, flat
from descargan import HEALTHY
from descargan.device import autocast, enough_memory
from descargan.errors import UserError
from descargan.models import build_networks
from descargan.options import Options
from descargan.steps import Batch, TrainingState, train_step


class Precision(NamedTuple):
    """How numbers are multiplied, and how far results may then be from those in double precision.

    ``tolerance`` is of what the networks compute and of the losses, ``of_gradients`` of their
    gradients, each relative to the size of the whole. A generator with its first weights makes a
    relative error of its input about a thousand times as large, and ReLUs near 0 open and close: so
    gradients are far less exact than a unit of rounding, on every device.
    """

    amp: bool
    tf32: bool
    tolerance: float
    of_gradients: float


PRECISIONS = {
    "float32": Precision(False, False, 1e-3, 5e-2),
    "TF32": Precision(False, True, 1e-1, 4e-1),
    "AMP": Precision(True, False, 3e-1, 1.0),
    "AMP and TF32": Precision(True, True, 3e-1, 1.0),
}
EXACT = 1e-6  # tolerance of everything in double precision
SMALL = Options(image_size=64, base_filters=16, critic_filters=16, flip="both")
LEAST_TERM = 0.1  # losses that cancel to less are compared with this


@contextmanager
def backend(tf32: bool = False, repeatable: bool = False) -> Iterator[None]:
    """TF32 or not; ``repeatable``: convolutions that give the same bits each time."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark, cudnn.deterministic
    cudnn.allow_tf32 = matmul.allow_tf32 = tf32
    cudnn.benchmark, cudnn.deterministic = not repeatable, repeatable
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark, cudnn.deterministic = before


def computed(options: Options, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """Forward passes, losses and gradients of one iteration, the same on every device.

    The weights do not move, nothing is dropped or clipped, and all random numbers are the CPU's.
    """
    torch.manual_seed(1)
    networks = [network.to(dtype) for network in build_networks(options)]
    for module in networks[1].modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    options = replace(options, learning_rate=0.0, clip_norm=1e9)
    state = TrainingState(*networks, options, device)
    size = options.image_size
    images, noise = torch.rand(2, options.batch_size, 1, size, size, dtype=torch.float64)
    t = torch.rand(options.batch_size, dtype=torch.float64)
    images, noise = (
        x.to(device, dtype).contiguous(memory_format=torch.channels_last)
        for x in (2 * images - 1, options.noise * noise)
    )
    classes = torch.arange(options.batch_size) % 2
    batch = Batch(images, classes, noise, classes)
    generator, discriminator = networks
    with torch.no_grad(), autocast(device, options.amp):
        found = {"translations": generator(batch.real, HEALTHY)}
        found["scores"], found["logits"] = discriminator(batch.real, classes)
    with mock.patch.object(torch, "rand", lambda *_, **to: t.to(**to)):
        train_step(state, batch, options, with_generator=False)
        found["critic's gradients"] = flat([p.grad for p in discriminator.parameters()])
        terms = train_step(state, batch, options)
    found["generator's gradients"] = flat([p.grad for p in generator.parameters()])
    found |= {name: value for name, value in terms.items() if "norm" not in name}
    return {name: flat([value]) for name, value in found.items()}


def difference(ours: dict[str, Tensor], reference: dict[str, Tensor]) -> dict[str, float]:
    """``||ours - reference|| / ||reference||`` of each; a NaN is infinitely far away."""
    found = {}
    for name, theirs in reference.items():
        size = theirs.norm().clamp(min=LEAST_TERM)
        found[name] = ((ours[name] - theirs).norm() / size).nan_to_num(torch.inf).item()
    return found


def parity(device: torch.device, options: Options = SMALL) -> dict[str, dict[str, float]]:
    """How far a device is, in each precision, from double precision on the CPU.

    But for double precision, gradients are without those of the reconstruction: of two passes of
    the generator, single precision leaves one digit.
    """
    cpu, exact = torch.device("cpu"), torch.float64
    found = {"float64": difference(computed(options, device, exact), computed(options, cpu, exact))}
    options = replace(options, generator_reconstruction=0.0)
    reference = computed(options, cpu, exact)
    for name, precision in PRECISIONS.items():
        if precision.tf32 and device.type != "cuda":
            continue  # the CPU has none
        with backend(precision.tf32):
            ours = computed(replace(options, amp=precision.amp), device, torch.float32)
        found[name] = difference(ours, reference)
    return found


def beyond(found: dict[str, dict[str, float]]) -> list[str]:
    """What of :func:`parity` is further away than its precision may be."""
    return [
        f"{name}: {what} {value:.1e}"
        for name, values in found.items()
        for what, value in values.items()
        if value > tolerance_of(name, what)
    ]


def tolerance_of(precision: str, what: str) -> float:
    if precision not in PRECISIONS:
        return EXACT
    tolerances = PRECISIONS[precision]
    return tolerances.of_gradients if "gradients" in what else tolerances.tolerance


def out_of_channels_last(device: torch.device, options: Options = SMALL) -> list[str]:
    """The layers of both networks whose output is not in channels-last."""
    left = []

    def look(name: str, _module: nn.Module, _inputs: object, output: Tensor) -> None:
        if output.dim() == 4 and not output.is_contiguous(memory_format=torch.channels_last):
            left.append(name)

    state = TrainingState(*build_networks(options), options, device)
    images = torch.rand(2, 1, options.image_size, options.image_size, device=device)
    for player in state.players:
        for name, module in player.network.named_modules():
            if name and not isinstance(module, nn.ModuleList):
                module.register_forward_hook(lambda *arguments, name=name: look(name, *arguments))
        with torch.no_grad():
            player.network(images.contiguous(memory_format=torch.channels_last), HEALTHY)
    return left


def one_kind(options: Options, device: torch.device, graphs: bool = False) -> GraphTraining:
    """Training on one batch, half of it healthy, over and over."""
    stream = torch.Generator().manual_seed(0)
    size, number = options.image_size, options.batch_size
    images = 2 * torch.rand(number, 1, size, size, generator=stream) - 1
    return GraphTraining(options, device, images, torch.arange(number) % 2, graphs)


def weights_after(training: GraphTraining, iterations: int) -> Tensor:
    with training.on_stream():
        for _ in range(iterations):
            training.iterate()
        training.synchronize()
        return flat(
            [tensor for p in training.state.players for tensor in p.network.state_dict().values()]
        )


def resumed_difference(device: torch.device, options: Options = SMALL) -> float:
    """Largest difference of the weights of a run that was stopped and resumed from one that was
    not, in float32 with convolutions that repeat: 0 where it is the same to the bit."""
    options = replace(options, critic_steps=2)
    with backend(repeatable=True):
        whole, stopped, resumed = (one_kind(options, device) for _ in range(3))
        expected = weights_after(whole, 4)
        weights_after(stopped, 2)
        with resumed.on_stream():
            resumed.state.load_state_dict(copy.deepcopy(stopped.state.state_dict()))
        return (weights_after(resumed, 2) - expected).abs().max().item()


def graph_difference(device: torch.device, options: Options = SMALL) -> float:
    """Largest difference of the weights of a run by graphs from one without; 0 where equal."""
    options = replace(options, critic_steps=2)
    with backend(repeatable=True):
        plain, recorded = (one_kind(options, device, graphs) for graphs in (False, True))
        return (weights_after(plain, 12) - weights_after(recorded, 12)).abs().max().item()


def sentence_when_full(device: torch.device) -> str:
    """What a user reads where the memory of the GPU does not suffice."""
    try:
        with enough_memory():
            torch.empty(2**48, device=device)
    except UserError as error:
        return str(error)
    return ""


def iterate_without_waiting(device: torch.device, options: Options = SMALL) -> None:
    """Two iterations, one of them with the generator. Raises RuntimeError where the CPU waits."""
    options = replace(options, critic_steps=2, batch_size=4)
    images = torch.rand(24, 1, options.image_size, options.image_size)
    training = GraphTraining(options, device, images, torch.arange(24) % 2, graphs=False)
    weights_after(training, 2)  # a new epoch brings its indices, and Adam its state
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with training.on_stream():
            training.iterate()
            training.iterate()
    finally:
        torch.cuda.set_sync_debug_mode(mode)
