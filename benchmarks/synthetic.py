"""How well each method finds the disease of the synthetic data set, on one protocol.

    python create_synthetic_dataset.py --image-size 64 --output warp-set-64
    python -m benchmarks.synthetic run fast --seeds 0 1 2          # one recipe, three seeds
    python -m benchmarks.synthetic run autoencoder --minutes 20
    python -m benchmarks.synthetic run fast --name "fast, no decay" -- --decay none   # a variant
    python -m benchmarks.synthetic report                          # docs/results.md's table, figure
    python -m benchmarks.synthetic ship runs/benchmark/both-flow save_nets/pretrained

The data set is that of seed 0. Training sees images and classes; the validation split chooses the
threshold of the maps; the test split is read once, by the weights after the last epoch. ``run``
writes to runs/benchmark/NAME-SEED/results what ``main.py --mode test`` writes; what stands after
``--`` goes to ``main.py``.
"""

import argparse
import importlib
import json
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from benchmarks.baselines import Budget, Explain, Training
from benchmarks.baselines.trivial import MAPS
from benchmarks.compare import findings
from descargan import DISEASED, scores, testing
from descargan.checkpoints import Run, read_weights, write_file
from descargan.data import ImageDataset
from descargan.device import speed_up_process
from descargan.figures import save_figure
from descargan.files import read_json, without_nan, write_json
from descargan.names import map_names
from descargan.settings import saved_options

MAIN = Path(__file__).resolve().parents[1] / "main.py"
RECIPES = ("fast", "deformation", "paper")
BASELINES = ("autoencoder", "vae", "va_gan", "saliency")
SIZES = ("--image-size", "64", "--base-filters", "16", "--critic-filters", "16")
COLUMNS = {
    "pixel_auroc": "pixel AUROC",
    "pixel_auprc": "pixel AUPRC",
    "dice_validated": "Dice, validated threshold",
    "dice": "Dice at 0.44",
    "map_ssim": "SSIM of maps",
    "map_mse": "MSE of maps",
    "counterpart_mse": "MSE to true counterpart",
    "mse_healthy": "MSE(a_h, r_h)",
    "accuracy": "class accuracy",
}
# Names of methods in words, as the tables and the figure have them.
TITLES = {
    "fast": "DeScarGAN, fast recipe",
    "deformation": "DeScarGAN, deformation recipe",
    "paper": "DeScarGAN, the paper's recipe",
    "va_gan": "VA-GAN style",
    "saliency": "saliency of a classifier",
    "vae": "variational autoencoder",
}
SHOWN = 4


def run_recipe(name: str, recipe: str, seed: int, data: Path, out: Path, extra: list[str]) -> None:
    """Train and test with main.py: the weights after the last epoch, and the best on validation."""
    folder = out / f"{name}-{seed}"
    common = ["--dataset-path", data, "--save-dir", folder, "--visdom", "off"]
    training = ["--recipe", recipe, "--seed", seed, "--resume", "auto", *SIZES, *extra]
    main = [sys.executable, MAIN, *common]
    start = time.monotonic()
    subprocess.run([str(x) for x in [*main, *training]], check=True)
    minutes = (time.monotonic() - start) / 60
    for weights, results in (("best", "results-best"), ("last", "results")):
        test = ["--mode", "test", "--weights", weights, "--results-dir", folder / results]
        subprocess.run([str(x) for x in [*main, *test]], check=True)
    write_json(folder / "about.json", {"training_minutes": minutes})


def run_baseline(name: str, seed: int, data: Path, out: Path, minutes: float) -> None:
    """Train and test one of benchmarks/baselines."""
    module = importlib.import_module(f"benchmarks.baselines.{name}")
    splits = {split: open_split(data, split) for split in ("train", "validate", "test")}
    images, _, classes = splits["train"].__getitems__(range(len(splits["train"])))
    training = Training(images, classes, flips=(True, True), augmented=False)
    explain = module.train(training, Budget(60 * minutes), seed)
    evaluate(explain, splits["validate"], splits["test"], out / f"{name}-{seed}")
    write_json(out / f"{name}-{seed}" / "about.json", {"training_minutes": minutes})


