"""The Python API, as it is documented: load, translate, predict, train, test."""

import csv
import json
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY, assert_refused, program, succeed
from PIL import Image

import descargan
from descargan import HEALTHY, training
from descargan.api import next_command, resume_command
from descargan.checkpoints import Run, load_weights
from descargan.distributed import Process
from descargan.errors import FileError, UserError
from descargan.images import unfit
from descargan.models import Discriminator, Generator, build_networks
from descargan.options import Options, checked, number
from descargan.settings import settle
from descargan.sources import Picture
from descargan.translator import Translator

SIZES = {"image_size": 64, "base_filters": 2, "critic_filters": 2, "batch_size": 4}


@pytest.fixture(scope="module")
def moving(synthetic, tmp_path_factory):
    """A run whose generator moves tissue, one epoch."""
    folder = tmp_path_factory.mktemp("moving") / "run"
    arguments = [*TINY, "--dataset-path", synthetic, "--save-dir", folder, "--epochs", 1]
    arguments += ["--recipe", "deformation", "--critic-alone", 0]
    arguments += ["--batches", "shuffled"]  # three an epoch, not 200
    succeed("main.py", *arguments, "--visdom", "off")
    return folder


@pytest.fixture(scope="module")
def net(moving):
    return descargan.load(moving)


def picture(height, width, kind=np.uint8):
    rng = np.random.default_rng(height)
    return (rng.random((height, width)) * 250).astype(kind)


def test_importing_the_package_brings_no_pytorch():
    command = "import sys, descargan; print('torch' in sys.modules, 'visdom' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["False", "False"]


def test_a_test_does_not_wait_for_packages_that_it_hardly_needs():
    program = "import sys; from descargan import api, testing; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(result.stdout.split())
    assert not loaded & {"sklearn", "scipy.stats", "pandas", "torchvision", "visdom"}


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = descargan.trian


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(64, 64), (50, 97)])
def test_results_have_the_size_of_the_input(net, kind, shape):
    result = net(picture(*shape, kind))
    for array in (result.healthy, result.difference):
        assert array.shape == shape
        assert array.dtype == np.float32
    assert result.flow.shape == (2, *shape)
    assert 0 <= result.probability <= 1
    assert result.score >= 0
    assert result.predicted == int(result.probability > 0.5)
    assert result.unlike_training is True  # it is noise
    assert result.mask is None  # a run of three iterations has no threshold


def test_several_images_give_what_they_give_one_by_one(net):
    images = np.stack([picture(70, 64), picture(70, 64)[::-1], picture(70, 64)[:, ::-1]])
    together = net(torch.from_numpy(images.astype(np.float32)))
    assert together.probability.shape == together.score.shape == (3,)
    for i, image in enumerate(images):
        alone = net(image.astype(np.float32))
        np.testing.assert_allclose(together.difference[i], alone.difference, atol=1e-4)
        np.testing.assert_allclose(together.flow[i], alone.flow, atol=1e-3)
        assert together.score[i] == pytest.approx(alone.score, abs=1e-5)
        assert together.predicted[i] == alone.predicted
        assert together.unlike_training[i] == alone.unlike_training


def test_a_difference_is_the_same_whatever_the_range_of_the_image(net):
    image = picture(64, 64, np.float32)
    np.testing.assert_allclose(net(image).difference, net(40 * image - 1000).difference, atol=1e-3)


