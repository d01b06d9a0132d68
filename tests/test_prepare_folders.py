"""Two folders as people have them: nothing is lost or mixed up without a word."""

import csv
import errno
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from conftest import assert_refused, program
from PIL import Image

from descargan import conversion
from descargan.files import available_cores, map_in_processes
from descargan.preparation import unique_names
from descargan.scanning import kinds, scan

FOLDER = Path(pydicom.__file__).parent / "data" / "test_files"
CLASSES = ("controls", "patients")


def picture(path, seed, size=(20, 24)):
    """A picture that no other seed gives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    Image.fromarray(image).save(path)
    return path


@pytest.fixture
def groups(tmp_path):
    """A folder with 6 controls and 6 patients, c0.png to c5.png and p0.png to p5.png."""
    for number in range(6):
        picture(tmp_path / "controls" / f"c{number}.png", number)
        picture(tmp_path / "patients" / f"p{number}.png", 100 + number)
    return tmp_path


def prepare(folder, *arguments, output="out"):
    groups = ["--healthy", folder / "controls", "--diseased", folder / "patients"]
    common = ["--output", folder / output, "--image-size", 16, "--workers", 1]
    return program("prepare_folders.py", *groups, *common, *arguments)


def succeed(folder, *arguments):
    result = prepare(folder, *arguments)
    assert result.returncode == 0, result.stderr
    return result


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def manifest(folder):
    return rows(folder / "out" / "manifest.csv")


def reasons(folder):
    return {Path(r["source"]).name: r["reason"] for r in rows(folder / "out" / "left_out.csv")}


def test_names_that_would_become_one_stay_apart(groups):
    sources = [picture(groups / "controls" / name, 50 + i) for i, name in enumerate(COLLIDING)]
    succeed(groups)
    found = {r["source"]: r["file"] for r in manifest(groups)}
    assert {str(path) for path in sources} <= found.keys()
    for source, file in found.items():
        with Image.open(source) as image, Image.open(groups / "out" / file) as prepared:
            assert np.ptp(image) > 0
            assert prepared.size == (16, 16)
    assert len(set(found.values())) == len(list((groups / "out").rglob("*.png"))) == 17


COLLIDING = ("s1/0.png", "s1_0.png", "x.1.png", "x-1.png", "X-1.PNG")


def test_file_names_are_unique_short_and_readable():
    names = unique_names(["a", "A", "a-2", "a", ".hidden", "x" * 250, "caf\udce9"])
    assert names == ["a", "A-2", "a-2-2", "a-3", "hidden", "x" * 120, "caf_"]


def test_what_is_passed_over_is_listed_with_the_reason(groups):
    folder = groups / "controls"
    picture(folder / ".ipynb_checkpoints" / "c0-checkpoint.png", 0)
    (folder / "._c0.png").write_bytes(b"\0\5\26\7")
    (folder / "notes.txt").write_text("notes")
    (folder / "Thumbs.db").write_bytes(b"thumbs")
    (folder / "link").symlink_to(groups / "patients")
    (folder / "gone.png").symlink_to(groups / "nowhere.png")
    (folder / "linked.png").symlink_to(picture(groups / "elsewhere" / "7.png", 7))
    result = succeed(groups)
    assert reasons(groups) == {
        ".ipynb_checkpoints": "hidden folder",
        "._c0.png": "hidden file",
        "notes.txt": "no image type (.txt)",
        "Thumbs.db": "no image type (.db)",
        "link": "link to a folder",
        "gone.png": "link to nothing",
    }
    assert "controls: 7 .png" in result.stdout
    assert "6 left out:\n" in result.stdout
    assert " 1 link to a folder\n" in result.stdout


def test_broken_files_are_counted_by_their_problems(groups):
    for name in ("a", "b"):
        whole = picture(groups / "controls" / f"{name}.png", 70).read_bytes()
        (groups / "controls" / f"{name}.png").write_bytes(whole[:300])
    np.save(groups / "controls" / "c.npy", np.full((20, 24), np.nan))
    outline(groups / "masks" / "p1.png", size=(24, 20))
    report = FOLDER / "test-SR.dcm"
    (groups / "patients" / "1.2.840.5").write_bytes(report.read_bytes())
    result = succeed(groups, "--masks", groups / "masks")
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert "5 left out:" in lines
    assert "2 cannot be read as an image: image file is truncated" in lines
    assert "1 DICOM without an image, as a report" in lines
    assert "1 its mask and the image differ in size" in lines
    assert "1 holds NaN or infinity" in lines


def test_images_are_counted_by_suffixes_of_two_parts_and_by_content(tmp_path):
    volume(tmp_path / "a.nii.gz", 0)
    for number in range(3):
        shutil.copy(FOLDER / "MR_small.dcm", tmp_path / f"1.2.840.{number}")
    picture(tmp_path / "p.png", 0).rename(tmp_path / "p")
    paths, _ = scan(tmp_path)
    assert kinds(paths) == "3 DICOM without .dcm, 1 .nii.gz, 1 without suffix"


def test_an_empty_folder_says_what_it_holds_instead(tmp_path):
    picture(tmp_path / "patients" / "p.png", 0)
    (tmp_path / "controls").mkdir()
    (tmp_path / "controls" / "a.dat").write_bytes(b"?")
    assert_refused(prepare(tmp_path), "controls holds no image", "1 no image type (.dat)")


@pytest.mark.parametrize("diseased", ["controls", "controls/sick"])
def test_a_class_within_the_other_is_refused(groups, diseased):
    picture(groups / "controls" / "sick" / "p.png", 9)
    result = program(
        "prepare_folders.py",
        *("--healthy", groups / "controls", "--diseased", groups / diseased),
        *("--output", groups / "out"),
    )
    assert_refused(result, "--healthy", "--diseased", "both classes")


def test_a_link_does_not_hide_that_the_folders_are_one(groups):
    (groups / "also").symlink_to(groups / "controls")
    both = ["--healthy", groups / "controls", "--diseased", groups / "also"]
    assert_refused(program("prepare_folders.py", *both, "--output", groups / "out"), "both classes")


@pytest.mark.parametrize("output", ["controls/out", "."])
def test_output_and_input_are_kept_apart(groups, output):
    assert_refused(prepare(groups, "--overwrite", output=output), "--output", "--healthy")


def test_a_picture_in_both_classes_is_left_out_of_both(groups):
    """Told by its pixels, whatever the files are called and however they are packed."""
    with Image.open(groups / "controls" / "c0.png") as image:
        image.save(groups / "patients" / "again.bmp")
    result = succeed(groups, "--shares", 1, 1, 1)
    assert set(reasons(groups)) == {"c0.png", "again.bmp"}
    assert all("of the other class" in reason for reason in reasons(groups).values())
    assert " 2 in both classes\n" in result.stdout
    assert len(manifest(groups)) == len(list((groups / "out").rglob("*.png"))) == 11


def test_a_picture_in_two_splits_is_warned_of(groups):
    for number in range(20):
        picture(groups / "controls" / f"copy{number}.png", 0)
    assert "pictures are in two splits" in succeed(groups).stderr


def test_file_names_of_both_classes_count_as_one_patient_and_this_is_said(groups):
    for number in range(4):
        for i, name in enumerate(CLASSES):
            picture(groups / name / f"{number}.png", 10 * number + i + 200)
    printed = succeed(groups).stdout
    assert "4 file names are in both" in printed
    assert "       4 patients have images in both classes\n" in printed
    splits = {}
    for row in manifest(groups):
        splits.setdefault(row["patient"], set()).add(row["split"])
    assert len(splits) == 16
    assert all(len(found) == 1 for found in splits.values())


def test_a_group_of_the_patient_that_matches_nothing_is_named(groups):
    assert_refused(prepare(groups, "--patient", r"(x)?\d\.png"), "no patient of 6 of 6", "c0")


def test_one_odd_file_is_left_out_where_its_patient_is_unknown(groups):
    """As a patient of its own it might be in another split than the same person's images."""
    picture(groups / "controls" / "odd.png", 90)
    result = succeed(groups, "--patient", r"[cp]\d")
    assert reasons(groups) == {"odd.png": "no patient told"}
    assert "1 of 7 files are left out" in result.stderr
    picture(groups / "controls" / "odd2.png", 91)
    assert_refused(prepare(groups, "--patient", r"[cp]\d", output="other"), "2 of 8 files")


