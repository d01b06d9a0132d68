"""The choice of the kind of map, without outlines."""

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import assert_refused, program, succeed

from descargan import choice, data, training
from descargan.checkpoints import CANDIDATES, Run
from descargan.distributed import Process
from descargan.errors import UserError
from descargan.maps import MAP_KINDS
from descargan.models import build_networks
from descargan.options import RECIPES, Options
from descargan.settings import settle
from descargan.training import TrainingResult


@pytest.fixture
def short(monkeypatch):
    """Epochs of four iterations, one for each candidate."""
    monkeypatch.setattr(data, "BATCHES", 4)
    monkeypatch.setattr(choice, "EPOCHS", dict.fromkeys(CANDIDATES, 1))


def arguments(folder: Path, synthetic: Path) -> list:
    fixed = ["--recipe", "fast", "--image-size", 64, "--batch-size", 4, "--critic-alone", 2]
    fixed += ["--base-filters", 2, "--critic-filters", 2]
    fixed += ["--visdom", "off", "--log-every", 1]
    return ["main.py", *fixed, "--dataset-path", synthetic, "--save-dir", folder]


def losses_at(run: Run) -> list[int]:
    return [line["iteration"] for line in run.read_metrics() if line["kind"] == "losses"]


def reach(monkeypatch, scores: dict[str, float]) -> None:
    """Let candidates reach these choices."""
    monkeypatch.setattr(choice, "worth", lambda result: scores[result.folder.name])


def test_the_better_kind_goes_on_and_is_recorded(short, synthetic, tmp_path, monkeypatch):
    reach(monkeypatch, {"layer": 0.2, "fine-deformation": 0.6})
    printed = succeed(*arguments(tmp_path, synthetic), "--epochs", 2).stdout
    said = "suits these images best (layer 0.200, fine-deformation 0.600)"
    assert f"--translation fine-deformation {said}" in printed
    chosen = json.loads((tmp_path / "choice_synthetic.json").read_text())
    assert chosen == {
        "translation": "fine-deformation",
        "scores": {"layer": 0.2, "fine-deformation": 0.6},
    }
    run = Run(tmp_path, "Synthetic")
    options = run.read_description()["options"]
    assert (options["translation"], options["epochs"]) == ("fine-deformation", 2)
    assert losses_at(run) == list(range(1, 9))
    assert not (tmp_path / "candidates").exists()


def test_a_choice_between_generators_that_have_learnt_nothing_is_warned_of(
    short, synthetic, tmp_path
):
    command = [*arguments(tmp_path, synthetic), "--epochs", 1]
    assert "no generator has learnt anything in 1 epochs" not in succeed(*command).stderr
    result = succeed(*command, "--critic-alone", 8, "--save-dir", tmp_path / "alone")
    assert "no generator has learnt anything in 1 epochs" in result.stderr


@pytest.mark.parametrize(
    ("scores", "named"),
    [
        ({"layer": 0.6, "fine-deformation": 0.2}, ["--translation", "layer"]),
        ({"layer": 0.2, "fine-deformation": 0.6}, ["--recipe", "deformation"]),
    ],
)
def test_the_weights_are_those_of_a_training_that_names_the_kind_or_its_recipe(
    short, synthetic, tmp_path, monkeypatch, scores, named
):
    reach(monkeypatch, scores)
    succeed(*arguments(tmp_path / "auto", synthetic), "--epochs", 2)
    succeed(*arguments(tmp_path / "named", synthetic), *named, "--epochs", 2)
    chosen, expected = (
        torch.load(tmp_path / name / "netG_synthetic.pt") for name in ("auto", "named")
    )
    assert all(torch.equal(chosen[key], value) for key, value in expected.items())


def test_a_training_that_stopped_during_the_choice_goes_on_with_it(
    short, synthetic, tmp_path, monkeypatch
):
    reach(monkeypatch, {"layer": 0.2, "fine-deformation": 0.6})
    trained = choice.train

    def stop_at_the_second(options, *others):
        if options.translation == "fine-deformation":
            return TrainingResult(options.save_dir, 3, [], stopped_by=15)
        return trained(options, *others)

    monkeypatch.setattr(choice, "train", stop_at_the_second)
    result = program(*arguments(tmp_path, synthetic), "--epochs", 2)
    assert result.returncode == 128 + 15
    assert f"main.py --resume --save-dir {tmp_path}" in result.stdout
    assert_refused(program(*arguments(tmp_path, synthetic)), "--resume")
    tested = program("main.py", "--mode", "test", "--save-dir", tmp_path)
    assert_refused(tested, "while it tried kinds of change", f"--resume --save-dir {tmp_path}")
    monkeypatch.setattr(choice, "train", trained)
    succeed("main.py", "--resume", "--save-dir", tmp_path, "--visdom", "off")
    assert losses_at(Run(tmp_path, "Synthetic")) == list(range(1, 9))


