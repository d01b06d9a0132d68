"""Folders, files, scaling and batches."""

import numpy as np
import pytest
import torch
from PIL import Image

from descargan import data
from descargan.data import ImageDataset, warn_of_brightness, warn_of_few
from descargan.errors import UserError
from descargan.images import fit, scale_to_range
from descargan.layout import find_masks
from descargan.training import warn_of_enlarging


def write(path, array=None, **changes):
    """An 8-bit gradient, as PNG or .npy by the name of the file."""
    if array is None:
        array = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array) if path.suffix == ".npy" else Image.fromarray(array, **changes).save(path)


def folder_of(root, healthy="healthy", diseased="diseased", split="train", suffix=".npy"):
    for name in (healthy, diseased):
        array = np.random.default_rng(0).random((64, 64))
        array = array if suffix == ".npy" else (255 * array).astype(np.uint8)
        write(root / split / name / f"0{suffix}", array)
    return root


def dataset(root, kind="Synthetic", split="train", size=64, healthy_class=None):
    return ImageDataset(kind, root, split, size, healthy_class)


@pytest.mark.parametrize(
    ("healthy", "diseased"),
    [
        ("healthy", "diseased"),
        ("Healthy control", "Images showing pleural effusion"),
        ("NORMAL", "Abnormal"),
        ("no_finding", "effusion"),
        ("Control", "Alzheimer"),
        ("healthy", "unhealthy"),
        ("normals", "abnormal"),
    ],
)
def test_healthy_is_class_0_by_its_name(tmp_path, healthy, diseased):
    files = dataset(folder_of(tmp_path, healthy, diseased))
    assert files.classes.tolist() == [0, 1]
    assert [path.parent.name for path in files.paths] == [healthy, diseased]


@pytest.mark.parametrize("names", [("a", "b"), ("healthy", "normal"), ("unhealthy", "abnormal")])
def test_an_ambiguous_pair_needs_healthy_class(tmp_path, names):
    folder_of(tmp_path, *names)
    with pytest.raises(UserError, match="--healthy-class"):
        dataset(tmp_path)
    for wanted, other in (names, names[::-1]):
        files = dataset(tmp_path, healthy_class=wanted.upper())
        assert [path.parent.name for path in files.paths] == [wanted, other]


@pytest.mark.parametrize("number", [1, 3])
def test_two_class_folders_are_needed(tmp_path, number):
    for name in ("healthy", "one", "two")[:number]:
        write(tmp_path / "train" / name / "0.npy")
    with pytest.raises(UserError, match="two class folders"):
        dataset(tmp_path)


@pytest.mark.parametrize("split", ["train", "Train", "TRAIN"])
def test_split_folders_in_any_case(tmp_path, split):
    assert len(dataset(folder_of(tmp_path, split=split))) == 2


def test_a_missing_split_or_folder_is_named(tmp_path):
    folder_of(tmp_path)
    with pytest.raises(UserError, match="'validate'"):
        dataset(tmp_path, split="validate")
    with pytest.raises(UserError, match="--dataset-path"):
        dataset(tmp_path / "nowhere")


def test_an_empty_class_is_named(tmp_path):
    folder_of(tmp_path)
    (tmp_path / "train" / "diseased" / "0.npy").unlink()
    with pytest.raises(UserError, match="diseased holds no image"):
        dataset(tmp_path)


@pytest.mark.parametrize("shape", [(64, 64), (1, 64, 64), (64, 64, 1), (2, 64, 64)])
def test_shapes_of_arrays(tmp_path, shape):
    image = np.random.default_rng(1).random((64, 64)).astype(np.float32)
    array = np.stack([image, -image]) if shape[0] == 2 else image.reshape(shape)
    folder_of(tmp_path)
    write(tmp_path / "train" / "diseased" / "0.npy", array)
    images, truth, classes = dataset(tmp_path).__getitems__([1])
    np.testing.assert_array_equal(images[0, 0], image)
    np.testing.assert_array_equal(truth[0, 0], -image if shape[0] == 2 else 0 * image)
    assert classes.tolist() == [1]


