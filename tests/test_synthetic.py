"""The synthetic data set, against the specification of its geometry."""

import hashlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_refused, program, start, succeed

import create_synthetic_dataset as synthetic
from descargan.locks import held


def sample(seed, size=256, disease="atrophy"):
    return synthetic.make_sample(np.random.default_rng(seed), size, disease)


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_layout_shape_and_type(synthetic_folder):
    files = sorted(p.relative_to(synthetic_folder) for p in synthetic_folder.rglob("*.npy"))
    assert [str(f) for f in files][:4] == [
        "test/diseased/0000.npy",
        "test/diseased/0001.npy",
        "test/diseased/0002.npy",
        "test/diseased/0003.npy",
    ]
    assert len(files) == 2 * (6 + 4 + 4)
    for file in files:
        array = np.load(synthetic_folder / file)
        assert array.shape == (2, 64, 64)
        assert array.dtype == np.float32
        assert 0.5 < np.abs(array[0]).max() <= 1
        assert array[1].any() == ("diseased" in str(file))


@pytest.fixture
def synthetic_folder(request):
    return request.getfixturevalue("synthetic")


def test_no_two_samples_are_alike(synthetic_folder):
    images = [np.load(p)[0].tobytes() for p in synthetic_folder.rglob("*.npy")]
    assert len(set(images)) == len(images)


def test_description_says_how_it_was_made(synthetic_folder):
    description = json.loads((synthetic_folder / "dataset.json").read_text())
    assert description["image_size"] == 64
    assert description["seed"] == 0
    assert description["images_per_class"] == {"train": 6, "validate": 4, "test": 4}


def test_same_seed_same_bytes_at_any_number_of_workers(tmp_path):
    sizes = ("--image-size", 64, "--train", 3, "--validate", 1, "--test", 2)
    for name, workers, seed in (("a", 1, 7), ("b", 2, 7), ("c", 1, 8)):
        succeed(
            "create_synthetic_dataset.py",
            *("--output", tmp_path / name, *sizes, "--workers", workers, "--seed", seed),
        )
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a") != contents(tmp_path / "c")


def test_healthy_image_spans_the_range_and_has_no_ground_truth():
    healthy = sample(3, disease=None)
    assert not healthy[1].any()
    assert healthy[0].min() == -1
    assert healthy[0].max() == 1


def test_ground_truth_is_0_far_from_ellipse_1_and_strong_near_it():
    rng = np.random.default_rng(5)
    ellipses, _ = synthetic.draw_ellipses(rng, 1.0)
    y, x = np.mgrid[:256, :256]
    distance = np.hypot(x - ellipses[0].x, y - ellipses[0].y)
    truth = sample(5)[1]
    assert not truth[distance > 130].any()
    assert np.abs(truth[distance < 40]).max() > 1


@pytest.mark.parametrize("disease", ["atrophy", "opacity"])
def test_disease_changes_ellipse_1_alone_of_the_same_healthy_image(disease):
    diseased, healthy = sample(3, disease=disease), sample(3, disease=None)
    np.testing.assert_allclose(diseased[0] - diseased[1], healthy[0], atol=1e-6)
    assert np.abs(diseased[1]).max() > 0.3


def fluid(image=0.0, angle=0.0):
    """A fluid in an ellipse of 40 x 20 with a ring of 5 pixels at (128, 128), and its numbers."""
    image = np.full((256, 256), image)
    ellipse = synthetic.Ellipse(128, 128, 40, 20, angle, 5)
    rng = np.random.default_rng(0)
    level, tilt = 20 * rng.uniform(-0.2, 0.6), rng.uniform(-0.15, 0.15)
    numbers = level, tilt, rng.uniform(0.5, 0.85), rng.uniform(0.55, 0.75)
    return synthetic.pour(np.random.default_rng(0), image, ellipse, 1.0), numbers


def test_opacity_stands_inside_the_ring_of_ellipse_1_below_its_level():
    """Against the formula, pixel by pixel."""
    image, (level, tilt, density, brightness) = fluid()
    for y, x in ((128, 128), (136, 128), (142, 120), (142, 136), (142, 128), (120, 128)):
        depth = (y - 128 - (level + tilt * (x - 128) + 6 * (((x - 128) / 40) ** 2 - 0.5))) / 4
        alpha = np.clip(depth, 0, 1) * density
        assert image[y, x] == pytest.approx(alpha * brightness, abs=1e-9)
    y, x = np.nonzero(image)
    assert ((x - 128) ** 2 / 35**2 + (y - 128) ** 2 / 15**2 <= 1).all()
    assert image[142, 128] > 0.2


