"""The project's own training iterations, recorded once as CUDA graphs and then replayed.

An iteration at 64 x 64 is about a thousand kernels of a few microseconds, which Python starts more
slowly than a GPU runs them; a graph starts them all at once. It repeats what was recorded, with the
same classes, so the images of a batch are sorted, healthy first: one graph for each number of
healthy images and each kind of iteration serves all batches. No loss depends on their order.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from descargan.data import ImageDataset, random_flips, random_stream, shuffled_batches
from descargan.models import build_networks
from descargan.options import Options
from descargan.steps import Batch, Terms, TrainingState, train_step


class KeptConstants(TorchFunctionMode):
    """Sends every small tensor of the CPU to the device once: a graph cannot copy from the CPU.

    What ``Tensor.to`` gave for equal values is given again. Nobody may change it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple, Tensor] = {}

    def __torch_function__(self, func, types, args=(), kwargs=None):  # noqa: ANN204
        kwargs = kwargs or {}
        if func is not torch.Tensor.to or args[0].device.type != "cpu":
            return func(*args, **kwargs)
        source = args[0]
        values = (source.dtype, tuple(source.shape), *source.flatten().tolist())
        key = (values, *map(described, (*args[1:], *kwargs.items())))
        if key not in self.kept:
            self.kept[key] = func(*args, **kwargs)
        return self.kept[key]


def described(argument: object) -> object:
    """What an argument of ``Tensor.to`` says: a tensor, its device and type."""
    if isinstance(argument, Tensor):
        return argument.device, argument.dtype
    return argument


class Kind(NamedTuple):
    """What the kernels of an iteration depend on."""

    size: int
    healthy: int
    with_generator: bool


class Recorded(NamedTuple):
    """A graph and the indices (B,) of the images that it trains on, which are written before."""

    graph: torch.cuda.CUDAGraph
    chosen: Tensor


class GraphTraining:
    """Training whose images are all on the device; on the CPU the same, without graphs.

    The order of the images is the product's, and so are the seeds of each iteration; as the images
    of a batch are sorted, each gets another one's noise. All that trains must run within
    :meth:`on_stream`: a graph is not recorded on the default stream.
    """

    def __init__(
        self,
        options: Options,
        device: torch.device,
        images: Tensor,
        classes: Tensor,
        graphs: bool = True,
    ) -> None:
        self.options, self.device = options, device
        self.graphs = graphs and device.type == "cuda"
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.constants = KeptConstants() if self.graphs else nullcontext()
        self.recorded: dict[Kind, Recorded | None] = {}
        self.terms: dict[bool, tuple[list[str], Tensor]] = {}  # by "with generator"
        self.pool = torch.cuda.graph_pool_handle() if self.graphs else None
        torch.manual_seed(options.seed)
        networks = build_networks(options)
        with self.on_stream():
            self.images, self.classes = images.to(device), classes
            self.state = TrainingState(*networks, options, device)
        for player in self.state.players:
            for group in player.optimizer.param_groups:
                group["capturable"] = self.graphs
        self.per_epoch = len(self.batches_of(0))
        self.epoch, self.batches = -1, []

    @classmethod
    def of(
        cls, options: Options, device: torch.device, dataset: ImageDataset, graphs: bool = True
    ) -> "GraphTraining":
        images, _, classes = dataset.__getitems__(list(range(len(dataset))))
        return cls(options, device, images, classes, graphs)

    def on_stream(self) -> AbstractContextManager:
        return torch.cuda.stream(self.stream) if self.stream else nullcontext()

    def batches_of(self, epoch: int) -> list[Tensor]:
        options = self.options
        return shuffled_batches(self.classes, options.batch_size, options.seed, epoch)

    def iterate(self) -> None:
        """The next iteration; the device may still be at work when this returns."""
        state, options = self.state, self.options
        epoch, done = divmod(state.iteration, self.per_epoch)
        if epoch != self.epoch:
            self.epoch = epoch
            self.batches = [sort_by_class(b, self.classes) for b in self.batches_of(epoch)]
            joined = torch.cat(self.batches).to(self.device)
            self.indices = joined.split([len(batch) for batch in self.batches])
        torch.manual_seed(random_stream(options.seed, 1, state.iteration, 0))
        state.iteration += 1
        with_generator = state.iteration % options.critic_steps == 0
        healthy = int((self.classes[self.batches[done]] == 0).sum())
        kind = Kind(len(self.batches[done]), healthy, with_generator)
        self.run(kind, self.indices[done])

    def run(self, kind: Kind, chosen: Tensor) -> None:
        """The first iteration of a kind warms up, the second is recorded; each trains once."""
        if not self.graphs or kind not in self.recorded:
            with self.constants:
                self.step(kind, chosen)
            self.recorded[kind] = None
            return
        if self.recorded[kind] is None:
            self.recorded[kind] = self.record(kind, chosen.clone())
        recorded = self.recorded[kind]
        recorded.chosen.copy_(chosen)
        recorded.graph.replay()

    @property
    def number_of_graphs(self) -> int:
        """Kinds of iteration that are replayed by now."""
        return sum(recorded is not None for recorded in self.recorded.values())

    def record(self, kind: Kind, chosen: Tensor) -> Recorded:
        """The graph of an iteration, which recording does not run.

        All graphs share their memory: nothing in it outlives its iteration.
        """
        graph = torch.cuda.CUDAGraph()
        with self.constants, torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
            self.step(kind, chosen)
        return Recorded(graph, chosen)

    def step(self, kind: Kind, chosen: Tensor) -> None:
        """The product's iteration; its terms go to memory that no graph shares."""
        options = self.options
        images = self.images[chosen].contiguous(memory_format=torch.channels_last)
        images = random_flips(images, options.flip != "none", options.flip == "both")
        noise = options.noise * torch.rand_like(images)
        classes = (torch.arange(kind.size) >= kind.healthy).long()
        batch = Batch(images, classes, noise, classes)
        self.keep(train_step(self.state, batch, options, kind.with_generator), kind)

    def keep(self, terms: Terms, kind: Kind) -> None:
        values = torch.stack([value.detach().float() for value in terms.values()])
        if kind.with_generator not in self.terms:
            self.terms[kind.with_generator] = list(terms), torch.empty_like(values)
        self.terms[kind.with_generator][1].copy_(values)

    def latest(self) -> dict[str, float]:
        """The loss terms of the latest iteration of each kind, in one wait."""
        found = {}
        for with_generator in (True, False):
            if with_generator in self.terms:
                names, values = self.terms[with_generator]
                found |= dict(zip(names, values.tolist(), strict=True))
        return found

    def synchronize(self) -> None:
        if self.stream:
            self.stream.synchronize()

    def finish(self) -> None:
        """Free the graphs, and what they share."""
        self.synchronize()
        self.recorded.clear()


def sort_by_class(batch: Tensor, classes: Tensor) -> Tensor:
    """The indices of a batch, those of healthy images first, otherwise in their order."""
    return batch[classes[batch].argsort(stable=True)]


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """All numbers of several tensors as one, in double precision on the CPU."""
    return torch.cat([tensor.detach().double().cpu().flatten() for tensor in tensors])
