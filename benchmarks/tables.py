"""Time and memory of reading, splitting and matching a table of CheXpert's size.

    python benchmarks/tables.py

makes up a folder of 223,000 rows of 65,000 patients in a temporary folder (files without content,
since no image is read), then selects, finds the files, splits, matches and measures the shortcuts
as prepare_chexpert.py does before it reads the first image.
"""

import csv
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from descargan.preparation import Options, Source, choose, divide, find_shortcuts
from descargan.tables import collect, header_of, load_preset, with_traits

ROWS, PATIENTS = 223_000, 65_000
FINDINGS = ("No Finding", "Lung Opacity", "Edema", "Pleural Effusion")


def make_up(root: Path) -> Path:
    """A table and its files; a tenth are without finding, two fifths have an effusion."""
    draw = random.Random(0)
    table = root / "train.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS])
        for number in range(ROWS):
            path = (
                f"train/patient{number % PATIENTS:05}/study{number // PATIENTS}/view1_frontal.jpg"
            )
            (root / path).parent.mkdir(parents=True)
            (root / path).touch()
            finding = draw.choices(FINDINGS, (0.1, 0.3, 0.2, 0.4))[0]
            labels = ["1.0" if name == finding else "" for name in FINDINGS]
            about = [draw.choice(["Male", "Female"]), draw.randint(18, 90), "Frontal"]
            writer.writerow([f"release/{path}", *about, draw.choice(["AP", "PA"]), *labels])
    return table


def measure(name: str, work: Callable[[], object]) -> object:
    start = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name:<10} {seconds:6.1f} s, at most {peak:4.0f} MB so far")
    return result


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = make_up(Path(folder))
        preset = load_preset("chexpert").selection
        selection = with_traits(preset, (), header_of(table))
        options = Options(Path(folder) / "out", match=("Sex",))
        items, left_out = measure("select", lambda: collect([table], Path(folder), selection))
        source = Source(items, ("Healthy control", "Diseased"), left_out, selection.traits)
        by_split = measure("split", lambda: divide(source, options))
        plans, *_ = measure("match", lambda: choose(by_split, source, options))
        measure("shortcuts", lambda: find_shortcuts(plans, selection.traits, options.seed))
        print(f"{ROWS} rows, {len(items)} of the two classes, {len(plans)} matched")


if __name__ == "__main__":
    main()
