"""Which files below a folder are images, and what their names are without the suffix."""

import json
import shutil
from pathlib import PurePath

import numpy as np
import pytest
from conftest import succeed
from PIL import Image

from descargan.scanning import scan, suffix_of, without_suffix


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("dataset.json", json.dumps({"labels": {"0": "background"}, "numTraining": 2})),
        ("metrics.json", json.dumps({"loss": 1})),
        ("predictions.csv", "id,label\n1,0\n"),
        ("preparation.json", "{}"),
    ],
)
def test_a_file_of_another_program_hides_no_images(tmp_path, name, content):
    image = picture(tmp_path / "Task01" / "0.png")
    (tmp_path / "Task01" / name).write_text(content)
    assert scan(tmp_path)[0] == [image]


def test_data_sets_and_results_of_this_program_are_passed_over(synthetic, trained, tmp_path):
    image = picture(tmp_path / "0.png")
    shutil.copytree(synthetic, tmp_path / "synthetic")
    for mode, *words in (
        ("test", "--dataset-path", synthetic, "--visdom", "off"),
        ("predict", "--input", synthetic / "test" / "healthy" / "0000.npy"),
    ):
        words += ["--save-dir", trained, "--results-dir", tmp_path / mode]
        succeed("main.py", "--mode", mode, *words)
    found, passed_over = scan(tmp_path)
    assert found == [image]
    reason = "folder written by this program"
    assert passed_over == [(tmp_path / name, reason) for name in ("predict", "synthetic", "test")]


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a/b.PNG", ".png"),
        ("a.b/c", ""),
        ("v.nii.gz", ".nii.gz"),
        ("1.2.840.1136.5", ""),
        ("1.2.840.1136.5.dcm", ".dcm"),
        ("notes.txt", ".txt"),
    ],
)
def test_the_suffix_of_a_number_is_none(name, suffix):
    assert suffix_of(PurePath(name)) == suffix
    assert without_suffix(PurePath(name)) == name[: len(name) - len(suffix)]
