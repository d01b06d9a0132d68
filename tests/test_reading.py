"""From which value on a map says that something was found: without pixel labels, with the run."""

import json

import numpy as np
import pytest

from descargan.errors import UserError
from descargan.options import Options
from descargan.reading import (
    DIFFUSION,
    NUMBERS,
    Reading,
    are_too_few,
    count_values,
    describe_maps,
    healthy_threshold,
    keep_reading,
    level_of,
    read_level,
    read_reading,
    reading_of,
)

CLASSES = [0] * 10 + [1] * 10


def test_nearly_all_pixels_of_healthy_images_lie_below_the_threshold():
    rng = np.random.default_rng(0)
    maps = [rng.uniform(0, 1, (64, 64)) for _ in range(20)]
    assert healthy_threshold(sum(map(count_values, maps))) == pytest.approx(0.995, abs=2e-3)


def test_the_threshold_is_never_below_a_twentieth_of_the_range():
    assert healthy_threshold(count_values(np.full((8, 8), 0.0008))) == pytest.approx(0.1)


def test_values_beyond_the_range_count_as_its_end():
    assert healthy_threshold(count_values(np.full((8, 8), 7.0))) == 2


def test_the_level_is_what_maps_show_where_they_show_something():
    """Each pixel counts by its own value, (100 * 0.4^2 + 10 * 1.2^2) / (100 * 0.4 + 10 * 1.2)."""
    score_map = np.zeros((64, 64))
    score_map.ravel()[:100] = 0.4
    score_map.ravel()[100:110] = 1.2
    assert level_of(count_values(score_map)) == pytest.approx(30.4 / 52, abs=1e-3)


def test_maps_that_show_nothing_have_no_level(tmp_path):
    nothing = count_values(np.zeros((8, 8)))
    found = describe_maps(nothing, nothing, CLASSES, [0.0] * 20, True, range(20))
    assert found["threshold"] == pytest.approx(0.1)
    keep_reading(tmp_path / "reading.json", "last", found, Reading(None), 5)
    assert read_level(tmp_path / "reading.json", "last") is None
    assert read_level(tmp_path / "none.json", "last") is None


def values(scores):
    counts = count_values(np.full((8, 8), 0.3))
    return describe_maps(counts, counts, CLASSES, scores, True, range(20))


@pytest.mark.parametrize(("in_unit", "threshold"), [(True, 0.4), (False, 0.2)])
def test_a_change_in_the_unit_of_images_ends_at_half_of_what_diseased_ones_show(in_unit, threshold):
    """What is filled ends there as it is."""
    of_healthy, of_diseased = (count_values(np.full((8, 8), x)) for x in (0.2, 0.8))
    found = describe_maps(of_healthy, of_diseased, CLASSES, [0.1] * 20, in_unit, range(20))
    assert found["threshold"] == pytest.approx(threshold, abs=2e-3)


def test_where_healthy_images_show_more_than_that_it_is_theirs():
    counts = count_values(np.full((8, 8), 0.3))
    found = describe_maps(counts, counts, CLASSES, [0.1] * 20, True, range(20))
    assert found["threshold"] == pytest.approx(0.3, abs=2e-3)


@pytest.mark.parametrize(
    ("reading", "in_unit"),
    [
        (Reading(None), True),
        (Reading(None, sign=1, diffusion=0.04), False),
        (Reading(None, sign=1, diffusion=0.04, cover=0.0), False),
        (Reading(None, sign=1, diffusion=0.04, cover=0.5), True),
    ],
)
def test_filled_maps_alone_are_in_no_unit(reading, in_unit):
    assert reading.in_unit == in_unit
    assert reading.about["score_map_in_unit"] == in_unit


def test_the_threshold_is_stored_for_the_last_weights_and_for_the_best(tmp_path):
    path = tmp_path / "reading.json"
    found = values([0.1] * 10 + [0.2] * 10)
    keep_reading(path, "last", found, Reading(None), 5)
    keep_reading(path, "best", {**found, "threshold": 0.7}, Reading(None, "", 1, 0.01), 5)
    assert read_reading(path, "last").threshold == pytest.approx(0.3, abs=2e-3)
    assert read_reading(path, "best") == (0.7, "", 1, 0.01, None)


@pytest.mark.parametrize("scores", [[0.1] * 20, [0.1, 0.2] * 10, [0.2] * 10 + [0.1] * 10])
def test_a_score_that_tells_no_classes_apart_means_that_nothing_was_found(tmp_path, scores):
    keep_reading(tmp_path / "reading.json", "last", values(scores), Reading(None), 5)
    threshold, reason, *_ = read_reading(tmp_path / "reading.json", "last")
    assert threshold is None
    assert reason.startswith("nothing found")


def test_maps_that_show_nothing_of_any_disease_found_none(tmp_path):
    """However well the rest of what is rounded away tells the classes apart."""
    empty = count_values(np.zeros((8, 8)))
    scores = [1e-9] * 10 + [2e-9] * 10
    found = describe_maps(empty, empty, CLASSES, scores, True, range(20))
    keep_reading(tmp_path / "reading.json", "last", found, Reading(None), 5)
    threshold, reason, *_ = read_reading(tmp_path / "reading.json", "last")
    assert threshold is None
    assert "diseased validation images show nothing" in reason


