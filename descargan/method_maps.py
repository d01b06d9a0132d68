"""Test the maps of any method, read from files: the table of a test, without networks.

A map is a file of the name of its image: PNG or any other picture, .npy or NIfTI. |value| says how
much speaks for disease, in any unit: a difference to a healthy image is a map as it is, and so is
any score from 0 up.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from descargan import CLASS_NAMES, metrics
from descargan.data import ImageDataset, warn_of_few
from descargan.errors import FileError, warn
from descargan.files import naming, without_nan, write_json
from descargan.images import fit, is_image, read_image
from descargan.names import map_names, printable
from descargan.options import Options
from descargan.testing import (
    Results,
    Row,
    by_title,
    interval_text,
    measure,
    print_table,
    rows_against,
    write_csv,
)

PIXELS = 1_000_000  # that thresholds are taken from
SHARES = np.geomspace(1e-5, 1, 300)  # of the pixels over a threshold


def test_maps(options: Options) -> Results:
    """Score the maps in ``options.maps`` on the test split; write to ``options.results_dir``.

    Images without a map are left out, and said. Raises UserError where there is no map, or a file
    is none.
    """
    dataset = ImageDataset.open(options, "test")
    warn_of_few(dataset, "test")
    files = find_maps(options.maps, [dataset.name(index) for index in range(len(dataset))])
    indices = list(files)
    others = rows_against(options, dataset, indices)
    results = options.results_dir
    with naming(results):
        results.mkdir(parents=True, exist_ok=True)
    thresholds = choose_thresholds(dataset, files)
    rows: list[Row] = []
    curves: dict[int, np.ndarray] = {}
    for index, path in files.items():
        _, truth, label = dataset[index]
        score = read_map(path, dataset, index)
        row = {"file": dataset.name(index), "class": int(label)}
        row["map"] = path.relative_to(options.maps).as_posix()
        row["anomaly_score"] = float(score.mean())
        diseased = metrics.is_diseased(truth[0].numpy())
        if diseased.any():
            row |= locate(score, diseased, options.threshold)
            curves[len(rows)] = metrics.dice_curve(score, diseased, thresholds)
        rows.append(row)
    found = measure(dataset, indices, rows, curves, others)
    counts = Counter(row["class"] for row in rows)
    about = {
        "dataset": options.dataset,
        "maps": str(options.maps),
        "dataset_fingerprint": dataset.fingerprint(),
        "images": {name: counts[c] for c, name in enumerate(CLASS_NAMES)},
        "images_without_a_map": len(dataset) - len(rows),
        "threshold": options.threshold,
    }
    write_json(results / "metrics.json", without_nan({**about, **found}))
    write_csv(results / "metrics.csv", rows)
    entries = by_title(found, options.against)
    print_table({title: interval_text(entry) for title, entry in entries.items()})
    print(f"95 % intervals over {found['intervals_over']}")
    print(f"written to {results}: metrics.json and metrics.csv")
    return Results(results, found["metrics"], rows)


test_maps.__test__ = False  # not one of pytest's


def locate(score: np.ndarray, diseased: np.ndarray, threshold: float | None) -> Row:
    """How well a score map finds the diseased pixels, both (H, W)."""
    row: Row = {
        "pixel_auroc": metrics.auroc(diseased, score),
        "pixel_auprc": metrics.auprc(diseased, score),
    }
    if threshold is not None:
        row["dice_stored"] = metrics.dice(score > threshold, diseased)
    return row


def find_maps(folder: Path, names: Sequence[str]) -> dict[int, Path]:
    """The map of each image that has one, by the image's index in ``names``.

    The map of SPLIT/CLASS/NAME.png is that name with another suffix, CLASS/NAME, NAME where no
    other image has it, or what a test (``difference_maps``) or a prediction writes for it. Raises
    UserError where there is no map, or two files are of one image.
    """
    if not folder.is_dir():
        raise FileError(f"{folder} is no folder: pass that of the maps to --maps")
    by_key: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if is_image(path):
            key = without_suffix(path.relative_to(folder).as_posix())
            by_key.setdefault(key, []).append(path)
    found: dict[int, Path] = {}
    for index, keys in enumerate(keys_of(names)):
        paths = next((by_key.pop(key) for key in keys if key in by_key), [])
        if len(paths) > 1:
            raise FileError(f"{paths[0]} and {paths[1]} are of one image: keep one of them")
        if paths:
            found[index] = paths[0]
    missing = [name for index, name in enumerate(names) if index not in found]
    if not found:
        raise FileError(
            f"{folder} holds no map of the {len(names)} images: name each as its image, "
            f"as {without_suffix(names[-1])}.npy"
        )
    if missing:
        warn(
            f"{folder} has no map of {len(missing)} of {len(names)} images, which are left out, "
            f"the first: {printable(missing[0])}"
        )
    if by_key:
        first = next(iter(by_key.values()))[0]
        number = sum(map(len, by_key.values()))
        warn(f"{folder} holds {number} files of no image of the test split, the first: {first}")
    return found


def keys_of(names: Sequence[str]) -> list[list[str]]:
    """What the map of each image may be called, without its suffix, the surest first."""
    plain = Counter(name.rpartition("/")[2] for name in names)
    stems = Counter(without_suffix(name.rpartition("/")[2]) for name in names)
    result = []
    for name, of_test in zip(names, map_names(names), strict=True):
        file = name.rpartition("/")[2]
        forms = [name, "/".join(name.split("/")[-2:])]
        keys = [without_suffix(form) for form in forms]
        keys += [without_suffix(file)] if stems[without_suffix(file)] == 1 else []
        keys.append(without_suffix(of_test))
        keys += [f"{form}.map" for form in (*forms, *([file] if plain[file] == 1 else []))]
        result.append(keys)
    return result


def without_suffix(name: str) -> str:
    """A path less its suffix; ``.nii.gz`` is one."""
    return str(Path(name.removesuffix(".gz")).with_suffix(""))


def choose_thresholds(dataset: ImageDataset, files: dict[int, Path]) -> np.ndarray:
    """Thresholds for maps of any unit: those that SHARES of their pixels lie over."""
    rng = np.random.default_rng(0)
    each = max(1, PIXELS // len(files))
    sample = []
    for index, path in files.items():
        score = read_map(path, dataset, index).ravel()
        sample.append(score if score.size <= each else rng.choice(score, each, replace=False))
    return np.unique(np.quantile(np.concatenate(sample), 1 - SHARES))


def read_map(path: Path, dataset: ImageDataset, index: int) -> np.ndarray:
    """The score map (S, S) of an image, of the size of the data set, from 0 up.

    A map has that size or its image's, and is then padded and resized as the image is. Raises
    UserError for other sizes, and what ``images.read_image`` refuses.
    """
    drawn = np.abs(read_image(path)[:1].astype(np.float32))
    size = dataset.image_size
    if drawn.shape[1:] == (size, size):
        return drawn[0]
    wanted = read_image(dataset.paths[index]).shape[1:]
    if drawn.shape[1:] != wanted:
        given, asked = (f"{h} x {w}" for h, w in (drawn.shape[1:], wanted))
        raise FileError(
            f"{path} is {given} pixels, its image {asked} and --image-size {size}: "
            "a map has the size of either"
        )
    return fit(drawn, size)[0]