def test_a_signal_in_the_last_validation_of_a_candidate_ends_the_program(
    short, synthetic, tmp_path, monkeypatch
):
    validate, seen = training.validate, []

    def validate_and_stop(*given: object) -> dict:
        seen.append(given)
        if len(seen) == 2:  # the first is that of the untrained networks
            signal.raise_signal(signal.SIGTERM)
        return validate(*given)

    monkeypatch.setattr(training, "validate", validate_and_stop)
    result = program(*arguments(tmp_path, synthetic), "--epochs", 2)
    assert result.returncode == 128 + signal.SIGTERM
    assert "stopped and saved at iteration 4" in result.stdout
    assert len(seen) == 2
    assert [run.folder.name for run in Run(tmp_path, "Synthetic").candidates()] == ["layer"]


def test_candidates_are_validated_at_their_end_and_hand_down_the_typed_distance(
    short, synthetic, tmp_path, monkeypatch
):
    trained = choice.train

    def train_and_stop(*given: object) -> TrainingResult:
        return replace(trained(*given), stopped_by=signal.SIGTERM)

    monkeypatch.setattr(choice, "train", train_and_stop)
    program(*arguments(tmp_path, synthetic), "--epochs", 6, "--validate-every", 3)
    candidate = Run(tmp_path, "Synthetic").candidate("layer")
    validations = [x for x in candidate.read_metrics() if x["kind"] == "validation"]
    assert [line["epoch"] for line in validations] == [0, 1]
    assert settle({"save_dir": tmp_path, "resume": "on"}).validate_every == 3


@pytest.mark.parametrize(("dies", "begun"), [("copy2", False), ("rmtree", True)])
def test_a_training_that_died_while_it_took_over_a_candidate_goes_on(
    short, synthetic, tmp_path, monkeypatch, dies, begun
):
    """At the first copy of a file, or with all files in place and the candidates still there."""
    reach(monkeypatch, {"layer": 0.6, "fine-deformation": 0.2})
    run = Run(tmp_path, "Synthetic")

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, dies, die)
        assert program(*arguments(tmp_path, synthetic), "--epochs", 2).returncode == 130
    assert run.is_resumable() == begun
    assert run.candidates()
    succeed("main.py", "--resume", "--save-dir", tmp_path, "--visdom", "off", "--log-every", 1)
    assert losses_at(run) == list(range(1, 9))
    assert run.read_description()["options"]["translation"] == "layer"
    assert not (tmp_path / "candidates").exists()


def test_a_resumed_training_keeps_to_what_was_chosen(short, synthetic, tmp_path, monkeypatch):
    reach(monkeypatch, {"layer": 0.6, "fine-deformation": 0.2})
    succeed(*arguments(tmp_path, synthetic), "--epochs", 1)
    again = [*arguments(tmp_path, synthetic), "--translation", "auto", "--resume"]
    printed = succeed(*again, "--epochs", 2).stdout
    assert "What does the disease do?" not in printed
    assert Run(tmp_path, "Synthetic").read_description()["options"]["translation"] == "layer"


def test_the_same_command_goes_on_with_what_was_chosen(short, synthetic, tmp_path, monkeypatch):
    """Though it names a value of the fast recipe, in whose place the chosen one has another."""
    reach(monkeypatch, {"layer": 0.2, "fine-deformation": 0.6})
    again = [*arguments(tmp_path, synthetic), "--critic-class", 1.0, "--resume", "auto"]
    succeed(*again, "--epochs", 1)
    options = Run(tmp_path, "Synthetic").read_description()["options"]
    assert options["critic_class"] == RECIPES["deformation"]["critic_class"]
    succeed(*again, "--epochs", 2)
    assert losses_at(Run(tmp_path, "Synthetic"))[-1] == 8
    assert_refused(program(*again, "--critic-class", 2.0), "--critic-class")


