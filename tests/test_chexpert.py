"""CheXpert and own groups: prepare, train, test and predict on small made-up folders."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, assert_refused, program, succeed
from PIL import Image

FINDINGS = ["No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity"]
FINDINGS += ["Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax"]
FINDINGS += ["Pleural Effusion", "Pleural Other", "Fracture", "Support Devices"]
HEADER = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS]
NAMES = ("Healthy control", "Images showing pleural effusion")


def jpeg(path, seed, diseased, size):
    """A made-up picture: bright sides, and a bright base where diseased."""
    height, width = size
    y, x = np.mgrid[0 : 1 : height * 1j, -1 : 1 : width * 1j]
    image = 60 + 120 * np.abs(x) + (70 * (y > 0.8) if diseased else 0)
    image = image + np.random.default_rng(seed).normal(0, 8, image.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(path, quality=95)


def row(path, view="Frontal", projection="AP", **labels):
    cells = {"Path": path, "Sex": "Female", "Age": "61", "Frontal/Lateral": view}
    cells |= {"AP/PA": projection if view == "Frontal" else ""}
    return cells | labels


@pytest.fixture(scope="module")
def chexpert(tmp_path_factory):
    """A folder shaped like the release: 24 patients, two studies for some, and every oddity."""
    root = tmp_path_factory.mktemp("chexpert") / "CheXpert-v1.0-small"
    rows = {"train": [], "valid": []}
    sizes = [(320, 390), (390, 320), (320, 320)]
    for number in range(24):
        part = "valid" if number >= 21 else "train"
        diseased = number % 2
        for study in range(1, 3 if number % 5 == 0 else 2):
            relative = f"{part}/patient{number:05}/study{study}/view1_frontal.jpg"
            jpeg(root / relative, number, diseased, sizes[number % 3])
            labels = {"Pleural Effusion": "1.0"} if diseased else {"No Finding": "1.0"}
            projection = "PA" if number % 4 == 0 else "AP"
            rows[part].append(
                row(f"CheXpert-v1.0-small/{relative}", projection=projection, **labels)
            )
    extra = {
        "lateral": row("x/train/patient00000/study1/view2_lateral.jpg", "Lateral"),
        "uncertain": row("x/train/patient90001/study1/view1_frontal.jpg"),
        "neither": row("x/train/patient90002/study1/view1_frontal.jpg", Edema="1.0"),
        "both": row("x/train/patient90003/study1/view1_frontal.jpg"),
        "missing": row("x/train/patient90004/study1/view1_frontal.jpg"),
        "broken": row("x/train/patient90005/study1/view1_frontal.jpg"),
    }
    extra["lateral"]["No Finding"] = "1.0"
    extra["uncertain"]["Pleural Effusion"] = "-1.0"
    extra["both"] |= {"No Finding": "1.0", "Pleural Effusion": "1.0"}
    extra["missing"]["No Finding"] = "1.0"
    extra["broken"]["No Finding"] = "1.0"
    for name, cells in extra.items():
        path = root / Path(cells["Path"]).relative_to("x")
        if name != "missing":
            jpeg(path, 99, False, (320, 320))
        if name == "broken":
            path.write_bytes(path.read_bytes()[:500])
        rows["train"].append(cells)
    for part, lines in rows.items():
        with (root / f"{part}.csv").open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, HEADER)
            writer.writeheader()
            writer.writerows(lines)
    return root


def prepare(root, output, *arguments):
    sizes = ["--image-size", 64, "--shares", 0.5, 0.25, 0.25]
    return program(
        "prepare_chexpert.py", "--chexpert-root", root, "--output", output, *sizes, *arguments
    )


@pytest.fixture(scope="module")
def prepared(chexpert, tmp_path_factory):
    output = tmp_path_factory.mktemp("prepared") / "chexpert"
    result = prepare(chexpert, output)
    assert result.returncode == 0, result.stderr
    (output.parent / "printed.txt").write_text(result.stdout)
    return output


def test_the_commands_that_come_next_are_for_chexpert(prepared):
    printed = (prepared.parent / "printed.txt").read_text()
    assert f"main.py --dataset Chexpert --dataset-path {prepared} " in printed


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_layout_and_manifest_agree(prepared, chexpert):
    manifest = read_csv(prepared / "manifest.csv")
    assert len(manifest) == 24 + 5
    assert {r["file"] for r in manifest} == {
        p.relative_to(prepared).as_posix() for p in prepared.rglob("*.png")
    }
    for r in manifest:
        number = int(r["patient"].removeprefix("patient"))
        assert r["class"] == NAMES[number % 2]
        assert Path(r["source"]).is_file()
        with Image.open(prepared / r["file"]) as picture:
            assert (picture.mode, picture.size) == ("L", (64, 64))


def test_no_patient_is_in_two_splits(prepared):
    splits = {}
    for r in read_csv(prepared / "manifest.csv"):
        splits.setdefault(r["patient"], set()).add(r["split"])
    assert all(len(found) == 1 for found in splits.values())
    assert {s for found in splits.values() for s in found} == {"Train", "Validate", "Test"}
    assert len(splits) == 24


def test_rows_left_out_have_their_reason(prepared):
    reasons = {
        Path(r["source"]).parts[-3]: r["reason"] for r in read_csv(prepared / "left_out.csv")
    }
    broken = reasons.pop("patient90005")
    assert "cannot be read as an image" in broken
    assert reasons == {
        "patient00000": "Lateral view",
        "patient90001": "uncertain label",
        "patient90002": "neither class",
        "patient90003": "contradictory labels",
        "patient90004": "missing file",
    }
    summary = json.loads((prepared / "preparation.json").read_text())
    assert sum(n for reason, n in summary["left_out"].items() if "cannot be read" in reason) == 1


def test_same_seed_same_files(chexpert, prepared, tmp_path):
    for name, seed, workers in (("a", 0, 1), ("b", 1, 2)):
        assert prepare(chexpert, tmp_path / name, "--seed", seed, "--workers", workers)[0] == 0
    manifests = [(p / "manifest.csv").read_text() for p in (prepared, *sorted(tmp_path.iterdir()))]
    assert manifests[0] == manifests[1] != manifests[2]


def test_images_are_padded_not_cropped(prepared):
    """390 x 320: everything is kept, with a margin of (390 - 320) / 2 of 390 on both sides."""
    for r in read_csv(prepared / "manifest.csv"):
        if int(r["patient"].removeprefix("patient")) % 3 == 1:
            image = np.asarray(Image.open(prepared / r["file"])).astype(int)
            assert np.ptp(image[:, :4]) <= 3
            assert np.ptp(image[:, -4:]) <= 3
            assert image[30, 8] > image[30, 32]


@pytest.mark.parametrize(
    ("arguments", "number"),
    [
        (("--uncertain", "positive"), 30),
        (("--view", "both"), 30),
        (("--balanced",), None),
        (("--train", 2, "--validate", 1, "--test", 1), 8),
        (("--format", "npy"), 29),
    ],
)
def test_choices(chexpert, tmp_path, arguments, number):
    result = prepare(chexpert, tmp_path / "out", *arguments)
    assert result.returncode == 0, result.stderr
    manifest = read_csv(tmp_path / "out" / "manifest.csv")
    if number is None:
        for split in ("Train", "Validate", "Test"):
            classes = [r["class"] for r in manifest if r["split"] == split]
            counts = [classes.count(name) for name in NAMES]
            assert min(counts) > 0
            assert abs(counts[0] - counts[1]) <= 1  # one file is broken
    else:
        assert len(manifest) == number


def test_a_class_that_no_row_is_left_of_is_named(chexpert, tmp_path):
    """Only healthy patients have PA views here."""
    result = prepare(chexpert, tmp_path / "out", "--projection", "PA")
    assert_refused(result, "no image for Train/Images showing pleural effusion")


def test_many_broken_files_are_an_error_and_nothing_is_written(chexpert, tmp_path):
    root = tmp_path / "broken"
    root.mkdir()
    lines = [HEADER]
    for number in range(24):
        source = root / "train" / f"patient{number:05}" / "study1" / "view1_frontal.jpg"
        source.parent.mkdir(parents=True)
        source.write_bytes(b"no JPEG")
        labels = ["1.0"] + [""] * 13 if number % 2 else [""] * 10 + ["1.0"] + [""] * 3
        relative = source.relative_to(root)
        lines.append([f"CheXpert-v1.0/{relative}", "Male", "50", "Frontal", "AP", *labels])
    with (root / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    assert_refused(prepare(root, tmp_path / "out"), "24 of 24", "view1_frontal.jpg")
    assert not (tmp_path / "out").exists()


def test_the_full_release_lies_in_batches(tmp_path):
    """The tables beside valid/, patients of train right in the other three folders."""
    batches = ["batch 1 (validate & csv)", "batch 2 (train 1)", "batch 3 (train 2)"]
    root, *folders = (tmp_path / "release", *(f"CheXpert-v1.0 {name}" for name in batches))
    lines = {"train": [], "valid": []}
    for number in range(12):
        part = "valid" if number % 3 == 0 else "train"
        place = f"{folders[number % 3]}/{'valid/' if part == 'valid' else ''}"
        relative = f"patient{number:05}/study1/view1_frontal.jpg"
        jpeg(root / f"{place}{relative}", number, number % 2, (40, 40))
        label = {"Pleural Effusion": "1.0"} if number % 2 else {"No Finding": "1.0"}
        lines[part].append(row(f"CheXpert-v1.0/{part}/{relative}", **label))
    for part, cells in lines.items():
        with (root / folders[0] / f"{part}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, HEADER)
            writer.writeheader()
            writer.writerows(cells)
    result = prepare(root, tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert {r["patient"] for r in read_csv(tmp_path / "out" / "manifest.csv")} == {
        f"patient{number:05}" for number in range(12)
    }


@pytest.mark.parametrize(
    ("content", "mention"), [(None, "train.csv"), ("a,b\n1,2\n", "no column"), ("\xff", "CSV")]
)
def test_a_wrong_root_is_named(tmp_path, content, mention):
    root = tmp_path / "root"
    root.mkdir()
    if content is not None:
        (root / "train.csv").write_bytes(content.encode("latin-1"))
    assert_refused(prepare(root, tmp_path / "out"), mention)


def test_an_unknown_finding_lists_the_known_ones(chexpert, tmp_path):
    result = prepare(chexpert, tmp_path / "out", "--finding", "Effusion")
    assert_refused(result, "--finding", "Pleural Effusion")


@pytest.fixture(scope="module")
def trained_on_chexpert(prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("chexpert-run")
    common = ["--dataset", "Chexpert", "--dataset-path", prepared, "--save-dir", folder]
    succeed("main.py", *TINY, *common, "--epochs", 1, "--visdom", "off")
    return folder


def test_training_on_chexpert(trained_on_chexpert):
    options = json.loads((trained_on_chexpert / "options_chexpert.json").read_text())["options"]
    assert options["flip"] == "horizontal"
    assert (trained_on_chexpert / "netG_chexpert.pt").is_file()


def test_testing_on_chexpert(trained_on_chexpert, prepared, tmp_path):
    common = ["--dataset", "Chexpert", "--dataset-path", prepared, "--visdom", "off"]
    common += ["--save-dir", trained_on_chexpert, "--results-dir", tmp_path]
    output = succeed("main.py", "--mode", "test", *common).stdout
    assert "AUROC of the class logits" in output
    summary = json.loads((tmp_path / "metrics.json").read_text())
    wanted = {"auroc_class", "auprc_class", "accuracy", "kappa", "mse_healthy", "variance_healthy"}
    assert wanted <= summary["metrics"].keys()
    assert not {"dice", "pixel_auroc"} & summary["metrics"].keys()
    images = summary["images"]["healthy"] + summary["images"]["diseased"]
    assert sum(map(sum, summary["confusion_matrix"]["counts"])) == images
    assert {p.name for p in tmp_path.iterdir()} >= {"roc.png", "examples.png"}


def predict(folder, source, output):
    common = ["--dataset", "Chexpert", "--save-dir", folder, "--results-dir", output]
    return program("main.py", "--mode", "predict", "--input", source, *common)


def test_predicting_a_folder_with_a_broken_file(trained_on_chexpert, tmp_path):
    source = tmp_path / "images"
    jpeg(source / "a.jpg", 1, True, (200, 300))
    jpeg(source / "sub folder" / "b.jpg", 2, False, (64, 64))
    (source / "broken.png").write_bytes(b"nothing")
    np.save(source / "c.npy", np.random.default_rng(0).random((90, 70)))
    Image.fromarray(np.full((70, 70), 3, np.uint8)).save(source / "constant.png")
    result = predict(trained_on_chexpert, source, tmp_path / "out")
    assert result.returncode == 0, result.stderr
    rows = {r["file"]: r for r in read_csv(tmp_path / "out" / "predictions.csv")}
    assert rows.keys() == {"a.jpg", "sub folder/b.jpg", "broken.png", "c.npy", "constant.png"}
    assert "cannot be read" in rows["broken.png"]["error"]
    assert rows["broken.png"]["probability"] == ""
    for name, shape in (("a.jpg", (200, 300)), ("sub folder/b.jpg", (64, 64)), ("c.npy", (90, 70))):
        assert 0 <= float(rows[name]["probability"]) <= 1
        difference = np.load(tmp_path / "out" / f"{name}.map.npy")
        assert difference.shape == shape
        assert difference.dtype == np.float32
        for kind, mode in (("healthy", "L"), ("overlay", "RGB")):
            with Image.open(tmp_path / "out" / f"{name}.{kind}.png") as picture:
                assert (picture.size, picture.mode) == (shape[::-1], mode)
    assert np.isfinite(float(rows["constant.png"]["anomaly_score"]))


def test_predicting_one_file_gives_what_the_folder_gave(trained_on_chexpert, tmp_path):
    jpeg(tmp_path / "in" / "a.jpg", 1, True, (200, 300))
    jpeg(tmp_path / "in" / "b.jpg", 2, True, (300, 200))
    assert predict(trained_on_chexpert, tmp_path / "in", tmp_path / "two").returncode == 0
    assert predict(trained_on_chexpert, tmp_path / "in" / "a.jpg", tmp_path / "one").returncode == 0
    maps = [np.load(tmp_path / folder / "a.jpg.map.npy") for folder in ("one", "two")]
    np.testing.assert_allclose(*maps, atol=1e-4)


@pytest.mark.parametrize("source", ["nowhere", "."])
def test_predicting_nothing_is_refused(trained_on_chexpert, tmp_path, source):
    (tmp_path / "empty").mkdir()
    result = predict(trained_on_chexpert, tmp_path / "empty" / source, tmp_path / "out")
    assert_refused(result, "--input")


def test_own_folders_with_several_images_a_patient(tmp_path):
    for group in ("controls", "patients"):
        for patient in range(8):
            for visit in "ab":
                path = tmp_path / group / f"p{patient}" / f"{group[0]}{patient}_{visit}.png"
                jpeg(path, patient, group == "patients", (80, 70))
    arguments = ["--healthy", tmp_path / "controls", "--diseased", tmp_path / "patients"]
    arguments += ["--output", tmp_path / "data", "--image-size", 64, "--shares", 2, 1, 1]
    succeed("prepare_folders.py", *arguments, "--patient", r"([cp]\d+)_")
    manifest = read_csv(tmp_path / "data" / "manifest.csv")
    assert len(manifest) == 32
    splits = {}
    for r in manifest:
        splits.setdefault(r["patient"], set()).add(r["split"])
    assert len(splits) == 16
    assert all(len(found) == 1 for found in splits.values())
    common = ["--dataset", "Chexpert", "--dataset-path", tmp_path / "data"]
    common += ["--save-dir", tmp_path / "run", "--visdom", "off", "--epochs", 1]
    succeed("main.py", *TINY, *common)


@pytest.mark.parametrize(
    ("arguments", "mention"),
    [(("--patient", "("), "--patient"), (("--patient", "x(y)"), "--patient"), ((), "no folder")],
)
def test_own_folders_gone_wrong(tmp_path, arguments, mention):
    jpeg(tmp_path / "controls" / "a.png", 0, False, (64, 64))
    missing = tmp_path / ("controls" if arguments else "nowhere")
    groups = ["--healthy", tmp_path / "controls", "--diseased", missing]
    result = program("prepare_folders.py", *groups, "--output", tmp_path / "out", *arguments)
    assert_refused(result, mention)