@pytest.mark.parametrize(
    ("content", "mention"),
    [
        (np.zeros((3, 64, 64)), "shape"),
        (np.zeros((64, 64, 4)), "shape"),
        (np.zeros(64), "shape"),
        (np.zeros((32, 64)), "--image-size"),
        (np.full((64, 64), np.nan), "NaN"),
        (np.full((64, 64), np.inf), "infinity"),
        (np.zeros((64, 64), complex), "real numbers"),
        (np.array([["a"]]), "real numbers"),
        (np.zeros((0, 64, 64)), "shape"),
    ],
)
def test_bad_arrays_are_named(tmp_path, content, mention):
    path = folder_of(tmp_path) / "train" / "healthy" / "bad one.npy"
    write(path, content)
    with pytest.raises(UserError, match=mention) as error:
        dataset(tmp_path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("name", ["bad.npy", "bad.png", "bad.jpg", "bad.tif"])
@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n\x00\x00"])
def test_unreadable_files_are_named(tmp_path, name, content):
    path = folder_of(tmp_path) / "train" / "healthy" / name
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as an image") as error:
        dataset(tmp_path, kind="Chexpert")
    assert str(path) in str(error.value)


def test_arrays_of_objects_are_never_unpickled(tmp_path):
    path = folder_of(tmp_path) / "train" / "healthy" / "bad.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="cannot be read"):
        dataset(tmp_path)


def test_synthetic_images_keep_the_unit_of_their_pair(tmp_path):
    folder_of(tmp_path)
    array = np.zeros((2, 64, 64), np.float32)
    array[0, 0, 0], array[0, 1, 1], array[1, 1, 1] = 0.5, -1.06, 0.3
    write(tmp_path / "train" / "diseased" / "0.npy", array)
    images, truth, _ = dataset(tmp_path).__getitems__([1])
    np.testing.assert_array_equal(images[0, 0], array[0])
    np.testing.assert_array_equal(truth[0, 0], array[1])


def test_scaling_an_image_applies_its_slope_to_the_ground_truth(tmp_path):
    folder_of(tmp_path)
    array = np.random.default_rng(0).random((2, 64, 64)) * 200
    write(tmp_path / "train" / "diseased" / "0.npy", array)
    images, truth, _ = dataset(tmp_path).__getitems__([1])
    assert images.min().item() == pytest.approx(-1, abs=1e-5)
    assert images.max().item() == pytest.approx(1, abs=1e-5)
    counterpart = array[0] - array[1]
    slope, offset = np.polyfit(array[0].ravel(), images[0, 0].numpy().ravel(), 1)
    np.testing.assert_allclose(
        images - truth, (counterpart * slope + offset)[None, None], atol=1e-4
    )


def test_scale_to_range_of_each_image_and_of_a_constant_one():
    images = torch.stack([torch.linspace(3, 7, 16), torch.full((16,), 5.0)]).view(2, 1, 4, 4)
    scaled = scale_to_range(images)
    torch.testing.assert_close(scaled[0].flatten(), torch.linspace(-1, 1, 16))
    assert torch.equal(scaled[1], torch.zeros(1, 4, 4))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".npy", ".PNG"])
def test_8_bit_files_are_read_exactly(tmp_path, suffix):
    array = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    array[0, :2] = 0, 255
    for name in ("healthy", "diseased"):
        write(tmp_path / "train" / name / f"0{suffix}", array)
    files = dataset(tmp_path, kind="Chexpert")
    assert files.cache.dtype == torch.uint8
    images, _, _ = files.__getitems__([0])
    np.testing.assert_allclose(images[0, 0], array / 127.5 - 1, atol=1e-6)


