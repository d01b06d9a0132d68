"""Runs of main.py for a benchmark: trained and tested once, and kept."""

import json
import resource
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from descargan.files import write_json

MAIN = Path(__file__).resolve().parents[1] / "main.py"
# What tables show of a test, and how they call it.
COLUMNS = {
    "pixel_auroc": "pixel AUROC",
    "pixel_auprc": "pixel AUPRC",
    "dice_validated": "Dice, threshold of validation",
    "auroc_anomaly": "AUROC of the anomaly score",
    "auroc_class": "AUROC of the classifier",
    "accuracy": "class accuracy",
}
RECIPE = ("--recipe", "fast", "--image-size", "64")


def parse(parser: ArgumentParser) -> tuple[Namespace, list[str]]:
    """The command line up to ``--``, and what stands after it, for main.py.

    argparse takes what follows ``--`` only where no option stands before it.
    """
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    return parser.parse_args(words[:end]), words[end + 1 :]


def train_and_test(folder: Path, data: Sequence[object], recipe: Sequence[object]) -> dict:
    """What the test of a run says, its ``metrics.json``; trained and tested where it is not yet.

    ``data``: the options that name the data set; ``recipe``: those of its training. A run that was
    stopped goes on. The minutes of the processor that the training took stand in ``about.json``,
    from its last start on.
    """
    results = folder / "results" / "test" / "metrics.json"
    if not results.exists():
        common = ["--save-dir", folder, "--visdom", "off", *data]
        before = seconds_of_children()
        run_main(*common, *recipe, "--resume", "auto")
        minutes = (seconds_of_children() - before) / 60
        write_json(folder / "about.json", {"cpu_minutes": minutes})
        run_main(*common, "--mode", "test")
    return json.loads(results.read_text())


def seconds_of_children() -> float:
    """Of the processor, by the processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_main(*words: object) -> None:
    """main.py in a process of its own. Raises CalledProcessError where it fails."""
    subprocess.run([sys.executable, str(MAIN), *map(str, words)], check=True)


def value_of(metrics: dict, name: str) -> float | None:
    """A metric of a test, or None where it was not measured."""
    return metrics.get(name, {}).get("value")


def cell(values: Sequence[float | None]) -> str:
    """Numbers of several seeds for a table: their mean, and the smallest and the largest."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    mean = f"{sum(known) / len(known):.3f}"
    return mean if len(known) == 1 else f"{mean} ({min(known):.3f} to {max(known):.3f})"


def row(cells: Sequence[object]) -> str:
    """A row of a table in Markdown."""
    return "| " + " | ".join(map(str, cells)) + " |"


def header(titles: Sequence[str]) -> str:
    return row(titles) + "\n" + row(["---"] * len(titles))
