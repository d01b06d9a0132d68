"""Maps of any method, from files, are scored by the table of a test, without networks."""

import csv
import json
import shutil

import nibabel
import numpy as np
import pytest
from conftest import assert_refused, program, succeed
from PIL import Image

from descargan import metrics
from descargan.data import ImageDataset
from descargan.errors import UserError
from descargan.others import choose_thresholds, read_map
from descargan.reading import Reading
from descargan.scores import Thresholds, plain_finding
from descargan.testing import describe_card, show

SPOT = np.zeros((64, 64), bool)
SPOT[40:52, 10:24] = True
RNG = np.random.default_rng(0)
BEST = np.round(np.where(SPOT, 200, 20) + RNG.uniform(-15, 15, (64, 64)))
WORSE = np.round(BEST + RNG.normal(0, 80, (64, 64))).clip(0, 255)


@pytest.fixture(scope="module")
def outlined(tmp_path_factory):
    """Images a to h: four healthy ones, then four with a mask, of two patients."""
    root = tmp_path_factory.mktemp("outlined")
    rows = [("file", "patient")]
    for i, name in enumerate("abcdefgh"):
        c = "sick" if i > 3 else "healthy"
        write(root / "test" / c / f"{name}.png", RNG.integers(0, 256, (64, 64)))
        if i > 3:
            write(root / "test" / "masks" / f"{name}.png", 255 * SPOT)
        rows.append((f"test/{c}/{name}.png", f"P{i // 2}"))
    with (root / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return root


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(array.astype(np.uint8)).save(path)
    elif path.suffix == ".npy":
        np.save(path, array)
    else:  # as a viewer shows it: the first voxel is the patient's right, lower end
        nibabel.save(nibabel.Nifti1Image(array[::-1, ::-1].T.astype(np.float32), np.eye(4)), path)


def maps_of(folder, sick=BEST, suffix=".png", healthy=0 * BEST):
    for name in "abcd":
        write(folder / f"{name}{suffix}", healthy)
    for name in "efgh":
        write(folder / f"{name}{suffix}", sick)
    return folder


def arguments(outlined, maps, *more):
    common = ["--mode", "test", "--dataset", "Folder", "--dataset-path", outlined]
    return ["main.py", *common, "--image-size", 64, "--visdom", "off", "--maps", maps, *more]


def score(outlined, maps, results, *more) -> dict:
    succeed(*arguments(outlined, maps, "--results-dir", results, *more))
    return json.loads((results / "metrics.json").read_text())


@pytest.mark.parametrize("suffix", [".png", ".npy", ".nii.gz"])
def test_maps_are_scored_by_the_masks(outlined, tmp_path, suffix):
    found = score(outlined, maps_of(tmp_path / "maps", WORSE, suffix), tmp_path / "results")
    scores = found["metrics"]
    assert scores["pixel_auroc"]["value"] == pytest.approx(metrics.auroc(SPOT, WORSE))
    assert scores["pixel_auprc"]["value"] == pytest.approx(metrics.auprc(SPOT, WORSE))
    best = metrics.dice_curve(WORSE, SPOT, np.arange(255)).max()
    assert scores["dice_best"]["value"] == pytest.approx(best, abs=0.01)
    assert scores["auroc_anomaly"]["value"] == 1
    assert {"intensity", "nothing"} <= found["trivial_maps"].keys()


def test_what_maps_do_not_say_is_not_in_the_table(outlined, tmp_path):
    found = score(outlined, maps_of(tmp_path / "maps"), tmp_path / "results")
    named = {"pixel_auroc", "pixel_auprc", "dice_best", "auroc_anomaly"}
    assert found["metrics"].keys() == named | {"mse_healthy", "variance_healthy"}
    assert "confusion_matrix" not in found
    assert (tmp_path / "results" / "report.html").is_file()


def test_a_threshold_gives_its_dice(outlined, tmp_path):
    folder = maps_of(tmp_path / "maps", WORSE)
    found = score(outlined, folder, tmp_path / "results", "--threshold", 150 / 255)
    assert "threshold that was typed" in (tmp_path / "results" / "report.html").read_text()
    expected = metrics.dice(WORSE > 150, SPOT)
    assert found["metrics"]["dice_stored"]["value"] == pytest.approx(expected)


def test_a_map_of_any_unit_is_scored_alike(outlined, tmp_path):
    for name, unit in (("a", 1e-6), ("b", -1e4)):  # a difference is read by its size
        maps_of(tmp_path / name, unit * WORSE, ".npy")
        score(outlined, tmp_path / name, tmp_path / f"{name} results")
    tables = [json.loads((tmp_path / f"{n} results/metrics.json").read_text()) for n in "ab"]
    for name in ("pixel_auroc", "pixel_auprc", "dice_best"):
        assert tables[0]["metrics"][name] == pytest.approx(tables[1]["metrics"][name])


@pytest.mark.parametrize("side", [64, 256])
def test_thresholds_of_one_map_find_a_lesion_of_a_pixel(side):
    """It is the strongest of 4,096 or 65,536 pixels, so some threshold shows it alone."""
    score = np.random.default_rng(0).random((side, side))
    score[20, 30] = 10
    lesion = score == 10
    levels = choose_thresholds([score], 1)
    assert metrics.dice_curve(score, lesion, levels).max() == 1


def test_a_map_of_its_images_size_is_resized_as_the_image(tmp_path):
    for name in ("healthy/a", "sick/b"):
        write(tmp_path / "set" / "test" / f"{name}.png", RNG.integers(0, 256, (128, 96)))
        write(tmp_path / "maps" / f"{name}.npy", np.kron(SPOT, np.ones((2, 2)))[:, 16:112])
    write(tmp_path / "set" / "test" / "masks" / "b.png", np.kron(SPOT, np.ones((2, 2)))[:, 16:112])
    found = score(tmp_path / "set", tmp_path / "maps", tmp_path / "results")
    assert found["metrics"]["pixel_auroc"]["value"] > 0.999
    assert found["metrics"]["dice_best"]["value"] > 0.99


def test_beside_a_signed_map_nothing_is_found(tmp_path):
    """What makes a map of no square one is no change, however far below 0 the map falls."""
    write(tmp_path / "a.png", RNG.integers(0, 256, (64, 32)))
    write(tmp_path / "map.npy", -SPOT[:, :32].astype(np.float32))
    read = read_map(tmp_path / "map.npy", tmp_path / "a.png", 64)
    assert np.array_equal(read, np.pad(-SPOT[:, :32].astype(float), ((0, 0), (16, 16))))


def test_beside_the_edge_of_a_map_that_is_made_smaller_nothing_is_found(tmp_path):
    write(tmp_path / "a.png", RNG.integers(0, 256, (200, 200)))
    disc = np.hypot(*np.mgrid[-100:100, -100:100]) < 40
    write(tmp_path / "map.npy", disc.astype(np.float32))
    read = read_map(tmp_path / "map.npy", tmp_path / "a.png", 64)
    assert (read.min(), read.max()) == (0, 1)


def test_the_8_bits_of_an_array_are_in_its_own_unit(tmp_path):
    for name in ("map.npy", "map.png"):
        write(tmp_path / name, np.uint8(SPOT))
    array, picture = (read_map(tmp_path / f"map{x}", tmp_path, 64) for x in (".npy", ".png"))
    assert (array.max(), picture.max()) == (1, pytest.approx(1 / 255))


def test_two_maps_in_one_file_are_refused(tmp_path):
    """As those of a network with an output for each class: nothing says which is of disease."""
    write(tmp_path / "map.npy", np.stack([1 - SPOT, SPOT]).astype(np.float32))
    with pytest.raises(UserError, match="holds 2 maps"):
        read_map(tmp_path / "map.npy", tmp_path, 64)


@pytest.mark.parametrize("place", ["difference_maps", "difference_maps/mine", "."])
def test_maps_that_a_test_would_replace_by_its_own_are_refused(outlined, tmp_path, place):
    maps = maps_of(tmp_path / "results" / place)
    before = sorted((tmp_path / "results").rglob("*"))
    result = program(*arguments(outlined, maps, "--results-dir", tmp_path / "results"))
    assert_refused(result, maps, "--results-dir")
    assert sorted((tmp_path / "results").rglob("*")) == before


def test_files_of_no_image_are_said(outlined, tmp_path):
    folder = maps_of(tmp_path / "maps")
    write(folder / "other.png", BEST)
    result = succeed(*arguments(outlined, folder, "--results-dir", tmp_path / "results"))
    assert "1 files are of no image of the split, the first " in result.stderr


@pytest.mark.parametrize(
    ("mend", "mention"),
    [
        (lambda folder: write(folder / "e.npy", BEST), "are of one image"),
        (lambda folder: write(folder / "e.png", BEST[:32]), "e.png is 32 x 64 pixels, its image"),
        (lambda folder: (folder / "e.png").write_text("x"), "e.png cannot be read"),
        (lambda folder: (folder / "e.png").unlink(), "no map of 1 of the 8 images, the first test"),
        (lambda folder: folder.rename(folder.with_name("elsewhere")), "is no folder"),
    ],
    ids=["two for one image", "another size", "damaged", "missing", "no folder"],
)
def test_what_is_wrong_with_maps_is_one_sentence(outlined, tmp_path, mend, mention):
    mend(maps_of(tmp_path / "maps"))
    result = program(*arguments(outlined, tmp_path / "maps", "--results-dir", tmp_path / "out"))
    assert_refused(result, mention)


def test_a_mask_too_small_to_be_seen_is_said(outlined, tmp_path):
    """Images of small lesions are the hard ones: without them scores are higher."""
    shutil.copytree(outlined, tmp_path / "set")
    write(tmp_path / "set" / "test" / "sick" / "e.png", RNG.integers(0, 256, (640, 640)))
    small = np.zeros((640, 640))
    small[100:104, 100:104] = 255
    write(tmp_path / "set" / "test" / "masks" / "e.png", small)
    more = ["--results-dir", tmp_path / "results"]
    result = succeed(*arguments(tmp_path / "set", maps_of(tmp_path / "maps"), *more))
    assert "1 masks show nothing at --image-size 64, the first " in result.stderr
    assert "e.png: the pixels of their images are not scored" in result.stderr


def test_nan_in_a_map_is_refused(outlined, tmp_path):
    maps_of(tmp_path / "maps", np.where(SPOT, np.nan, BEST), ".npy")
    assert_refused(program(*arguments(outlined, tmp_path / "maps")), "e.npy holds NaN")


def test_two_methods_are_compared_by_pairs(outlined, tmp_path):
    score(outlined, maps_of(tmp_path / "a", WORSE), tmp_path / "worse")
    more = ["--against", tmp_path / "worse"]
    found = score(outlined, maps_of(tmp_path / "b", BEST), tmp_path / "best", *more)
    difference = found["differences"]["pixel_auprc"]
    expected = metrics.auprc(SPOT, BEST) - metrics.auprc(SPOT, WORSE)
    assert difference["value"] == pytest.approx(expected)
    assert difference["low"] == pytest.approx(expected)  # all images have the same maps
    assert {"dice_best", "auroc_anomaly"} <= found["differences"].keys()


def test_a_test_of_other_images_of_the_same_names_is_not_compared_in_silence(outlined, tmp_path):
    shutil.copytree(outlined, tmp_path / "set")
    write(tmp_path / "set" / "test" / "healthy" / "a.png", BEST)
    score(tmp_path / "set", maps_of(tmp_path / "maps"), tmp_path / "a")
    for data, warned in ((outlined, True), (tmp_path / "set", False)):
        more = ["--results-dir", tmp_path / "b", "--against", tmp_path / "a"]
        said = succeed(*arguments(data, tmp_path / "maps", *more)).stderr
        assert ("a is a test of other files of the same names" in said) == warned


@pytest.mark.parametrize(
    ("cover", "warning"),
    [
        (
            {"cover_of_score_map": 0.5, "score_map_in_unit": True},
            "by a diffusion of 0.04 and a cover of 0.5, those of this",
        ),
        ({"cover_of_score_map": 0.5}, "read by an earlier version"),
        ({"cover_of_score_map": 0.0}, "by a diffusion of 0.04 and a cover of 0, those of this"),
        ({"cover_of_score_map": None}, "by a diffusion of 0.04 and no cover, those of this"),
        ({}, "read by an earlier version, those of this test by a diffusion of 0 and no cover"),
        ({"image_size": 128}, "a test at --image-size 128, this one at 64"),
    ],
)
def test_maps_that_are_read_otherwise_are_not_compared_in_silence(
    outlined, tmp_path, cover, warning
):
    score(outlined, maps_of(tmp_path / "a", WORSE), tmp_path / "worse")
    file = tmp_path / "worse" / "metrics.json"
    said = json.loads(file.read_text())
    del said["cover_of_score_map"], said["score_map_in_unit"]
    file.write_text(json.dumps({**said, "diffusion_of_score_map": 0.04, **cover}))
    more = ["--against", tmp_path / "worse", "--results-dir", tmp_path / "best"]
    result = succeed(*arguments(outlined, maps_of(tmp_path / "b", BEST), *more))
    assert warning in result.stderr


def test_maps_of_a_test_are_scored_as_in_the_test(trained, synthetic, tmp_path):
    common = ["main.py", "--mode", "test", "--dataset-path", synthetic, "--visdom", "off"]
    succeed(*common, "--save-dir", trained, "--results-dir", tmp_path / "of networks")
    maps = ["--dataset", "Synthetic", "--image-size", 64]
    maps += ["--maps", tmp_path / "of networks" / "difference_maps"]
    against = ["--against", tmp_path / "of networks"]
    succeed(*common, *maps, *against, "--results-dir", tmp_path / "of maps")
    differences = json.loads((tmp_path / "of maps" / "metrics.json").read_text())["differences"]
    for name in ("pixel_auroc", "pixel_auprc", "auroc_anomaly"):
        assert differences[name]["value"] == pytest.approx(0, abs=1e-6)
    assert differences["dice_best"]["value"] == pytest.approx(0, abs=0.02)
    assert "accuracy" not in differences


def test_the_same_name_in_both_classes_needs_the_class(tmp_path, outlined):
    for name in ("healthy", "sick"):
        write(tmp_path / "set" / "test" / name / "0.png", RNG.integers(0, 256, (64, 64)))
    write(tmp_path / "maps" / "0.png", BEST)
    result = program(*arguments(tmp_path / "set", tmp_path / "maps"))
    assert_refused(result, "holds no map of 2 of the 2 images")


def test_a_split_without_masks_has_no_pixels_to_score_and_says_so(outlined, tmp_path):
    shutil.copytree(outlined, tmp_path / "set", ignore=shutil.ignore_patterns("masks"))
    more = ["--results-dir", tmp_path / "results"]
    result = succeed(*arguments(tmp_path / "set", maps_of(tmp_path / "maps"), *more))
    assert "no masks in the test split, so pixels are not scored" in result.stderr
    assert "AUROC of the anomaly score" in result.stdout


def test_a_method_that_knows_the_differences_finds_all_of_them(synthetic, tmp_path):
    for path in (synthetic / "test").rglob("*.npy"):
        write(tmp_path / "maps" / path.relative_to(synthetic), np.load(path)[1])
    common = ["--dataset", "Synthetic", "--dataset-path", synthetic, "--image-size", 64]
    common += ["--maps", tmp_path / "maps", "--results-dir", tmp_path / "out", "--visdom", "off"]
    succeed("main.py", "--mode", "test", *common)
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())["metrics"]
    assert found["pixel_auroc"]["value"] == pytest.approx(1)
    assert found["dice_best"]["value"] > 0.99
    assert found["auroc_anomaly"]["value"] == 1
    assert not {"accuracy", "auroc_class", "counterpart_mse", "map_mse"} & found.keys()


