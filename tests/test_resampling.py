"""Bootstrap intervals of all samples at once, against the definition: one sample after another."""

import time

import numpy as np
import pytest

from descargan import metrics, resampling

RNG = np.random.default_rng(0)
LABELS = (np.arange(40) % 3 > 0).astype(int)
SCORES = np.round(RNG.random(40) + 0.3 * LABELS, 1)  # with ties
SAID = (SCORES > 0.6).astype(int)
PATIENTS = np.arange(40) // 7
COLUMNS = {
    metrics.mean: (SCORES,),
    metrics.accuracy: (LABELS, SAID),
    metrics.kappa: (LABELS, SAID),
    metrics.auroc: (LABELS, SCORES),
    metrics.auprc: (LABELS, SCORES),
}


def test_every_statistic_is_held_against_its_definition():
    assert COLUMNS.keys() == metrics.RESAMPLED.keys()


@pytest.mark.parametrize("groups", [None, PATIENTS], ids=["by image", "by patient"])
@pytest.mark.parametrize("statistic", COLUMNS, ids=lambda function: function.__name__)
def test_an_interval_is_that_of_the_same_draws_one_by_one(statistic, groups):
    columns = COLUMNS[statistic]
    found = metrics.with_interval(statistic, *columns, samples=30, groups=groups)
    rng = np.random.default_rng(0)
    group = np.arange(40) if groups is None else groups
    values = []
    for _ in range(30):
        drawn = rng.integers(group.max() + 1, size=group.max() + 1)
        rows = np.concatenate([np.flatnonzero(group == g) for g in drawn])
        values.append(statistic(*(column[rows] for column in columns)))
    expected = np.percentile(np.array(values), [2.5, 97.5])
    assert [found["low"], found["high"]] == pytest.approx(expected, abs=1e-12)
    assert found["value"] == pytest.approx(statistic(*columns), abs=1e-12)


def test_a_sample_of_one_class_has_no_area_and_counts_for_no_interval():
    labels, scores = np.array([0, 1]), np.array([0.1, 0.2])
    for statistic in (metrics.auroc, metrics.auprc):
        entry = metrics.with_interval(statistic, labels, scores)
        assert (entry["low"], entry["value"], entry["high"]) == (1, 1, 1)
        assert np.isnan(metrics.with_interval(statistic, labels * 0, scores)["value"])


def test_blocks_of_samples_are_the_samples(monkeypatch):
    whole = np.concatenate(list(resampling.resamples(40, 30)))
    monkeypatch.setattr(resampling, "BLOCK", 300)
    blocks = list(resampling.resamples(40, 30))
    assert len(blocks) > 1
    np.testing.assert_array_equal(np.concatenate(blocks), whole)


def test_images_of_a_patient_are_drawn_together():
    """Of two patients with all images alike there are but three means."""
    values, patients = np.array([0.0] * 9 + [1.0] * 3), np.array(["a"] * 9 + ["b"] * 3)
    counts = np.concatenate(list(resampling.resamples(12, 200, patients)))
    assert set(resampling.mean(counts, values)) == {0.0, 0.25, 1.0}
    together = metrics.with_interval(metrics.mean, values, groups=patients)
    assert (together["value"], together["low"], together["high"]) == (0.25, 0, 1)
    assert metrics.with_interval(metrics.mean, values)["high"] < 0.6


def test_the_threshold_of_the_best_dice_is_sought_in_every_sample():
    """Where half of the images want another threshold, most samples have more of one half."""
    curves = np.array([[1.0, 0.0], [0.0, 1.0]] * 10)
    entry = metrics.best_dice(curves)
    assert entry["value"] == 0.5
    assert entry["low"] == 0.5
    assert entry["high"] > 0.6


def test_a_thousand_samples_of_an_area_take_no_time():
    start = time.process_time()
    metrics.with_interval(metrics.auroc, np.tile(LABELS, 10), np.tile(SCORES, 10))
    assert time.process_time() - start < 0.5
