"""The baselines and their comparison, at sizes that take a second."""

import json
import time

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import baselines, compare
from benchmarks.baselines import (
    Budget,
    Training,
    autoencoder,
    evidence,
    fixed_point_gan,
    saliency,
    upper_bound,
    va_gan,
    vae,
)
from benchmarks.baselines.trivial import TRIVIAL
from descargan import DISEASED, HEALTHY, cli, metrics
from descargan.scores import plain_finding


def squares(number=12, size=32, augmented=False):
    """Grey noise; diseased images have a bright square, which is their mask."""
    images = 0.1 * torch.randn(2 * number, 1, size, size) - 0.5
    masks = torch.zeros_like(images)
    for i in range(number):
        y, x = torch.randint(4, size - 12, (2,)).tolist()
        masks[number + i, :, y : y + 8, x : x + 8] = 1
    classes = torch.tensor([HEALTHY] * number + [DISEASED] * number)
    return Training(images + masks, classes, (True, False), augmented, masks)


def pixel_auroc(explain, training):
    diseased = training.classes == DISEASED
    said = explain(training.images[diseased]).difference
    return np.mean(
        [
            metrics.auroc(m.numpy() > 0, s.numpy())
            for m, s in zip(training.masks[diseased], said, strict=True)
        ]
    )


@pytest.mark.parametrize(
    ("module", "size"),
    [(autoencoder, 32), (vae, 32), (saliency, 32), (va_gan, 64), (fixed_point_gan, 64)],
)
def test_a_baseline_learns_and_explains_a_batch(module, size):
    training = squares(2, size, augmented=True)
    said = module.train(training, Budget(iterations=2), 0)(training.images[:3])
    assert said.difference.shape == (3, 1, size, size)
    assert said.difference.isfinite().all()
    assert said.healthy is None or said.healthy.shape == (3, 1, size, size)


def test_the_evidence_map_lies_on_what_tells_the_classes_apart():
    training = squares()
    explain = evidence.train(training, Budget(iterations=40), 0)
    assert pixel_auroc(explain, squares()) > 0.7
    said = explain(training.images)
    assert said.difference.amin() >= 0
    assert said.difference.amax() <= 1
    assert metrics.auroc(training.classes.numpy(), said.probability.numpy()) > 0.9


def test_the_upper_bound_learns_from_outlines():
    explain = upper_bound.train(squares(), Budget(iterations=40), 0)
    assert pixel_auroc(explain, squares()) > 0.95


def test_masks_are_placed_as_their_images_are():
    masks = squares(augmented=True).masks
    training = Training(2 * masks - 1, torch.ones(len(masks)), (True, True), masks=masks)
    images, placed = upper_bound.view_both(training, torch.arange(12, 24))
    assert set(placed.unique().tolist()) == {0.0, 1.0}
    for image, mask in zip(images, placed, strict=True):
        assert image[mask == 1].min() >= image[mask == 0].max()


def test_the_loss_of_the_upper_bound_is_least_for_the_mask():
    masks = squares(2).masks
    losses = [upper_bound.loss(20 * sign * (2 * masks - 1), masks).item() for sign in (1, -1)]
    assert losses[0] == pytest.approx(0, abs=1e-3)
    assert losses[1] > 10


def test_a_budget_ends_by_iterations_or_by_seconds_of_the_processor():
    assert list(baselines.spend(Budget(iterations=4))) == [0, 0.25, 0.5, 0.75]
    shares = []
    for share in baselines.spend(Budget(seconds=0.05)):
        shares.append(share)
        end = time.process_time() + 0.02
        while time.process_time() < end:
            pass
    assert len(shares) <= 3
    assert shares == sorted(shares)


def test_balanced_batches_hold_as_many_of_each_class():
    classes = torch.tensor([HEALTHY] * 30 + [DISEASED] * 3)
    assert classes[baselines.draw_balanced(classes)].sum() == baselines.BATCH


def test_the_mean_over_flips_puts_each_back():
    images = torch.rand(2, 1, 4, 4)
    torch.testing.assert_close(baselines.mean_over_flips(lambda x: x, images, (True, True)), images)
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    mean = baselines.mean_over_flips(lambda x: ramp, ramp, (True, False))
    torch.testing.assert_close(mean, torch.full_like(ramp, 1.5))


def test_trivial_maps_are_those_of_a_test():
    images = torch.rand(2, 1, 8, 8) * 2 - 1
    torch.testing.assert_close(TRIVIAL["intensity"](images).difference, (images + 1) / 2)
    assert not TRIVIAL["nothing"](images).difference.any()


def finding(label, difference, truth=None):
    truth = np.zeros_like(difference) if truth is None else truth
    nothing = np.full_like(difference, np.nan)
    return plain_finding(label, difference, truth, nothing, difference, np.nan)