def run_trivial(data: Path, out: Path) -> None:
    splits = [open_split(data, split) for split in ("validate", "test")]
    for name, explain in MAPS.items():
        evaluate(explain, *splits, out / f"{name}-0")


def open_split(data: Path, split: str) -> ImageDataset:
    size = json.loads((data / "dataset.json").read_text())["image_size"]
    return ImageDataset("Synthetic", data, split, size)


def evaluate(
    explain: Explain, validation: ImageDataset, dataset: ImageDataset, folder: Path
) -> None:
    """Metrics and maps of a method, in the form of main.py's test."""
    torch.manual_seed(0)
    thresholds = scores.Thresholds(
        scores.choose_threshold(findings(explain, validation)), scores.NO_READING
    )
    maps = folder / "results" / "difference_maps"
    maps.mkdir(parents=True, exist_ok=True)
    rows, files = [], maps_of(dataset)
    for index, finding in enumerate(findings(explain, dataset)):
        rows.append(scores.describe_image(dataset.name(index), finding, thresholds))
        np.save(maps / files[index], finding.difference)
    summary = scores.summarise(rows)
    write_json(folder / "results" / "metrics.json", without_nan({"metrics": summary}))
    testing.print_table({scores.title_of(n): scores.interval_text(v) for n, v in summary.items()})


def maps_of(dataset: ImageDataset) -> list[str]:
    """Names of the files of difference maps of a split."""
    return map_names([dataset.name(index) for index in range(len(dataset))])


def report(data: Path, out: Path, figure: Path) -> None:
    """Print the table of all results, mean and range over the seeds, and draw the figure."""
    methods: dict[str, list[Path]] = {}
    for path in sorted(out.glob("*-*/results*/metrics.json")):
        name = path.parents[1].name.rpartition("-")[0]
        name = TITLES.get(name, name)
        name += " (best on validation)" if path.parent.name == "results-best" else ""
        methods.setdefault(name, []).append(path)
    print("| method | seeds | minutes | " + " | ".join(COLUMNS.values()) + " |")
    print("| --- " * (3 + len(COLUMNS)) + "|")
    for name, paths in methods.items():
        seeds = [json.loads(path.read_text())["metrics"] for path in paths]
        about = [path.parents[1] / "about.json" for path in paths]
        minutes = [json.loads(p.read_text())["training_minutes"] for p in about if p.exists()]
        cells = [f"{np.mean(minutes):.0f}" if minutes else ""]
        for column in COLUMNS:
            values = [s[column]["value"] for s in seeds if s.get(column, {}).get("n")]
            cells.append(cell(values))
        print(f"| {name} | {len(paths)} | " + " | ".join(cells) + " |")
    report_choice(out)
    draw(methods, open_split(data, "test"), figure)
    print(f"figure: {figure}")


def report_choice(out: Path) -> None:
    """Pixel AUPRC on validation: of the choice without pixel labels, the last, and the oracle's."""
    print("\n| run | chosen (epoch) | last | oracle (epoch) |\n| --- | --- | --- | --- |")
    for folder in sorted(path.parent for path in out.glob("*/results-best")):
        history = (folder / "metrics_synthetic.jsonl").read_text()
        lines = [json.loads(line) for line in history.splitlines()]
        trained = [x for x in lines if x["kind"] == "validation" and x["iteration"]]
        chosen = max(trained, key=lambda x: -np.inf if x["choice"] is None else x["choice"])
        oracle = max(trained, key=lambda x: x["pixel_auprc"])
        cells = [f"{x['pixel_auprc']:.3f} ({x['epoch']:g})" for x in (chosen, oracle)]
        print(f"| {folder.name} | {cells[0]} | {trained[-1]['pixel_auprc']:.3f} | {cells[1]} |")


