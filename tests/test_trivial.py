"""Own masks are scored, beside maps that need no network; intervals are by patient."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from conftest import succeed
from PIL import Image

from descargan import DISEASED, metrics
from descargan.data import ImageDataset
from descargan.reading import Reading
from descargan.report import Gallery
from descargan.score_maps import diffuse, fill
from descargan.testing import Seen, measure
from descargan.trivial import measure_trivial, trivial_maps

SPOT = np.zeros((64, 64), bool)
SPOT[40:52, 10:24] = True


@pytest.fixture(scope="module")
def outlined(tmp_path_factory):
    """Four healthy images, and four with a bright spot and its outline, of two patients."""
    root = tmp_path_factory.mktemp("outlined")
    rng = np.random.default_rng(0)
    rows = [("file", "source", "patient", "split", "class")]
    for split in ("validate", "test"):
        for i in range(8):
            c = "sick" if i > 3 else "healthy"
            image = rng.integers(0, 100, (64, 64), np.uint8) + 150 * (SPOT & (i > 3))
            for folder, picture in ((c, image), ("masks", 255 * SPOT)):
                if folder != "masks" or i > 3:
                    path = root / split / folder / f"{i}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(picture.astype(np.uint8)).save(path)
            rows.append((f"{split}/{c}/{i}.png", "", f"P{i // 2}", split, c))
    with (root / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return root


@pytest.fixture(scope="module")
def results(outlined, trained, tmp_path_factory):
    """Of a test of the outlined images."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    shutil.copytree(trained, folder)
    for path in list(folder.iterdir()):
        path.rename(path.with_name(path.name.replace("synthetic", "folder")))
    arguments = ["--dataset-path", outlined, "--save-dir", folder, "--visdom", "off"]
    succeed("main.py", "--mode", "test", *arguments)
    return folder / "results" / "test"


@pytest.fixture
def found(results) -> dict:
    return json.loads((results / "metrics.json").read_text())


