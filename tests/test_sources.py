"""Files of several pictures: one range for a volume or a series, a result for each slice."""

import csv
import json
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from conftest import succeed
from PIL import Image

import descargan
from descargan.data import ImageDataset
from descargan.scaling import common_range, intensity_range, scale
from descargan.settings import settle
from descargan.sources import Preprocessing, as_input, as_shown, read_pictures, spans_of_series
from descargan.volumes import read_volume, slices

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
TEST_FILES = Path(pydicom.__file__).parent / "data" / "test_files"
AFFINE = np.array([[-2.0, 0, 0, 9], [0, 2, 0, -7], [0, 0, 2, 5], [0, 0, 0, 1]])


def write_volume(path, shape=(20, 24, 6), seed=0, affine=AFFINE):
    """A ball that is half as bright in the upper slices."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    array = 500.0 * (np.linalg.norm(grid, axis=0) < 0.9)
    array[..., shape[2] // 2 :] /= 2
    array += np.random.default_rng(seed).normal(0, 5, shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array.astype(np.float32), affine), path)
    return path


def write_dicom(path, gain=1, **elements):
    """MR_small.dcm with its pixels multiplied."""
    dataset = pydicom.dcmread(TEST_FILES / "MR_small.dcm")
    dataset.PixelData = (dataset.pixel_array * gain).astype(np.int16).tobytes()
    for name in ("WindowCenter", "WindowWidth"):
        delattr(dataset, name)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path)
    return path


def write_pages(path, number=3, seed=0):
    rng = np.random.default_rng(seed)
    pages = [Image.fromarray(rng.integers(0, 256, (40, 30), np.uint8)) for _ in range(number)]
    path.parent.mkdir(parents=True, exist_ok=True)
    pages[0].save(path, save_all=True, append_images=pages[1:])
    return path


def predict(run, source, output, *more):
    arguments = ["--save-dir", run, "--input", source, "--results-dir", output, *more]
    return succeed("main.py", "--mode", "predict", *arguments)


def rows(output):
    with (output / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("scaling", ["minmax", "percentile"])
def test_the_slices_of_a_volume_share_one_range(tmp_path, scaling):
    path = write_volume(tmp_path / "a.nii")
    pictures = read_pictures(path, Preprocessing(scaling))
    span = intensity_range(read_volume(path).array.transpose(2, 1, 0), scaling)
    assert [p.name for p in pictures] == [f"axial-{n:03}" for n in range(6)]
    np.testing.assert_allclose([p.span for p in pictures], [span] * 6, rtol=1e-6)
    low, high = (np.median(as_shown(pictures[n], scaling)[8:12, 8:12]) for n in (4, 1))
    assert (low + 1) / (high + 1) == pytest.approx(0.5, abs=0.1)


def test_the_range_of_large_slices_reaches_to_what_is_between_the_pixels_looked_at():
    volume = np.random.default_rng(0).uniform(0, 100, (3, 1, 256, 256)).astype(np.float32)
    volume[1, 0, 101:104, 51] = 110
    span = intensity_range(volume[:, 0], "percentile")
    assert span[1] == 110
    assert common_range(volume, "percentile") == span


def test_axis_and_slices_choose_the_pictures_of_a_volume(tmp_path):
    path = write_volume(tmp_path / "a.nii")
    pictures = read_pictures(path, Preprocessing("percentile", "sagittal", 0.5))
    wanted = slices(read_volume(path), "sagittal", 0.5)
    assert [p.name for p in pictures] == [f"sagittal-{n:03}" for n in sorted(wanted)]
    assert 0 < len(wanted) < 20


def test_a_single_picture_is_scaled_by_itself(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)).save(path)
    (picture,) = read_pictures(path, Preprocessing())
    assert (picture.name, picture.span) == ("", None)
    image = as_input(picture, 64, "minmax")
    assert (image.min(), image.max()) == (-1, 1)


def test_pictures_of_8_bits_or_of_several_sizes_have_no_range_in_common():
    rng = np.random.default_rng(0)
    floats = [rng.random((1, 8, n)).astype(np.float32) for n in (8, 9)]
    assert common_range([rng.integers(0, 256, (1, 8, 8), np.uint8)] * 2, "percentile") is None
    assert common_range(floats, "percentile") is None
    assert common_range(iter(()), "percentile") is None
    assert common_range(floats[:1], "minmax") == (floats[0].min(), floats[0].max())


def test_the_files_of_a_series_share_one_range(tmp_path):
    series = [write_dicom(tmp_path / f"{n}.dcm", n, SeriesInstanceUID="1.2.3") for n in (1, 2)]
    alone = write_dicom(tmp_path / "other.dcm", 3, SeriesInstanceUID="1.2.4")
    (tmp_path / "broken.dcm").write_bytes(series[0].read_bytes()[:900])
    picture = tmp_path / "a.png"
    Image.new("L", (8, 8)).save(picture)
    spans = spans_of_series([*series, alone, tmp_path / "broken.dcm", picture], "minmax")
    pixels = pydicom.dcmread(series[0]).pixel_array
    assert spans[series[0]] == spans[series[1]] == (pixels.min(), 2 * pixels.max())
    assert not {alone, picture} & spans.keys()
    (dark,) = read_pictures(series[0], Preprocessing(), spans[series[0]])
    assert as_input(dark, 64, "minmax").max() == pytest.approx(
        -pixels.min() / pixels.max() / 2, abs=0.01
    )


def test_predicting_a_volume_writes_volumes_on_its_grid(trained, tmp_path):
    path = write_volume(tmp_path / "in" / "a.nii.gz")
    predict(trained, tmp_path / "in", tmp_path / "out", "--slices", 0.6, "--threshold", 0.1)
    taken = sorted(slices(read_volume(path), "axial", 0.6))
    found = rows(tmp_path / "out")
    assert [r["slice"] for r in found] == [f"axial-{n:03}" for n in taken]
    assert {r["file"] for r in found} == {"a.nii.gz"}
    assert 0 < len(taken) < 6
    maps = {}
    for kind in ("map", "score", "healthy", "mask"):
        image = nibabel.load(tmp_path / "out" / f"a.nii.gz.{kind}.nii.gz")
        np.testing.assert_array_equal(image.affine, AFFINE)
        maps[kind] = image.get_fdata()
        known = np.isfinite(maps[kind]).all(axis=(0, 1))
        assert np.flatnonzero(known).tolist() == taken
        assert np.isnan(maps[kind][..., ~known]).all()
    over = maps["score"][..., taken] > 0.1
    np.testing.assert_array_equal(maps["mask"][..., taken], over)
    written = {p.name for p in (tmp_path / "out").iterdir()}
    assert written == {*(f"a.nii.gz.{k}.nii.gz" for k in maps), "predictions.csv", "report.html"}


def test_a_mask_is_of_0_and_1_on_a_grid_of_voxels_that_are_no_cubes(trained, tmp_path):
    path = write_volume(tmp_path / "a.nii.gz", affine=np.diag([1.0, 1.0, 3.5, 1.0]))
    predict(trained, path, tmp_path / "out", "--axis", "coronal", "--threshold", 0.1)
    mask, score = (
        nibabel.load(tmp_path / "out" / f"a.nii.gz.{kind}.nii.gz").get_fdata()
        for kind in ("mask", "score")
    )
    assert score.min() >= 0
    np.testing.assert_array_equal(mask, score > 0.1)
    assert 0 < mask.mean() < 1


def test_the_map_of_a_slice_lies_where_the_slice_is(trained, tmp_path):
    path = write_volume(tmp_path / "a.nii")
    predict(trained, path, tmp_path / "out", "--axis", "coronal")
    written = nibabel.load(tmp_path / "out" / "a.nii.map.nii.gz").get_fdata()
    volume, net = read_volume(path), descargan.load(trained)
    span = intensity_range(volume.array, "minmax")
    image = scale(slices(volume, "coronal")[7], *span)
    net.preprocessing = Preprocessing(axis="coronal")
    (found,) = (r.difference for _, r in net.predict(path) if r.slice == "coronal-007")
    assert found.shape == image.shape == (6, 20)
    # X of the file grows to the left, as columns do; Z to the head, against the rows.
    np.testing.assert_allclose(written[:, 7, :], found[::-1].T, atol=1e-4)


def test_frames_and_pages_have_a_result_each(trained, tmp_path):
    write_pages(tmp_path / "in" / "sub" / "stack.tif")
    frames = (TEST_FILES / "SC_rgb_rle_2frame.dcm").read_bytes()
    (tmp_path / "in" / "cine").write_bytes(frames)
    Image.new("L", (30, 40), 7).save(tmp_path / "in" / "plain.png")
    predict(trained, tmp_path / "in", tmp_path / "out")
    named = [(r["file"], r["slice"]) for r in rows(tmp_path / "out")]
    pages = [("sub/stack.tif", f"page-00{n}") for n in (1, 2, 3)]
    assert named == [("cine", "frame-001"), ("cine", "frame-002"), ("plain.png", ""), *pages]
    for file, part in named:
        name = f"{file}.{part}" if part else file
        assert np.isfinite(np.load(tmp_path / "out" / f"{name}.map.npy")).all()
        for kind in ("healthy", "overlay"):
            assert (tmp_path / "out" / f"{name}.{kind}.png").is_file()
    assert "sub/stack.tif page-002" in (tmp_path / "out" / "report.html").read_text()


def test_a_file_that_breaks_off_is_one_row(trained, tmp_path):
    whole = write_pages(tmp_path / "in" / "a.tif").read_bytes()
    (tmp_path / "in" / "b.nii").write_bytes(b"nothing")
    (tmp_path / "in" / "c.tif").write_bytes(whole[: len(whole) // 2])
    predict(trained, tmp_path / "in", tmp_path / "out")
    errors = {r["file"]: r["error"] for r in rows(tmp_path / "out") if r["error"]}
    assert errors.keys() == {"b.nii", "c.tif"}
    assert len(rows(tmp_path / "out")) == 5


def test_the_api_yields_a_result_for_each_slice(trained, tmp_path):
    write_volume(tmp_path / "in" / "a.nii")
    write_pages(tmp_path / "in" / "b.tif", 12)
    predict(trained, tmp_path / "in", tmp_path / "out")
    found = [(path.name, r) for path, r in descargan.load(trained).predict(tmp_path / "in")]
    written = rows(tmp_path / "out")
    assert [(name, r.slice) for name, r in found] == [(r["file"], r["slice"]) for r in written]
    scores = [float(r["anomaly_score"]) for r in written]
    np.testing.assert_allclose([r.score for _, r in found], scores, atol=1e-5)
    stored = np.load(tmp_path / "out" / "b.tif.page-012.map.npy")
    np.testing.assert_allclose(found[-1][1].difference, stored, atol=1e-5)


def test_what_a_prediction_of_a_volume_left_is_not_predicted(trained, tmp_path):
    write_volume(tmp_path / "a.nii")
    predict(trained, tmp_path, tmp_path)
    predict(trained, tmp_path, tmp_path)
    assert {r["file"] for r in rows(tmp_path)} == {"a.nii"}


# How a data set was prepared goes to the run, and from there to predictions


def prepare(tmp_path, *more):
    arguments = ["--healthy", tmp_path / "controls", "--diseased", tmp_path / "patients"]
    arguments += ["--output", tmp_path / "data", "--image-size", 64, "--workers", 1]
    succeed("prepare_folders.py", *arguments, "--shares", 1, 1, 1, *more)
    return tmp_path / "data", json.loads((tmp_path / "data" / "preparation.json").read_text())


@pytest.mark.parametrize("kind", ["png", "npy"])
def test_training_sees_a_volume_as_prediction_does(tmp_path, kind):
    for number in range(3):
        for i, name in enumerate(("controls", "patients")):
            write_volume(tmp_path / name / f"{number}.nii", seed=2 * number + i)
    data, prepared = prepare(tmp_path, "--format", kind, "--slices", 0.5, "--axis", "coronal")
    how = {"scaling": "percentile", "axis": "coronal", "slices": 0.5, "in_one_unit": True}
    assert how.items() <= prepared.items()
    dataset = ImageDataset("Folder", data, "test", 64, scaling="percentile")
    with (data / "manifest.csv").open(newline="") as file:
        sources = {row["file"]: row["source"] for row in csv.DictReader(file)}
    for index in (0, 4):
        image, _, _ = dataset[index]
        name = dataset.name(index)
        pictures = read_pictures(Path(sources[name]), Preprocessing("percentile", "coronal", 0.5))
        (picture,) = (p for p in pictures if p.name == Path(name).stem.rsplit("_", 1)[1])
        wanted = as_input(picture, 64, "percentile")
        difference = (image - wanted).abs()
        assert difference.mean() < 0.003
        assert difference.max() < 0.1  # where 8 bits are rounded before and after the resizing


def test_the_run_takes_over_how_its_images_were_prepared(tmp_path):
    stored = {"scaling": "percentile", "axis": "sagittal", "slices": 0.4, "in_one_unit": True}
    (tmp_path / "preparation.json").write_text(json.dumps(stored))
    typed = {"dataset": "Folder", "dataset_path": tmp_path, "save_dir": tmp_path / "run"}
    options = settle(typed)
    assert (options.scaling, options.axis, options.slices) == ("percentile", "sagittal", 0.4)
    assert settle({**typed, "scaling": "minmax"}).scaling == "minmax"
    (tmp_path / "preparation.json").write_text(json.dumps({**stored, "scaling": None}))
    assert settle(typed).scaling == "minmax"
    assert settle({**typed, "recipe": "fast"}).scaling == "percentile"


def test_images_of_8_bits_are_prepared_as_they_are_and_scaled_by_the_recipe(tmp_path):
    for number in range(3):
        for i, name in enumerate(("controls", "patients")):
            (tmp_path / name).mkdir(exist_ok=True)
            image = np.random.default_rng(2 * number + i).integers(9, 90, (70, 64), np.uint8)
            Image.fromarray(image).save(tmp_path / name / f"{number}.png")
    data, prepared = prepare(tmp_path)
    assert prepared["scaling"] is None
    assert not prepared["in_one_unit"]
    image, _, _ = ImageDataset("Folder", data, "test", 64)[0]
    assert (image.min(), image.max()) == (-1, 1)


def test_frames_and_pages_become_images_of_one_patient(tmp_path):
    for number in range(3):
        for i, name in enumerate(("controls", "patients")):
            write_pages(tmp_path / name / f"{number}.tif", 2, 2 * number + i)
    data, _ = prepare(tmp_path)
    with (data / "manifest.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found) == 12
    assert {Path(r["file"]).stem[-9:] for r in found} == {"_page-001", "_page-002"}
    splits = {(r["source"], r["split"]) for r in found}
    assert len(splits) == 6


def test_patients_of_headers_have_codes_where_a_table_names_none(tmp_path):
    lines = ["file,label"]
    for number in range(12):
        ids = {"PatientID": f"OKAPI-{number // 2}", "SeriesInstanceUID": f"1.2.{number}"}
        write_dicom(tmp_path / "images" / f"{number}.dcm", 1 + number / 20, **ids)
        lines.append(f"{number}.dcm,{number // 6}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    arguments = ["--table", tmp_path / "labels.csv", "--images", tmp_path / "images"]
    arguments += ["--image-column", "file", "--healthy", "label=0", "--diseased", "label=1"]
    arguments += ["--output", tmp_path / "out", "--image-size", 16, "--workers", 1]
    succeed("prepare_table.py", *arguments, "--shares", 1, 1, 1)
    with (tmp_path / "out" / "manifest.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert Counter(r["patient"] for r in found) == {f"P000{n}": 2 for n in range(1, 7)}
    assert len({(r["patient"], r["split"]) for r in found}) == 6
    written = [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert not [p for p in written if b"OKAPI" in str(p).encode() + p.read_bytes()]


def test_a_prediction_reads_volumes_as_those_trained_on_and_names_nobody(tmp_path):
    """DICOM with names goes all the way; nothing that is written knows them."""
    secret = {"PatientName": "Zebra^Quagga", "PatientID": "OKAPI-77"}
    for number in range(6):
        folder = tmp_path / ("controls", "patients")[number % 2]
        uids = {"SeriesInstanceUID": f"1.2.{number}", "StudyInstanceUID": f"1.3.{number}"}
        person = {**secret, "PatientID": f"OKAPI-77-{number}"}
        for n in (1, 2):
            write_dicom(folder / f"s{number}" / f"IM{n}", n + number / 9, **person, **uids)
    data, prepared = prepare(tmp_path, "--slices", 0.3)
    assert prepared["in_one_unit"]
    run = ["--dataset", "Folder", "--dataset-path", data, "--save-dir", tmp_path / "run"]
    tiny = [
        "--image-size",
        64,
        "--base-filters",
        2,
        "--critic-filters",
        2,
        "--epochs",
        1,
        "--critic-steps",
        1,
    ]
    succeed("main.py", *run, *tiny, "--visdom", "off")
    succeed("main.py", *run, "--mode", "test", "--visdom", "off")
    predict(tmp_path / "run", tmp_path / "controls", tmp_path / "out")
    saved = json.loads((tmp_path / "run" / "options_folder.json").read_text())["options"]
    assert (saved["scaling"], saved["axis"], saved["slices"]) == ("percentile", "axial", 0.3)
    written = [p for f in ("data", "run", "out") for p in (tmp_path / f).rglob("*") if p.is_file()]
    assert len(written) > 40
    for path in written:
        content = str(path).encode() + path.read_bytes()
        for word in (b"PatientName", b"PatientID", b"Zebra", b"Quagga", b"OKAPI"):
            assert word not in content, path