def test_opacity_lets_the_image_through():
    bright, (_, _, density, brightness) = fluid(image=1.0)
    assert bright[142, 128] == pytest.approx(1 - density + density * brightness)
    assert bright[100, 128] == 1


def test_opacity_scales_with_the_image():
    small = sample(8, size=256, disease="opacity")
    assert (small[1] != 0).mean() < 0.1
    ellipse = synthetic.Ellipse(256, 256, 80, 40, 0.3, 10)
    large = synthetic.pour(np.random.default_rng(0), np.zeros((512, 512)), ellipse, 2.0)
    half = synthetic.Ellipse(128, 128, 40, 20, 0.3, 5)
    expected = synthetic.pour(np.random.default_rng(0), np.zeros((256, 256)), half, 1.0)
    np.testing.assert_allclose(large[::2, ::2], expected, atol=1e-9)


def test_both_takes_turns_and_says_so(tmp_path):
    sizes = ("--image-size", 64, "--train", 2, "--validate", 1, "--test", 1)
    for disease in synthetic.DISEASES:
        arguments = ["--output", tmp_path / disease, "--disease", disease, *sizes]
        succeed("create_synthetic_dataset.py", *arguments)
    atrophy, opacity, both = (contents(tmp_path / disease) for disease in synthetic.DISEASES)
    for index, one in ((0, atrophy), (1, opacity)):
        file = Path("train", "diseased", f"{index:04d}.npy")
        assert both[file] == one[file]
    names = [json.loads(x[Path("dataset.json")]).get("disease") for x in (atrophy, opacity, both)]
    assert names == [None, "opacity", "both"]


def test_atrophy_is_drawn_as_it_was_before_there_were_other_diseases():
    """Values and description of a set that was written before --disease existed."""
    digest = hashlib.sha256(sample(11, size=64).round(4).tobytes()).hexdigest()
    assert digest.startswith("b554961009952534")


def test_disease_shrinks_ellipse_1():
    """The largest shift is 12.75 pixels at one sigma, 24.2 pixels from the centre, inwards."""
    size, centre = 256, 128
    ramp = np.broadcast_to(np.arange(size, dtype=np.float64), (size, size)).copy()
    ellipse = synthetic.Ellipse(centre, centre, 40, 20, 0, 5)
    shift = synthetic.shrink(ramp, ellipse)[centre] - ramp[centre]
    assert shift.max() == pytest.approx(0.1 * 127.5, abs=1e-3)
    assert shift.argmax() == pytest.approx(centre + 0.19 * 127.5, abs=0.5)
    assert shift[centre] == 0
    np.testing.assert_allclose(shift[centre + 1 : 250], -shift[centre - 1 : 6 : -1], atol=1e-6)


def test_nothing_black_comes_in_from_outside():
    image = np.full((256, 256), 0.7)
    corner = synthetic.Ellipse(50, 50, 40, 20, 0, 5)
    assert (synthetic.shrink(image, corner) > 0.69).all()
    np.testing.assert_allclose(synthetic.smooth(image), 0.7)


@pytest.mark.parametrize("seed", range(20))
def test_rings_lie_inside_and_apart(seed):
    (first, second), mask = synthetic.draw_ellipses(np.random.default_rng(seed), 1.0)
    assert np.hypot(first.x - second.x, first.y - second.y) > 120
    rings = [synthetic.ring(e, 256) for e in (first, second)]
    assert not (rings[0] & rings[1]).any()
    np.testing.assert_array_equal(rings[0] | rings[1], mask)
    for e in (first, second):
        assert all(50 <= z < 200 for z in (e.x, e.y))
        half_width, half_height = synthetic.extent(e)
        assert min(e.x - half_width, e.y - half_height) >= 0
        assert max(e.x + half_width, e.y + half_height) <= 255


