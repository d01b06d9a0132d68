"""Benchmarks that say other things of the same images: classes, patients, folds, shortcuts."""

import json
import re
import shutil

import numpy as np
import pytest
from conftest import succeed
from PIL import Image

from benchmarks import (
    fewer_patients,
    folds,
    giveaways,
    linked,
    permuted_labels,
    runs,
    shortcut,
)
from benchmarks.linked import Entry, read_entries, write_linked
from descargan import CLASS_NAMES, DISEASED, HEALTHY, cli
from descargan.checkpoints import Run

TINY = ["--image-size", "64", "--base-filters", "2", "--critic-filters", "2", "--epochs", "1"]


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """main.py runs here, to save its start."""
    monkeypatch.setattr(runs, "run_main", lambda *words: succeed("main.py", *words))


@pytest.fixture(scope="module")
def one_run(tmp_path_factory):
    """A run on pictures, trained once for all tests."""
    folder = tmp_path_factory.mktemp("run")
    data = linked.options_of(prepared(folder / "data", patients=2))
    succeed("main.py", "--save-dir", folder / "run", "--visdom", "off", *data, *TINY)
    return folder / "run"


@pytest.fixture
def trained_before(one_run, monkeypatch):
    """Training is the copy of a run; it is tested on the data set that it would have been of."""
    trained = []

    def train_and_test(folder, data, recipe):
        results = folder / "results" / "test" / "metrics.json"
        if not results.exists():
            shutil.copytree(one_run, folder)
            runs.run_main("--save-dir", folder, "--visdom", "off", *data, "--mode", "test")
            trained.append((folder.name, *recipe))
        return json.loads(results.read_text())

    for module in (permuted_labels, fewer_patients, folds):
        monkeypatch.setattr(module, "train_and_test", train_and_test)
    return trained


def prepared(root, patients=6, images=2, boxed=()):
    """A data set as it is prepared: of each patient as many healthy as diseased images."""
    rng = np.random.default_rng(0)
    rows = ["file,patient"]
    for number, split in enumerate(("Train", "Validate", "Test")):
        for p in range(patients):
            for i in range(images):
                for folder in ("Healthy control", "Diseased"):
                    name = f"{number}{p}_{i}{folder[0]}.png"
                    path = root / split / folder / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    picture = rng.integers(0, 90, (64, 64), np.uint8)
                    picture[20:40, 8:24] += 120 * (folder == "Diseased")
                    Image.fromarray(picture).save(path)
                    rows.append(f"{split}/{folder}/{name},{number}{p}")
                    if folder == "Diseased" and f"{number}{p}" in boxed:
                        mask = np.zeros((64, 64), np.uint8)
                        mask[20:40, 8:24] = 255
                        (root / split / "masks").mkdir(exist_ok=True)
                        Image.fromarray(mask).save(root / split / "masks" / name)
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    return root


def run_benchmark(module, monkeypatch, capsys, *words):
    """What a benchmark prints."""
    monkeypatch.setattr("sys.argv", [module.__name__, *map(str, words)])
    assert cli.run(module.main) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def table(text):
    """The rows of a table in Markdown, by their first cell, as texts."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in rows}


def entries(*patients):
    """Images of patients, given as texts of h and d: the class of each image."""
    return [
        Entry(data_path(p, i), HEALTHY if c == "h" else DISEASED, None, f"patient{p}")
        for p, classes in enumerate(patients)
        for i, c in enumerate(classes)
    ]


def data_path(patient, image):
    return linked.Path("train", "any", f"p{patient}_{image}.png")


def test_linked_images_are_those_of_the_source(tmp_path):
    source = prepared(tmp_path / "source", patients=2, boxed=("00",))
    (source / "preparation.json").write_text('{"scaling": "minmax"}')
    found = read_entries(source, "train")
    assert [(e.label, e.patient) for e in found] == [
        *[(HEALTHY, p) for p in ("00", "00", "01", "01")],
        *[(DISEASED, p) for p in ("00", "00", "01", "01")],
    ]
    assert [e.mask is not None for e in found] == [False] * 4 + [True, True, False, False]
    moved = [e._replace(label=1 - e.label) for e in found]
    write_linked(tmp_path / "target", source, {"train": moved})
    again = read_entries(tmp_path / "target", "train")
    assert {e.image.resolve(): (1 - e.label, e.patient) for e in again} == {
        e.image.resolve(): (e.label, e.patient) for e in found
    }
    assert sum(e.mask is not None for e in again) == 2
    assert json.loads((tmp_path / "target" / "preparation.json").read_text()) == {
        "scaling": "minmax"
    }


def test_the_patient_is_found_in_the_name(tmp_path):
    source = prepared(tmp_path, patients=2)
    found = read_entries(source, "train", re.compile("^[0-9]([0-9])"))
    assert {e.patient for e in found} == {"0", "1"}


def classes_of(images):
    """The classes of each patient's images, as a text."""
    found = {}
    for e in images:
        found[e.patient] = found.get(e.patient, "") + "hd"[e.label]
    return found


