"""What the paper's run at 64 x 64 has come to with ``main.py``, back beside its curve.

    python -m benchmarks.paper_keep runs/paper-64 benchmarks/paper-64

The curve gets a point for each validation since it ended, and one of the weights as they are now,
with the best Dice, which trainings do not read; its seconds are those of the GPU that began it. The
weights are replaced, in half precision.
"""

import sys
from pathlib import Path

import torch

from benchmarks import paper_weights
from benchmarks.cuda_recipe import FRESH, read_validation
from descargan.cli import Parser, run
from descargan.distributed import Process
from descargan.errors import UserError
from descargan.files import write_json_lines
from descargan.settings import settle
from descargan.training import Training
from descargan.translator import Translator


def keep(save_dir: Path, folder: Path) -> dict[str, float]:
    """Write curve and weights of the run in ``save_dir``. Returns the last point.

    Raises UserError where the run is none that goes on, or is not further than the curve.
    """
    points = paper_weights.read_curve(folder)
    options = settle({"save_dir": save_dir, "resume": "on"})
    training = Training(options, torch.device("cpu"), Process())
    training.state.load_state_dict(training.load_fitting_state())
    ended, now = points[-1]["iteration"], training.state.iteration
    if now <= ended:
        raise UserError(f"{save_dir} is at iteration {now}, and the curve at {ended}: train on")
    if not any("optimizer" in point for point in points):
        points.append({**points[-1], "optimizer": FRESH})
    seconds = {"seconds": points[-1]["seconds"]}
    for record in training.run.read_metrics():
        if record["kind"] == "validation" and ended < record["iteration"] < now:
            points.append({**record, **seconds})
    state = training.state
    translator = Translator(state.averaged, state.discriminator.network)
    read = read_validation(translator, training.validation)
    points.append({"iteration": now, **seconds, **read})
    write_json_lines(folder / paper_weights.CURVE, points)
    paper_weights.write(state, folder)
    return points[-1]


def build_parser() -> Parser:
    parser = Parser(description=__doc__.split("\n\n")[0])
    parser.add_argument("save_dir", type=Path, help="folder of the run")
    parser.add_argument("weights", type=Path, help="folder of the weights and their curve")
    return parser


def main() -> None:
    typed = build_parser().parse_args()
    point = keep(typed.save_dir, typed.weights)
    print(f"{typed.weights} stands at iteration {point['iteration']}")


if __name__ == "__main__":
    sys.exit(run(main))