def test_the_numbers_are_those_of_the_predict_mode(net, moving, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, size in (("a.png", (80, 64)), ("b.png", (64, 70))):
        Image.fromarray(picture(*size)).save(folder / name)
    arguments = ["--mode", "predict", "--save-dir", moving, "--input", folder]
    succeed("main.py", *arguments, "--results-dir", tmp_path / "out")
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    predicted = dict(net.predict(folder))
    assert sorted(path.name for path in predicted) == ["a.png", "b.png"]
    for path, result in predicted.items():
        stored = np.load(tmp_path / "out" / f"{path.name}.map.npy")
        np.testing.assert_allclose(result.difference, stored, atol=1e-5)
        of_array = net(np.asarray(Image.open(path)))
        score_map = np.load(tmp_path / "out" / f"{path.name}.score.npy")
        np.testing.assert_allclose(of_array.score_map, score_map, atol=1e-5)
        np.testing.assert_allclose(of_array.difference, stored, atol=1e-5)
        assert float(rows[path.name]["probability"]) == pytest.approx(
            of_array.probability, abs=1e-5
        )
        assert float(rows[path.name]["anomaly_score"]) == pytest.approx(of_array.score, abs=1e-5)


def test_a_tensor_of_bfloat16_is_an_image(net):
    image = torch.from_numpy(picture(64, 64)).bfloat16()
    assert net(image).probability == net(image.double()).probability


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_mark_of_no_data_in_an_array_is_read_as_in_a_file(net, tmp_path, dtype):
    image = picture(64, 64, dtype)
    image[0, 0] = np.finfo(dtype).min
    np.save(tmp_path / "a.npy", image)
    ((_, of_file),) = net.predict(tmp_path / "a.npy")
    of_array, of_tensor = net(np.stack([image, image])), net(torch.from_numpy(image))
    assert of_tensor.probability == pytest.approx(of_file.probability, abs=1e-5)
    assert of_array.probability[1] == pytest.approx(of_file.probability, abs=1e-5)
    np.testing.assert_allclose(of_array.healthy[1], of_file.healthy, atol=1e-4)


def test_a_generator_that_moves_nothing_has_no_flow(trained):
    assert descargan.load(trained)(picture(64, 64)).flow is None


def test_a_flow_says_how_many_pixels_away_the_pseudo_healthy_image_was_taken_from(moving):
    """Both heads are made to draw one displacement; flips turn its sign, and average to nothing."""
    run = Run(moving, "Synthetic")
    generator, discriminator = build_networks(
        Options(**SIZES, translation="fine-deformation", generator_norm="instance")
    )
    load_weights(generator, run.generator)
    for head in generator.heads:
        torch.nn.init.zeros_(head[-1].weight)
        head[-1].bias.data = torch.tensor([0.4, 0.0])
    translator = Translator(generator, discriminator)
    plain = translator(picture(64, 96))
    # 63 / 2 pixels of the networks, each of which is 96 / 64 of the image's.
    assert np.allclose(plain.flow[0], 0.25 * np.tanh(0.4) * 63 / 2 * 96 / 64, atol=1e-3)
    assert np.allclose(plain.flow[1], 0)
    ramp, middle = np.tile(np.arange(512, dtype=np.float32), (512, 1)), slice(100, 400)
    moved = translator(ramp)
    seen = unfit(translator.as_input([Picture("", ramp)])[0, 0].numpy(), 512, 512)
    away = (moved.healthy - seen)[middle, middle].mean() / np.diff(seen[200, middle]).mean()
    assert moved.flow[0, 200, 200] == pytest.approx(away, rel=3e-3)
    averaged = Translator(generator, discriminator, flips=[[], [3]])(picture(64, 96))
    assert np.allclose(averaged.flow, 0, atol=1e-5)


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros((64, 64, 3)), "in colour"),
        (np.zeros(64), "no image"),
        (np.zeros((2, 1, 64, 64)), "no image"),
        (np.zeros((0, 64)), "no image"),
        (np.full((64, 64), np.nan), "NaN"),
        (np.full((64, 64), 1e300), "no data"),
        (np.full((64, 64), 7), "constant"),
        (np.full((64, 64), 1e31), "no data"),
        (np.full((64, 64), "x"), "no real numbers"),
        (np.zeros((64, 64), complex), "no real numbers"),
    ],
)
def test_what_is_no_image_is_a_value_error_of_one_sentence(net, array, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        net(array)
    assert isinstance(caught.value, UserError)
    assert "\n" not in str(caught.value)


def test_a_missing_run_and_a_damaged_one_are_errors_of_files(moving, tmp_path):
    with pytest.raises(OSError, match="train first"):
        descargan.load(tmp_path)
    for name in ("netG_synthetic.pt", "netD_synthetic.pt", "options_synthetic.json"):
        (tmp_path / name).write_bytes((moving / name).read_bytes()[:-200])
    with pytest.raises(FileError, match="damaged"):
        descargan.load(tmp_path)


def test_training_and_testing_give_what_they_leave_on_disk(synthetic, tmp_path):
    run = descargan.train(
        **SIZES, dataset_path=synthetic, save_dir=tmp_path / "run", epochs=1, log_every=1
    )
    assert (run.folder, run.iteration) == (tmp_path / "run", 3)
    lines = (tmp_path / "run" / "metrics_synthetic.jsonl").read_text().splitlines()
    assert run.history == [json.loads(line) for line in lines]
    found = descargan.test(
        dataset_path=synthetic, save_dir=tmp_path / "run", results_dir=tmp_path / "results"
    )
    written = json.loads((tmp_path / "results" / "metrics.json").read_text())["metrics"]
    assert found.folder == tmp_path / "results"
    assert len(found.rows) == 8
    assert found.metrics["accuracy"] == written["accuracy"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"epoch": 3}, "'epoch' is no option"),
        ({"epochs": 0}, "epochs: .* whole number"),
        ({"recipe": "quick"}, "recipe='quick': choose one of 'paper', 'fast'"),
        ({"amp": "yes"}, "amp='yes' must be True or False"),
        ({"mode": "predict"}, "mode='predict' is none of descargan.train"),
        ({"dataset_path": "nowhere"}, "nowhere does not exist"),
        ({"save_dir": "nowhere", "resume": "on"}, "nothing to --resume"),
    ],
)
def test_options_are_refused_as_exceptions(options, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=sentence):
        descargan.train(**options)
    assert list(tmp_path.iterdir()) == []