def test_shuffled_classes_move_from_patient_to_patient():
    images = entries("hhh", "ddd", "hhh")
    orders = set()
    for seed in range(20):
        shuffled = permuted_labels.shuffle_classes(images, np.random.default_rng(seed))
        orders.add(tuple(classes_of(shuffled)[f"patient{p}"] for p in range(3)))
    assert orders == {("hhh", "ddd", "hhh"), ("ddd", "hhh", "hhh"), ("hhh", "hhh", "ddd")}


def test_shuffled_classes_do_not_keep_to_the_place_in_the_patient():
    images = entries(*["hhdd"] * 50)
    shuffled = permuted_labels.shuffle_classes(images, np.random.default_rng(0))
    true = {e.image: e.label for e in images}
    assert 80 < sum(true[e.image] == e.label for e in shuffled) < 120
    assert {text.count("d") for text in classes_of(shuffled).values()} == {2}


def test_shuffled_classes_keep_their_numbers():
    images = entries("hhhhd", "d", "hd", "hhh", "ddd")
    shuffled = permuted_labels.shuffle_classes(images, np.random.default_rng(1))
    assert sum(e.label for e in shuffled) == sum(e.label for e in images)
    assert {e.image for e in shuffled} == {e.image for e in images}
    assert shuffled == permuted_labels.shuffle_classes(images, np.random.default_rng(1))


def test_the_test_split_keeps_its_classes(tmp_path):
    source = prepared(tmp_path / "source")
    options = permuted_labels.argparse.Namespace(data=source, patient=None, out=tmp_path / "runs")
    folder = permuted_labels.prepare(options, 0, permuted=True)
    for split, kept in (("train", False), ("validate", False), ("test", True)):
        found = read_entries(folder, split)
        true = {e.image.resolve(): e.label for e in read_entries(source, split)}
        assert all(true[e.image.resolve()] == e.label for e in found) == kept


def test_permuted_labels_prints_both_and_the_verdicts(
    trained_before, tmp_path, monkeypatch, capsys
):
    source = prepared(tmp_path / "source", patients=2, boxed=("10", "20", "21"))
    words = [source, "--out", tmp_path / "runs", "--", *TINY]
    printed = table(run_benchmark(permuted_labels, monkeypatch, capsys, *words))
    assert {"true", "permuted", "no network: smoothed intensity"} <= printed.keys()
    for classes in ("true", "permuted"):
        assert printed[classes][0] == "0"
        assert all(0 <= float(x) <= 1 for x in printed[classes][1:-1])
        assert printed[classes][-1] == "too few validation images to judge"
    again = table(run_benchmark(permuted_labels, monkeypatch, capsys, *words))
    assert again == printed
    assert trained_before == [(f"{c}-0", *TINY, "--seed", 0) for c in ("true", "permuted")]