def test_weights_that_were_stopped_before_their_first_validation_have_no_reading(tmp_path):
    found = values([0.1] * 10 + [0.2] * 10)
    keep_reading(tmp_path / "reading.json", "last", found, Reading(None, sign=1), 0)
    reading = read_reading(tmp_path / "reading.json", "last")
    assert (reading.threshold, reading.sign) == (None, 0)
    assert "before their first validation" in reading.reason


@pytest.mark.parametrize("counts", [(1, 1), (9, 50), (50, 9)])
def test_few_validation_images_are_no_ground_for_a_verdict(tmp_path, counts):
    """However well they are told apart: an interval that one pair spans is none."""
    labels, scores = [0] * counts[0] + [1] * counts[1], [0.1] * counts[0] + [0.2] * counts[1]
    of_maps = count_values(np.full((8, 8), 0.3))
    found = describe_maps(of_maps, of_maps, labels, scores, True, range(len(labels)))
    keep_reading(tmp_path / "reading.json", "last", found, Reading(None), 5)
    stored = json.loads((tmp_path / "reading.json").read_text())["last"]
    assert stored["auroc_anomaly"] == 1
    assert stored["auroc_anomaly_low"] is stored["auroc_anomaly_high"] is None
    threshold, reason, *_ = read_reading(tmp_path / "reading.json", "last")
    assert threshold is None
    assert reason.startswith("too few validation images to judge")


def test_images_of_one_patient_are_one_vote():
    """Of classes that do not differ, forty slices of each patient make no interval narrower."""
    rng, labels = np.random.default_rng(0), np.repeat(CLASSES, 40)
    patients, counts = np.repeat(range(20), 40), count_values(np.full((8, 8), 0.3))
    found = {"images": 0, "patients": 0}
    for _ in range(40):
        scores = rng.normal(size=20)[patients] + 0.5 * rng.normal(size=800)
        for what, groups in (("images", np.arange(800)), ("patients", patients)):
            numbers = describe_maps(counts, counts, labels, scores, True, groups)
            found[what] += numbers["auroc_anomaly_low"] > 0.5
    assert found["patients"] <= 3
    assert found["images"] >= 10


@pytest.mark.parametrize("number", [9, 10])
def test_few_patients_of_many_images_are_no_ground_for_a_verdict(number):
    labels, patients = np.repeat([0, 1], 60), np.repeat([0, 1], 60) * 60
    patients[:60] += np.arange(60)
    patients[60:] += np.arange(60) % number
    assert are_too_few(labels, patients) == (number < 10)
    assert are_too_few(1 - labels, patients) == (number < 10)


@pytest.mark.parametrize(
    "how", [{"smoothing": 0.01}, {"diffusion": 0.04}, {"diffusion": 0.04, "cover": 1.25}]
)
def test_a_threshold_of_maps_that_were_read_otherwise_is_none(how, tmp_path):
    stored = {"threshold": 0.1, "sign": 1, **how, **dict.fromkeys(NUMBERS[1:], 0.9)}
    (tmp_path / "reading.json").write_text(json.dumps({"last": stored}))
    threshold, reason, *read = read_reading(tmp_path / "reading.json", "last")
    assert threshold is None
    assert "an earlier version" in reason
    assert read == [1, DIFFUSION, None]


@pytest.mark.parametrize(
    "how", [{"diffusion": 0.0, "cover": None}, {"diffusion": 0.04, "cover": 0.0}]
)
def test_one_of_maps_that_are_read_as_before_stays(how, tmp_path):
    stored = {"threshold": 0.1, "sign": 1, **how, **dict.fromkeys(NUMBERS[1:], 0.9)}
    (tmp_path / "reading.json").write_text(json.dumps({"last": stored}))
    assert read_reading(tmp_path / "reading.json", "last") == Reading(0.1, sign=1, **how)


def test_how_maps_are_read_is_stored(tmp_path):
    how = Reading(None, sign=-1, diffusion=0.04, cover=1.25)
    keep_reading(tmp_path / "reading.json", "last", dict.fromkeys(NUMBERS, 0.9), how, 5)
    assert read_reading(tmp_path / "reading.json", "last") == how._replace(threshold=0.9)


def test_weights_without_a_threshold_have_none(tmp_path):
    threshold, reason, *_ = read_reading(tmp_path / "reading.json", "last")
    assert threshold is None
    assert "no threshold is stored" in reason


def test_what_was_typed_goes_before_what_is_stored(tmp_path):
    assert reading_of(Options(save_dir=tmp_path, threshold=0.25)).threshold == 0.25


def test_a_damaged_file_is_refused(tmp_path):
    (tmp_path / "reading_synthetic.json").write_text("[1")
    with pytest.raises(UserError, match=r"reading_synthetic.json is damaged"):
        reading_of(Options(save_dir=tmp_path))


def test_training_stores_what_its_maps_are_read_by(trained):
    stored = json.loads((trained / "reading_synthetic.json").read_text())
    assert set(stored) == {"last", "best"}
    assert stored["last"]["threshold"] >= 0.1


@pytest.mark.parametrize("stored", [{}, 5, {"threshold": "a"}])
def test_a_damaged_reading_is_named(tmp_path, stored):
    (tmp_path / "reading.json").write_text(json.dumps({"last": stored}))
    with pytest.raises(UserError, match=r"reading\.json is damaged: restore or remove it"):
        read_reading(tmp_path / "reading.json", "last")
