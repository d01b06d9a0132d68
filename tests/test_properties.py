"""Properties that hold for any input: geometry, scaling, metrics, reading of images."""

import io
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from skimage.metrics import structural_similarity
from sklearn.metrics import f1_score, roc_auc_score

import create_synthetic_dataset as synthetic
from descargan import data, metrics
from descargan.errors import UserError
from descargan.images import fit, read_image, scale_to_range, unfit
from descargan.scaling import intensity_range, scale

FEW = settings(max_examples=30, deadline=None, derandomize=True)
finite = st.floats(-1e3, 1e3, width=32)
images = arrays(np.float32, (8, 8), elements=finite)
masks = arrays(bool, (8, 8))
maps = arrays(np.float64, (8, 8), elements=st.floats(-2, 2))


@FEW
@given(st.integers(0, 2**32), st.sampled_from([1.0, 1.5]))
def test_any_two_ellipses_lie_inside_and_apart(seed, scale):
    size = round(256 * scale)
    (first, second), mask = synthetic.draw_ellipses(np.random.default_rng(seed), scale)
    assert np.hypot(first.x - second.x, first.y - second.y) > 120 * scale
    assert mask.shape == (size, size)
    assert not (synthetic.ring(first, size) & synthetic.ring(second, size)).any()
    assert synthetic.inside(first, size)
    assert synthetic.inside(second, size)


@FEW
@given(st.integers(0, 2**32), st.sampled_from([64, 128, 192]))
def test_any_sample_is_bounded_and_has_a_healthy_counterpart(seed, size):
    diseased = synthetic.make_sample(np.random.default_rng(seed), size, disease="atrophy")
    healthy = synthetic.make_sample(np.random.default_rng(seed), size, disease=None)
    np.testing.assert_allclose(diseased[0] - diseased[1], healthy[0], atol=1e-6)
    assert max(np.abs(diseased[0]).max(), np.abs(healthy[0]).max()) <= 1 + 1e-6


@FEW
@given(st.integers(50, 199), st.integers(50, 199))
def test_shrinking_never_leaves_the_range_of_the_image(x, y):
    image = np.random.default_rng(0).random((256, 256))
    moved = synthetic.shrink(image, synthetic.Ellipse(x, y, 40, 20, 0.3, 5))
    assert image.min() <= moved.min()
    assert moved.max() <= image.max()


@FEW
@given(images, st.floats(0.125, 100, width=32), st.floats(-100, 100, width=32))
def test_scaling_does_not_see_brightness_and_contrast(image, gain, offset):
    image = torch.from_numpy(image)[None, None]
    spread = float(image.max() - image.min())
    scaled = scale_to_range(image)
    assert torch.isfinite(scaled).all()
    if spread > 1:
        assert scaled.min().item() == pytest.approx(-1, abs=1e-3)
        assert scaled.max().item() == pytest.approx(1, abs=1e-3)
        changed = scale_to_range(gain * image + offset)
        torch.testing.assert_close(changed, scaled, atol=5e-2, rtol=0)


@FEW
@given(st.integers(1, 60), st.integers(1, 60))
def test_fit_and_unfit_give_the_size_and_the_values_back(height, width):
    side = max(height, width)
    image = np.random.default_rng(0).random((1, height, width)).astype(np.float32)
    fitted = fit(image, side)
    assert fitted.shape == (1, side, side)
    np.testing.assert_allclose(unfit(fitted[0], height, width), image[0], atol=1e-6)


@FEW
@given(st.integers(1, 60), st.integers(1, 60))
def test_unfit_leaves_the_range_of_a_map_however_sharp_its_edges_are(height, width):
    image = np.zeros((16, 16), np.float32)
    image[5:11, 5:11] = 0.7
    found = unfit(image, height, width)
    assert found.min() >= 0
    assert found.max() <= np.float32(0.7)


@FEW
@given(masks, masks)
def test_dice_is_the_f1_score(a, b):
    expected = f1_score(a.ravel(), b.ravel(), zero_division=1.0)
    assert metrics.dice(a, b) == pytest.approx(expected)


