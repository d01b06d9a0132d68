"""The results of several tests side by side.

    python -m descargan.comparison RESULTS RESULTS ...

Each RESULTS is what ``main.py --mode test`` wrote, with its ``metrics.json``.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # before what it looks for
    import descargan.installed  # noqa: F401

from descargan.cli import Parser, run
from descargan.errors import FileError
from descargan.files import read_json
from descargan.scores import decimals, title_of

SHOWN = ("pixel_auroc", "pixel_auprc", "dice_stored", "counterpart_mse", "input_mse", "accuracy")
SHOWN += ("auroc_anomaly",)


def compare(folders: Sequence[Path]) -> list[tuple[str, ...]]:
    """The name of each metric that all tests have, and its value in each."""
    found = [read_metrics(folder) for folder in folders]
    shared = [name for name in SHOWN if all(name in metrics for metrics in found)]
    return [
        (title_of(name), *(text(metrics[name]["value"]) for metrics in found)) for name in shared
    ]


def read_metrics(folder: Path) -> dict[str, dict]:
    """Raises UserError where the folder holds no results of a test."""
    path = folder / "metrics.json"
    metrics = read_json(path).get("metrics") if path.is_file() else None
    if metrics is None:
        raise FileError(f"{folder} holds no metrics.json of a test: pass a folder of results")
    try:
        for entry in metrics.values():
            text(entry["value"])
    except (AttributeError, KeyError, TypeError, ValueError):
        raise FileError(f"{path} is damaged: restore or remove it") from None
    return metrics


def text(value: float | None) -> str:
    return "undefined" if value is None else decimals(value)


def build_parser() -> Parser:
    parser = Parser(description="The results of several tests side by side.")
    parser.add_argument("results", nargs="+", type=Path, help="folders that tests wrote")
    return parser


def main() -> None:
    folders = build_parser().parse_args().results
    rows = [("", *map(str, folders)), *compare(folders)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for title, *values in rows:
        cells = [value.rjust(w) for value, w in zip(values, widths[1:], strict=True)]
        print("  ".join([title.ljust(widths[0]), *cells]))


if __name__ == "__main__":
    sys.exit(run(main))
