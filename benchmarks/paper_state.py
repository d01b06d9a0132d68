"""A training state for ``main.py`` of the weights of the paper's run at 64 x 64.

    python -m benchmarks.paper_state benchmarks/paper-64 --dataset-path warp-set-64 \\
        --save-dir runs/paper-64
    python main.py --resume --save-dir runs/paper-64

It stands at the iteration where their curve ends. The weights were kept in half precision and the
moments of Adam not at all, so the run goes on from there, but not to the same bits.
"""

import sys
from pathlib import Path

import torch

from benchmarks import paper_weights
from descargan.checkpoints import Run, read_weights, sizes_of
from descargan.cli import Parser, run
from descargan.distributed import Process
from descargan.errors import UserError
from descargan.files import write_json
from descargan.settings import settle
from descargan.training import Training, describe_run


def begin(weights: Path, dataset_path: Path, save_dir: Path) -> int:
    """Write the state of the paper's recipe that goes on from ``weights``. Returns its iteration.

    Raises UserError where there are no weights, or ``save_dir`` holds a run already.
    """
    paper_weights.read_curve(weights)
    if Run(save_dir, "Synthetic").is_used():
        raise UserError(f"{save_dir} holds a run: pass another --save-dir")
    sizes = sizes_of(*(read_weights(weights / name) for name in paper_weights.WEIGHTS))
    options = settle({**sizes, "dataset_path": dataset_path, "save_dir": save_dir})
    training = Training(options, torch.device("cpu"), Process())
    paper_weights.go_on(training.state, weights)
    save_dir.mkdir(parents=True, exist_ok=True)
    write_json(training.run.options, describe_run(options, training.fingerprint))
    training.save()
    return training.state.iteration


def build_parser() -> Parser:
    parser = Parser(description=__doc__.split("\n\n")[0])
    parser.add_argument("weights", type=Path, help="folder of the weights and their curve")
    parser.add_argument("--dataset-path", type=Path, required=True, help="the synthetic data set")
    parser.add_argument("--save-dir", type=Path, required=True, help="folder of the run to begin")
    return parser


def main() -> None:
    typed = build_parser().parse_args()
    iteration = begin(typed.weights, typed.dataset_path, typed.save_dir)
    print(f"{typed.save_dir} stands at iteration {iteration}, with a fresh Adam")


if __name__ == "__main__":
    sys.exit(run(main))
