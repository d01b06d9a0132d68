"""Training, resuming and testing from the command line, as a user does."""

import csv
import json
import shutil
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY, assert_refused, program, start, succeed
from PIL import Image

import create_synthetic_dataset
from descargan import __version__, api, data, metrics, reading, scores, training
from descargan.checkpoints import write_file
from descargan.errors import UserError
from descargan.locks import held
from descargan.options import FIELDS, RECIPES
from descargan.settings import settle

TRAIN = ["main.py", *TINY, "--critic-steps", "2", "--log-every", "1", "--visdom", "off"]


def weights(folder, name="G"):
    return torch.load(folder / f"net{name}_synthetic.pt", weights_only=True)


def assert_same_run(a, b):
    for name in ("G", "D"):
        first, second = weights(a, name), weights(b, name)
        for key, value in first.items():
            assert torch.equal(value, second[key]), (name, key)
    lines = [(folder / "metrics_synthetic.jsonl").read_text() for folder in (a, b)]
    assert lines[0] == lines[1]


def test_training_leaves_everything_that_a_run_is(trained):
    assert {p.name for p in trained.iterdir()} >= {
        "netG_synthetic.pt",
        "netD_synthetic.pt",
        "training_synthetic.pt",
        "options_synthetic.json",
        "metrics_synthetic.jsonl",
        "examples_synthetic.png",
    }
    assert weights(trained)["down0.0.0.weight"].shape == (2, 3, 3, 3)
    described = json.loads((trained / "options_synthetic.json").read_text())
    assert described["options"]["image_size"] == 64
    assert described["options"]["learning_rate"] == 1e-4
    assert described["versions"]["torch"] == torch.__version__.split("+")[0]
    assert len(described["dataset_fingerprint"]) == 64
    assert not list(trained.glob(".*"))


def test_metrics_history_has_every_term_and_the_untrained_network(trained):
    lines = [json.loads(x) for x in (trained / "metrics_synthetic.jsonl").read_text().splitlines()]
    losses = [line for line in lines if line["kind"] == "losses"]
    assert [line["iteration"] for line in losses] == [1, 2, 3, 4, 5, 6]
    assert [line["iteration"] for line in losses if "generator/total" in line] == [2, 4, 6]
    second = losses[1]
    assert second["critic/total"] == pytest.approx(
        20 * second["critic/adversarial"]
        + 10 * second["critic/gradient penalty"]
        + 5 * second["critic/classification"],
        rel=1e-5,
    )
    assert second["generator/total"] == pytest.approx(
        second["generator/adversarial"]
        + 50 * second["generator/identity"]
        + 50 * second["generator/reconstruction"]
        + second["generator/classification"],
        rel=1e-5,
    )
    validations = [line for line in lines if line["kind"] == "validation"]
    assert [line["epoch"] for line in validations] == [0, 1, 2]
    wanted = {"accuracy", "kappa", "mse_healthy", "pixel_auroc", "pixel_auprc", "dice"}
    wanted |= {f"accuracy translated into {which} class" for which in ("own", "other")}
    assert wanted <= validations[-1].keys()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    trained, synthetic, tmp_path, workers
):
    common = ["--dataset-path", synthetic, "--save-dir", tmp_path, "--workers", workers]
    succeed(*TRAIN, *common, "--epochs", 1)
    assert weights(tmp_path)["up1.0.bias"].tolist() != weights(trained)["up1.0.bias"].tolist()
    succeed("main.py", "--resume", *common, "--epochs", 2, "--log-every", 1, "--visdom", "off")
    assert_same_run(trained, tmp_path)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_in_mid_epoch_and_the_run_goes_on_bit_for_bit(
    trained, synthetic, tmp_path, number, status
):
    arguments = [*TRAIN, "--dataset-path", synthetic, "--save-dir", tmp_path, "--epochs", "2"]
    process = start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    history = tmp_path / "metrics_synthetic.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if history.is_file() and '"losses"' in history.read_text():
            break
        time.sleep(0.01)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == status
    assert f"--resume --save-dir {tmp_path}" in output
    state = torch.load(tmp_path / "training_synthetic.pt", weights_only=True)
    assert 1 <= state["iteration"] < 6
    succeed("main.py", "--resume", "--save-dir", tmp_path, "--visdom", "off", "--log-every", 1)
    assert_same_run(trained, tmp_path)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit(143)])