@pytest.fixture
def found_rows(results) -> list[dict]:
    with (results / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_outlines_are_scored_and_differences_that_have_no_unit_are_not(found):
    assert {"pixel_auroc", "pixel_auprc", "dice_validated", "dice_best"} <= found["metrics"].keys()
    assert not {"dice", "map_mse", "map_ssim", "counterpart_mse"} & found["metrics"].keys()
    assert found["metrics"]["pixel_auprc"]["n"] == 4
    assert found["intervals_over"] == "patients"
    patients, images = found["patients"], found["images"]
    assert all(1 <= patients[name] < images[name] for name in ("healthy", "diseased"))
    assert found["outlined"] == 2


def test_intervals_are_over_images_where_no_patient_has_several(outlined, tmp_path):
    """As in a data set prepared without --patient, where each file counts as one."""
    root = shutil.copytree(outlined, tmp_path / "set")
    rows = list(csv.DictReader((root / "manifest.csv").open()))
    with (root / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows({**row, "patient": row["file"]} for row in rows)
    dataset = ImageDataset("Folder", root, "test", 64)
    rows = [{"class": int(c), "anomaly_score": 0.0} for c in dataset.classes]
    seen = Seen(rows, {}, Gallery(), {})
    assert measure(dataset, seen, [], [Reading(None)])["intervals_over"] == "images"


def test_trivial_maps_stand_beside_them(found):
    trivial = found["trivial_maps"]
    assert trivial.keys() == {"intensity", "smoothed intensity", "centre", "nothing"}
    assert trivial["intensity"]["pixel_auroc"]["value"] == pytest.approx(1)
    assert trivial["intensity"]["dice_best"]["value"] == pytest.approx(1)
    assert trivial["nothing"]["pixel_auroc"]["value"] == pytest.approx(0.5)
    assert trivial["nothing"]["pixel_auprc"]["value"] == pytest.approx(SPOT.mean())


def test_trivial_maps_are_read_as_the_maps_are_that_they_stand_beside():
    image = np.linspace(-1, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    image[20:40, 20:40] = np.random.default_rng(0).normal(0.5, 0.02, (20, 20))
    reading = Reading(None, sign=-1, diffusion=0.04, cover=1.0)
    plain, read = trivial_maps(image, Reading(None, sign=-1)), trivial_maps(image, reading)
    for name, drawn in plain.items():
        tensors = (torch.from_numpy(np.asarray(x, np.float32)) for x in (drawn, image))
        expected = fill(diffuse(*tensors, 0.04, 0.07), torch.tensor(np.nan)).numpy()
        np.testing.assert_allclose(read[name], expected, atol=1e-6)
    assert read["intensity"][20:40, 20:40].std() < 0.8 * plain["intensity"][20:40, 20:40].std()


def test_trivial_maps_are_of_what_they_say():
    image = np.full((64, 64), -1.0)
    image[32, 32] = 1
    maps = trivial_maps(image)
    assert maps["intensity"].sum() == 1
    assert maps["smoothed intensity"].sum() == pytest.approx(1, abs=1e-3)
    assert maps["smoothed intensity"].max() == pytest.approx(1 / (2 * np.pi * 9), rel=0.02)
    assert maps["centre"][32, 32] > 0.99 > 0.1 > maps["centre"][0, 0]


@pytest.mark.parametrize("reading", [Reading(None), Reading(None, diffusion=0.04)])
def test_where_disease_is_darker_trivial_maps_are_those_of_the_negative(reading):
    image = np.random.default_rng(0).uniform(-1, 1, (64, 64)).astype(np.float32)
    dark = trivial_maps(image, reading._replace(sign=-1))
    bright = trivial_maps(-image, reading._replace(sign=1))
    assert dark.keys() == bright.keys()
    for name, drawn in dark.items():
        np.testing.assert_allclose(drawn, bright[name], atol=1e-6)


class Spots(ImageDataset):
    """Two diseased images with a spot of one brightness, on noise, and two healthy ones."""

    def __init__(self, brightness):
        rng, self.cache, self.classes = np.random.default_rng(0), None, torch.tensor([0, 0, 1, 1])
        ill = (self.classes == DISEASED).numpy()[:, None, None]
        self.images = np.where(SPOT & ill, brightness, rng.uniform(-0.5, 0.5, (4, 64, 64)))
        self.paths, self.patients = [None] * 4, np.arange(4)

    def __getitems__(self, indices):
        images = torch.from_numpy(self.images[np.asarray(indices)].astype(np.float32))[:, None]
        classes = self.classes[torch.as_tensor(indices)]
        return images, torch.from_numpy(SPOT) * classes.view(-1, 1, 1, 1).float(), classes


@pytest.mark.parametrize("sign", [-1, 0])
def test_a_dark_disease_is_held_beside_darkness(sign):
    found = measure_trivial(Spots(-0.9), [Reading(None, sign=sign)])
    assert found["intensity"]["pixel_auprc"]["value"] == pytest.approx(1)
    assert found["intensity"]["dice_best"]["value"] == pytest.approx(1)


def test_a_bright_one_is_held_beside_brightness_whether_or_not_the_sign_is_known():
    known, unknown = (measure_trivial(Spots(0.9), [Reading(None, sign=s)]) for s in (1, 0))
    assert known == unknown
    assert known["intensity"]["pixel_auprc"]["value"] == pytest.approx(1)


def test_beside_a_pair_of_networks_each_trivial_map_is_read_as_suits_it_best():
    readings = [Reading(0.1, sign=1), Reading(0.2, sign=1, diffusion=0.04, cover=1.5)]
    both = measure_trivial(Spots(0.55), readings)
    alone = [measure_trivial(Spots(0.55), [reading]) for reading in readings]
    for name, entries in both.items():
        areas = [one[name]["pixel_auprc"]["value"] for one in alone]
        assert entries == alone[int(np.argmax(areas))][name]
    assert both != alone[0]
    assert measure_trivial(Spots(0.55), readings[::-1])["intensity"] == both["intensity"]


def test_outlines_of_healthy_images_alone_score_nothing(outlined, tmp_path):
    root = shutil.copytree(outlined, tmp_path / "set")
    for split in ("validate", "test"):
        for i in range(4):
            masks = root / split / "masks"
            (masks / f"{i + 4}.png").rename(masks / f"{i}.png")
    maps = shutil.copytree(root / "test", tmp_path / "maps")
    shutil.rmtree(maps / "masks")
    arguments = ["--dataset-path", root, "--dataset", "Folder", "--maps", maps, "--visdom", "off"]
    arguments += ["--results-dir", tmp_path / "results", "--image-size", 64]
    result = succeed("main.py", "--mode", "test", *arguments)
    assert "of diseased images" in result.stderr
    found = json.loads((tmp_path / "results" / "metrics.json").read_text())
    assert found["trivial_maps"] == {}
    assert found["outlined"] == 0
    assert not {"pixel_auprc", "dice_best"} & found["metrics"].keys()


def test_outlines_of_healthy_images_are_no_part_of_any_score(outlined, tmp_path):
    root = shutil.copytree(outlined, tmp_path / "set")
    for i in range(4):
        shutil.copy(root / "test" / "masks" / "4.png", root / "test" / "masks" / f"{i}.png")
    dataset = ImageDataset("Folder", root, "test", 64)
    assert measure_trivial(dataset) == measure_trivial(ImageDataset("Folder", outlined, "test", 64))


def test_the_best_dice_is_that_of_one_threshold_for_all():
    curves = np.array([[0.9, 0.1, 0.5], [0.1, 0.9, 0.5]])
    assert metrics.best_dice(curves)["value"] == 0.5


def test_each_image_has_its_dice_at_the_best_threshold(found_rows, found):
    values = [float(row["dice_best"]) for row in found_rows if row["dice_best"]]
    assert len(values) == 4
    assert found["metrics"]["dice_best"]["value"] == pytest.approx(np.mean(values))