def test_16_bit_and_colour_files(tmp_path):
    deep = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    colour = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    write(tmp_path / "train" / "healthy" / "0.png", deep)
    write(tmp_path / "train" / "diseased" / "0.png", colour)
    images, _, _ = dataset(tmp_path, kind="Chexpert").__getitems__([0, 1])
    np.testing.assert_allclose(images[0, 0], deep / 32767.5 - 1, atol=1e-6)
    grey = np.round(colour @ [0.299, 0.587, 0.114])
    expected = 2 * (grey - grey.min()) / np.ptp(grey) - 1
    np.testing.assert_allclose(images[1, 0], expected, atol=0.02)


def test_fit_keeps_everything_in_a_padded_square():
    image = np.full((1, 100, 50), 9, np.uint8)
    image[0, :, 25] = 200
    fitted = fit(image, 100)
    assert fitted.shape == (1, 100, 100)
    np.testing.assert_array_equal(fitted[0, :, 25:75], image[0])
    assert (fitted[0, :, :25] == 9).all()
    assert fit(image, 64).shape == (1, 64, 64)


def test_a_batch_is_the_same_with_and_without_the_cache(synthetic, monkeypatch):
    cached = dataset(synthetic)
    monkeypatch.setattr(data, "CACHE_BYTES", 0)
    streamed = dataset(synthetic)
    assert cached.cache is not None
    assert streamed.cache is None
    batches = data.shuffled_batches(cached.classes, 5, seed=1, epoch=0)
    for a, b in zip(
        data.load(cached, batches), data.load(streamed, batches, workers=2), strict=True
    ):
        for x, y in zip(a, b, strict=True):
            assert torch.equal(x, y)


def test_an_error_in_a_worker_is_one_sentence(synthetic, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "CACHE_BYTES", 0)
    files = dataset(synthetic)
    files.paths[3] = tmp_path / "gone.npy"
    with pytest.raises(UserError, match=r"^/.*gone\.npy cannot be read as an image: \S.*$"):
        list(data.load(files, data.shuffled_batches(files.classes, 4, 0, 0), workers=1))


def test_an_epoch_holds_each_image_once_and_epochs_differ():
    classes = torch.zeros(23)
    epochs = [torch.cat(data.shuffled_batches(classes, 10, seed=3, epoch=e)) for e in range(2)]
    assert sorted(epochs[0].tolist()) == list(range(23))
    assert epochs[0].tolist() != epochs[1].tolist()
    again = torch.cat(data.shuffled_batches(classes, 10, seed=3, epoch=1))
    assert torch.equal(again, epochs[1])
    assert [len(b) for b in data.shuffled_batches(classes, 10, 3, 0)] == [10, 10, 3]


def test_flips():
    images = torch.rand(64, 1, 4, 6)
    flipped = data.random_flips(images, horizontal=True, vertical=False)
    kinds = [
        (torch.equal(a, b), torch.equal(a, b.flip(2))) for a, b in zip(flipped, images, strict=True)
    ]
    assert set(kinds) == {(True, False), (False, True)}
    assert torch.equal(data.random_flips(images, False, False), images)
    both = data.random_flips(images, True, True)
    assert any(torch.equal(a, b.flip(1, 2)) for a, b in zip(both, images, strict=True))


def test_fingerprint_tells_data_sets_apart(synthetic, tmp_path):
    assert dataset(synthetic).fingerprint() == dataset(synthetic).fingerprint()
    other = dataset(folder_of(tmp_path))
    assert other.fingerprint() != dataset(synthetic).fingerprint()


# Masks beside the classes, and robust scaling


@pytest.fixture
def outlined(tmp_path):
    """Own pictures of 64 x 64; in each split the diseased one has a mask of a quarter."""
    for split in ("train", "validate", "test"):
        folder_of(tmp_path, split=split, suffix=".png")
        for name in ("healthy", "diseased"):
            (tmp_path / split / name / "0.png").rename(tmp_path / split / name / f"{name}.png")
        mask = np.zeros((64, 64), np.uint8)
        mask[:32, :32] = 255
        write(tmp_path / split / "masks" / "diseased.png", mask)
    return tmp_path