def test_none_is_an_option_that_was_not_given():
    assert checked({"after": None, "save_dir": None, "epochs": 3}) == {"epochs": 3}


def test_a_name_that_is_a_number_is_taken_as_it_would_be_typed():
    assert checked({"healthy_class": 1}) == {"healthy_class": "1"}


def test_what_can_be_called_is_listed():
    assert {"load", "train", "test"} <= set(dir(descargan))


@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        ({"weights": "Best"}, "weights='Best': choose one of 'last', 'best'"),
        ({"device": "gpu"}, "device 'gpu' is unknown"),
        ({"device": "cuda:99"}, "cuda:99 needs a CUDA device"),
        ({"dataset": "synthetic"}, "dataset='synthetic': choose one of 'Synthetic'"),
    ],
)
def test_what_loading_does_not_know_is_refused(trained, named, sentence):
    with pytest.raises(UserError, match=sentence):
        descargan.load(trained, **named)


def test_a_training_that_is_interrupted_is_saved_and_says_so(synthetic, tmp_path, monkeypatch):
    iterate = training.Training.iterate

    def interrupted(self, batch):
        signal.raise_signal(signal.SIGINT)
        return iterate(self, batch)

    monkeypatch.setattr(training.Training, "iterate", interrupted)
    with pytest.raises(KeyboardInterrupt, match="stopped and saved at iteration 1"):
        descargan.train(dataset_path=synthetic, save_dir=tmp_path, **SIZES)
    assert Run(tmp_path, "Synthetic").load_state()["iteration"] == 1


def test_a_run_of_several_processes_goes_on_with_as_many(tmp_path):
    said = resume_command(Options(save_dir=tmp_path), Process(rank=0, world=2))
    words = "-m torch.distributed.run --nproc-per-node=2 main.py --resume --save-dir"
    assert f"{words} {tmp_path}" in said


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({}, ""),
        ({"healthy_class": "not ill"}, " --healthy-class 'not ill'"),
        ({"healthy_class": "a", "scaling": "minmax"}, " --healthy-class a --scaling minmax"),
    ],
)
def test_networks_that_come_after_a_run_are_told_what_it_was_trained_by(tmp_path, typed, said):
    common = {"recipe": "fast", "dataset": "Folder", "dataset_path": tmp_path, "image_size": 64}
    command = next_command(settle({**common, "save_dir": tmp_path / "run", **typed}))
    assert f"--image-size 64{said} --after {tmp_path / 'run'}" in command


