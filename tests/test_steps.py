"""A step that saves memory is the same step, and mixed precision trains on a processor."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from descargan import device, steps
from descargan.models import build_networks
from descargan.options import Options
from descargan.steps import Batch, TrainingState, train_step, wasserstein_step

OPTIONS = Options(image_size=64, base_filters=4, critic_filters=2)
CPU = torch.device("cpu")


def step(options):
    """One iteration with the generator, from the same weights and random numbers."""
    torch.manual_seed(0)
    state = TrainingState(*build_networks(options), options, CPU)
    images, classes = torch.rand(4, 1, 64, 64) * 2 - 1, torch.arange(4) % 2
    batch = Batch(images, classes, options.noise * torch.rand_like(images), classes)
    terms = train_step(state, batch, options)
    return state.generator.network, terms


def test_alone_the_critic_takes_the_images_themselves_for_fakes():
    """On images of one brightness a class: its loss by hand, and the generator stays."""
    options = replace(OPTIONS, critic_alone=1, critic_steps=1, noise=0.0)
    state = TrainingState(*build_networks(options), options, CPU)
    classes = torch.arange(4) % 2
    images = torch.where(classes == 1, 0.5, -0.5).view(-1, 1, 1, 1).expand(-1, 1, 64, 64)
    batch = Batch(images, classes, torch.zeros_like(images), classes)
    critic = state.discriminator.network
    with torch.no_grad():
        scores = [critic(images, c)[0].mean(dim=(1, 2, 3)) for c in (0, 1)]
    own, other = (
        torch.cat([scores[c][classes == (c if same else 1 - c)] for c in (0, 1)]).mean()
        for same in (True, False)
    )
    before = copy.deepcopy(state.generator.network.state_dict())
    state.iteration = 1
    terms = wasserstein_step(state, batch, options)
    assert not [name for name in terms if name.startswith("generator/")]
    # Half of the fakes of a class are its own images, which cancel out.
    assert terms["critic/adversarial"].item() == pytest.approx((other - own).item() / 2, rel=1e-4)
    after = state.generator.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    state.iteration = 2
    assert "generator/total" in wasserstein_step(state, batch, options)


def gradients(network: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in network.parameters()])


@pytest.mark.parametrize("translation", ["image", "deformation"])
@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_gradients_are_the_same_where_memory_is_saved(translation, norm):
    options = replace(OPTIONS, translation=translation, generator_norm=norm)
    (plain, terms), (saving, same) = (
        step(replace(options, save_memory=save)) for save in (False, True)
    )
    off = gradients(saving) - gradients(plain)
    assert off.norm() <= 1e-5 * gradients(plain).norm()
    assert {k: v.item() for k, v in same.items()} == pytest.approx(
        {k: v.item() for k, v in terms.items()}, rel=1e-5
    )


def test_running_statistics_are_written_once_where_memory_is_saved():
    (plain, _), (saving, _) = (step(replace(OPTIONS, save_memory=save)) for save in (False, True))
    for ours, theirs in zip(saving.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_a_state_without_scales_is_taken_up_by_a_device_that_needs_them(monkeypatch):
    """As a GPU does that has float16 alone; a state with them is taken up with them."""
    options = replace(OPTIONS, amp=True)
    saved = TrainingState(*build_networks(options), options, CPU).state_dict()
    monkeypatch.setattr(steps, "half_precision", lambda _: torch.float16)
    state = TrainingState(*build_networks(options), options, CPU)
    fresh = [player.scaler.state_dict() for player in state.players]
    state.load_state_dict(saved)
    assert [player.scaler.state_dict() for player in state.players] == fresh
    assert all(player.scaler.is_enabled() for player in state.players)
    saved["scalers"] = [{**scaler, "scale": 2.0} for scaler in fresh]
    state.load_state_dict(saved)
    assert [player.scaler.get_scale() for player in state.players] == [2.0, 2.0]


@pytest.mark.parametrize("translation", ["image", "deformation", "layer"])
def test_mixed_precision_on_a_processor_has_nearly_the_losses_of_float32(translation, monkeypatch):
    monkeypatch.setattr(device, "has_half_precision", lambda _: True)
    options = replace(OPTIONS, translation=translation)
    (_, full), (_, mixed) = (step(replace(options, amp=amp)) for amp in (False, True))
    for name in ("critic/total", "generator/total"):
        assert mixed[name].item() == pytest.approx(full[name].item(), rel=0.05)
        assert mixed[name].item() != full[name].item()


def test_the_gradient_penalty_stays_in_float32(monkeypatch):
    monkeypatch.setattr(device, "has_half_precision", lambda _: True)
    options = replace(OPTIONS, translation="additive")  # whose first translations are the images
    (_, full), (_, mixed) = (step(replace(options, amp=amp)) for amp in (False, True))
    name = "critic/gradient penalty"
    assert mixed[name].item() == pytest.approx(full[name].item(), rel=1e-6)