def folder_of_pictures(root):
    return dataset(root, kind="Folder", split="test")


@pytest.mark.parametrize("scaling", ["minmax", "percentile"])
def test_a_mask_beside_the_classes_is_the_ground_truth(outlined, scaling):
    files = ImageDataset("Folder", outlined, "test", 64, scaling=scaling)
    assert files.has_truth
    _, truth, classes = files.__getitems__([0, 1])
    assert classes.tolist() == [0, 1]
    assert not truth[0].any()
    assert truth[1].sum() == 32 * 32
    assert truth[1, 0, :32, :32].min() == 1


def test_a_mask_of_a_healthy_image_is_no_ground_truth(outlined):
    mask = outlined / "test" / "masks" / "diseased.png"
    mask.rename(mask.with_name("healthy.png"))
    files = folder_of_pictures(outlined)
    assert not files.has_truth
    assert not files.__getitems__([0, 1])[1].any()


def test_a_difference_of_a_healthy_image_is_no_ground_truth(tmp_path):
    folder_of(tmp_path)
    for name in ("healthy", "diseased"):
        write(tmp_path / "train" / name / "0.npy", np.full((2, 64, 64), 0.5))
    _, truth, _ = dataset(tmp_path).__getitems__([0, 1])
    assert truth.flatten(1).any(dim=1).tolist() == [False, True]


@pytest.mark.parametrize(
    ("named", "numbers"),
    [("abab", [0, 1, 0, 1]), ("baab", [1, 0, 0, 1]), ("dcba", [0, 1, 2, 3]), ("ab", [0, 1, 2, 3])],
)
def test_images_of_one_patient_share_a_number(tmp_path, named, numbers):
    """Each has its own where no patient has several, or not all are known."""
    images = [tmp_path / f"{i}.png" for i in range(4)]
    lines = [f"{i}.png,{patient}\n" for i, patient in enumerate(named)]
    (tmp_path / "manifest.csv").write_text("file,patient\n" + "".join(lines))
    assert data.number_patients(tmp_path, images).tolist() == numbers


def test_training_never_sees_a_mask(outlined, monkeypatch):
    monkeypatch.setattr(data, "read_mask", lambda path: pytest.fail(f"{path} was read"))
    files = dataset(outlined, kind="Folder", split="train")
    assert not files.has_truth
    assert not files.__getitems__([0, 1])[1].any()


def test_a_mask_of_no_image_is_named(outlined):
    write(outlined / "test" / "masks" / "other.png", np.zeros((64, 64), np.uint8))
    with pytest.raises(UserError, match=r"other\.png is of no image"):
        folder_of_pictures(outlined)


@pytest.mark.parametrize("name", ["1.2.840.1136.5", "CT.12.Image 5", "IM1.MR", "scan.v1.dcm"])
def test_a_mask_has_the_name_of_its_image_whatever_follows_the_dots_of_that(outlined, name):
    images = [
        outlined / "test" / "diseased" / n for n in ("diseased", name, name.replace("1", "7"))
    ]
    for mask in (name, name.removesuffix(".dcm")):
        path = outlined / "test" / "masks" / f"{mask}.png"
        write(path)
        assert find_masks(outlined, "test", images)[1] == path
        path.unlink()


def test_a_mask_of_another_size_than_its_image_is_named(outlined):
    write(outlined / "test" / "masks" / "diseased.png", np.zeros((32, 64), np.uint8))
    with pytest.raises(UserError, match=r"32 x 64 pixels, its image 64 x 64"):
        folder_of_pictures(outlined)