def test_the_verdict_is_that_of_the_run(tmp_path):
    numbers = {"threshold": 0.2, "auroc_anomaly": 0.8, "auroc_anomaly_high": 0.9}
    verdicts = []
    for low in (0.7, 0.4):
        stored = {"last": {**numbers, "auroc_anomaly_low": low, "sign": 1}}
        Run(tmp_path, "Folder").reading.write_text(json.dumps(stored))
        verdicts.append(permuted_labels.verdict(["--dataset", "Folder"], tmp_path))
    assert verdicts == ["found: threshold 0.200", "nothing found"]


def test_fewer_patients_are_some_of_the_more():
    images = entries(*["hd"] * 40)
    chosen = fewer_patients.choose_patients(images, [0.25, 0.5, 1.0], 0)
    assert [len(chosen[share]) for share in (0.25, 0.5, 1.0)] == [10, 20, 40]
    assert chosen[0.25] < chosen[0.5] < chosen[1.0]
    assert chosen != fewer_patients.choose_patients(images, [0.25, 0.5, 1.0], 1)


def test_fewer_patients_keep_the_balance_of_classes():
    images = entries(*["h"] * 20, *["d"] * 8)
    kept = fewer_patients.choose_patients(images, [0.5], 0)[0.5]
    numbers = [sum(e.label == c and e.patient in kept for e in images) for c in (HEALTHY, DISEASED)]
    assert numbers == [10, 4]


def test_fewer_patients_trains_on_them_alone(trained_before, tmp_path, monkeypatch, capsys):
    source = prepared(tmp_path / "source", patients=4)
    words = [source, "--shares", 0.5, "--out", tmp_path / "runs", "--", *TINY]
    printed = table(run_benchmark(fewer_patients, monkeypatch, capsys, *words))
    assert printed["0.5"][:3] == ["2", "4 + 4", "1"]
    kept = read_entries(tmp_path / "runs" / "data-0.5-0", "train")
    assert len({e.patient for e in kept}) == 2
    assert len(read_entries(tmp_path / "runs" / "data-0.5-0", "test")) == 16


def test_folds_divide_the_patients():
    images = entries(*["hd"] * 7, *["h"] * 13)
    parts = folds.divide(images, 5, 0)
    assert sorted(e.image for part in parts for e in part) == sorted(e.image for e in images)
    patients = [{e.patient for e in part} for part in parts]
    assert sum(map(len, patients)) == len(set.union(*patients))
    assert all({e.label for e in part} == {HEALTHY, DISEASED} for part in parts)


def test_a_map_lies_on_the_side_of_its_box():
    box = np.zeros((8, 8))
    box[2:5, 5:7] = 1
    right, left = np.eye(8)[:, ::-1] * (np.arange(8) > 3), np.eye(8) * (np.arange(8) < 4)
    assert folds.on_the_side(right, box) == 1
    assert folds.on_the_side(left, box) == 0
    assert folds.on_the_side(np.ones((8, 8)), box) == 0.5
    assert np.isnan(folds.on_the_side(right, np.ones((8, 8))))


def test_folds_never_train_on_patients_with_boxes(trained_before, tmp_path, monkeypatch, capsys):
    source = prepared(tmp_path / "source", patients=3)
    boxes = prepared(tmp_path / "boxes", patients=3, boxed=("00", "11"))
    words = [source, "--boxes", boxes, "--folds", 3, "--out", tmp_path / "runs", "--", *TINY]
    printed = run_benchmark(folds, monkeypatch, capsys, *words)
    assert "14 healthy and 14 diseased images of 7 patients, 3 folds" in printed
    assert "4 boxed images of 2 patients" in printed
    rows = table(printed)
    assert rows["centre"][0] == "50 (50 to 50)"
    assert rows["smoothed intensity"][0] == "100 (100 to 100)"
    assert rows["the recipe"][1].startswith("0.")
    tested = []
    for number in range(3):
        for split in ("train", "validate", "test"):
            found = read_entries(tmp_path / "runs" / f"data-{number}", split)
            assert not {e.patient for e in found} & {"00", "11"}
            tested += [e.image.resolve() for e in found] if split == "test" else []
    assert len(tested) == len(set(tested)) == 28


