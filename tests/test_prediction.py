"""Predictions: a row for every file, results that never collide, masks by the threshold."""

import csv
import errno
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, assert_refused, program, succeed
from PIL import Image

from descargan import files, settings
from descargan.settings import settle

SHIPPED = ("--save-dir", "save_nets/pretrained")


def picture(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(seed).integers(0, 256, (40, 30), np.uint8)
    Image.fromarray(array).save(path)


def predict(run: Path, source: Path, output: Path, *more: object):
    arguments = ["--save-dir", run, "--input", source, "--results-dir", output]
    return program("main.py", "--mode", "predict", *arguments, *more)


def rows(output: Path) -> dict[str, dict[str, str]]:
    with (output / "predictions.csv").open(newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A run whose maps have a threshold, whatever so few iterations found."""
    shutil.copytree(trained, tmp_path / "run")
    stored = dict.fromkeys(("auroc_anomaly", "auroc_anomaly_low", "auroc_anomaly_high"), 0.9)
    reading = {"last": {"threshold": 0.3, **stored}}
    (tmp_path / "run" / "reading_synthetic.json").write_text(json.dumps(reading))
    return tmp_path / "run"


def test_a_prediction_of_nothing_is_refused(run):
    result = program("main.py", "--mode", "predict", "--save-dir", run)
    assert_refused(result, "--mode predict needs --input")


def test_the_mask_is_what_lies_over_the_threshold_of_the_run(run, tmp_path):
    picture(tmp_path / "in" / "a.png")
    assert predict(run, tmp_path / "in", tmp_path / "out").returncode == 0
    with Image.open(tmp_path / "out" / "a.png.mask.png") as mask:
        score_map = np.load(tmp_path / "out" / "a.png.score.npy")
        difference = np.load(tmp_path / "out" / "a.png.map.npy")
        np.testing.assert_array_equal(score_map, np.abs(difference))  # of no sign
        over = score_map > 0.3
        np.testing.assert_array_equal(np.asarray(mask), 255 * over)


def test_the_threshold_that_was_typed_goes_before_that_of_the_run(run, tmp_path):
    picture(tmp_path / "in" / "a.png")
    predict(run, tmp_path / "in", tmp_path / "out", "--threshold", 1e-9)
    with Image.open(tmp_path / "out" / "a.png.mask.png") as mask:
        assert np.asarray(mask).all()


def test_weights_without_a_threshold_give_maps_without_masks(run, tmp_path):
    picture(tmp_path / "in" / "a.png")
    (run / "reading_synthetic.json").unlink()
    result = predict(run, tmp_path / "in", tmp_path / "out")
    assert "no threshold is stored" in result.stderr
    names = {path.name.removeprefix("a.png.") for path in (tmp_path / "out").glob("a.png.*")}
    assert names == {"map.npy", "score.npy", "healthy.png", "overlay.png"}


def test_nothing_of_an_earlier_prediction_stays_beside_its_successor(run, tmp_path):
    """Neither of images that are no longer there, nor masks where there is no threshold now."""
    out, kept = tmp_path / "out", tmp_path / "out" / "of mine.mask.png"
    for name in ("a.png", "sub/b.png"):
        picture(tmp_path / "in" / name)
    predict(run, tmp_path / "in", out)
    picture(kept)
    (tmp_path / "in" / "sub" / "b.png").unlink()
    (run / "reading_synthetic.json").unlink()
    assert predict(run, tmp_path / "in", out).returncode == 0
    names = {path.name for path in out.rglob("*") if path.is_file()}
    results = {f"a.png.{k}" for k in ("map.npy", "score.npy", "healthy.png", "overlay.png")}
    assert names == {*results, "predictions.csv", "report.html", kept.name}


def test_a_table_that_names_files_elsewhere_removes_none(run, tmp_path):
    picture(tmp_path / "in" / "a.png")
    picture(tmp_path / "x.mask.png")
    (tmp_path / "out").mkdir()
    table = f"file,slice\n../x,\n{tmp_path / 'x'},\n"
    (tmp_path / "out" / "predictions.csv").write_text(table)
    assert predict(run, tmp_path / "in", tmp_path / "out").returncode == 0
    assert (tmp_path / "x.mask.png").is_file()


def test_each_row_says_the_class_that_is_more_probable(run, tmp_path):
    for i in range(3):
        picture(tmp_path / "in" / f"{i}.png", i)
    predict(run, tmp_path / "in", tmp_path / "out")
    for row in rows(tmp_path / "out").values():
        assert row["predicted"] == str(int(float(row["probability"]) > 0.5))


def test_images_unlike_those_trained_on_are_flagged_and_counted(run, synthetic, tmp_path):
    picture(tmp_path / "in" / "noise.png")
    image = np.load(next((synthetic / "train" / "healthy").iterdir()))[0]
    np.save(tmp_path / "in" / "known.npy", image)
    result = predict(run, tmp_path / "in", tmp_path / "out")
    found = {name: row["unlike_training"] for name, row in rows(tmp_path / "out").items()}
    assert found == {"noise.png": "1", "known.npy": "0"}
    assert "1 of 2 images are unlike" in result.stderr


def test_files_that_cannot_be_read_are_named(run, tmp_path):
    picture(tmp_path / "in" / "a.png")
    for i in range(7):
        (tmp_path / "in" / f"b{i}.png").write_bytes(b"nothing")
    result = predict(run, tmp_path / "in", tmp_path / "out")
    assert result.returncode == 0
    sentence = "7 of the files cannot be read and are left out: b0.png, b1.png, b2.png, b3.png, "
    for said in (result.stderr, (tmp_path / "out" / "report.html").read_text()):
        assert f"{sentence}b4.png and 2 more" in said
    assert "1 images; written to" in result.stdout
    assert "1 of 1 images are unlike" in result.stderr  # which is noise


def test_the_report_lists_what_a_prediction_uses_and_nothing_else(run, tmp_path):
    picture(tmp_path / "in" / "a.png")
    predict(run, tmp_path / "in", tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    listed = page.partition("Options of this prediction")[2].partition("</details>")[0]
    assert "<code>batch_size</code>" in listed
    for idle in ("epochs", "dataset_path", "learning_rate", "visdom", "maps", "resume"):
        assert f"<code>{idle}</code>" not in listed


def test_a_folder_that_holds_results_is_predicted_without_them(run, tmp_path):
    picture(tmp_path / "in" / "a.png")
    for output in (tmp_path / "in", tmp_path / "in" / "earlier"):
        for _ in range(2):
            assert predict(run, tmp_path / "in", output).returncode == 0
            assert rows(output).keys() == {"a.png"}


def test_the_masks_of_a_data_set_are_no_images_of_it(run, tmp_path):
    for name in ("healthy/a.png", "tumour/b.png", "masks/b.png"):
        picture(tmp_path / "in" / name)
    result = predict(run, tmp_path / "in", tmp_path / "out")
    assert rows(tmp_path / "out").keys() == {"healthy/a.png", "tumour/b.png"}
    assert "passed over 1 x mask" in result.stderr


def test_files_of_one_name_and_several_types_keep_a_result_each(run, tmp_path):
    for suffix in ("png", "jpg", "bmp"):
        picture(tmp_path / "in" / f"k.{suffix}")
    predict(run, tmp_path / "in", tmp_path / "out")
    assert len(rows(tmp_path / "out")) == len(list((tmp_path / "out").glob("*.map.npy"))) == 3


def test_long_names_and_names_that_are_no_text_stop_nothing(run, tmp_path):
    picture(tmp_path / "in" / ("x" * 245 + ".png"))
    picture(tmp_path / "in" / os.fsdecode(b"caf\xe9.png"))
    picture(tmp_path / "in" / "z.png")
    result = predict(run, tmp_path / "in", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    found = rows(tmp_path / "out")
    assert found.keys() == {"x" * 245 + ".png", "caf\\udce9.png", "z.png"}
    assert not any(row["error"] for row in found.values())
    assert len(list((tmp_path / "out").glob("*.map.npy"))) == 3


@pytest.mark.parametrize("names", [["a.png"], ["a.png", "b.jpg"]])
def test_where_no_file_can_be_read_the_prediction_failed(run, tmp_path, names):
    (tmp_path / "in").mkdir()
    for name in names:
        (tmp_path / "in" / name).write_bytes(b"nothing")
    source = tmp_path / "in" if len(names) > 1 else tmp_path / "in" / names[0]
    assert_refused(predict(run, source, tmp_path / "out"), "predictions.csv")
    assert all("cannot be read" in row["error"] for row in rows(tmp_path / "out").values())


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_prediction_that_failed_leaves_the_one_before_it_as_it_is(run, tmp_path):
    picture(tmp_path / "in" / "a.png")
    predict(run, tmp_path / "in", tmp_path / "out")
    before = contents(tmp_path / "out")
    (tmp_path / "labels.csv").write_text("file,class\n")
    result = predict(run, tmp_path / "labels.csv", tmp_path / "out")
    assert_refused(result, "none of the 1 images can be read", "labels.csv cannot be read")
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("name", ["a.png.mask.png", "a.png.frame-001.healthy.png"])
def test_an_image_of_the_name_of_a_result_is_not_overwritten(run, tmp_path, name):
    for own in ("a.png", name):
        picture(tmp_path / "in" / own)
    before = contents(tmp_path / "in")
    assert_refused(predict(run, tmp_path / "in", tmp_path / "in"), name, "--results-dir")
    assert contents(tmp_path / "in") == before
    assert predict(run, tmp_path / "in", tmp_path / "out").returncode == 0


def test_an_image_that_an_earlier_prediction_made_is_not_removed(run, tmp_path):
    picture(tmp_path / "in" / "a.png")
    predict(run, tmp_path / "in", tmp_path / "in")
    mask = tmp_path / "in" / "a.png.mask.png"
    assert_refused(predict(run, mask, tmp_path / "in"), mask, "--results-dir")
    assert mask.is_file()


def test_what_is_neither_a_file_nor_a_folder_is_called_so(run, tmp_path):
    result = predict(run, Path(os.devnull), tmp_path / "out")
    assert_refused(result, f"{os.devnull} is neither a file nor a folder")


def test_an_empty_input_is_not_the_current_folder(run, tmp_path):
    assert_refused(predict(run, "", tmp_path / "out"), "--input", "an empty name is no path")


def test_few_images_are_not_waited_for_as_a_batch_of_many(run, tmp_path):
    picture(tmp_path / "in" / "a.png")
    started = time.monotonic()
    assert predict(run, tmp_path / "in", tmp_path / "out", "--batch-size", 10**6).returncode == 0
    assert time.monotonic() - started < 10


def test_a_full_disk_is_a_sentence_that_names_the_file(run, tmp_path, monkeypatch):
    picture(tmp_path / "in" / "a.png")

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    result = predict(run, tmp_path / "in", tmp_path / "out")
    assert_refused(result, tmp_path / "out", "cannot be written", "No space left")


def test_the_networks_that_come_along_have_to_be_named(tmp_path, monkeypatch):
    picture(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    result = program("main.py", "--mode", "predict", "--input", "a.png")
    assert_refused(result, "--save-dir", "ellipses alone")
    named = program("main.py", "--mode", "predict", "--input", "a.png", *SHIPPED)
    assert_refused(named, "save_nets/pretrained", "does not exist")  # in the current folder


@pytest.mark.parametrize(("mode", "more"), [("test", {}), ("predict", {"input": Path("x")})])
def test_results_go_to_a_folder_of_their_run(trained, monkeypatch, mode, more):
    options = settle({"mode": mode, "save_dir": trained, **more})
    assert options.results_dir == trained / "results" / mode
    monkeypatch.setattr(settings, "SHIPPED", (trained,))
    options = settle({"mode": mode, "save_dir": trained, **more})
    assert options.results_dir == Path("results", "pretrained", mode)


def test_the_networks_that_come_along_make_masks_and_flag_noise(tmp_path):
    np.save(tmp_path / "noise.npy", np.random.default_rng(0).random((100, 80)))
    arguments = ["--save-dir", ROOT / "save_nets" / "pretrained", "--results-dir", tmp_path / "out"]
    succeed("main.py", "--mode", "predict", "--input", tmp_path / "noise.npy", *arguments)
    assert rows(tmp_path / "out")["noise.npy"]["unlike_training"] == "1"
    assert (tmp_path / "out" / "noise.npy.mask.png").is_file()
