"""Networks that come after others: what they learn, and whose translation an image gets."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, assert_refused, program, succeed
from torch import nn

import descargan
from descargan import DISEASED, HEALTHY, choice, data
from descargan.checkpoints import CANDIDATES, Run
from descargan.compact import Verdict
from descargan.data import ImageDataset
from descargan.errors import UserError
from descargan.files import write_json
from descargan.settings import settle
from descargan.training import describe_run
from descargan.translations import Translations, join
from descargan.translator import Translator

SIZES = ["--image-size", "64", "--batch-size", "4", "--visdom", "off", "--critic-alone", "0"]


def dark(translator: Translator, images: torch.Tensor) -> torch.Tensor:
    """Stands for a discriminator, by which some diseased images of each split are made healthy."""
    return -0.282 - images.mean(dim=(1, 2, 3))


def extreme(translator: Translator, images: torch.Tensor) -> torch.Tensor:
    """Another, that likes bright images brighter and dark ones darker."""
    brightness = images.mean(dim=(1, 2, 3))
    return torch.where(brightness > -0.24, 1 - brightness, 1 + brightness)


@pytest.fixture(scope="module")
def few_batches():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "BATCHES", 2)
        yield


@pytest.fixture(scope="module")
def first(few_batches, synthetic, tmp_path_factory):
    """A run of compact networks, one epoch of two iterations."""
    folder = tmp_path_factory.mktemp("succession") / "first"
    recipe = ["--recipe", "fast", "--translation", "layer", "--epochs", 1]
    succeed("main.py", *recipe, *SIZES, "--dataset-path", synthetic, "--save-dir", folder)
    return folder


@pytest.fixture(scope="module")
def second(few_batches, first, synthetic, tmp_path_factory):
    """The folder of a run that comes after it, and what its training printed."""
    folder = tmp_path_factory.mktemp("succession") / "second"
    recipe = ["--recipe", "deformation", "--base-filters", 2, "--critic-filters", 2]
    common = ["--epochs", 1, "--dataset-path", synthetic, "--save-dir", folder, "--after", first]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Translator, "suspicion", dark)
        printed = succeed("main.py", *recipe, *SIZES, *common).stdout
    return folder, printed


def translations(value: float, flow: bool) -> Translations:
    """Those of two images, of one value everywhere."""
    images, numbers = torch.full((2, 1, 4, 4), value), torch.full((2,), value)
    flows = torch.full((2, 2, 4, 4), value) if flow else None
    return Translations(torch.zeros(2, 1, 4, 4), images, images, numbers, flows, images, numbers)


def test_each_image_has_the_translation_that_is_kept_of_it():
    kept = torch.tensor([True, False])
    joined = join(translations(1.0, False), translations(2.0, True), kept, unit=1.0)
    for column in (joined.healthy, joined.difference, joined.score_map):
        assert column[:, 0, 0, 0].tolist() == [1, 2]
    assert joined.score.tolist() == [1, 2]


def test_the_probability_is_that_of_the_networks_that_know_all_images():
    kept = torch.tensor([True, False])
    joined = join(translations(1.0, False), translations(2.0, False), kept, unit=1.0)
    assert joined.probability.tolist() == [1, 1]
    assert joined.flow is None


@pytest.mark.parametrize("moving", ["first", "second"])
def test_what_moves_nothing_has_a_flow_of_zero_beside_what_moves(moving):
    both = [translations(1.0, moving == "first"), translations(2.0, moving == "second")]
    joined = join(*both, torch.tensor([True, False]), unit=1.0)
    expected = [1, 0] if moving == "first" else [0, 2]
    assert joined.flow[:, 0, 0, 0].tolist() == expected


def test_score_maps_of_the_second_are_brought_to_the_unit_of_the_first():
    kept = torch.tensor([True, False])
    joined = join(translations(1.0, False), translations(2.0, False), kept, unit=4.0)
    assert joined.score_map[:, 0, 0, 0].tolist() == [1, 8]
    assert joined.difference[:, 0, 0, 0].tolist() == [1, 2]


FILLED = {"diffusion": 0.04, "cover": 0.0, "in_unit": False}
COVERS = {"diffusion": 0.03, "cover": 1.5, "in_unit": True}


@pytest.mark.parametrize(
    ("theirs", "ours", "unit", "threshold"),
    [
        ({"threshold": 0.1, "level": 0.2, **FILLED}, {"threshold": 0.1, "level": 0.8}, 0.25, 0.1),
        ({"threshold": 0.1, "level": 0.2, **FILLED}, {"threshold": 0.8, "level": 0.8}, 0.25, 0.2),
        ({"threshold": 0.1, "level": 0.2, **COVERS}, {"threshold": 0.3, "level": 0.8}, 1.0, 0.3),
        ({"threshold": 0.1, **FILLED}, {"threshold": 0.3, "level": 0.8}, 1.0, 0.3),
        ({}, {"threshold": 0.3, "level": 0.8}, 1.0, 0.3),
    ],
)
def test_score_maps_of_both_are_alike_by_what_they_show_of_diseased_images(
    second, first, tmp_path, theirs, ours, unit, threshold
):
    """Where not both are in the unit of images, as filled maps are not.

    What is over the threshold of both runs is found, or over the one that is typed.
    """
    folders = [shutil.copytree(run, tmp_path / run.name) for run in (first, second[0])]
    certain = {"auroc_anomaly": 0.9, "auroc_anomaly_low": 0.8, "auroc_anomaly_high": 1.0}
    for folder, numbers in zip(folders, (theirs, ours), strict=True):
        stored = {"last": certain | numbers} if numbers else {}
        (folder / "reading_synthetic.json").write_text(json.dumps(stored))
    how = {"mode": "test", "save_dir": folders[1], "after": folders[0]}
    net = Translator.of(settle(how))
    assert net.unit == pytest.approx(unit)
    assert net.reading.threshold == pytest.approx(threshold)
    assert Translator.of(settle({**how, "threshold": 0.7})).reading.threshold == 0.7


def test_what_looks_diseased_or_drawn_is_suspected(first):
    """Both logits count, by the mean of the exits; the other critic is not asked."""
    net = descargan.load(first)
    disease, fakeness = torch.zeros(3, 4), torch.full((3, 4, 2), 9.0)
    disease[:] = torch.tensor([-3.0, 2.0, -1.0, 1.0])
    fakeness[..., HEALTHY] = torch.tensor([[-2.0, -1, 5, -2], [-2, 1, 2, 0], [-2, 0, -1, -4]])

    class Sure(nn.Module):
        def forward(self, images):
            return Verdict(disease, fakeness)

    net.discriminator = Sure()
    torch.testing.assert_close(
        net.suspicion(torch.zeros(4, 1, 64, 64)), torch.tensor([-5.0, 2.0, 1.0, -1.0])
    )


def test_only_the_diseased_images_that_are_left_are_learnt(second, first, synthetic):
    _, printed = second
    net = descargan.load(first)
    for split in ("train", "validate"):
        dataset = ImageDataset("Synthetic", synthetic, split, 64)
        images, _, classes = dataset.__getitems__(range(len(dataset)))
        ill = classes == DISEASED
        left = int(((dark(net, net.translate(images).healthy) > 0) & ill).sum())
        assert 0 < left < ill.sum()
        assert f"{left} of {ill.sum()} diseased images of '{split}' are left" in printed


def test_the_kind_of_change_is_chosen_for_what_is_left(
    few_batches, first, synthetic, tmp_path, monkeypatch
):
    monkeypatch.setattr(Translator, "suspicion", dark)
    monkeypatch.setattr(choice, "EPOCHS", dict.fromkeys(CANDIDATES, 1))
    scores = {"layer": 0.2, "fine-deformation": 0.6}
    monkeypatch.setattr(choice, "worth", lambda result: scores[result.folder.name])
    common = ["--dataset-path", synthetic, "--save-dir", tmp_path, "--after", first]
    tiny = ["--base-filters", 2, "--critic-filters", 2, "--epochs", 2]
    printed = succeed("main.py", "--recipe", "fast", *SIZES, *tiny, *common).stdout
    assert "--translation fine-deformation suits these images best" in printed
    assert printed.count("diseased images of 'train' are left") == 3  # two candidates, then one
    assert descargan.load(tmp_path).first is not None


def test_a_part_of_a_split_has_the_images_masks_and_names_of_the_whole(synthetic):
    dataset = ImageDataset("Synthetic", synthetic, "validate", 64)
    dataset.masks = {0: "a", 5: "b"}
    part = dataset.only(torch.tensor([1, 5, 6]))
    assert len(part) == 3
    assert part.masks == {1: "b"}
    assert [part.name(i) for i in range(3)] == [dataset.name(i) for i in (1, 5, 6)]
    columns = zip(part.__getitems__([0, 1, 2]), dataset.__getitems__([1, 5, 6]), strict=True)
    for ours, whole in columns:
        assert torch.equal(ours, whole)
    assert part.fingerprint() != dataset.fingerprint()


def test_a_test_gives_each_image_the_map_of_the_networks_that_suit_it(
    second, first, synthetic, tmp_path, monkeypatch
):
    monkeypatch.setattr(Translator, "suspicion", extreme)
    results = tmp_path / "results"
    common = ["--mode", "test", "--dataset-path", synthetic, "--visdom", "off"]
    succeed("main.py", *common, "--save-dir", second[0], "--results-dir", results)
    said = json.loads((results / "metrics.json").read_text())
    assert said["after"] == str(first)
    ours, theirs = descargan.load(second[0]), descargan.load(first)
    assert said["reading_of_first"] == theirs.reading.about
    assert said["diffusion_of_score_map"] == ours.reading.diffusion
    ours.first = None
    dataset, seen = ImageDataset("Synthetic", synthetic, "test", 64), set()
    for index in range(len(dataset)):
        both = [net.translate(dataset[index][0][None]) for net in (theirs, ours)]
        doubts = [float(extreme(theirs, x.healthy)) for x in both]
        stays = doubts[0] < 0 and both[0].probability <= 0.5
        ours_taken = doubts[0] > doubts[1] and not stays
        expected = both[ours_taken].difference[0, 0].numpy()
        label, name = dataset.paths[index].parent.name, dataset.paths[index].name
        written = np.load(next(results.rglob(f"difference_maps/*{label}*{name}")))
        np.testing.assert_allclose(written, expected, atol=1e-5)
        seen.add(ours_taken)
    assert seen == {True, False}


@pytest.mark.parametrize(
    ("probability", "doubts", "moved"),
    [
        (0.9, (1.0, 2.0), False),
        (0.9, (2.0, 1.0), True),
        (0.9, (-1.0, -2.0), True),
        (0.2, (-1.0, -2.0), False),
        (0.2, (2.0, 1.0), True),
    ],
)
def test_an_image_is_translated_by_the_networks_that_are_less_doubted(
    second, monkeypatch, probability, doubts, moved
):
    """But by the first where it is taken for healthy before and after; ``doubts``: of both."""
    net, image = descargan.load(second[0]), np.random.default_rng(0).random((64, 64))
    said = iter(doubts)
    monkeypatch.setattr(Translator, "classify", lambda *_: torch.tensor([probability]))
    monkeypatch.setattr(Translator, "suspicion", lambda *_: torch.tensor([next(said)]))
    found, alone = net(image), net.first(image)
    assert found.flow.any() == moved
    assert found.probability == alone.probability
    assert found.unlike_training == alone.unlike_training


def test_a_resumed_run_learns_the_same_images(second, tmp_path, monkeypatch):
    monkeypatch.setattr(Translator, "suspicion", dark)
    monkeypatch.setattr(data, "BATCHES", 2)
    folder = shutil.copytree(second[0], tmp_path / "run")
    printed = succeed(
        "main.py", "--resume", "--epochs", 2, "--save-dir", folder, "--visdom", "off"
    ).stdout
    assert "diseased images of 'train' are left" in printed


def test_a_run_does_not_go_on_with_what_other_networks_leave(second, first, tmp_path, monkeypatch):
    monkeypatch.setattr(Translator, "suspicion", lambda self, x: x[:, 0, 0, 0] + 9)
    folder = shutil.copytree(second[0], tmp_path / "run")
    result = program("main.py", "--resume", "--save-dir", folder, "--visdom", "off")
    assert_refused(result, f"other images than --after {first} leaves now")


def test_first_networks_that_have_moved_are_named_anew(second, first, synthetic, tmp_path):
    folder = shutil.copytree(second[0], tmp_path / "second")
    options = folder / "options_synthetic.json"
    options.write_text(options.read_text().replace(str(first), str(tmp_path / "gone")))
    common = ["--mode", "test", "--dataset-path", synthetic, "--visdom", "off"]
    common += ["--save-dir", folder, "--results-dir", tmp_path / "results"]
    assert_refused(program("main.py", *common), f"--after {tmp_path / 'gone'} holds no networks")
    succeed("main.py", *common, "--after", first)
    with pytest.raises(UserError, match="holds no networks"):
        descargan.load(folder)
    assert descargan.load(folder, after=first).first is not None


@pytest.mark.parametrize("typed", [{}, {"average_flips": False}])
def test_both_networks_average_flips_or_neither_where_that_is_typed(second, typed):
    options = settle({"mode": "test", "save_dir": second[0], **typed})
    translator = Translator.of(options)
    once = [len(x.flips) == 1 for x in (translator, translator.first)]
    assert once == [bool(typed)] * 2


@pytest.mark.parametrize(("healthy", "said"), [(2, True), (3, False)])
def test_a_run_says_how_many_images_it_leaves_where_they_are_many(
    few_batches, synthetic, tmp_path, monkeypatch, healthy, said
):
    suspicions = torch.tensor([-1.0] * healthy + [1.0] * (4 - healthy))
    monkeypatch.setattr(Translator, "suspicion", lambda self, x: suspicions[: len(x)])
    recipe = ["--recipe", "fast", "--translation", "layer", "--epochs", 1]
    common = ["--dataset-path", synthetic, "--save-dir", tmp_path]
    printed = succeed("main.py", *recipe, *SIZES, *common).stdout
    assert ("2 of 4 diseased validation images are not made healthy" in printed) == said
    assert (f"--after {tmp_path}" in printed) == said


def test_the_folder_of_the_first_networks_is_known_from_elsewhere(second, first, monkeypatch):
    """It is stored from the root, however it was typed."""
    monkeypatch.chdir(first.parent)
    settled = settle({"after": Path(first.name), "save_dir": Path("new")})
    assert settled.after == first
    assert descargan.load(second[0]).first is not None


def test_two_runs_in_one_folder_can_be_moved_together(second, first, tmp_path, monkeypatch):
    """The second names the first as seen from its own folder, wherever that was typed."""
    runs = tmp_path / "runs"
    shutil.copytree(first, runs / "one")
    shutil.copytree(second[0], runs / "two")
    monkeypatch.chdir(runs)
    options = settle({"mode": "test", "save_dir": Path("two"), "after": Path("one")})
    write_json(Run(options.save_dir, "Synthetic").options, describe_run(options, "images"))
    moved = runs.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    assert settle({"mode": "test", "save_dir": moved / "two"}).after == (moved / "one").resolve()
    assert descargan.load("moved/two").first is not None


def test_a_resumed_run_takes_first_networks_that_have_moved(second, first, tmp_path, monkeypatch):
    monkeypatch.setattr(Translator, "suspicion", dark)
    folder = shutil.copytree(second[0], tmp_path / "second")
    moved = shutil.copytree(first, tmp_path / "moved")
    common = ["--resume", "--save-dir", folder, "--visdom", "off"]
    succeed("main.py", *common, "--after", moved)
    assert descargan.load(folder).first is not None
    assert settle({"mode": "test", "save_dir": folder}).after == moved.resolve()


def test_first_networks_that_have_changed_are_said(second, first, tmp_path, capsys):
    descargan.load(second[0])
    assert "have changed" not in capsys.readouterr().err
    folder = shutil.copytree(second[0], tmp_path / "second")
    moved = shutil.copytree(first, tmp_path / "moved")
    path = moved / "netG_synthetic.pt"
    weights = torch.load(path, weights_only=True)
    torch.save({name: 2 * value for name, value in weights.items()}, path)
    path.with_name(f"{path.name}.sha256").unlink()
    options = folder / "options_synthetic.json"
    options.write_text(options.read_text().replace(str(first), str(moved)))
    descargan.load(folder)
    assert f"the networks of --after {moved} have changed" in capsys.readouterr().err


def test_networks_that_come_after_others_cannot_come_first(first, tmp_path):
    """Nor a run before itself."""
    folder = shutil.copytree(first, tmp_path / "run")
    options = json.loads((folder / "options_synthetic.json").read_text())
    options["options"]["after"] = str(folder)
    (folder / "options_synthetic.json").write_text(json.dumps(options))
    with pytest.raises(UserError, match="does not come first"):
        descargan.load(folder)


def test_networks_that_were_trained_alone_are_tested_alone(first, synthetic):
    common = ["--mode", "test", "--dataset-path", synthetic, "--visdom", "off"]
    result = program("main.py", *common, "--save-dir", first, "--after", first)
    assert_refused(result, "was not trained to come after another")


def test_the_papers_networks_cannot_come_first(trained, synthetic, tmp_path):
    common = [*TINY, "--dataset-path", synthetic, "--save-dir", tmp_path, "--visdom", "off"]
    result = program("main.py", *common, "--after", trained)
    assert_refused(result, f"--after {trained}", "name a run of compact ones")


@pytest.mark.parametrize(
    ("option", "theirs", "ours"),
    [("--image-size", "64", "128"), ("--scaling", "percentile", "minmax")],
)
def test_both_networks_are_for_images_alike(first, synthetic, tmp_path, option, theirs, ours):
    shutil.copytree(first, other := tmp_path / "other")
    path = other / "options_synthetic.json"
    path.write_text(path.read_text().replace('"scaling": "minmax"', '"scaling": "percentile"'))
    common = ["--dataset-path", synthetic, "--save-dir", tmp_path / "run", "--visdom", "off"]
    size = 128 if option == "--image-size" else 64
    result = program("main.py", *common, "--image-size", size, "--after", other)
    assert_refused(result, f"--after {other}", f"{option} {theirs}, not {ours}")


def test_where_nothing_is_left_to_learn_that_is_said(first, synthetic, tmp_path, monkeypatch):
    monkeypatch.setattr(Translator, "suspicion", lambda self, x: x[:, 0, 0, 0] - 9)
    common = ["--dataset-path", synthetic, "--save-dir", tmp_path, "--after", first]
    result = program("main.py", *TINY, *common, "--visdom", "off")
    assert_refused(result, f"--after {first}", "nothing is left to learn")
