"""Every metric against values computed by hand or by a plain formula."""

import numpy as np
import pytest

from descargan import metrics

TRUTH = np.array([[0.0, 0.5], [-0.6, 0.4]])  # two diseased pixels: 0.5 and -0.6


def test_diseased_pixels_are_those_over_the_release_threshold():
    np.testing.assert_array_equal(metrics.is_diseased(TRUTH), [[False, True], [True, False]])


def test_auroc_is_the_share_of_pairs_in_the_right_order():
    labels, scores = np.array([0, 0, 1, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8, 0.4])
    # 0.35 beats 0.1; 0.8 beats both; 0.4 beats 0.1 and ties with 0.4
    assert metrics.auroc(labels, scores) == pytest.approx((1 + 2 + 1.5) / 6)


def test_roc_curve_steps_from_the_highest_score_to_the_lowest():
    labels, scores = np.array([0, 1, 0, 1, 1]), np.array([0.1, 0.9, 0.5, 0.5, 0.3])
    false, true = metrics.roc_curve(labels, scores)
    np.testing.assert_allclose(false, [0, 0, 1 / 2, 1 / 2, 1])
    np.testing.assert_allclose(true, [0, 1 / 3, 2 / 3, 1, 1])


def test_auprc_is_the_mean_precision_at_each_hit():
    labels, scores = np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1])
    assert metrics.auprc(labels, scores) == pytest.approx((1 / 1 + 2 / 3) / 2)


def test_one_class_alone_is_undefined_not_an_error():
    one = np.ones(4, int)
    assert np.isnan(metrics.auroc(one, np.arange(4)))
    assert np.isnan(metrics.auprc(one, np.arange(4)))
    assert np.isnan(metrics.kappa(one, one))
    assert metrics.kappa(one, np.array([1, 1, 0, 1])) == 0


def test_dice_by_hand():
    a, b = np.array([1, 1, 1, 0], bool), np.array([0, 1, 1, 1], bool)
    assert metrics.dice(a, b) == pytest.approx(4 / 6)
    assert metrics.dice(~a & a, ~a & a) == 1
    assert metrics.dice(a, ~a & a) == 0


def test_dice_curve_equals_dice_at_each_threshold():
    rng = np.random.default_rng(0)
    difference, truth = rng.uniform(-2, 2, (2, 16, 16))
    curve = metrics.dice_curve(difference, truth)
    for threshold, value in zip(metrics.THRESHOLDS, curve, strict=True):
        over = np.abs(difference) > threshold
        assert value == pytest.approx(metrics.dice(over, metrics.is_diseased(truth)))


def test_map_metrics_of_the_perfect_map():
    truth = np.zeros((16, 16))
    truth[3:8, 3:8], truth[8:12, 3:8] = 0.9, -0.7
    perfect = metrics.map_metrics(truth, truth)
    assert perfect == {
        "pixel_auroc": 1,
        "pixel_auprc": 1,
        "dice": 1,
        "map_ssim": pytest.approx(1),
        "map_mse": 0,
    }


def test_the_threshold_of_the_release_is_that_of_differences_however_they_are_scored():
    truth = np.zeros((16, 16))
    truth[4:8, 4:8] = 1
    found = metrics.map_metrics(truth, truth, 0.1 * truth)
    assert found["dice"] == found["pixel_auroc"] == 1


def test_map_metrics_see_the_sign_where_the_release_does_not():
    truth = np.zeros((16, 16))
    truth[3:8, 3:8], truth[8:12, 3:8] = 0.9, -0.7
    opposite = metrics.map_metrics(-truth, truth)
    assert opposite["pixel_auroc"] == 1  # of the magnitude
    assert opposite["map_mse"] == pytest.approx(np.square(2 * truth).mean())
    assert opposite["map_ssim"] < 0.9


def test_ssim_of_two_images_by_the_formula_for_one_window():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 7, 7))
    ma, mb, va, vb = a.mean(), b.mean(), a.var(ddof=1), b.var(ddof=1)
    cov = ((a - ma) * (b - mb)).sum() / 48
    c1, c2 = 0.01**2, 0.03**2
    expected = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    assert metrics.ssim(a, b, data_range=1.0) == pytest.approx(expected)


def test_unit_range():
    np.testing.assert_allclose(metrics.unit_range(np.array([2.0, 3.0, 6.0])), [0, 0.25, 1])
    np.testing.assert_array_equal(metrics.unit_range(np.full(3, 4.0)), [0, 0, 0])


def test_kappa_by_hand():
    labels, predictions = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 1, 1, 0])
    # observed agreement 4/6, expected 1/2
    assert metrics.kappa(labels, predictions) == pytest.approx((4 / 6 - 1 / 2) / (1 - 1 / 2))


def test_confusion_counts_true_classes_in_rows():
    labels, predictions = np.array([0, 0, 0, 1, 1]), np.array([0, 1, 1, 1, 0])
    np.testing.assert_array_equal(metrics.confusion(labels, predictions), [[1, 2], [1, 1]])


def test_interval_covers_the_mean_as_theory_says():
    values = np.random.default_rng(0).normal(5, 2, 400)
    entry = metrics.with_interval(metrics.mean, values)
    assert entry["value"] == pytest.approx(values.mean())
    half = 1.96 * values.std() / 20
    assert entry["high"] - entry["low"] == pytest.approx(2 * half, rel=0.15)
    assert entry["low"] < entry["value"] < entry["high"]


def test_interval_leaves_out_undefined_images_and_counts_the_rest():
    entry = metrics.with_interval(metrics.mean, np.array([1.0, np.nan, 3.0]))
    assert (entry["value"], entry["n"]) == (2.0, 2)
    empty = metrics.with_interval(metrics.mean, np.array([np.nan]))
    assert np.isnan(empty["value"])
    assert empty["n"] == 0