def test_too_few_patients_say_how_many_are_needed(groups):
    result = prepare(groups, "--patient", r"([cp])\d")
    assert_refused(result, "1 patients have images", "at least 3")


def test_small_classes_and_lost_colour_are_warned_of(groups):
    colours = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    for number in range(3):
        Image.fromarray(colours + np.uint8(number)).save(groups / "controls" / f"rgb{number}.png")
    grey = Image.open(groups / "controls" / "c1.png").convert("RGB")
    grey.save(groups / "controls" / "grey stored as colour.bmp")
    warnings = succeed(groups).stderr
    assert "warning: 3 images in colour become grey" in warnings
    assert "warning: fewer than 20 images" in warnings
    assert "Test/Diseased 1" in warnings


@pytest.mark.parametrize("kind", ["png", "npy"])
def test_a_no_data_value_costs_no_contrast_and_nothing_infinite_is_written(groups, kind):
    array = np.random.default_rng(0).random((20, 20)).astype(np.float32)
    array[:, :4] = -3.4e38
    np.save(groups / "controls" / "f.npy", array)
    succeed(groups, "--format", kind)
    file = next(groups / "out" / r["file"] for r in manifest(groups) if "f.npy" in r["source"])
    image = np.load(file)[0] if kind == "npy" else np.asarray(Image.open(file)) / 255
    assert image.shape == (16, 16)
    assert np.isfinite(image).all()
    assert image[:, 6:].std() > 0.1