@pytest.mark.parametrize("healthy", [BEST, np.nan * BEST], ids=["translated", "not"])
def test_the_examples_show_what_there_is(outlined, healthy):
    """A mask once, and no pseudo-healthy image of a method that makes none."""
    dataset = ImageDataset("Folder", outlined, "test", 64)
    finding = plain_finding(1, BEST, SPOT.astype(np.float32), healthy, BEST, np.nan)
    figure = show([finding], "", Thresholds(None, Reading(0.5)), dataset)
    *titles, label = [text.get_text() for text in figure.axes[0].texts]
    assert label.startswith("diseased")
    translated = [] if np.isnan(healthy).all() else ["pseudo-healthy"]
    shown = ["image", *translated, "difference map", "score > 0.50", "diseased pixels"]
    assert titles == shown


def test_a_diseased_image_without_an_outline_is_not_shown_as_free_of_disease(outlined):
    dataset = ImageDataset("Folder", outlined, "test", 64)
    found = [
        plain_finding(label, BEST, truth.astype(np.float32), BEST, BEST, np.nan)
        for label, truth in ((1, SPOT), (1, 0 * SPOT), (0, 0 * SPOT))
    ]
    figure = show(found, "", Thresholds(None, Reading(None)), dataset)
    labels = ["diseased", "diseased, not outlined", "healthy"]
    assert [text.get_text() for text in figure.axes[0].texts][-3:] == labels
    row = {"file": "a.png", "anomaly_score": 0.5}
    cards = [describe_card(row, finding, None, has_truth=True) for finding in found]
    assert [card.said for card in cards] == labels
    assert ["ground truth" in card.panels for card in cards] == [True, False, True]


@pytest.mark.parametrize("option", [["--save-dir", "x"], ["--weights", "best"], ["--amp"]])
def test_an_option_of_networks_does_nothing_with_maps(option):
    result = program("main.py", "--mode", "test", "--maps", "x", *option)
    assert_refused(result, option[0], "does nothing")


@pytest.mark.parametrize("mode", ["train", "predict"])
@pytest.mark.parametrize("option", ["--maps", "--against"])
def test_other_modes_score_no_maps(mode, option):
    result = program("main.py", "--mode", mode, option, "x")
    assert_refused(result, option, "it is for --mode test")


def test_results_of_maps_go_to_a_folder_of_their_name(outlined, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    succeed(*arguments(outlined, maps_of(tmp_path / "theirs")))
    assert (tmp_path / "results" / "maps" / "theirs" / "metrics.csv").is_file()
