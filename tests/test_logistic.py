"""The recommended recipe: its step, its batches, its runs, and the sign that it reads maps by."""

import json

import numpy as np
import pytest
import torch
from conftest import assert_refused, program, succeed

from descargan import data, logistic, reading
from descargan.data import ImageDataset, balanced_batches
from descargan.evaluation import reading_of_disease
from descargan.logistic import logistic_step
from descargan.models import build_networks
from descargan.options import RECIPES, Options, by_networks
from descargan.reading import Reading
from descargan.steps import Batch, TrainingState
from descargan.translator import Translator


@pytest.fixture
def short(monkeypatch):
    """Epochs of four iterations."""
    monkeypatch.setattr(data, "BATCHES", 4)


def state_of(**settings) -> tuple[TrainingState, Options]:
    """Those of the recipe, but that the critic is alone for two iterations, not for hundreds."""
    changed = {"translation": "layer", "image_size": 64, "critic_alone": 2, **settings}
    options = Options(**{**RECIPES["fast"], **changed})
    state = TrainingState(*build_networks(options), options, torch.device("cpu"))
    return state, options


def batch_of(number: int = 4) -> Batch:
    images = torch.nn.functional.avg_pool2d(torch.rand(number, 1, 68, 68) * 6 - 3, 5, stride=1)
    classes = torch.arange(number) % 2
    return Batch(images, classes, torch.zeros_like(images), classes)


def weights(network: torch.nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in network.parameters()]