def test_a_marker_costs_the_anatomy_its_contrast_by_extremes_alone(groups):
    """A smooth 12-bit disc and a label at the top of 16 bits."""
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    image = (2000 * np.clip(1 - np.hypot(y, x), 0, 1)).astype(np.uint16)
    image[:4, :4] = 65535
    Image.fromarray(image).save(groups / "controls" / "marked.png")
    contrast = {}
    for scaling in ("percentile", "minmax"):
        succeed(groups, "--scaling", scaling, "--overwrite")
        row = next(r for r in manifest(groups) if "marked" in r["source"])
        contrast[scaling] = np.ptp(np.asarray(Image.open(groups / "out" / row["file"]))[4:])
    assert contrast["percentile"] > 120
    assert contrast["minmax"] < 10


def volume(path, seed, depth=6):
    """A bright ball in a box of 20 x 24 x depth voxels."""
    grid = np.mgrid[-1:1:20j, -1:1:24j, -1 : 1 : depth * 1j]
    ball = 500 * (np.linalg.norm(grid, axis=0) < 0.9)
    noise = np.random.default_rng(seed).normal(0, 9, ball.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image((ball + noise).astype(np.float32), np.eye(4)), path)


def test_volumes_become_slices_of_one_patient_each(tmp_path):
    for number in range(3):
        for i, name in enumerate(CLASSES):
            volume(tmp_path / name / f"v{number}.nii.gz", 10 * number + i)
    mask = np.zeros((20, 24, 6), np.uint8)
    mask[5:12, 6:14, 2:4] = 1
    (tmp_path / "masks").mkdir()
    nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), tmp_path / "masks" / "v1_seg.nii")
    masks = ["--masks", tmp_path / "masks", "--mask-suffix", "_seg"]
    succeed(tmp_path, *masks, "--slices", 0.5)
    found = manifest(tmp_path)
    assert {Path(r["file"]).name.rsplit("_", 1)[1] for r in found} == {
        f"axial-{n:03}.png" for n in (1, 2, 3, 4)
    }
    assert len(found) == 24
    assert all(
        len({r["split"] for r in found if r["source"] == source}) == 1
        for source in {r["source"] for r in found}
    )
    masks = sorted(p.name for p in (tmp_path / "out").rglob("masks/*"))
    assert masks == [f"v1-nii-gz-2_axial-{n:03}.png" for n in (2, 3)]
    assert set(masks) <= {Path(r["file"]).name for r in found}