def ship(run: Path, target: Path) -> None:
    """The weights of a run in half precision, with its options and history, for the project.

    Those of the run that it comes after go beside them, to TARGET-first.
    """
    source, shipped = Run(run, "Synthetic"), Run(target, "Synthetic")
    target.mkdir(parents=True)
    for old, new in (
        (source.generator, shipped.generator),
        (source.discriminator, shipped.discriminator),
    ):
        weights = read_weights(old)
        write_file(new, {k: v.half() if v.is_floating_point() else v for k, v in weights.items()})
    for name in ("options", "metrics", "likeness"):
        shutil.copy(getattr(source, name), getattr(shipped, name))
    write_json(shipped.reading, {"last": read_json(source.reading)["last"]})  # of these weights
    if (after := saved_options(source).get("after")) is not None:
        first = target.with_name(f"{target.name}-first")
        ship(after, first)
        about = read_json(shipped.options)
        about["options"]["after"] = f"../{first.name}"
        about["first_weights"] = Run(first, "Synthetic").digest()
        write_json(shipped.options, about)
    size = sum(path.stat().st_size for path in target.iterdir()) / 2**20
    print(f"{target}: {size:.1f} MiB")


def cell(values: list[float]) -> str:
    if not values:
        return ""
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def draw(methods: dict[str, list[Path]], dataset: ImageDataset, path: Path) -> None:
    """The maps of the methods for the same test images; each map on its own colour scale.

    Variants, which have a comma in their names, are left out.
    """
    diseased = (dataset.classes == DISEASED).nonzero().flatten()
    chosen = diseased[np.linspace(0, len(diseased) - 1, SHOWN).round()]
    images, truth, _ = dataset.__getitems__(chosen)
    columns = {"image": images[:, 0].numpy(), "ground truth": truth[:, 0].numpy()}
    for name, paths in methods.items():
        variant = "," in name and name not in TITLES.values()
        if paths[0].parent.name == "results" and not variant and name != "zeros":
            maps = paths[0].parent / "difference_maps"
            files = maps_of(dataset)
            columns[name] = np.stack([np.load(maps / files[i]) for i in chosen])
    figure = Figure(figsize=(1.6 * len(columns), 1.6 * SHOWN + 0.4), layout="constrained")
    for c, (name, stack) in enumerate(columns.items()):
        for r, array in enumerate(stack):
            axes = figure.add_subplot(SHOWN, len(columns), r * len(columns) + c + 1)
            axes.set_axis_off()
            limit = max(np.abs(array).max(), 1e-6)
            colours = "gray" if name == "image" else "RdBu_r"
            axes.imshow(array, cmap=colours, vmin=-limit, vmax=limit)
            if r == 0:
                axes.set_title(textwrap.fill(name, 16), fontsize=8)
    save_figure(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, default=Path("warp-set-64"))
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark"))
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", epilog="What stands after -- goes to main.py.")
    run.add_argument("method", choices=(*RECIPES, *BASELINES, "trivial"))
    run.add_argument("--name", help="of the results (default: the method)")
    run.add_argument("--seeds", type=int, nargs="+", default=[0])
    run.add_argument("--minutes", type=float, default=20.0, help="of the processor, for a baseline")
    reporting = commands.add_parser("report")
    reporting.add_argument("--figure", type=Path, default=Path("docs/results.png"))
    shipping = commands.add_parser("ship")
    shipping.add_argument("run", type=Path)
    shipping.add_argument("target", type=Path)
    # argparse takes what follows -- only where no option stands between it and the method.
    arguments = sys.argv[1:]
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options, extra = parser.parse_args(arguments[:end]), arguments[end + 1 :]
    speed_up_process()
    if options.command == "report":
        report(options.data, options.out, options.figure)
        return
    if options.command == "ship":
        ship(options.run, options.target)
        return
    if options.method == "trivial":
        run_trivial(options.data, options.out)
        return
    for seed in options.seeds:
        name = options.name or options.method
        if options.method in RECIPES:
            run_recipe(name, options.method, seed, options.data, options.out, extra)
        else:
            run_baseline(name, seed, options.data, options.out, options.minutes)


if __name__ == "__main__":
    main()