def test_an_interruption_before_the_first_iteration_says_what_to_do(
    trained, synthetic, tmp_path, monkeypatch, stop
):
    def interrupt(*_: object) -> None:
        raise stop

    monkeypatch.setattr(training, "keep_likeness", interrupt)
    common = ["--dataset-path", synthetic, "--save-dir", tmp_path / "new"]
    result = program(*TRAIN, *common, "--epochs", 1)
    assert result.returncode == (143 if stop is not KeyboardInterrupt else 130)
    assert "nothing of this run is saved yet: the same command starts it again" in result.stderr
    shutil.copytree(trained, tmp_path / "run")
    result = program("main.py", "--resume", "--save-dir", tmp_path / "run", "--epochs", 3)
    assert f"main.py --resume --save-dir {tmp_path / 'run'}" in result.stderr


def test_a_training_ends_with_the_commands_that_use_it(synthetic, tmp_path):
    folder = tmp_path / "a run"
    common = ["--dataset-path", synthetic, "--save-dir", folder]
    result = succeed(*TRAIN, *common, "--epochs", 1)
    ways = f"--save-dir '{folder}' --mode"
    assert "too few validation images to judge" in result.stdout
    assert f"main.py {ways} test --dataset-path {synthetic}\n" in result.stdout
    assert f"main.py {ways} predict --input IMAGES\n" in result.stdout


def test_a_folder_is_for_one_run(trained, tmp_path):
    """Of another kind of data too: their results would mix."""
    shutil.copytree(trained, tmp_path / "run")
    common = ["--save-dir", tmp_path / "run", "--dataset-path", tmp_path]
    for arguments in (["--dataset", "Folder"], ["--dataset", "Folder", "--resume", "auto"]):
        result = program("main.py", *common, *arguments)
        assert_refused(result, "holds a Synthetic run", "another --save-dir")
    for change in (["--translation", "additive"], ["--networks", "compact"]):
        assert_refused(program("main.py", *common, *change), "holds a Synthetic run")
        result = program("main.py", *common, *change, "--resume", "auto")
        assert_refused(result, change[0], "another --save-dir")


def test_a_run_does_not_go_on_with_images_whose_pixels_changed(synthetic, tmp_path):
    """Names and sizes are the same; only the content tells."""
    shutil.copytree(synthetic, tmp_path / "set")
    common = ["--dataset-path", tmp_path / "set", "--save-dir", tmp_path / "run"]
    succeed(*TRAIN, *common, "--epochs", 1)
    path = tmp_path / "set" / "train" / "healthy" / "0000.npy"
    np.save(path, np.load(path)[:, ::-1])
    result = program("main.py", "--resume", *common, "--epochs", 2, "--visdom", "off")
    assert_refused(result, "other images")


def test_resume_auto_starts_where_there_is_nothing_to_resume(synthetic, tmp_path):
    arguments = ["--dataset-path", synthetic, "--save-dir", tmp_path, "--epochs", 1]
    succeed(*TRAIN, *arguments, "--resume", "auto")
    before = weights(tmp_path)
    succeed(*TRAIN, *arguments, "--resume", "auto")
    assert torch.equal(weights(tmp_path)["up1.0.weight"], before["up1.0.weight"])