def test_the_sign_of_a_map_is_chosen_by_classes_alone():
    dark, nothing = -np.eye(4), np.zeros((4, 4))
    assert compare.sign_of_disease([finding(1, dark), finding(0, nothing)]) == -1
    assert compare.sign_of_disease([finding(1, -dark), finding(0, nothing)]) == 1
    assert compare.sign_of_disease([finding(0, dark), finding(1, nothing)]) == 0


def test_the_threshold_is_found_in_any_unit():
    truth = np.eye(20)
    found = [finding(1, 1e-4 * (truth + 0.1), truth), finding(0, np.zeros((20, 20)))]
    _, threshold = compare.choose_threshold(found)
    assert 1e-5 <= threshold < 1.1e-4
    assert compare.choose_threshold(found[1:])[1] is None


@pytest.fixture
def brain(tmp_path):
    """Slices of 32 x 32 in two classes with the outlines of the lesions, in all splits."""
    rng = np.random.default_rng(0)
    for split in ("train", "validate", "test"):
        for folder in ("healthy", "tumour", "masks"):
            (tmp_path / "brain" / split / folder).mkdir(parents=True)
        for i in range(4):
            picture = rng.integers(0, 90, (32, 32), np.uint8)
            mask = np.zeros((32, 32), np.uint8)
            mask[4 * i : 4 * i + 8, 10:18] = 255
            for folder, array in (
                ("healthy", picture),
                ("tumour", np.where(mask, picture + 120, picture).astype(np.uint8)),
                ("masks", mask),
            ):
                name = f"p{i}_1.png" if folder == "healthy" else f"p{i}_2.png"
                Image.fromarray(array).save(tmp_path / "brain" / split / folder / name)
    return tmp_path / "brain"


def run_compare(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["compare", *map(str, words)])
    assert cli.run(compare.main) == 0


def test_training_masks_are_read_for_the_upper_bound(brain):
    training = compare.read_training(compare.options_of(brain, 32))
    assert training.flips == (True, False)
    assert training.masks.sum(dim=(1, 2, 3)).tolist() == [0] * 4 + [64] * 4


def test_one_command_prints_the_table_and_draws_the_figure(brain, tmp_path, monkeypatch, capsys):
    words = ["--data", f"brain={brain}", "--image-size", 32, "--iterations", 2]
    words += ["--methods", "upper_bound", "smoothed intensity", "evidence"]
    words += ["--out", tmp_path / "runs", "--figure", tmp_path / "maps.png"]
    run_compare(monkeypatch, *words)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| brain")]
    methods = [line.split(" | ")[1] for line in lines]
    assert methods == [
        "evidence map of a classifier",
        "smoothed intensity, no network",
        "U-Net trained with outlines",
    ]
    assert (tmp_path / "maps.png").stat().st_size > 1000
    kept = tmp_path / "runs" / "brain" / "evidence-0" / "results" / "test"
    assert len(list((kept / "difference_maps").iterdir())) == 8
    assert json.loads((kept / "metrics.json").read_text())["metrics"]["pixel_auroc"]["n"] == 4
    monkeypatch.setattr(evidence, "train", None)  # nothing is trained again
    run_compare(monkeypatch, *words)
    assert lines == [x for x in capsys.readouterr().out.splitlines() if x.startswith("| brain")]


def test_without_outlines_there_is_no_upper_bound(brain, tmp_path, monkeypatch, capsys):
    for mask in (brain / "train" / "masks").iterdir():
        mask.unlink()
    words = ["--data", f"brain={brain}", "--image-size", 32, "--iterations", 1]
    run_compare(monkeypatch, *words, "--methods", "upper_bound", "--out", tmp_path / "runs")
    assert "no masks of training images" in capsys.readouterr().out


def test_a_folder_that_does_not_exist_is_named(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["compare", "--data", "brain=nowhere"])
    assert cli.run(compare.main) == 2
    assert "brain=nowhere" in capsys.readouterr().err


def test_healthy_images_count_that_have_a_blob_over_the_threshold(tmp_path):
    said = {"sign_of_disease": 1, "diffusion_of_score_map": 0.0, "cover_of_score_map": 0.0}
    (tmp_path / "difference_maps").mkdir()
    files = {
        "blob": np.s_[2:4, 2:7],
        "line": np.s_[2, 2:11],
        "dark": np.s_[:, :],
        "none": np.s_[:0],
    }
    for name, place in files.items():
        array = np.zeros((16, 16))
        array[place] = -1 if name == "dark" else 0.5
        np.save(tmp_path / "difference_maps" / f"{name}.npy", array)
    images = {f"{name}.npy": np.zeros((16, 16)) for name in files}
    (tmp_path / "metrics.csv").write_text("\n".join(["map", *images]))
    for threshold, share in ((0.4, 0.25), (0.6, 0), (None, None)):
        said["dice_threshold_chosen_on_validation"] = threshold
        (tmp_path / "metrics.json").write_text(json.dumps(said))
        assert compare.share_with_blob(tmp_path, images) == share