def test_the_same_command_goes_on_with_a_layer_though_it_says_steps_of_the_other_critic(
    short, synthetic, tmp_path, monkeypatch
):
    reach(monkeypatch, {"layer": 0.6, "fine-deformation": 0.2})
    succeed(*arguments(tmp_path, synthetic), "--critic-steps", 2, "--epochs", 1)
    again = {"recipe": "fast", "critic_steps": 2, "save_dir": tmp_path, "resume": "auto"}
    assert settle(again).translation == "layer"


def test_epochs_typed_of_a_chosen_run_count_though_they_are_those_of_the_fast_recipe(
    short, synthetic, tmp_path, monkeypatch
):
    reach(monkeypatch, {"layer": 0.2, "fine-deformation": 0.6})
    succeed(*arguments(tmp_path, synthetic), "--epochs", 1)
    resumed = {"resume": "on", "save_dir": tmp_path, "epochs": RECIPES["fast"]["epochs"]}
    path = Run(tmp_path, "Synthetic").options
    path.write_text(path.read_text().replace('"epochs": 1,', '"epochs": 11,'))
    assert settle(resumed).epochs == 15
    assert settle({**resumed, "recipe": "fast"}).epochs == 11  # as of the same command


def test_a_chosen_run_refuses_a_default_that_it_was_not_trained_with(
    short, synthetic, tmp_path, monkeypatch
):
    reach(monkeypatch, {"layer": 0.2, "fine-deformation": 0.6})
    succeed(*arguments(tmp_path, synthetic), "--seed", 3, "--epochs", 1)
    resumed = ["main.py", "--resume", "--save-dir", tmp_path, "--visdom", "off"]
    assert_refused(program(*resumed, "--seed", 0), "--seed is 3")
    assert_refused(program(*resumed, "--base-filters", 64), "--base-filters is 2")


def validations(*pairs: tuple[float | None, float]) -> TrainingResult:
    history = [{"kind": "validation", "choice": c, "auroc_anomaly": a} for c, a in pairs]
    return TrainingResult(Path(), 8, [*history, {"kind": "losses", "critic/total": 1.0}])


def test_a_candidate_is_worth_its_last_validation_and_what_its_maps_tell():
    assert choice.worth(validations((0.1, 1.0), (0.8, 0.9), (None, 0.5))) == pytest.approx(0.64)
    assert choice.worth(validations((0.8, 0.3))) == 0  # healthy images are changed more
    assert choice.worth(validations((-0.4, 1.0))) == choice.worth(validations((-0.4, 0.5))) == -0.4
    assert choice.worth(validations()) == -1


def test_all_processes_take_what_the_first_one_sees():
    scores = {"layer": 0.2, "fine-deformation": 0.6}
    assert CANDIDATES[choice.best_place(scores, Process())] == "fine-deformation"
    assert choice.best_place(scores, Process(rank=1, world=2)) == 0


def test_what_moves_is_trained_by_its_recipe_but_for_what_was_typed():
    fast = settle({"recipe": "fast", "seed": 3, "batch_size": 8, "amp": True})
    moving = choice.with_recipe(fast, "fine-deformation")
    expected = {**RECIPES["deformation"], "networks": "paper", "augment": False}
    assert {name: getattr(moving, name) for name in expected} == expected
    assert (moving.seed, moving.batch_size, moving.amp) == (3, 8, True)
    assert choice.with_recipe(fast, "layer") == replace(fast, translation="layer")


def test_candidates_are_kinds_of_map_with_a_short_training():
    assert tuple(choice.EPOCHS) == CANDIDATES
    assert MAP_KINDS.keys() > choice.EPOCHS.keys()


def test_the_papers_networks_have_no_candidates(synthetic, tmp_path):
    result = program(*arguments(tmp_path, synthetic), "--networks", "paper")
    assert_refused(result, "--translation auto", "--recipe fast")


def test_a_kind_is_chosen_for_the_fast_recipe_alone(synthetic, tmp_path):
    named = [*arguments(tmp_path, synthetic), "--recipe", "deformation", "--networks", "compact"]
    assert_refused(program(*named, "--translation", "auto"), "--recipe fast")


def test_networks_are_built_of_a_kind_alone():
    with pytest.raises(UserError, match="name a kind"):
        build_networks(Options(networks="compact", translation="auto"))