def test_ring_has_its_axes_thickness_and_direction():
    ring = synthetic.ring(synthetic.Ellipse(128, 100, 40, 20, 0, 5), 256)
    np.testing.assert_array_equal(ring[100].nonzero()[0], [*range(88, 93), *range(164, 169)])
    np.testing.assert_array_equal(ring[:, 128].nonzero()[0], [*range(80, 85), *range(116, 121)])
    upright = synthetic.ring(synthetic.Ellipse(128, 128, 40, 20, np.pi / 2, 5), 256)
    assert np.ptp(upright.any(axis=1).nonzero()[0]) == 80
    assert np.ptp(upright.any(axis=0).nonzero()[0]) == 40


def test_background_is_two_waves_around_the_centres():
    """Against the formula, pixel by pixel."""
    ellipses = [synthetic.Ellipse(x, y, 40, 20, 0, 5) for x, y in ((60, 190), (180, 70))]
    image = synthetic.background(np.random.default_rng(1), ellipses, 1.0)
    rng = np.random.default_rng(1)
    f1, f2 = rng.uniform(0.2, 0.35), rng.uniform(0.35, 0.5)
    h1, h2 = rng.uniform(0.2, 0.4, size=2)
    for y, x in ((0, 0), (10, 250), (190, 60), (255, 128)):
        r1, r2 = round(np.hypot(x - 60, y - 190)), round(np.hypot(x - 180, y - 70))
        expected = h1 * np.sin(r1 * f1) + h2 * np.sin(r2 * f2)
        assert image[y, x] == pytest.approx(expected, abs=1e-5)


def test_sizes_below_256_are_the_mean_over_areas():
    image = np.random.default_rng(0).random((256, 256)).astype(np.float32)
    expected = image.reshape(64, 4, 64, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(synthetic.downsample(image, 64), expected, atol=1e-5)


def test_larger_images_scale_the_geometry():
    ellipses, _ = synthetic.draw_ellipses(np.random.default_rng(0), 2.0)
    assert ellipses[0].semi_major == pytest.approx(80, abs=10)
    assert ellipses[0].thickness == pytest.approx(10, abs=6)
    assert sample(0, size=512).shape == (2, 512, 512)


def test_an_existing_set_is_kept_without_overwrite(tmp_path):
    arguments = ["create_synthetic_dataset.py", "--output", tmp_path / "set", "--image-size", 64]
    arguments += ["--train", 1, "--validate", 1, "--test", 1]
    succeed(*arguments)
    before = contents(tmp_path / "set")
    assert_refused(program(*arguments, "--seed", 1), "--overwrite")
    assert contents(tmp_path / "set") == before
    succeed(*arguments, "--seed", 1, "--overwrite")
    assert contents(tmp_path / "set") != before
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_one_process_at_a_time_writes_a_data_set_and_removes_what_a_killed_one_left(tmp_path):
    left, kept = tmp_path / ".set.unfinished-abcdefgh", tmp_path / ".set-of-mine"
    for folder in (left, kept):
        folder.mkdir()
        (folder / "0000.npy").touch()
    arguments = ["create_synthetic_dataset.py", "--output", tmp_path / "set", "--image-size", 64]
    arguments += ["--train", 1, "--validate", 1, "--test", 1]
    with held(tmp_path / ".set.lock"):
        refused = program(*arguments)
    assert_refused(refused, tmp_path / "set", "is being written by another process")
    assert left.exists()
    succeed(*arguments)
    assert sorted(p.name for p in tmp_path.iterdir()) == [kept.name, "set"]


def test_overwrite_never_replaces_a_folder_of_another_kind(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    result = program("create_synthetic_dataset.py", "--output", tmp_path, "--overwrite")
    assert_refused(result, tmp_path, "--overwrite")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing_behind(tmp_path, number):
    arguments = ["create_synthetic_dataset.py", "--output", tmp_path / "set"]
    process = start(*arguments, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("*.npy")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, number)
    assert process.wait(timeout=60) == 128 + number
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "value"),
    [("--train", "0"), ("--image-size", "8"), ("--seed", "-1"), ("--workers", "many")],
)
def test_bad_options_are_named(tmp_path, option, value):
    result = program("create_synthetic_dataset.py", "--output", tmp_path / "set", option, value)
    assert_refused(result, option)
    assert not (tmp_path / "set").exists()
