"""The project on a CUDA GPU: does it compute the same, how fast, and what does its recipe find?

    python -m benchmarks.cuda --device cuda --budget 480
    python -m benchmarks.cuda --device cpu --tiny

Four parts, or those that --part names: "checks" against the CPU, "speed", the paper's "recipe" on
the synthetic data set at 64 x 64 by CUDA graphs and then at 256 x 256, and "compile", the speed
under torch.compile. A part that fails is reported, and the next goes on. All that is found stands
in OUT/cuda.json and, as tables, in OUT/cuda.md after each part; the curves of the recipe are
written point by point.
"""

import platform
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks import cuda_checks, cuda_recipe, cuda_speed
from descargan import __version__
from descargan.cli import Parser, run
from descargan.device import choose_device, speed_up_process
from descargan.files import without_nan, write_atomically, write_json

Table = list[dict[str, object]]


class Bench(NamedTuple):
    """Where, how large and until when: what every part is told."""

    device: torch.device
    tiny: bool
    out: Path
    deadline: float  # of time.monotonic()

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def check(bench: Bench) -> dict[str, Table]:
    """Each check is done, and reported, by itself."""
    options = cuda_checks.SMALL
    if bench.tiny:
        options = cuda_speed.shrunk(options)
    on_cuda = bench.device.type == "cuda"
    table: Table = []
    parity: Table = []

    def report(name: str, call: Callable[[], object], right: Callable[[object], bool]) -> object:
        try:
            found = call()
            table.append({"check": name, "as it should be": right(found), "found": str(found)})
        except Exception as error:
            traceback.print_exc()
            found = None
            table.append({"check": name, "as it should be": False, "found": repr(error)[:300]})
        say(f"{name}: {table[-1]['found']}")
        return found

    def compare() -> list[str]:
        found = cuda_checks.parity(bench.device, options)
        for what in next(iter(found.values())):
            parity.append({"relative error of": what} | {k: v[what] for k, v in found.items()})
        return cuda_checks.beyond(found)

    nothing = [].__eq__
    report("beyond its tolerance", compare, nothing)
    layers = lambda: cuda_checks.out_of_channels_last(bench.device, options)  # noqa: E731
    report("layers that leave channels-last", layers, nothing)
    resume = lambda: cuda_checks.resumed_difference(bench.device, options)  # noqa: E731
    report("weights of a resumed run, largest difference", resume, (0.0).__eq__)
    if on_cuda:
        graphs = lambda: cuda_checks.graph_difference(bench.device, options)  # noqa: E731
        report("weights of a run by graphs, largest difference", graphs, lambda x: x < 1e-4)
        waiting = lambda: cuda_checks.iterate_without_waiting(bench.device, options)  # noqa: E731
        report("the loop waits for the device", waiting, lambda x: x is None)
        full = lambda: cuda_checks.sentence_when_full(bench.device)  # noqa: E731
        report("out of memory", full, lambda x: "--batch-size" in x)
    for what in ("values", "gradients"):
        tolerances = {
            name: cuda_checks.tolerance_of(name, what)
            for name in ("float64", *cuda_checks.PRECISIONS)
        }
        parity.append({"relative error of": f"tolerance of {what}"} | tolerances)
    return {"checks": table, "parity": parity}


PARTS: dict[str, Callable[[Bench], dict[str, object]]] = {
    "checks": check,
    "speed": lambda bench: cuda_speed.measure_all(bench, say),
    "recipe": lambda bench: cuda_recipe.run_all(bench, say),
    "compile": lambda bench: cuda_speed.measure_compiled(bench, say),
}


def about(bench: Bench) -> dict[str, object]:
    """The machine and its software."""
    described = {
        "descargan": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": str(bench.device),
        "tiny": bench.tiny,
    }
    if bench.device.type == "cuda":
        properties = torch.cuda.get_device_properties(bench.device)
        described |= {
            "gpu": properties.name,
            "memory, GiB": round(properties.total_memory / 2**30, 1),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return described


def as_markdown(found: dict[str, object]) -> str:
    """The tables of all parts; a list of rows is a table, all else a line."""
    lines = ["# On a CUDA GPU", "", *(f"- {k}: {v}" for k, v in found["about"].items()), ""]
    for name, part in found.items():
        if name == "about":
            continue
        rows = part if isinstance(part, list) else [part]
        columns = list(dict.fromkeys(column for row in rows for column in row))
        lines += [f"## {name}", "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
        lines += [f"| {' | '.join(cell(row.get(c, '')) for c in columns)} |" for row in rows]
        lines.append("")
    return "\n".join(lines)


def cell(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def build_parser() -> Parser:
    parser = Parser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--budget", type=float, default=480, help="seconds (default: 480)")
    parser.add_argument("--part", choices=PARTS, action="append", help="default: all")
    parser.add_argument("--tiny", action="store_true", help="as small as it runs at all")
    parser.add_argument("--out", type=Path, default=Path("cuda"), help="default: ./cuda")
    return parser


def main(arguments: list[str] | None = None) -> int:
    typed = build_parser().parse_args(arguments)
    device = choose_device(typed.device)
    speed_up_process()
    typed.out.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + typed.budget
    bench = Bench(device, typed.tiny, typed.out, deadline)
    found: dict[str, object] = {"about": about(bench)}
    say(str(found["about"]))
    for name in typed.part or PARTS:
        say(f"--- {name}, {bench.left:.0f} s left")
        try:
            found |= PARTS[name](bench)
        except Exception as error:
            traceback.print_exc()
            found[f"{name}, failed"] = {"error": repr(error)[:500]}
        write_json(typed.out / "cuda.json", without_nan(found))
        write_atomically(typed.out / "cuda.md", as_markdown(found).encode())
    print(as_markdown(found), flush=True)
    return int(any("failed" in name for name in found))


if __name__ == "__main__":
    sys.exit(run(main))
