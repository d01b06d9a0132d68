"""Patients that no option tells: names of files that look like several of one are said."""

import re

import numpy as np
import pytest
from conftest import succeed
from PIL import Image

from descargan.patients import warn_of_shared_names
from descargan.preparation import match_patient

TWELVE = range(12)


@pytest.mark.parametrize(
    ("files", "patients"),
    [
        ([f"p{p:03}_{n:02}.png" for p in TWELVE for n in (5, 6)], "p000 p001"),
        ([f"tumour/p{p:03}_{n}.jp2" for p in TWELVE for n in "ab"], "p000 p001"),
        ([f"{p:08}_{n:03}" for p in TWELVE for n in (0, 1)], "00000000 00000001"),
        ([f"BraTS_{p:03}_t{n}.nii.gz" for p in TWELVE for n in (1, 2)], "BraTS_000 BraTS_001"),
        ([f"person{p}_bacteria_{n}.jpeg" for p in TWELVE for n in (1, 2)], "person0 person1"),
        ([f"p{p:02}/{n}.png" for p in TWELVE for n in "ab"], "p00 p01"),
        ([f"s{p % 2}/p{p:02}/{n}.png" for p in TWELVE for n in "ab"], "s0/p00 s1/p01"),
        ([f"p{p:02}_{n}.png" for p in TWELVE for n in (1, 2)] + ["7.png"], "p00 p01"),
    ],
)
def test_several_files_of_a_patient_are_said_with_an_option_that_tells_them(
    files, patients, capsys
):
    warn_of_shared_names(files)
    said = capsys.readouterr().err
    assert said.count("warning: ") == said.count("\n") == 1
    assert f"if {files[0]} and {files[1]} are of one" in said
    pattern = re.compile(re.search(r"--patient '(.*)'", said)[1])
    found = [match_patient(pattern, file) for file in files]
    assert f"{found[0]} {found[2]}" == patients
    assert all(found), "an option that tells no patient of some would be refused"
    assert len(set(found)) == (len(files) + 1) // 2


@pytest.mark.parametrize(
    "files",
    [
        [f"{n:04}.png" for n in range(50)],
        [f"{n:04}.png" for n in range(50)] * 2,
        [f"IMG_{n:04}.png" for n in range(50)],
        [f"img{n}.png" for n in range(50)],
        [f"img{n}.jp2" for n in range(50)],
        [f"{folder}/{n:04}.png" for folder in "ab" for n in range(50)],
        [f"volume1_{n:03}.png" for n in range(50)],
        [f"volume1/slice_{n:03}.png" for n in range(50)],
        [f"{p:08}_000.png" for p in range(50)],
    ],
)
def test_names_that_tell_no_patients_are_not_spoken_of(files, capsys):
    warn_of_shared_names(files)
    assert not capsys.readouterr().err


@pytest.mark.parametrize(("option", "times"), [((), 1), (("--patient", "^p[0-9]+"), 0)])
@pytest.mark.parametrize("script", ["prepare_folders.py", "prepare_table.py"])
def test_a_preparation_without_patients_says_so_once(tmp_path, script, option, times):
    lines = ["file,sick"]
    for number in range(24):
        path = tmp_path / "ab"[number % 2] / f"p{number // 2:02}_{number % 2}.png"
        path.parent.mkdir(exist_ok=True)
        image = np.random.default_rng(number).integers(0, 256, (16, 16), np.uint8)
        Image.fromarray(image).save(path)
        lines.append(f"{path.name},{number % 2}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    words = ["--healthy", tmp_path / "a", "--diseased", tmp_path / "b"]
    if script == "prepare_table.py":
        words = ["--table", tmp_path / "t.csv", "--image-column", "file"]
        words += ["--healthy", "sick=0", "--diseased", "sick=1"]
    words += ["--output", tmp_path / "o", "--image-size", 16, "--workers", 1]
    result = succeed(script, *words, *option)
    assert result.stderr.count("each file counts as a patient") == times