@pytest.mark.parametrize("batch", [1, 3])
def test_evaluation_mode_alone_gives_what_a_test_gives(moving, synthetic, tmp_path, batch):
    """Whoever builds a network, loads its weights and calls eval() has the method's own result."""
    descargan.test(
        dataset_path=synthetic, save_dir=moving, results_dir=tmp_path, average_flips=False
    )
    run = Run(moving, "Synthetic")
    saved = run.read_description()["options"]
    generator = Generator(
        base_filters=saved["base_filters"],
        translation=saved["translation"],
        norm=saved["generator_norm"],
    )
    load_weights(generator, run.generator)
    generator.eval()
    paths = sorted((synthetic / "test" / "diseased").iterdir())[:batch]
    images = torch.stack([torch.from_numpy(np.load(path)[:1]) for path in paths])
    with torch.no_grad():
        healthy = generator(images, HEALTHY)
    for path, difference in zip(paths, generator.kind.difference(images, healthy), strict=True):
        stored = np.load(tmp_path / "difference_maps" / f"test_diseased_{path.name}")
        np.testing.assert_allclose(difference[0], stored, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"norm": "batch"}, "norm='instance'"),
        ({"translation": "additive"}, "translation='fine-deformation'"),
        ({"base_filters": 4}, "--base-filters"),
    ],
)
def test_weights_do_not_load_into_a_network_built_otherwise(moving, settings, sentence):
    generator = Generator(
        **{"base_filters": 2, "translation": "fine-deformation", "norm": "instance", **settings}
    )
    before = generator.down0[0][0].weight.clone()
    with pytest.raises(UserError, match=sentence):
        load_weights(generator, Run(moving, "Synthetic").generator)
    assert torch.equal(generator.down0[0][0].weight, before)


def test_a_test_refuses_another_kind_of_map_than_the_runs(moving, synthetic):
    with pytest.raises(UserError, match="--translation is fine-deformation"):
        descargan.test(save_dir=moving, dataset_path=synthetic, translation="image")


def test_networks_that_draw_a_change_are_tested_on_larger_images(moving, tmp_path):
    data, results = tmp_path / "set", tmp_path / "results"
    sizes = "--image-size", 128, "--train", 1, "--validate", 2, "--test", 2
    succeed("create_synthetic_dataset.py", "--output", data, *sizes)
    common = "main.py", "--mode", "test", "--save-dir", moving, "--visdom", "off"
    common = *common, "--dataset-path", data, "--results-dir", results
    assert_refused(program(*common), "128 x 128 pixels, not 64 x 64", "--image-size")
    succeed(*common, "--image-size", 128)
    assert {np.load(path).shape for path in results.rglob("*.npy")} == {(128, 128)}
    assert json.loads((results / "metrics.json").read_text())["image_size"] == 128


def test_the_networks_of_the_project_load():
    net = descargan.load(ROOT / "save_nets" / "pretrained")
    assert isinstance(net.discriminator, Discriminator)
    assert net.size == 64


def test_a_result_has_the_mask_of_the_runs_threshold_at_the_size_of_the_input(synthetic):
    net = descargan.load(ROOT / "save_nets" / "pretrained")
    net.first = None  # these deform, and their score map is |difference map|
    image = np.load(synthetic / "test" / "diseased" / "0000.npy")[0].repeat(2, axis=1)
    one, two = net(image), net(np.stack([image, -image]))
    over = np.abs(one.difference) > net.reading.threshold
    assert 0 < over.mean() < 0.5
    np.testing.assert_array_equal(one.mask, over)
    assert two.mask.shape == (2, *image.shape)


def test_a_mask_of_a_blurred_score_map_is_that_of_the_networks_size(synthetic):
    net = descargan.load(ROOT / "save_nets" / "pretrained")
    net.reading = net.reading._replace(diffusion=0.04)
    image = np.load(synthetic / "test" / "diseased" / "0000.npy")[0]
    batch = net.translate(net.as_input([Picture("", image)]))
    over = batch.score_map[0, 0].numpy() > net.reading.threshold
    assert 0 < over.mean() < 0.5
    np.testing.assert_array_equal(net(image).mask, over)
    wide = net(image.repeat(2, axis=1)).mask
    assert wide.shape == (64, 128)


def test_a_weight_of_one_line_is_read_as_a_number():
    assert number(0.0, "weight of another term").metadata["type"]("3") == 3.0