def test_a_marker_costs_the_anatomy_no_contrast_with_percentiles(tmp_path):
    """One block of the greatest value: by the extremes what is left spans a sixteenth."""
    folder_of(tmp_path, split="test")
    image = np.random.default_rng(1).integers(0, 4096, (64, 64)).astype(np.uint16)
    image[2:6, 2:6] = 65535
    for name in ("healthy", "diseased"):
        write(tmp_path / "test" / name / "0.npy", image)
    spans = {}
    for scaling in ("minmax", "percentile"):
        images, _, _ = ImageDataset("Folder", tmp_path, "test", 64, scaling=scaling)[0]
        assert images.abs().max() <= 1
        spans[scaling] = float(images[0, 10:].max() - images[0, 10:].min())
    assert spans["minmax"] < 0.13
    assert spans["percentile"] > 1


def test_the_content_fingerprint_tells_changed_pixels_of_small_and_large_files(tmp_path):
    folder_of(tmp_path)
    path = tmp_path / "train" / "healthy" / "0.npy"
    for size in (64, 256):
        np.save(path, np.zeros((size, size), np.float32))
        files = dataset(tmp_path, kind="Folder")
        before = files.fingerprint(), files.content_fingerprint()
        np.save(path, np.full((size, size), 0.5, np.float32))
        assert files.fingerprint() == before[0]
        assert files.content_fingerprint() != before[1]


def test_hidden_copies_are_passed_over_and_other_files_are_said(tmp_path, capsys):
    folder_of(tmp_path, suffix=".png")
    folder = tmp_path / "train" / "healthy"
    (folder / "._0.png").write_bytes(b"Mac OS X")
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / "notes.txt").write_text("x")
    (folder / "more").mkdir()
    assert len(dataset(tmp_path, kind="Folder")) == 2
    said = capsys.readouterr().err
    assert "healthy: 1 images taken, passed over: 1 folder, 1 .txt" in said
    assert "Mac" not in said


def test_classes_of_few_images_are_named_in_one_sentence(synthetic, capsys):
    warn_of_few(ImageDataset("Synthetic", synthetic, "test", 64), "test")
    said = capsys.readouterr().err
    assert said == (
        "warning: split 'test' holds 4 healthy and 4 diseased images: fewer than 20 say little\n"
    )


@pytest.mark.parametrize(
    ("size", "said"), [(64, ""), (128, "--image-size 64 shows as much of it as 128, in 25% of")]
)
def test_files_that_a_smaller_image_would_hold_are_said(tmp_path, capsys, size, said):
    folder_of(tmp_path)
    warn_of_enlarging(dataset(tmp_path, kind="Folder", size=size))
    written = capsys.readouterr().err
    assert said in written
    assert bool(written) == bool(said)


@pytest.fixture(scope="module")
def alike(tmp_path_factory):
    """A data set of 50 + 50 noisy images whose classes differ in nothing."""
    root = tmp_path_factory.mktemp("alike")
    draw = np.random.default_rng(0)
    for name in ("healthy", "diseased"):
        for number in range(50):
            write(root / "train" / name / f"{number}.npy", draw.random((64, 64)))
    return ImageDataset("Folder", root, "train", 64, scaling="percentile")


def brightened(files, part, number=50):
    """The same, of as many images of a class, brighter in a part of the diseased ones."""
    changed = files.only(torch.cat([torch.arange(number), torch.arange(50, 50 + number)]))
    changed.cache = changed.cache.clone()
    of_disease = changed.cache[changed.classes == 1]
    of_disease[part] += 0.1
    changed.cache[changed.classes == 1] = of_disease
    return changed


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ((...,), "the mean of the image alone tells the class (AUROC 1.00): diseased training"),
        ((..., slice(48, 64), slice(0, 16)), "the mean of the lower left corner alone tells the"),
    ],
)
def test_a_class_that_is_brighter_is_said(alike, part, said, capsys):
    warn_of_brightness(brightened(alike, part))
    assert said in capsys.readouterr().err


def test_nothing_is_said_of_classes_that_are_alike(alike, capsys):
    warn_of_brightness(alike)
    assert not capsys.readouterr().err


def test_nothing_is_said_of_the_brightness_of_few_images(alike, capsys):
    warn_of_brightness(brightened(alike, (...,), number=49))
    assert not capsys.readouterr().err
