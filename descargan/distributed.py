"""Several processes, started by torchrun: who is who, and what they agree on.

Gradients are averaged by hand. DistributedDataParallel reduces in hooks of one backward pass of its
own forward, which the two backward passes of the critic, one of them double, do not fit.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

PATIENCE = timedelta(hours=6)  # while the first process validates, the others wait for it


class Process(NamedTuple):
    """This process among ``world``; rank 0 alone logs, saves and talks to the dashboard."""

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0


@contextmanager
def process_group(device: torch.device) -> Iterator[Process]:
    """The group that torchrun has started, over NCCL on CUDA and gloo on the CPU; else alone."""
    if "RANK" not in os.environ:
        yield Process()
        return
    store, rank, world = next(dist.rendezvous("env://"))
    # A restarted run would read the addresses of the one before it from the same store.
    store = dist.PrefixStore(f"restart {restarts()}", store)
    backend = "nccl" if device.type == "cuda" else "gloo"
    settings = {"store": store, "rank": rank, "world_size": world, "timeout": PATIENCE}
    dist.init_process_group(backend, **settings)
    try:
        yield Process(dist.get_rank(), dist.get_world_size())
        dist.barrier()  # one that leaves early takes connections from under the others
    finally:
        dist.destroy_process_group()


def local_rank() -> int:
    """Number of this process on its machine: the GPU it takes."""
    return int(os.environ.get("LOCAL_RANK", 0))


def restarts() -> int:
    """How many times torchrun has started this process again after a failure."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))


def average(tensors: list[Tensor], process: Process) -> None:
    """Replace each tensor by its mean over the processes, in one message."""
    if process.world == 1 or not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    flat /= process.world
    for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))


def average_gradients(network: nn.Module, process: Process) -> None:
    """Mean over the processes of the gradient of each parameter; none counts as 0."""
    if process.world == 1:
        return
    for parameter in network.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    average([parameter.grad for parameter in network.parameters()], process)


def largest(number: int, device: torch.device, process: Process) -> int:
    """The largest ``number`` of any process."""
    if process.world == 1:
        return number
    shared = torch.tensor(number, device=device)
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return int(shared)


def same_weights(network: nn.Module, process: Process) -> None:
    """Give every process the parameters and buffers of the first."""
    if process.world > 1:
        for tensor in network.state_dict().values():
            dist.broadcast(tensor, src=0)
