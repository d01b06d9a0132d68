"""The weights of the paper's run at 64 x 64 in half precision, and how the run goes on from them.

``benchmarks/cuda.py`` writes them beside their curve and goes on from them with ``--from``;
``benchmarks/paper_state.py`` makes a training state for ``main.py`` of them. Either way Adam begins
anew, as its moments are not kept.
"""

import json
from pathlib import Path

import torch

from descargan.checkpoints import load_weights
from descargan.errors import FileError
from descargan.steps import TrainingState

CURVE = "curve-64.jsonl"
WEIGHTS = ("generator-64.pt", "discriminator-64.pt")


def write(state: TrainingState, folder: Path) -> None:
    """The weights that are tested, in half precision."""
    for name, weights in zip(WEIGHTS, state.weights(), strict=True):
        halved = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
        torch.save(halved, folder / name)


def read_curve(folder: Path) -> list[dict]:
    """The points of the run so far. Raises FileError where the folder holds no such run."""
    for name in (CURVE, *WEIGHTS):
        if not (folder / name).is_file():
            raise FileError(f"{folder / name} does not exist: pass what benchmarks.cuda has left")
    try:
        points = [json.loads(line) for line in (folder / CURVE).read_text().splitlines()]
        points[-1]["iteration"]
    except (ValueError, LookupError, TypeError):
        raise FileError(f"{folder / CURVE} is damaged: restore it") from None
    return points


def go_on(state: TrainingState, folder: Path) -> None:
    """Give a new state the weights in a folder and the iteration where their curve ends."""
    iteration = read_curve(folder)[-1]["iteration"]
    for player, name in zip(state.players, WEIGHTS, strict=True):
        load_weights(player.network, folder / name)
    state.averaged.load_state_dict(state.generator.network.state_dict())
    state.iteration = iteration
