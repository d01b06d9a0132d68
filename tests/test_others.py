"""Maps of any method, scored by the table that the networks' are scored by."""

import json

import numpy as np
import pytest
from conftest import assert_refused, program
from PIL import Image

from descargan import metrics
from descargan.errors import UserError
from descargan.others import read_map


def test_a_map_is_found_by_the_path_of_its_image_or_by_its_name(tmp_path):
    for i, name in enumerate(("test/sick/a.npy", "test_sick_b.npy", "c.npy")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / name, np.full((8, 8), i + 0.5))
    for i, name in enumerate("abc"):
        names = f"test/sick/{name}", f"test_sick_{name}", name
        np.testing.assert_array_equal(read_map(tmp_path, names, 8), i + 0.5)


def test_a_picture_of_8_bits_spans_0_to_1_and_comes_to_the_size(tmp_path):
    Image.fromarray(np.full((40, 40), 255, np.uint8)).save(tmp_path / "a.png")
    np.testing.assert_allclose(read_map(tmp_path, ["a"], 16), np.ones((16, 16)))


def test_a_missing_map_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="holds no map of test/sick/a"):
        read_map(tmp_path, ["test/sick/a"], 8)


@pytest.fixture
def maps(synthetic, tmp_path):
    """The ground truth of each test image, as the maps of a method that knows it."""
    for path in (synthetic / "test").rglob("*.npy"):
        target = tmp_path / "oracle" / path.relative_to(synthetic)
        target.parent.mkdir(parents=True, exist_ok=True)
        np.save(target, np.load(path)[1])
    return tmp_path / "oracle"


def test_a_method_that_knows_the_truth_finds_all_of_it(synthetic, maps, tmp_path, monkeypatch):
    resamples = metrics.resamples
    monkeypatch.setattr(metrics, "resamples", lambda n, _samples, groups: resamples(n, 20, groups))
    common = ["--mode", "test", "--dataset", "Synthetic", "--dataset-path", synthetic]
    common += ["--image-size", 64, "--maps", maps, "--results-dir", tmp_path / "out"]
    result = program("main.py", *common, "--threshold", 0.3, "--visdom", "off")
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert found["metrics"]["pixel_auroc"]["value"] == pytest.approx(1)
    assert found["metrics"]["dice_best"]["value"] > 0.99
    assert found["metrics"]["auroc_anomaly"]["value"] == 1
    assert not {"accuracy", "auroc_class", "counterpart_mse"} & found["metrics"].keys()
    assert "confusion_matrix" not in found
    assert (tmp_path / "out" / "report.html").is_file()
    next((maps / "test").rglob("*.npy")).unlink()
    assert_refused(program("main.py", *common, "--visdom", "off"), "holds no map of test/")