def test_scores_of_folds_are_pooled_by_their_ranks(tmp_path):
    """A network whose scores are all higher than another's says nothing by that."""
    pairs = []
    for number, offset in enumerate((0, 10)):
        root, folder = tmp_path / f"data-{number}", tmp_path / f"fold-{number}"
        (folder / "results" / "test").mkdir(parents=True)
        root.mkdir()
        lines, manifest = ["file,class,probability,anomaly_score"], ["file,patient"]
        for i in range(6):
            file = f"test/{CLASS_NAMES[i % 2]}/{i}.png"
            lines.append(f"{file},{i % 2},{0.1 * i},{offset + i % 2 + 0.1 * i}")
            manifest.append(f"{file},p{number}{i}")
        (folder / "results" / "test" / "metrics.csv").write_text("\n".join(lines) + "\n")
        (root / "manifest.csv").write_text("\n".join(manifest) + "\n")
        pairs.append((root, folder))
    found = folds.pool(pairs)
    assert found["anomaly_score"]["value"] == 1
    assert found["anomaly_score"]["n"] == 12
    assert 0.5 < found["probability"]["value"] < 0.8


def test_a_mark_gives_the_class_away_by_the_corners(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    for label, name in enumerate(CLASS_NAMES):
        folder = tmp_path / "train" / name
        folder.mkdir(parents=True)
        for i in range(20):
            image = rng.uniform(-0.9, 0.9, (64, 64))
            image[32, 32:34] = -1, 1  # the range of all
            image = shortcut.marked(image) if label else image
            Image.fromarray(np.uint8(127.5 * (image + 1))).save(folder / f"{label}{i}.png")
    printed = table(run_benchmark(giveaways, monkeypatch, capsys, tmp_path))
    assert float(printed["corners (mean, sd, min, max of each)"][1]) > 0.95
    assert float(printed["border (mean, sd, min, max)"][1]) < 0.8


def test_a_mark_changes_a_corner_and_brightness_keeps_the_range():
    image = np.linspace(-1, 1, 64 * 64).reshape(64, 64)
    changed = np.argwhere(shortcut.marked(image) != image)
    assert changed.min() >= 6
    assert changed.max() < 14
    bright = shortcut.brighter(image)
    assert (bright.min(), bright.max()) == (-1, 1)
    assert (bright >= image - 1e-9).all()
    assert bright.mean() > image.mean() + 0.1


def test_shortcuts_are_trained_tested_and_drawn(synthetic, tmp_path, monkeypatch, capsys):
    monkeypatch.delitem(shortcut.SHORTCUTS, "none")
    monkeypatch.delitem(shortcut.SHORTCUTS, "brightness")
    words = [synthetic, "--out", tmp_path / "runs", "--figure", tmp_path / "shortcut.png"]
    printed = run_benchmark(shortcut, monkeypatch, capsys, *words, "--", *TINY)
    numbers = [float(x) for x in table(printed)["mark"]]
    assert all(0 <= x <= 1 for x in numbers)
    minutes = json.loads((tmp_path / "runs" / "mark" / "about.json").read_text())["cpu_minutes"]
    assert minutes >= 0
    monkeypatch.setattr(runs, "run_main", None)  # nothing is trained or tested again
    assert printed == run_benchmark(shortcut, monkeypatch, capsys, *words, "--", *TINY)
    assert (tmp_path / "shortcut.png").stat().st_size > 1000
    path = "test/diseased/0000.npy"
    plain, marked = (np.load(root / path) for root in (synthetic, tmp_path / "runs/data-mark"))
    assert (plain[1] == marked[1]).all()
    assert (plain[0] != marked[0]).any()


def test_a_benchmark_says_what_is_wrong_in_a_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["folds", str(tmp_path)])
    assert cli.run(folds.main) == 2
    assert "manifest.csv" in capsys.readouterr().err