def test_dicom_is_grouped_by_patient_and_names_nobody(tmp_path):
    source = Path(pydicom.__file__).parent / "data" / "test_files" / "MR_small.dcm"
    for number in range(12):
        dataset = pydicom.dcmread(source)
        dataset.PatientID = f"HOSPITAL-{number // 2}"
        dataset.PatientName = f"Doe^Jane{number // 2}"
        shift = np.uint16(number + 1)
        dataset.PixelData = (dataset.pixel_array.astype(np.uint16) + shift).tobytes()
        folder = tmp_path / CLASSES[number // 6]
        folder.mkdir(exist_ok=True)
        dataset.save_as(folder / f"IM{number:04}")
    result = succeed(tmp_path)
    assert "6 patients" in result.stdout
    found = manifest(tmp_path)
    assert {r["patient"] for r in found} == {f"P{n:04}" for n in range(1, 7)}
    assert len({(r["patient"], r["split"]) for r in found}) == 6
    written = [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert len(written) == 12 + 3
    for path in written:
        content = str(path.relative_to(tmp_path)).encode() + path.read_bytes()
        assert b"HOSPITAL" not in content
        assert b"Doe" not in content


def test_a_broken_image_is_replaced_by_one_over_the_number_wanted(groups):
    for number in range(6, 30):
        picture(groups / "controls" / f"c{number}.png", number)
    for number in range(6):
        (groups / "controls" / f"c{number}.png").write_bytes(b"broken")
    succeed(groups, "--train", 2, "--validate", 1, "--test", 1, "--shares", 1, 1, 1)
    counts = Counter(f"{r['split']}/{r['class']}" for r in manifest(groups))
    assert sorted(counts.values()) == [1, 1, 1, 1, 2, 2]


@pytest.mark.parametrize("seed", range(4))
def test_the_split_is_drawn_without_broken_images_where_each_counts(groups, seed):
    for number in range(3):
        (groups / "controls" / f"c{number}.png").write_bytes(b"broken")
    succeed(groups, "--seed", seed)
    counts = Counter(f"{r['split']}/{r['class']}" for r in manifest(groups))
    assert sorted(counts.values()) == [1, 1, 1, 1, 1, 4]
    assert len(list((groups / "out").rglob("*.png"))) == 9
    assert reasons(groups).keys() == {"c0.png", "c1.png", "c2.png"}


def test_a_class_of_which_all_are_broken_is_refused(groups):
    for path in (groups / "controls").iterdir():
        path.write_bytes(b"broken")
    assert_refused(prepare(groups), "no image for Train/Healthy control", "cannot be read")
    assert not (groups / "out").exists()


def outline(path, box=(slice(2, 12), slice(3, 15)), size=(20, 24)):
    mask = np.zeros(size, np.uint8)
    mask[box] = 1
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


def test_images_of_one_name_in_both_classes_get_two(groups):
    """So that a mask, which lies beside the classes, is that of one image alone."""
    for i, name in enumerate(CLASSES):
        picture(groups / name / "same.png", 500 + i)
    outline(groups / "masks" / "same.png")
    succeed(groups, "--masks", groups / "masks")
    names = [Path(r["file"]).name for r in manifest(groups)]
    assert len(set(names)) == len(names) == 14
    row = next(r for r in manifest(groups) if r["source"].endswith("patients/same.png"))
    file = groups / "out" / row["file"]
    assert list((groups / "out").rglob("masks/*")) == [file.parents[1] / "masks" / file.name]


def test_masks_lie_beside_the_classes_under_the_names_of_the_images(groups):
    for number in range(5):
        outline(groups / "masks" / f"p{number}_mask.png")
    result = succeed(groups, "--masks", groups / "masks", "--mask-suffix", "_mask")
    assert "1 diseased images have no mask" in result.stdout
    summary = json.loads((groups / "out" / "preparation.json").read_text())
    assert sum(summary["masks"].values()) == 5
    for split, number in summary["masks"].items():
        assert f"{number} masks of diseased images in {split}\n" in result.stdout
    assert f"{summary['masks']['Test']} test images are outlined, fewer than 20" in result.stderr
    for row in manifest(groups):
        file = groups / "out" / row["file"]
        mask = file.parents[1] / "masks" / file.name
        assert mask.exists() == (Path(row["source"]).name in {f"p{i}.png" for i in range(5)})
        if mask.exists():
            with Image.open(mask) as opened:
                values = np.asarray(opened)
            assert set(np.unique(values)) == {0, 255}
            # 10 x 12 of 24 x 24 pixels, two thirds a side.
            assert (values > 0).sum() == pytest.approx(10 * 12 * (16 / 24) ** 2, rel=0.25)


@pytest.mark.parametrize("arguments", [("--test", 1, "--validate", 1), ("--balanced",)])
def test_outlined_images_stay_before_others_where_some_are_left_out(groups, arguments):
    """But in training, which sees no outline."""
    for number in range(20, 60):  # patients beside those of the fixture
        picture(groups / "patients" / f"q{number}.png", number)
    for number in range(20, 60, 4):
        outline(groups / "masks" / f"q{number}.png")
    masks = ["--masks", groups / "masks", "--shares", 0.4, 0.3, 0.3]
    succeed(groups, *masks)
    known = json.loads((groups / "out" / "preparation.json").read_text())
    succeed(groups, *masks, *arguments, "--overwrite")
    summary = json.loads((groups / "out" / "preparation.json").read_text())
    for split in ("Validate", "Test"):
        diseased = summary["images"][f"{split}/Diseased"]
        assert known["masks"][split] > 0
        assert summary["masks"][split] == min(diseased, known["masks"][split])
        assert diseased < known["images"][f"{split}/Diseased"]


def test_masks_of_several_lesions_of_an_image_become_one(groups):
    first, second = (slice(2, 8), slice(2, 8)), (slice(10, 18), slice(12, 20))
    outline(groups / "masks" / "p0_mask.png", first)
    outline(groups / "masks" / "p0_mask_1.png", second)
    succeed(groups, "--masks", groups / "masks", "--mask-suffix", "_mask", "--image-size", 24)
    (mask,) = (groups / "out").rglob("masks/*.png")
    with Image.open(mask) as opened:
        assert (np.asarray(opened) > 0).sum() == 6 * 6 + 8 * 8


def test_a_mask_of_another_size_leaves_its_image_out(groups):
    for number in range(6):
        outline(groups / "masks" / f"p{number}.png", size=(24, 20) if number == 0 else (20, 24))
    for number in range(6, 12):
        picture(groups / "patients" / f"p{number}.png", number + 300)
    succeed(groups, "--masks", groups / "masks")
    assert "differ in size: 24 x 20 and 20 x 24" in reasons(groups)["p0.png"]


def test_an_outline_in_a_healthy_image_is_a_contradiction(groups):
    picture(groups / "controls" / "c6.png", 6)
    outline(groups / "masks" / "p0.png")
    outline(groups / "masks" / "c6.png")
    succeed(groups, "--masks", groups / "masks", "--seed", 3)
    assert "healthy class" in reasons(groups)["c6.png"]


def test_a_mask_too_small_to_be_seen_is_not_written(groups):
    outline(groups / "masks" / "p0.png", (slice(4, 5), slice(4, 5)))
    outline(groups / "masks" / "p1.png")
    result = succeed(groups, "--masks", groups / "masks")
    assert "1 masks are too small" in result.stderr
    assert len(list((groups / "out").rglob("masks/*.png"))) == 1


def test_all_images_may_be_for_a_test_alone(groups):
    result = succeed(groups, "--shares", 0, 0, 2)
    assert sorted(p.name for p in (groups / "out").iterdir() if p.is_dir()) == ["Test"]
    assert {row["split"] for row in manifest(groups)} == {"Test"}
    words = f"--dataset-path {groups / 'out'} --save-dir RUN --mode test --results-dir results/out"
    assert words in result.stdout
    assert "to train on it" not in result.stdout
    assert "takes more from training" not in result.stderr


@pytest.mark.parametrize(
    ("shares", "training", "testing"),
    [((1, 0, 1), False, True), ((1, 1, 0), True, False), ((1, 0, 0), False, False)],
)
def test_no_command_is_printed_that_wants_a_split_which_is_not_there(
    groups, shares, training, testing
):
    printed = succeed(groups, "--shares", *shares, "--image-size", 128).stdout
    assert ("to train on it" in printed, "--mode test" in printed) == (training, testing)


def test_a_split_that_is_wanted_is_not_left_out_where_nobody_is_left_for_it(groups):
    result = prepare(groups, "--shares", 0, 1, 1, "--patient", "([cp])[0-9]")
    assert_refused(result, "no image for Test/Healthy control is left", "at least 2 are needed")


def test_a_share_of_nothing_is_refused(groups):
    assert_refused(prepare(groups, "--shares", 0, 0, 0), "--shares are all 0")


def test_a_number_of_images_of_a_split_that_is_not_made_is_refused(groups):
    refused = prepare(groups, "--shares", 0, 0, 1, "--validate", 20)
    assert_refused(refused, "--shares leave validate out", "--validate")


def test_masks_that_are_no_folder_are_named(groups):
    result = prepare(groups, "--masks", groups / "nowhere")
    assert_refused(result, groups / "nowhere", "is no folder: see --masks")


def test_names_that_are_no_utf8_are_prepared(groups):
    name = os.fsdecode(b"caf\xe9.png")
    try:
        picture(groups / "controls" / name, 77)
    except OSError:
        pytest.skip("this file system has UTF-8 names alone")
    succeed(groups)
    row = next(r for r in manifest(groups) if "caf" in r["source"])
    assert (groups / "out" / row["file"]).is_file()
    assert "caf\\udce9.png" in row["source"]


def test_a_full_disk_names_the_file_and_keeps_the_old_data_set(groups, monkeypatch):
    succeed(groups)
    before = {p: p.read_bytes() for p in (groups / "out").rglob("*.*") if p.is_file()}

    def full(array, path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(conversion, "write_image", full)
    result = prepare(groups, "--overwrite")
    assert_refused(result, groups / "out" / "Train", "No space left on device")
    assert {p: p.read_bytes() for p in before} == before
    assert not list(groups.glob(".out*"))


def test_a_preparation_ends_with_the_commands_that_train_and_test_on_it(groups):
    save_dir = Path("runs", "out")
    words = f"main.py --dataset Folder --dataset-path {groups / 'out'} --save-dir {save_dir}"
    printed = succeed(groups, "--image-size", 128).stdout
    assert f"{words} --recipe fast --image-size 64\n" in printed
    assert f"{words} --mode test --image-size 128\n" in printed
    assert "--mode test" not in succeed(groups, "--image-size", 100, "--overwrite").stdout


def test_too_few_patients_to_judge_by_are_warned_of(groups):
    for number in range(60):
        for label, name in enumerate(CLASSES):
            path = groups / name / f"{name[0]}{number % 30}_{number}.png"
            picture(path, 1000 * (1 + label) + number)
    told = ["--patient", r"([cp]\d+)"]
    assert "fewer than 10 patients" in succeed(groups, *told, "--shares", 8, 1, 1).stderr
    shares = ["--shares", 0.1, 0.45, 0.45]
    assert "fewer than 10" not in succeed(groups, *told, *shares, "--overwrite").stderr


def test_the_summary_says_what_was_chosen(groups):
    succeed(groups, "--seed", 5)
    summary = json.loads((groups / "out" / "preparation.json").read_text())
    assert summary["seed"] == 5
    assert summary["arguments"]["healthy"] == str(groups / "controls")
    assert summary["images"]["Train/Diseased"] == 4


def test_workers_are_the_cores_that_may_be_used(monkeypatch):
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5, 7}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert available_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert available_cores() == 64


def end(job):
    os._exit(1)


def test_a_process_ended_from_outside_is_one_sentence():
    with pytest.raises(ValueError, match="--workers"):
        list(map_in_processes(end, [1, 2], 2))
