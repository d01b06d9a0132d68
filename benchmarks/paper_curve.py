"""The curve of the paper's run at 64 x 64, as a figure and as the table of docs/results.md.

    python -m benchmarks.paper_curve benchmarks/paper-64/curve-64.jsonl --output docs/paper-64.png

The curve is a line of JSON for each reading of the validation split, as ``benchmarks/cuda.py``
writes it. A vertical line marks a point with a note of its optimizer: the run went on from weights
there, with a fresh Adam.
"""

import json
import sys
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.runs import header, row
from descargan.cli import Parser, run
from descargan.figures import save_figure

# Columns of the table, by the names of the curve.
COLUMNS = {
    "pixel_auroc": "pixel AUROC",
    "pixel_auprc": "pixel AUPRC",
    "best dice": "Dice, best threshold",
    "mse_healthy": "MSE(a_h, r_h)",
    "map_mse": "MSE of maps",
    "accuracy": "class accuracy",
}
PANELS = (
    ("pixel_auroc", "accuracy"),
    ("pixel_auprc", "best dice"),
    ("mse_healthy", "map_mse"),
)


def table(points: list[dict]) -> str:
    """A row for each reading, in markdown; what was not read is left empty."""
    lines = [header(["iterations", *COLUMNS.values()])]
    for point in points:
        read = (f"{point[name]:.3f}" if name in point else "" for name in COLUMNS)
        lines.append(row([f"{point['iteration']:,}", *read]))
    return "\n".join(lines)


def figure(points: list[dict]) -> Figure:
    """Iterations against what was read, similar sizes in one panel."""
    drawn = Figure(figsize=(10, 2.8), layout="constrained")
    FigureCanvasAgg(drawn)
    for axes, names in zip(drawn.subplots(1, len(PANELS)), PANELS, strict=True):
        draw(axes, names, points)
    return drawn


def draw(axes: Axes, names: tuple[str, ...], points: list[dict]) -> None:
    trained = points[1:]  # errors of the untrained networks would hide all others
    for name in names:
        read = [(point["iteration"] / 1000, point[name]) for point in trained if name in point]
        axes.plot(*zip(*read, strict=True), "o-", ms=3, label=COLUMNS[name])
    for point in trained:
        if "optimizer" in point:
            axes.axvline(point["iteration"] / 1000, color="grey", lw=0.8)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("thousand iterations")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower left")


def build_parser() -> Parser:
    parser = Parser(description=__doc__.split("\n\n")[0])
    parser.add_argument("curve", type=Path, help="file of JSON lines")
    parser.add_argument("--output", type=Path, required=True, help="picture to write")
    return parser


def main() -> None:
    typed = build_parser().parse_args()
    points = [json.loads(line) for line in typed.curve.read_text().splitlines()]
    save_figure(figure(points), typed.output)
    print(table(points))


if __name__ == "__main__":
    sys.exit(run(main))
