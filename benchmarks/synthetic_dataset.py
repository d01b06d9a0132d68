"""The synthetic data set: how fast it is made, and whether anything but anatomy gives disease away.

    python -m benchmarks.synthetic_dataset
    python -m benchmarks.synthetic_dataset --disease opacity
    python -m benchmarks.synthetic_dataset --sheet docs/synthetic.png

prints milliseconds an image on one core, against a plain painting of the waves ring by ring;
images a second at 1 and 2 processes; and the cross-validated AUROC of classifiers that see nothing
but brightness, contrast, histogram or border of the images.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import create_synthetic_dataset as synthetic
from descargan.figures import example_figure, save_figure

ROUNDS = 7


def paint_rings(ellipses: list[synthetic.Ellipse], frequencies: np.ndarray) -> np.ndarray:
    """The background ring by ring: for each whole radius, the pixels at that distance."""
    image = np.zeros((256, 256))
    y, x = np.mgrid[:256, :256]
    for ellipse, frequency in zip(ellipses, frequencies, strict=True):
        distance = np.rint(np.hypot(x - ellipse.x, y - ellipse.y))
        for radius in range(int(distance.max()) + 1):
            image[distance == radius] += 0.3 * np.sin(radius * frequency)
    return image


def milliseconds(work: partial, repeats: int) -> float:
    start = time.perf_counter()
    for i in range(repeats):
        work(np.random.default_rng(i))
    return 1000 * (time.perf_counter() - start) / repeats


def report_speed() -> None:
    rng = np.random.default_rng(0)
    ellipses, _ = synthetic.draw_ellipses(rng, 1.0)
    cases = {
        "waves, ring by ring": lambda _: paint_rings(ellipses, np.array([0.3, 0.4])),
        "waves, ours": lambda r: synthetic.background(r, ellipses, 1.0),
        "healthy image, ours": lambda r: synthetic.make_sample(r, 256, None),
        "atrophy, ours": lambda r: synthetic.make_sample(r, 256, "atrophy"),
        "opacity, ours": lambda r: synthetic.make_sample(r, 256, "opacity"),
    }
    times = {name: [] for name in cases}
    for _ in range(ROUNDS):  # alternating, as the machine is shared
        for name, work in cases.items():
            times[name].append(milliseconds(work, 2 if "by ring" in name else 20))
    for name, values in times.items():
        low, middle, high = np.percentile(values, [0, 50, 100])
        print(f"{name:<24} {middle:8.2f} ms ({low:.2f} to {high:.2f})")
    ratio = np.divide(times["waves, ring by ring"], times["waves, ours"])
    print(f"waves: {np.median(ratio):.0f} times as fast ({ratio.min():.0f} to {ratio.max():.0f})")


def report_scaling() -> None:
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            synthetic.write_dataset(Path(folder) / "set", 256, (200, 20, 20), workers=workers)
            seconds = time.perf_counter() - start
        print(f"{workers} processes, files written: {480 / seconds:.0f} images/s")


def far_from_ellipse_1(seed: np.random.SeedSequence, size: int) -> np.ndarray:
    """Mask of the pixels that no disease of this sample changes."""
    (first, _), _ = synthetic.draw_ellipses(np.random.default_rng(seed), 1.0)
    y, x = (np.mgrid[:size, :size] + 0.5) * 256 / size
    return np.hypot(x - first.x, y - first.y) > 110


def statistics(image: np.ndarray, far: np.ndarray) -> dict[str, np.ndarray]:
    border = np.concatenate([image[:4].ravel(), image[-4:].ravel(), image[:, :4].ravel()])
    border = np.concatenate([border, image[:, -4:].ravel()])
    return {
        "brightness (mean)": np.array([image.mean()]),
        "contrast (sd, min, max)": np.array([image.std(), image.min(), image.max()]),
        "histogram (16 bins)": np.histogram(image, 16, (-1.1, 1.1))[0] / image.size,
        "all of these, far from ellipse 1": np.array(
            [
                *(image[far].mean(), image[far].std(), image[far].min(), image[far].max()),
                *(np.histogram(image[far], 16, (-1.1, 1.1))[0] / far.sum()),
            ]
        ),
        "border (mean, sd, min, max, dark)": np.array(
            [border.mean(), border.std(), border.min(), border.max(), (border < -0.9).mean()]
        ),
    }


def report_giveaways(number: int, size: int, disease: str) -> None:
    labels = np.repeat([0, 1], number)
    seeds = np.random.SeedSequence(1).spawn(2 * number)
    features = [
        statistics(
            synthetic.make_sample(
                np.random.default_rng(s), size, synthetic.disease_of(i, disease) if c else None
            )[0],
            far_from_ellipse_1(s, size),
        )
        for i, (s, c) in enumerate(zip(seeds, labels, strict=True))
    ]
    print(f"AUROC of healthy against {disease}, {number} + {number} images of {size}, 5 folds:")
    for name in features[0]:
        x = np.stack([f[name] for f in features])
        row = []
        for model in (
            make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
            RandomForestClassifier(200, min_samples_leaf=5, random_state=0),
        ):
            scores = cross_val_score(model, x, labels, cv=5, scoring="roc_auc")
            row.append(f"{scores.mean():.3f} +- {scores.std():.3f}")
        print(f"  {name:<36} logistic {row[0]}   forest {row[1]}")


def draw_sheet(path: Path, disease: str) -> None:
    pairs = [
        synthetic.make_sample(np.random.default_rng(i), 256, synthetic.disease_of(i, disease))
        for i in range(4)
    ]
    image, truth = np.stack(pairs, axis=1)
    columns = {
        "healthy": image - truth,
        "diseased": image,
        "ground truth": truth,
    }
    save_figure(example_figure(columns, "Synthetic data set"), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    text = "what disease does (default: atrophy)"
    parser.add_argument("--disease", choices=synthetic.DISEASES, default="atrophy", help=text)
    parser.add_argument("--sheet", type=Path, help="draw a sheet of samples instead")
    parser.add_argument(
        "--images", type=int, default=1000, help="of each class, for the give-aways"
    )
    options = parser.parse_args()
    if options.sheet:
        draw_sheet(options.sheet, options.disease)
        return
    report_speed()
    report_scaling()
    for size in (64, 256):
        report_giveaways(options.images, size, options.disease)


if __name__ == "__main__":
    main()