@FEW
@given(maps, maps)
def test_map_metrics_agree_with_the_libraries(difference, truth):
    result = metrics.map_metrics(difference, truth)
    diseased = (np.abs(truth) > metrics.TRUTH_THRESHOLD).ravel()
    if 0 < diseased.sum() < diseased.size:
        expected = roc_auc_score(diseased, np.abs(difference).ravel())
        assert result["pixel_auroc"] == pytest.approx(expected)
    else:
        assert np.isnan(result["pixel_auroc"])
    scaled = [metrics.unit_range(x) for x in (difference, truth)]
    expected = structural_similarity(*scaled, data_range=1.0)
    assert result["map_ssim"] == pytest.approx(expected)


@FEW
@given(st.integers(1, 50), st.integers(1, 12), st.integers(0, 2**31), st.integers(0, 100))
def test_every_epoch_is_a_permutation(length, batch_size, seed, epoch):
    batches = data.shuffled_batches(torch.zeros(length), batch_size, seed, epoch)
    assert sorted(torch.cat(batches).tolist()) == list(range(length))
    assert all(len(batch) == batch_size for batch in batches[:-1])


@FEW
@given(
    arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20))),
    st.sampled_from(["PNG", "BMP", "TIFF"]),
)
def test_any_8_bit_picture_is_read_exactly(tmp_path_factory, array, kind):
    path = tmp_path_factory.mktemp("picture") / f"a.{kind.lower()}"
    Image.fromarray(array).save(path, kind)
    np.testing.assert_array_equal(read_image(path)[0], array)


@FEW
@given(
    arrays(np.float32, (9, 7), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)),
    st.sampled_from(["minmax", "percentile"]),
)
def test_any_finite_image_stays_finite_up_to_the_network(tmp_path_factory, array, scaling):
    path = tmp_path_factory.mktemp("array") / "a.npy"
    np.save(path, array)
    try:
        image = read_image(path)
    except UserError as error:
        assert "holds no data" in str(error)  # noqa: PT017
        return
    scaled = scale(image, *intensity_range(image, scaling))
    for fitted in (fit(image, 16), fit(scaled, 16)):
        handed_on = scale_to_range(torch.tensor(fitted)[None])
        assert torch.isfinite(handed_on).all()
        assert handed_on.abs().max() <= 1 + 1e-5


def sources() -> dict[str, bytes]:
    """A sound file of each kind."""
    array = np.random.default_rng(0).integers(0, 256, (24, 20), dtype=np.uint8)
    contents = {}
    for kind in ("png", "jpeg", "bmp", "tiff"):
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, kind)
        contents[kind] = buffer.getvalue()
    buffer = io.BytesIO()
    np.save(buffer, array.astype(np.float32))
    return contents | {"npy": buffer.getvalue()}


@pytest.mark.parametrize("kind", sources())
def test_mutated_files_are_read_or_refused_in_one_sentence(tmp_path, kind):
    """100 files of each kind with bytes changed, cut or inserted: an image, or a UserError."""
    rng = random.Random(kind)
    sound = sources()[kind]
    refused = 0
    for number in range(100):
        content = bytearray(sound)
        for _ in range(rng.randint(1, 8)):
            position = rng.randrange(len(content))
            change = rng.randrange(3)
            if change == 0:
                content[position] = rng.randrange(256)
            elif change == 1:
                del content[position : position + rng.randint(1, 20)]
            else:
                content[position:position] = rng.randbytes(rng.randint(1, 20))
            if not content:
                content = bytearray(b"x")
        path = tmp_path / f"{number}.{kind}"
        path.write_bytes(content)
        try:
            image, sentence = read_image(path), None
        except UserError as error:
            image, sentence = None, str(error)
        if image is None:
            refused += 1
            assert str(path) in sentence
            assert "\n" not in sentence
        else:
            assert image.ndim == 3
            assert np.isfinite(image).all()
    assert refused > 10
