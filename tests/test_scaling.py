"""Intensities: what is an outlier costs the anatomy no contrast, what is bright does not clip."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from descargan.errors import UserError
from descargan.scaling import body, intensity_range, quantise, scale

FEW = settings(max_examples=30, deadline=None, derandomize=True)
SIDE = 96
Y, X = np.mgrid[:SIDE, :SIDE]
HEAD = np.hypot(Y - 50, X - 46) < 35


def anatomy(seed=0):
    """A head of 500 to 1500 on 0, and nothing that stands out."""
    rng = np.random.default_rng(seed)
    phases = rng.uniform(0, 6, 2)
    inside = 1000 + 250 * (np.sin(X / 9 + phases[0]) + np.sin(Y / 7 + phases[1]))
    return np.where(HEAD, inside, 0.0)


def contrast(image, region=HEAD):
    """The share of [-1, 1] that is left to a region by percentile scaling."""
    return np.ptp(scale(image, *intensity_range(image, "percentile"))[region]) / 2


def test_without_outliers_and_air_both_scalings_are_the_same():
    image = anatomy()[30:70, 26:66]
    assert intensity_range(image, "percentile") == intensity_range(image, "minmax")


def burnt_in(image):
    image[3:9, 3:9] = 65535


def hot(image):
    image[50, 40] = 1e6


def no_data(image):
    image[:, :8] = -32768


def dead(image):
    image[50, 40] = -1e6


@pytest.mark.parametrize("disturb", [burnt_in, hot, no_data, dead])
def test_what_is_no_anatomy_costs_it_no_contrast(disturb):
    image = anatomy()
    disturb(image)
    region = HEAD & (image == anatomy())
    low, high = intensity_range(image, "minmax")
    assert np.ptp(scale(image, low, high)[region]) / 2 < 0.05
    assert contrast(image, region) > 0.4
    scaled = scale(image, *intensity_range(image, "percentile"))
    assert np.corrcoef(scaled[region], anatomy()[region])[0, 1] > 0.99


def test_a_table_and_air_cost_the_anatomy_no_contrast():
    image = np.where(HEAD, anatomy() / 10, -1000)  # soft tissue in air
    image[90:93, 5:91] = 200
    assert np.ptp(scale(image, *intensity_range(image, "minmax"))[HEAD]) / 2 < 0.15
    assert contrast(image) > 0.5


@pytest.mark.parametrize(
    ("radius", "excess"), [(2, 300), (4, 300), (8, 300), (8, 1000), (12, 1000)]
)
def test_a_bright_tumour_does_not_saturate(radius, excess):
    tumour = np.hypot(Y - 60, X - 40) < radius
    image = anatomy() + excess * tumour * (1 - 0.2 * np.hypot(Y - 60, X - 40) / radius)
    _, high = intensity_range(image, "percentile")
    assert (image > high)[tumour].mean() < 0.05


def test_what_is_as_small_and_bright_as_a_marker_is_at_the_top():
    image = anatomy()
    image[58:61, 38:41] += 5000
    assert (scale(image, *intensity_range(image, "percentile"))[58:61, 38:41] == 1).all()


@FEW
@given(st.integers(0, 99), st.floats(0.01, 1e4), st.floats(-1e5, 1e5))
def test_percentile_scaling_does_not_see_brightness_and_contrast(seed, gain, offset):
    image = anatomy(seed)
    burnt_in(image)
    changed = gain * image + offset
    expected = scale(image, *intensity_range(image, "percentile"))
    scaled = scale(changed, *intensity_range(changed, "percentile"))
    np.testing.assert_allclose(scaled, expected, atol=1e-3)


@FEW
@given(st.integers(0, 99), st.sampled_from(["minmax", "percentile"]))
def test_scaling_twice_is_scaling_once(seed, scaling):
    image = anatomy(seed)
    burnt_in(image)
    once = scale(image, *intensity_range(image, scaling))
    twice = scale(once, *intensity_range(once, scaling))
    np.testing.assert_allclose(twice, once, atol=1e-5)


def test_a_volume_has_one_range():
    volume = np.stack([anatomy(), anatomy(1), 0.1 * anatomy(2)])
    low, high = intensity_range(volume, "percentile")
    assert (low, high) == intensity_range(volume[:2], "percentile")


@pytest.mark.parametrize("scaling", ["minmax", "percentile"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 3), (2, 4, 4)])
def test_constant_and_small_images(scaling, shape):
    constant = np.full(shape, 7.0)
    assert (scale(constant, *intensity_range(constant, scaling)) == 0).all()
    image = np.random.default_rng(0).random(shape)
    scaled = scale(image, *intensity_range(image, scaling))
    assert np.isfinite(scaled).all()
    assert np.abs(scaled).max() <= 1


def test_two_values_are_kept_apart():
    image = np.zeros((20, 20), np.uint8)
    image[5:15, 5:15] = 255
    assert intensity_range(image, "percentile") == (0, 255)


def test_an_unknown_scaling_is_named():
    with pytest.raises(UserError, match=r"'zscore'.*minmax, percentile"):
        intensity_range(anatomy(), "zscore")


def test_the_body_is_the_largest_bright_component_with_its_holes():
    image = anatomy()
    image[45:50, 40:45] = 0  # a ventricle
    image[3:9, 3:9] = 1500  # a marker
    np.testing.assert_array_equal(body(image), HEAD)


def test_quantising_spans_the_range_and_leaves_8_bits_alone():
    image = anatomy()
    for bits, most in ((8, 255), (16, 65535)):
        stored = quantise(image, 500, 1000, bits)
        assert stored.dtype == np.dtype(f"u{bits // 8}")
        expected = np.clip((image - 500) / 500, 0, 1) * most
        np.testing.assert_allclose(stored, expected, atol=0.51)
    octets = (image / 10).astype(np.uint8)
    assert quantise(octets, 0, 50) is octets