@pytest.fixture(scope="module")
def results(trained, synthetic, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results") / "of the test"
    arguments = ["--mode", "test", "--dataset_path", synthetic, "--choose_net", trained]
    output = succeed("main.py", *arguments, "--results-dir", folder, "--visdom", "off").stdout
    return folder, output


def test_a_test_needs_no_options_of_the_networks_and_prints_a_table(results):
    _, output = results
    release = "Dice of |difference map| at 0.44195"
    for text in ("pixel AUROC", release, "MSE(a_h, r_h)", "Cohen's kappa"):
        assert text in output


def test_results_on_disk_agree_with_each_other(results, synthetic):
    folder, _ = results
    summary = json.loads((folder / "metrics.json").read_text())
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert summary["images"] == {"healthy": 4, "diseased": 4}
    for name in ("pixel_auroc", "dice_validated", "counterpart_ssim", "mse_healthy"):
        values = [float(row[name]) for row in rows if row[name]]
        assert len(values) == 4
        assert summary["metrics"][name]["value"] == pytest.approx(np.mean(values))
    right = [row["class"] == row["predicted"] for row in rows]
    assert summary["metrics"]["accuracy"]["value"] == pytest.approx(np.mean(right))
    for row in rows:
        difference = np.load(folder / "difference_maps" / row["file"].replace("/", "_"))
        assert float(row["anomaly_score"]) == pytest.approx(np.abs(difference).mean(), rel=1e-4)
        if row["class"] == "1":
            truth = np.load(synthetic / row["file"])[1]
            expected = metrics.map_metrics(difference, truth)
            assert float(row["pixel_auroc"]) == pytest.approx(expected["pixel_auroc"])
    assert (folder / "examples.png").stat().st_size > 10_000


def test_a_test_wants_no_other_split(results, trained, synthetic, tmp_path):
    """Images of another place have none: the threshold that they would choose is left out."""
    shutil.copytree(synthetic / "test", tmp_path / "elsewhere" / "test")
    arguments = ["--mode", "test", "--dataset-path", tmp_path / "elsewhere", "--save-dir", trained]
    succeed("main.py", *arguments, "--results-dir", tmp_path / "results", "--visdom", "off")
    whole, alone = (
        json.loads((folder / "metrics.json").read_text())["metrics"]
        for folder in (results[0], tmp_path / "results")
    )
    assert whole.keys() - alone.keys() == {"dice_validated"}
    assert alone["pixel_auprc"] == whole["pixel_auprc"]


def test_a_test_measures_at_the_threshold_that_was_typed(trained, synthetic, tmp_path):
    arguments = ["--mode", "test", "--dataset-path", synthetic, "--save-dir", trained]
    arguments += ["--threshold", 0.3, "--results-dir", tmp_path, "--visdom", "off"]
    printed = succeed("main.py", *arguments).stdout
    assert "Dice at the threshold that was typed" in printed
    assert "by the classes alone" not in printed
    assert json.loads((tmp_path / "metrics.json").read_text())["threshold"] == 0.3
    with (tmp_path / "metrics.csv").open() as file:
        row = list(csv.DictReader(file))[-1]
    difference = np.load(tmp_path / "difference_maps" / row["map"])
    diseased = metrics.is_diseased(np.load(synthetic / row["file"])[1])
    expected = metrics.dice(np.abs(difference) > 0.3, diseased)
    assert float(row["dice_stored"]) == pytest.approx(expected)


def test_a_small_number_is_no_zero_in_the_table():
    entry = {"value": 2.2e-5, "low": 0.0, "high": 0.12345, "n": 4}
    assert scores.interval_text(entry) == "2.2e-05 [0.0000, 0.1235] (4 images)"


def test_pictures_of_one_name_have_a_map_each(tmp_path, trained):
    for c in ("healthy", "sick"):
        (tmp_path / "test" / c).mkdir(parents=True)
        array = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
        for suffix in ("png", "jpg", "bmp"):
            Image.fromarray(array).save(tmp_path / "test" / c / f"k.{suffix}")
    found = api.test(dataset="Folder", dataset_path=tmp_path, save_dir=as_folder_run(trained))
    maps = list((found.folder / "difference_maps").iterdir())
    assert len(maps) == len({row["map"] for row in found.rows}) == 6


def as_folder_run(trained):
    """A copy of the run, of the kind of data that users have."""
    copy = trained.with_name("as a run on pictures")
    if not copy.exists():
        shutil.copytree(trained, copy)
        for path in list(copy.iterdir()):
            path.rename(path.with_name(path.name.replace("synthetic", "folder")))
    return copy


def test_results_do_not_depend_on_the_batch_size(results, trained, synthetic, tmp_path):
    arguments = ["--mode", "test", "--dataset-path", synthetic, "--save-dir", trained]
    arguments += ["--results-dir", tmp_path, "--batch-size", 1, "--visdom", "off"]
    succeed("main.py", *arguments)
    for one in (tmp_path / "difference_maps").iterdir():
        other = np.load(results[0] / "difference_maps" / one.name)
        np.testing.assert_allclose(np.load(one), other, atol=1e-4)


def test_networks_learn_a_handful_of_images(synthetic, tmp_path):
    """A broken loss shows here: identity falls by far, and the classifier learns."""
    arguments = ["--dataset-path", synthetic, "--save-dir", tmp_path, "--epochs", 25]
    arguments += ["--base-filters", 4, "--critic-filters", 4, "--learning-rate", 3e-3]
    succeed(*TRAIN, *arguments, "--validate-every", 25, "--flip", "none", "--seed", 1)
    lines = [json.loads(x) for x in (tmp_path / "metrics_synthetic.jsonl").read_text().splitlines()]
    identity = [line["generator/identity"] for line in lines if "generator/identity" in line]
    assert identity[-1] < 0.5 * identity[0]
    assert np.isfinite([line["critic/total"] for line in lines if "critic/total" in line]).all()


def test_the_moving_average_is_what_is_saved_and_resumed(synthetic, tmp_path):
    common = ["--dataset-path", synthetic, "--visdom", "off", "--average", 0.5]
    common += ["--translation", "deformation", "--penalty-of", "mean"]
    for name, epochs in (("whole", 2), ("stopped", 1)):
        succeed(*TRAIN, *common, "--save-dir", tmp_path / name, "--epochs", epochs)
    arguments = ["--save-dir", tmp_path / "stopped", "--epochs", 2, "--log-every", 1]
    succeed("main.py", "--resume", *arguments, "--visdom", "off")
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")
    state = torch.load(tmp_path / "whole" / "training_synthetic.pt", weights_only=True)
    key = "heads.0.2.weight"
    assert torch.equal(weights(tmp_path / "whole")[key], state["averaged"][key])
    # From zero, half of the first step and then of the second: behind the last weights.
    assert 0 < state["averaged"][key].norm() < state["generator"][key].norm()


@pytest.mark.parametrize(("alone", "said"), [(1, False), (2, True)])
def test_a_training_that_leaves_the_generator_little_says_so(synthetic, tmp_path, alone, said):
    arguments = ["--dataset-path", synthetic, "--save-dir", tmp_path, "--epochs", 1]
    arguments += ["--critic-steps", 1, "--critic-alone", alone, "--visdom", "off"]
    sentence = "which learns in at most 1 of these 3 iterations: pass more --epochs"
    assert (sentence in succeed(*TRAIN, *arguments).stderr) == said


def test_a_recipe_sets_defaults_and_the_command_line_goes_before_them(
    synthetic, tmp_path, monkeypatch
):
    monkeypatch.setattr(data, "BATCHES", 3)
    arguments = ["--dataset-path", synthetic, "--save-dir", tmp_path, "--epochs", 1]
    succeed(
        "main.py", *TINY, *arguments, "--recipe", "deformation", "--beta1", 0.4, "--visdom", "off"
    )
    options = json.loads((tmp_path / "options_synthetic.json").read_text())["options"]
    expected = {
        "recipe": "deformation",
        **RECIPES["deformation"],
        "base_filters": 2,
        "critic_filters": 2,
        "epochs": 1,
        "beta1": 0.4,
        "clip_norm": 10.0,
    }
    assert {name: options[name] for name in expected} == expected
    result = program("main.py", "--resume", *arguments, "--recipe", "paper", "--visdom", "off")
    assert_refused(result, "--recipe", "deformation")


def test_every_value_of_a_recipe_is_an_option():
    for recipe in RECIPES.values():
        assert recipe.keys() <= FIELDS.keys()


def test_linear_decay_ends_at_a_learning_rate_of_almost_nothing(synthetic, tmp_path):
    arguments = ["--dataset-path", synthetic, "--save-dir", tmp_path, "--epochs", 2]
    succeed(*TRAIN, *arguments, "--decay", "linear", "--learning-rate", 1e-3)
    state = torch.load(tmp_path / "training_synthetic.pt", weights_only=True)
    for optimizer in state["optimizers"]:  # six iterations: the last is taken at a sixth
        assert optimizer["param_groups"][0]["lr"] == pytest.approx(1e-3 / 6)


def test_the_best_weights_are_those_of_the_epoch_with_the_highest_choice(
    synthetic, tmp_path, monkeypatch
):
    """Of the choices 0.2, 0.7, 0.5 the second is kept; the untrained network is no candidate."""
    choices = iter([0.9, 0.2, 0.7, 0.5])
    of_maps = dict.fromkeys(reading.NUMBERS, 0.5)
    monkeypatch.setattr(training, "validate", lambda *_: {"choice": next(choices), **of_maps})
    common = ["--dataset-path", synthetic, "--save-dir"]
    succeed(*TRAIN, *common, tmp_path / "run", "--epochs", 3)
    monkeypatch.undo()
    succeed(*TRAIN, *common, tmp_path / "two", "--epochs", 2)
    for name in ("G", "D"):
        best = torch.load(tmp_path / "run" / f"net{name}_synthetic_best.pt", weights_only=True)
        for key, value in weights(tmp_path / "two", name).items():
            assert torch.equal(best[key], value), key


def test_a_test_takes_the_best_weights_where_asked(trained, synthetic, tmp_path):
    common = ["--mode", "test", "--dataset-path", synthetic, "--save-dir", trained]
    for which in ("last", "best"):
        arguments = ["--weights", which, "--results-dir", tmp_path / which, "--visdom", "off"]
        succeed("main.py", *common, *arguments)
    assert_refused(
        program("main.py", *common[:-1], tmp_path, "--weights", "best"), "netG_synthetic_best.pt"
    )


def test_maps_averaged_over_flips_turn_with_the_image(trained, synthetic, tmp_path):
    (tmp_path / "in").mkdir()
    image = np.load(next((synthetic / "test" / "diseased").iterdir()))[0]
    for name, array in {"as it is": image, "left-right": image[:, ::-1]}.items():
        np.save(tmp_path / "in" / f"{name}.npy", array)
    turned = {}
    for option in ("--average-flips", "--no-average-flips"):
        arguments = ["--save-dir", trained, "--input", tmp_path / "in", option]
        succeed("main.py", "--mode", "predict", *arguments, "--results-dir", tmp_path / option)
        maps = [np.load(tmp_path / option / f"{n}.npy.map.npy") for n in ("as it is", "left-right")]
        turned[option] = np.abs(maps[0] - maps[1][:, ::-1]).max() / np.abs(maps[0]).max()
    assert turned["--average-flips"] < 1e-4
    assert turned["--no-average-flips"] > 1e-2


def test_a_test_averages_over_flips_where_the_run_does(synthetic, tmp_path):
    run = ["--dataset-path", synthetic, "--save-dir", tmp_path / "run", "--visdom", "off"]
    succeed(*TRAIN, *run, "--epochs", 1, "--average-flips")
    maps = {}
    for name, options in {
        "run": [],
        "on": ["--average-flips"],
        "off": ["--no-average-flips"],
    }.items():
        succeed("main.py", "--mode", "test", *run, *options, "--results-dir", tmp_path / name)
        path = next((tmp_path / name / "difference_maps").rglob("*diseased*"))
        maps[name] = np.load(path)
    assert np.array_equal(maps["run"], maps["on"])
    assert not np.allclose(maps["run"], maps["off"], atol=1e-4)


def test_a_test_with_no_run_takes_the_weights_of_the_project_and_makes_its_data(
    tmp_path, monkeypatch, trained
):
    """As on a fresh clone, with small weights in place of those that come with it."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, "save_nets/pretrained")
    few = partial(create_synthetic_dataset.write_dataset, counts=(1, 2, 2))
    monkeypatch.setattr(create_synthetic_dataset, "write_dataset", few)
    result = succeed("main.py", "--mode", "test", "--visdom", "off")
    assert "come with the project" in result.stdout
    assert json.loads(Path("warp-set-64/dataset.json").read_text())["image_size"] == 64
    found = json.loads(Path("results/pretrained/test/metrics.json").read_text())
    assert found["weights"] == "save_nets/pretrained"
    assert {p.name for p in Path("save_nets").iterdir()} == {"pretrained"}


@pytest.mark.parametrize("folder", ["pretrained", "pretrained-first"])
def test_the_weights_of_the_project_are_small(folder):
    files = (ROOT / "save_nets" / folder).iterdir()
    assert sum(path.stat().st_size for path in files if path.is_file()) < 11e6


@pytest.mark.parametrize(
    ("disease", "auprc", "left"), [("atrophy", 0.9, 0.2), ("opacity", 0.8, 0.4)]
)
def test_the_weights_of_the_project_find_the_diseases_of_images_never_seen(
    tmp_path, disease, auprc, left
):
    """And make the images healthy, but for ``left`` of the squared difference."""
    folder = ROOT / "save_nets" / "pretrained"
    sizes = ("--image-size", 64, "--train", 1, "--validate", 4, "--test", 12, "--seed", 1234)
    kind = ("--disease", disease)
    succeed("create_synthetic_dataset.py", "--output", tmp_path / "set", *sizes, *kind)
    arguments = ["--dataset-path", tmp_path / "set", "--save-dir", folder, "--visdom", "off"]
    succeed("main.py", "--mode", "test", *arguments, "--results-dir", tmp_path / "results")
    found = json.loads((tmp_path / "results" / "metrics.json").read_text())["metrics"]
    assert found["pixel_auprc"]["value"] > auprc
    assert found["accuracy"]["value"] > 0.9
    assert found["counterpart_mse"]["value"] < left * found["input_mse"]["value"]


def test_a_missing_data_set_names_the_command_that_makes_it(tmp_path):
    result = program("main.py", "--dataset-path", tmp_path / "warp-set", "--visdom", "off")
    assert_refused(
        result,
        f"python create_synthetic_dataset.py --image-size 256 --output {tmp_path / 'warp-set'}",
    )


def test_an_existing_run_is_never_overwritten(trained, synthetic):
    before = {p: p.read_bytes() for p in trained.iterdir() if p.is_file()}
    arguments = ["--dataset-path", synthetic, "--save-dir", trained]
    assert_refused(program(*TRAIN, *arguments), "--resume", "--save-dir")
    assert {p: p.read_bytes() for p in trained.iterdir() if p.is_file()} == before


def test_a_resumed_run_may_be_told_what_its_networks_take_by_themselves(trained):
    resumed = {"resume": "on", "save_dir": trained}
    settled = settle({**resumed, "batches": "shuffled", "critic_alone": 0})
    assert settled.critic_alone is None  # so that a choice goes on as it began
    with pytest.raises(UserError, match="--batches is shuffled in the run"):
        settle({**resumed, "batches": "balanced"})
    with pytest.raises(UserError, match="--healthy-class is not set in the run"):
        settle({**resumed, "healthy_class": "healthy"})


def test_a_resumed_run_keeps_its_options(trained, synthetic):
    arguments = ["--resume", "--dataset-path", synthetic, "--save-dir", trained]
    result = program("main.py", *arguments, "--learning-rate", "0.5", "--visdom", "off")
    assert_refused(result, "--learning-rate")


@pytest.mark.parametrize(("device", "there"), [("cpu", "cpu"), ("cuda", "auto")])
def test_a_resumed_run_keeps_what_may_be_typed_anew_but_not_what_is_of_the_machine(
    trained, tmp_path, device, there
):
    shutil.copytree(trained, run := tmp_path / "run")
    path = run / "options_synthetic.json"
    description = json.loads(path.read_text())
    of_run = {"validate_every": 4, "log_every": 7, "visdom": "off", "visdom_port": 9000}
    description["options"] |= {**of_run, "workers": 999, "device": device}
    path.write_text(json.dumps(description))
    resumed = settle({"save_dir": run, "resume": "on", "log_every": 3})
    kept = {name: getattr(resumed, name) for name in of_run}
    assert kept == {**of_run, "log_every": 3}
    assert (resumed.device, resumed.save_dir) == (there, run)
    assert resumed.workers == FIELDS["workers"].default


@pytest.mark.parametrize(
    ("stored", "taken"), [("localhost", "http://localhost"), ("http://a:80/b", "http://localhost")]
)
def test_the_address_of_a_dashboard_that_earlier_versions_stored_is_read_or_dropped(
    trained, tmp_path, stored, taken
):
    shutil.copytree(trained, run := tmp_path / "run")
    path = run / "options_synthetic.json"
    description = json.loads(path.read_text())
    description["options"]["visdom_server"] = stored
    path.write_text(json.dumps(description))
    assert settle({"save_dir": run, "resume": "on"}).visdom_server == taken


def test_a_run_is_not_resumed_for_fewer_epochs_than_it_has(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "run")
    options = (folder / "options_synthetic.json").read_text()
    arguments = ["--save-dir", folder, "--epochs", 1, "--visdom", "off"]
    assert_refused(program("main.py", "--resume", *arguments), "has 2 epochs behind it", "--epochs")
    assert (folder / "options_synthetic.json").read_text() == options


def test_other_training_images_are_refused_at_resume(trained, tmp_path):
    sizes = ("--image-size", 64, "--train", 5, "--validate", 2, "--test", 2)
    succeed("create_synthetic_dataset.py", "--output", tmp_path / "set", *sizes)
    arguments = ["--resume", "--dataset-path", tmp_path / "set", "--save-dir", trained]
    assert_refused(program("main.py", *arguments, "--visdom", "off"), "--dataset-path")


@pytest.mark.parametrize(
    ("arguments", "mention"),
    [
        (["--mode", "fly"], "--mode"),
        (["--image-size", "100"], "multiples of 64"),
        (["--image-size", "128"], "--image-size 64"),
        (["--recipe", "fast", "--image-size", "72"], "multiples of 64"),
        (["--recipe", "fast", "--translation", "layer", "--image-size", "100"], "multiples of 8"),
        (["--learning-rate", "nan"], "--learning-rate"),
        (["--epochs", "-1"], "--epochs"),
        (["--resume"], "--resume"),
        (["--mode", "test"], "run does not exist: train first"),
        (["--device", "cuda"], "--device"),
        (["--epoch", "3"], "--epoch"),
    ],
)
def test_bad_options_are_one_sentence_and_status_2(synthetic, tmp_path, arguments, mention):
    if arguments == ["--device", "cuda"] and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    common = ["--dataset-path", synthetic, "--save-dir", tmp_path / "run", "--image-size", "64"]
    result = program("main.py", *common, "--visdom", "off", *arguments)
    if arguments == ["--image-size", "128"]:
        mention = "64 x 64"
    assert_refused(result, mention)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("mode", "arguments", "for_modes"),
    [
        ("train", ["--weights", "best"], "test or predict"),
        ("train", ["--threshold", "0.2"], "test or predict"),
        ("test", ["--input", "x.png"], "predict"),
        ("test", ["--learning-rate", "0.1"], "train"),
        ("predict", ["--input", "x.png", "--dataset-path", "x"], "train or test"),
        ("predict", ["--input", "x.png", "--visdom", "on"], "train or test"),
    ],
)
def test_an_option_that_does_nothing_in_a_mode_is_refused(mode, arguments, for_modes):
    result = program("main.py", "--mode", mode, *arguments)
    assert_refused(result, arguments[-2], "does nothing", f"--mode {for_modes}")


@pytest.mark.parametrize(
    "option", [("--generator-norm", "instance"), ("--penalty-of", "mean"), ("--save-memory",)]
)
def test_compact_networks_take_no_option_that_does_nothing_with_them(synthetic, tmp_path, option):
    common = ["--dataset-path", synthetic, "--save-dir", tmp_path / "run", "--visdom", "off"]
    result = program("main.py", "--recipe", "fast", *common, *option)
    assert_refused(result, option[0], "paper's networks", "does nothing")


def test_compact_networks_take_one_step_of_the_critic(synthetic, tmp_path):
    common = ["--dataset-path", synthetic, "--save-dir", tmp_path / "run", "--visdom", "off"]
    layer = ["--recipe", "fast", "--translation", "layer", *common]
    result = program("main.py", *layer, "--critic-steps", 5)
    assert_refused(result, "--critic-steps is for the paper's networks")


def test_one_list_of_options_may_say_of_every_mode_that_there_is_no_dashboard(trained):
    common = {"save_dir": trained, "visdom": "off"}
    assert settle({"mode": "predict", "input": trained, **common}).visdom == "off"


@pytest.mark.parametrize(
    ("option", "said"), [("--maps", "pass that of the maps to --maps"), ("--against", "of a test")]
)
def test_nothing_is_made_for_a_test_of_what_is_not_there(tmp_path, monkeypatch, option, said):
    monkeypatch.chdir(tmp_path)
    kind = "--dataset", "Synthetic", "--visdom", "off"
    result = program("main.py", "--mode", "test", *kind, option, tmp_path / "none")
    assert_refused(result, tmp_path / "none", said)
    assert not list(tmp_path.glob("warp-set*"))


def test_a_training_that_never_saved_is_not_called_one_of_another_kind(tmp_path):
    (tmp_path / "options_folder.json").write_text("{}")
    result = program("main.py", "--resume", "--save-dir", tmp_path, "--visdom", "off")
    assert_refused(result, f"{tmp_path} holds no training to go on with")
    assert "synthetic" not in result.stderr


def test_the_version_can_be_asked_for():
    assert succeed("main.py", "--version").stdout == f"DeScarGAN {__version__}\n"


@pytest.mark.parametrize(
    ("names", "typed", "taken"),
    [
        (("negativ", "positiv"), {}, "negativ"),
        (("healthy", "sick"), {}, None),
        (("clear", "sick"), {"healthy_class": "clear"}, "clear"),
    ],
)
def test_the_healthy_class_of_a_run_is_that_of_another_data_set_where_it_has_one(
    trained, tmp_path, names, typed, taken
):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    path = run / "options_synthetic.json"
    path.write_text(path.read_text().replace('"healthy_class": null', '"healthy_class": "negativ"'))
    for name in names:
        (tmp_path / "set" / "test" / name).mkdir(parents=True)
    options = settle({"mode": "test", "save_dir": run, "dataset_path": tmp_path / "set", **typed})
    assert options.healthy_class == taken


@pytest.mark.parametrize("how", [("--mode", "test"), ("--resume",)])
def test_a_run_of_a_kind_of_map_that_is_gone_is_refused(trained, synthetic, tmp_path, how):
    shutil.copytree(trained, tmp_path / "run")
    path = tmp_path / "run" / "options_synthetic.json"
    path.write_text(path.read_text().replace('"translation": "image"', '"translation": "veil"'))
    result = program("main.py", *how, "--dataset-path", synthetic, "--save-dir", tmp_path / "run")
    assert_refused(result, path, "--translation veil", "train anew", "layer")


def test_a_loss_that_is_not_finite_stops_training_and_keeps_the_checkpoint(synthetic, tmp_path):
    common = ["--dataset-path", synthetic, "--save-dir", tmp_path]
    succeed(*TRAIN, *common, "--epochs", 1)
    state = tmp_path / "training_synthetic.pt"
    before = state.read_bytes()
    saved = torch.load(state, weights_only=True)
    saved["generator"]["up1.0.bias"].fill_(float("inf"))
    write_file(state, saved)
    poisoned = state.read_bytes()
    result = program("main.py", "--resume", *common, "--epochs", 2, "--visdom", "off")
    assert_refused(result, "iteration", "last good checkpoint")
    assert state.read_bytes() == poisoned != before


def test_both_scripts_say_what_they_do():
    for script in ("main.py", "create_synthetic_dataset.py"):
        assert "usage: " in succeed(script, "--help").stdout


def test_what_is_told_of_an_unfinished_training_says_so(trained, synthetic, tmp_path):
    shutil.copytree(trained, run := tmp_path / "run")
    arguments = "--mode", "test", "--dataset-path", synthetic, "--save-dir", run, "--visdom", "off"
    assert "epochs" not in succeed("main.py", *arguments).stderr
    path = run / "options_synthetic.json"
    description = json.loads(path.read_text())
    reached, description["options"]["epochs"] = description["options"]["epochs"], 9
    path.write_text(json.dumps(description))
    said = succeed("main.py", *arguments).stderr
    assert f"has ended {reached} of 9 epochs" in said
    assert f"main.py --resume --save-dir {run}" in said


@pytest.mark.parametrize(("more", "warned"), [((), True), (("--penalty-of", "mean"), False)])
def test_mixed_precision_warns_of_critics_whose_score_maps_are_free(
    synthetic, tmp_path, more, warned
):
    arguments = *TRAIN, "--dataset-path", synthetic, "--save-dir", tmp_path, "--epochs", 1
    said = succeed(*arguments, "--amp", *more).stderr
    assert ("--amp with the paper's critics" in said) == warned


def test_networks_of_the_paper_are_tested_in_their_size_alone(trained, synthetic):
    arguments = "--mode", "test", "--dataset-path", synthetic, "--save-dir", trained
    assert_refused(program("main.py", *arguments, "--image-size", 128), "64 x 64", "--image-size")


def test_a_run_is_trained_by_one_process_at_a_time(trained, synthetic, tmp_path):
    shutil.copytree(trained, run := tmp_path / "run")
    before = {p: p.read_bytes() for p in run.iterdir() if p.is_file()}
    again = "main.py", "--resume", "--save-dir", run, "--epochs", 9, "--visdom", "off"
    with held(run / "training_synthetic.lock"):
        assert_refused(program(*again), str(run), "another process", "--save-dir")
    assert {p: p.read_bytes() for p in run.iterdir() if p.is_file()} == before
    succeed(*again)
    assert not (run / "training_synthetic.lock").exists()