def changed(before: list[torch.Tensor], network: torch.nn.Module) -> bool:
    return any(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_the_critic_learns_alone_first():
    state, options = state_of()
    generator, critic = state.generator.network, state.discriminator.network
    for iteration, moved in ((1, False), (2, False), (3, True)):
        before, of_critic = weights(generator), weights(critic)
        state.iteration = iteration
        terms = logistic_step(state, batch_of(), options)
        assert changed(before, generator) == moved
        assert changed(of_critic, critic)
        assert ("generator/total" in terms) == ("critic/adversarial" in terms) == moved


def test_alone_the_critic_learns_the_classes():
    """By a bright spot in diseased images: it gives them the higher logits at all exits."""
    state, options = state_of()
    batch, critic = batch_of(8), state.discriminator.network
    diseased = batch.classes == 1
    batch.real[diseased, :, 24:40, 24:40] = 1.0
    for _ in range(25):
        state.iteration = 1
        logistic_step(state, batch, options)
    critic.eval()
    disease = critic(batch.real).disease
    assert (disease[:, diseased].mean(dim=1) > disease[:, ~diseased].mean(dim=1) + 0.5).all()


def test_terms_are_those_of_a_plain_computation():
    """With dropout off, against the formulas, image by image."""
    state, options = state_of(translation="layer", critic_penalty=0.0)
    batch = batch_of()
    generator, critic = state.generator.network, state.discriminator.network
    for module in critic.modules():
        if isinstance(module, torch.nn.Dropout2d):
            module.p = 0.0
    torch.nn.init.normal_(generator.head.weight, std=0.1)
    with torch.no_grad():
        own, fakes = (
            torch.cat([generator(x[None], int(c)) for x, c in zip(batch.images, into, strict=True)])
            for into in (batch.classes, 1 - batch.classes)
        )
        real, fake = critic(batch.images), critic(fakes)
    softplus = torch.nn.functional.softplus
    adversarial = classification = 0.0
    for i, c in enumerate(batch.classes.tolist()):
        for exit_ in range(3):
            adversarial += softplus(real.fakeness[exit_, i, c]) / 12
            adversarial += softplus(-fake.fakeness[exit_, i, 1 - c]) / 12
            classification += softplus((1 - 2 * c) * real.disease[exit_, i]) / 12
    state.iteration = 3
    terms = logistic_step(state, batch, options)
    torch.testing.assert_close(terms["critic/adversarial"], adversarial, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(terms["critic/classification"], classification, atol=1e-4, rtol=1e-4)
    change, identity = ((x - batch.images).abs().mean() for x in (fakes, own))
    torch.testing.assert_close(terms["generator/change"], change, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(terms["generator/identity"], identity, atol=1e-4, rtol=1e-4)


def test_there_and_back_counts_where_it_has_a_weight():
    state, options = state_of(generator_reconstruction=10.0)
    state.iteration = 3
    assert logistic_step(state, batch_of(), options)["generator/reconstruction"] > 0


def test_the_penalty_is_taken_now_and_then_where_tissue_is_moved():
    for translation, iterations in (("combined", [8]), ("layer", [])):
        state, options = state_of(critic_penalty=0.5, translation=translation)
        for iteration in (7, 8, 9):
            state.iteration = iteration
            terms = logistic_step(state, batch_of(), options)
            assert ("critic/gradient penalty" in terms) == (iteration in iterations)


def test_the_total_of_the_critic_is_the_sum_of_what_it_minimises():
    """Critics that take all for fakes: the penalty counts in full, for eight iterations."""
    state, options = state_of(critic_penalty=0.5, translation="combined")
    with torch.no_grad():
        for exit_ in state.discriminator.network.exits:
            exit_.bias[1:] = -9.0
    state.iteration = 8
    terms = logistic_step(state, batch_of(), options)
    rest = terms["critic/classification"] + terms["critic/adversarial"]
    penalty = 0.5 * 8 * terms["critic/gradient penalty"]
    assert penalty > 1e-3 * rest
    torch.testing.assert_close(terms["critic/total"], rest + penalty)


def test_critics_count_for_less_where_nothing_moves():
    for translation, share in (("combined", 1.0), ("layer", logistic.STILL)):
        state, options = state_of(translation=translation)
        state.iteration = 3
        terms = logistic_step(state, batch_of(), options)
        weights = {"classification": 1.0, "change": 10.0, "identity": 20.0, "adversarial": share}
        expected = sum(weight * terms[f"generator/{name}"] for name, weight in weights.items())
        torch.testing.assert_close(terms["generator/total"], expected)


@pytest.mark.parametrize(("sureness", "counts"), [(0.0, False), (1.0, True)])
def test_the_penalty_counts_where_the_critic_is_sure(sureness, counts):
    state, options = state_of(critic_penalty=0.5)
    critic = state.discriminator.network
    logistic.penalise(state, batch_of(), torch.tensor(sureness), options)
    gradients = [p.grad for p in critic.parameters() if p.grad is not None]
    assert any(g.any() for g in gradients) == counts


def test_batches_hold_as_many_of_either_class_whatever_their_shares():
    classes = torch.tensor([0] * 3 + [1] * 50)
    batches = balanced_batches(classes, 6, seed=0, epoch=0)
    assert len(batches) == data.BATCHES
    assert all(classes[batch].tolist() == [1, 0] * 3 for batch in batches)
    assert set(torch.cat(batches).tolist()) == set(range(53))
    odd = balanced_batches(classes, 5, seed=0, epoch=0)
    assert classes[odd[0]].tolist() == [1, 0, 1, 0, 1]


@pytest.mark.parametrize("size", [1, 3])
def test_batches_of_odd_sizes_begin_with_either_class_in_turn(size):
    classes = torch.tensor([0] * 3 + [1] * 50)
    batches = balanced_batches(classes, size, seed=0, epoch=0)
    assert [classes[batch[0]].item() for batch in batches[:4]] == [1, 0, 1, 0]
    assert torch.bincount(classes[torch.cat(batches)]).tolist() == 2 * [data.BATCHES * size // 2]


def test_batches_of_even_sizes_are_those_that_runs_have_had():
    batches = balanced_batches(torch.arange(20) % 2, 4, seed=1, epoch=2)
    assert batches[0].tolist() == [1, 6, 5, 6]
    assert batches[-1].tolist() == [13, 12, 5, 6]


def test_batches_are_a_function_of_seed_and_epoch():
    classes = torch.arange(20) % 2
    first = torch.stack(balanced_batches(classes, 4, seed=1, epoch=2))
    assert torch.equal(first, torch.stack(balanced_batches(classes, 4, seed=1, epoch=2)))
    for seed, epoch in ((1, 3), (2, 2)):
        assert not torch.equal(first, torch.stack(balanced_batches(classes, 4, seed, epoch)))


class Stub(torch.nn.Module):
    """A generator whose difference map of diseased images is known."""

    def __init__(self, brighter: float, darker: float) -> None:
        super().__init__()
        self.changes = brighter, darker

    def translate(self, images: torch.Tensor, diseased: torch.Tensor) -> torch.Tensor:
        healthy = images.clone()
        healthy[diseased, :, :8] -= self.changes[0]
        healthy[diseased, :, 8:16] += self.changes[1]
        return healthy


@pytest.mark.parametrize(
    ("brighter", "darker", "sign"), [(0.5, 0.0, 1), (0.0, 0.5, -1), (0.5, 0.4, 0), (0.5, 0.3, 1)]
)
def test_the_sign_is_found_without_outlines(synthetic, monkeypatch, brighter, darker, sign):
    state, options = state_of(image_size=64)
    dataset = ImageDataset("Synthetic", synthetic, "validate", 64)
    stub = Stub(brighter, darker)
    translator = Translator(state.averaged, state.discriminator.network)
    images, _, classes = dataset.__getitems__(range(len(dataset)))
    diseased = {tuple(row.tolist()) for row in images[classes == 1][:, 0, 0]}

    def into(images, target):
        which = torch.tensor([tuple(row.tolist()) in diseased for row in images[:, 0, 0]])
        return stub.translate(images, which), None

    monkeypatch.setattr(translator, "into", into)
    few = reading_of_disease(translator, dataset, options.batch_size)
    assert few.sign == 0  # which four images of a class are, and none is drawn
    monkeypatch.setattr(reading, "FEWEST", 4)
    assert reading_of_disease(translator, dataset, options.batch_size).sign == sign


def run(folder, synthetic, *arguments) -> list:
    fixed = ["--recipe", "fast", "--translation", "layer", "--visdom", "off"]
    fixed += ["--image-size", 64, "--batch-size", 4, "--critic-alone", 2, "--log-every", 1]
    fixed += ["--dataset-path", synthetic, "--save-dir", folder]
    return ["main.py", *fixed, *arguments]


def test_a_resumed_run_ends_as_one_that_was_not_stopped(short, synthetic, tmp_path):
    succeed(*run(tmp_path / "whole", synthetic, "--epochs", 2, "--decay", "none"))
    succeed(*run(tmp_path / "halves", synthetic, "--epochs", 1, "--decay", "none"))
    arguments = ["--resume", "--save-dir", tmp_path / "halves", "--epochs", 2, "--visdom", "off"]
    succeed("main.py", *arguments)
    for name in ("netG_synthetic.pt", "netD_synthetic.pt"):
        whole, halves = (
            torch.load(tmp_path / x / name, weights_only=True) for x in ("whole", "halves")
        )
        assert all(torch.equal(whole[key], halves[key]) for key in whole)


@pytest.fixture(scope="module")
def trained_fast(synthetic, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "BATCHES", 4)
        folder = tmp_path_factory.mktemp("fast") / "run"
        succeed(*run(folder, synthetic, "--epochs", 1))
    return folder


def test_a_run_is_tested_with_its_own_networks_and_size(trained_fast, synthetic, tmp_path):
    arguments = ["--save-dir", trained_fast, "--dataset-path", synthetic, "--visdom", "off"]
    succeed("main.py", "--mode", "test", *arguments, "--results-dir", tmp_path)
    results = json.loads((tmp_path / "metrics.json").read_text())
    assert results["sign_of_disease"] in (1, 0, -1)
    assert 0 <= results["metrics"]["pixel_auroc"]["value"] <= 1
    assert Translator.load(trained_fast).size == 64


def test_scores_follow_the_sign_and_maps_do_not(trained_fast):
    translator = Translator.load(trained_fast)
    torch.nn.init.normal_(translator.generator.head.weight, std=0.1)
    array = np.random.default_rng(0).random((64, 64))
    found = {}
    for sign in (0, 1, -1):
        translator.reading = Reading(None, sign=sign)
        found[sign] = translator(array)
    assert found[0].score == pytest.approx(found[1].score + found[-1].score, rel=1e-4)
    np.testing.assert_array_equal(found[0].difference, found[1].difference)
    assert found[1].score == pytest.approx(found[1].difference.clip(0).mean(), rel=1e-4)


def test_the_sign_stands_beside_the_weights_and_is_read_with_them(trained_fast):
    file = trained_fast / "reading_synthetic.json"
    stored = json.loads(file.read_text())
    for sign in (1, -1):
        file.write_text(json.dumps({**stored, "last": {**stored["last"], "sign": sign}}))
        assert Translator.load(trained_fast).reading.sign == sign
    del stored["last"]["sign"]  # of a run from before there were signs
    file.write_text(json.dumps(stored))
    assert Translator.load(trained_fast).reading.sign == 0


def test_a_test_with_other_networks_is_refused(trained_fast, synthetic):
    arguments = ["--mode", "test", "--save-dir", trained_fast, "--dataset-path", synthetic]
    assert_refused(program("main.py", *arguments, "--networks", "paper"), "--networks", "compact")


def test_a_whole_image_is_refused(synthetic, tmp_path):
    result = program(*run(tmp_path / "run", synthetic, "--translation", "image"))
    assert_refused(result, "--translation image")


def test_maps_of_brightness_are_read_by_the_outlines_of_the_image(trained_fast):
    assert Translator.load(trained_fast).reading.diffusion == 0.04


def test_maps_of_what_moves_are_read_as_they_are(short, synthetic, tmp_path):
    succeed(*run(tmp_path, synthetic, "--epochs", 1, "--translation", "combined"))
    assert Translator.load(tmp_path).reading.diffusion == 0


def test_the_critic_of_compact_networks_begins_alone_in_runs_that_do_not_say_so():
    assert by_networks(Options(networks="compact"), "critic_alone") == 300
    assert by_networks(Options(networks="compact", critic_alone=2), "critic_alone") == 2
    assert by_networks(Options(), "critic_alone") == 0
