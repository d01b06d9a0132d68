"""Several processes over gloo: the same gradients, the same run, and no hang."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import timedelta
from multiprocessing import active_children, get_context
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from conftest import ROOT, TINY, program
from torch import nn
from torch.nn.modules._functions import SyncBatchNorm

from descargan import device, distributed, logistic, losses, training
from descargan.distributed import Process, process_group
from descargan.layers import BatchNorm
from descargan.models import Discriminator, build_networks
from descargan.options import RECIPES, Options
from descargan.steps import Batch, Player, TrainingState, critic_step, generator_step


def torchrun(*arguments):
    """Run a script by two processes that torchrun starts, and that meet at a free port."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command += ["--standalone", "--local-addr=127.0.0.1", *map(str, arguments)]
    with tempfile.TemporaryDirectory() as temporary:  # torchrun leaves a folder of logs there
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": temporary}
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240
        )


def in_processes(number, work, *arguments):
    """What ``work`` gives in each of ``number`` processes, told who they are as by torchrun.

    Forked from this one, as what a process imports takes longer than all that it does here. Where
    one fails the others are killed: they wait for it, and heed no signal meanwhile.
    """
    with ProcessPoolExecutor(number, get_context("fork")) as pool:
        pool.submit(int).result()  # all are forked now, before the store has a thread
        store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        ranks = [
            pool.submit(as_rank, rank, number, store.port, work, arguments)
            for rank in range(number)
        ]
        try:
            for ended in as_completed(ranks, timeout=240):
                ended.result()
        except BaseException:
            for process in active_children():
                process.kill()
            raise
    return [rank.result() for rank in ranks]


def as_rank(rank, world, port, work, arguments):
    os.environ |= {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": f"{world}"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}"}
    os.environ |= {"TORCHELASTIC_USE_AGENT_STORE": "True"}  # the test has opened the port
    return work(*arguments)


def whole_batch(number):
    """Images, fakes of both classes, factors and classes of a batch, in double precision."""
    stream = torch.Generator().manual_seed(5)
    images, healthy, diseased = torch.rand(3, number, 1, 64, 64, generator=stream).double()
    classes = torch.tensor([0, 1, 1, 1, 0, 1, 1, 1, 1, 1])[:number]
    return images, (healthy, diseased), torch.rand(number, generator=stream).double(), classes


def gradients_of_one_step(process, number=10):
    """The critic's averaged gradients on this process's part of the batch; dropout is off."""
    images, fakes, t, classes = whole_batch(number)
    mine = slice(process.rank, None, process.world)
    torch.manual_seed(0)
    discriminator = Discriminator(base_filters=2, image_size=64).double().eval()
    options = Options(clip_norm=1e9)
    optimizer = torch.optim.SGD(discriminator.parameters(), lr=0.0)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    original = torch.rand
    torch.rand = lambda *_, **__: t[mine]
    try:
        critic_step(
            Player(discriminator, optimizer, scaler),
            Batch(images[mine], classes[mine], torch.zeros(1), classes, process),
            [fake[mine] for fake in fakes],
            options,
        )
    finally:
        torch.rand = original
    return {n: p.grad for n, p in discriminator.named_parameters()}


def gradients_of_this_process():
    with process_group(torch.device("cpu")) as process:
        gradients = gradients_of_one_step(process)
        return {name: gradient.numpy() for name, gradient in gradients.items()}


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_with_parts_of_a_batch_give_the_gradients_of_the_whole(processes):
    """Two with 5 images, or three with 4, 3 and 3 of unequal classes, against one with 10."""
    expected = gradients_of_one_step(Process())
    for gradients in in_processes(processes, gradients_of_this_process):
        assert gradients.keys() == expected.keys()
        for name, gradient in expected.items():
            found = torch.from_numpy(gradients[name])
            torch.testing.assert_close(found, gradient, rtol=1e-5, atol=1e-9, msg=name)


def with_statistics_of_the_whole_batch():
    """Have this process normalise as on CUDA: PyTorch's own code over gloo, its kernels in plain.

    In a process of its own, which it changes for good.
    """

    def statistics(x, eps):
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        return mean, (variance + eps).rsqrt()

    def gather(x, means, slopes, running_mean, running_variance, momentum, eps, counts):
        n, share = counts.sum(), (counts / counts.sum())[:, None]
        mean = (share * means).sum(dim=0)
        variance = (share * (slopes**-2 - eps + (means - mean) ** 2)).sum(dim=0)
        running_mean.lerp_(mean, momentum)
        running_variance.lerp_(variance * n / (n - 1), momentum)
        return mean, (variance + eps).rsqrt()

    def normalise(x, weight, bias, mean, slope, eps):
        y = (x - mean.view(-1, 1, 1)) * (slope * weight).view(-1, 1, 1) + bias.view(-1, 1, 1)
        return y.to(x.dtype)

    def reduce(gradient, x, mean, slope, *_):
        total = gradient.to(mean.dtype).sum(dim=(0, 2, 3))
        by_x = (gradient * (x - mean.view(-1, 1, 1))).sum(dim=(0, 2, 3))
        return total, by_x, by_x * slope, total

    def back(gradient, x, mean, slope, weight, total, by_x, counts):
        along = (x - mean.view(-1, 1, 1)) * (slope**2 * by_x / counts.sum()).view(-1, 1, 1)
        rest = gradient - (total / counts.sum()).view(-1, 1, 1) - along
        return (rest * (slope * weight).view(-1, 1, 1)).to(x.dtype)

    def forward(norm, x):
        running = norm.running_mean, norm.running_var
        group = dist.group.WORLD, dist.get_world_size()
        settings = norm.weight, norm.bias, *running, norm.eps, norm.momentum
        return SyncBatchNorm.apply(x, *settings, *group)

    torch.batch_norm_stats, torch.batch_norm_gather_stats_with_counts = statistics, gather
    torch.batch_norm_elemt, torch.batch_norm_backward_reduce = normalise, reduce
    torch.batch_norm_backward_elemt = back
    nn.SyncBatchNorm.forward = forward
    plain = BatchNorm.forward

    def on_cuda(norm, x):
        torch.Tensor.is_cuda = property(lambda _: True)
        try:
            return plain(norm, x)
        finally:
            del torch.Tensor.is_cuda

    BatchNorm.forward = on_cuda


def step_of_the_generator(process, classes, amp):
    """The generator with the gradients of one step on this process's part of the batch."""
    options = Options(image_size=64, base_filters=2, critic_filters=2, clip_norm=1e9, amp=amp)
    torch.manual_seed(0)
    networks = [network if amp else network.double() for network in build_networks(options)]
    state = TrainingState(*networks, options, torch.device("cpu"), process)
    state.discriminator.network.eval()
    dtype = networks[0].up1[0].weight.dtype
    images, noise = torch.rand(2, len(classes), 1, 64, 64, dtype=dtype)
    mine = slice(process.rank, None, process.world)
    batch = Batch(images[mine], classes[mine], noise[mine], classes, process)
    with device.autocast(batch.real.device, amp):
        translations = [networks[0](batch.real, c) for c in (0, 1)]
    generator_step(state, batch, translations, options)
    return networks[0]


def gradients_with_statistics_of_the_whole_batch(classes, amp):
    with process_group(torch.device("cpu")) as process:
        with_statistics_of_the_whole_batch()
        return numbers_of(step_of_the_generator(process, classes, amp))


def numbers_of(network):
    gradients = [parameter.grad.flatten() for parameter in network.parameters()]
    statistics = [x.flatten() for n, x in network.named_buffers() if "num_batches" not in n]
    return torch.cat(gradients).numpy(), torch.cat(statistics).numpy()


def off(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("classes", [[0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]])
def test_processes_of_one_class_normalise_with_the_others(classes, monkeypatch):
    """One or both of two see one class; or there is no other, whose statistics stay then."""
    monkeypatch.setattr(distributed, "PATIENCE", timedelta(seconds=20))
    classes = torch.tensor(classes)
    gradients, statistics = numbers_of(step_of_the_generator(Process(), classes, amp=False))
    for found in in_processes(2, gradients_with_statistics_of_the_whole_batch, classes, False):
        assert off(found[0], gradients) < 1e-6
        assert off(found[1], statistics) < 1e-6


def test_processes_of_one_class_normalise_with_the_others_in_mixed_precision(monkeypatch):
    """By their statistics: gradients of new networks are lost in the noise of bfloat16."""
    monkeypatch.setattr(distributed, "PATIENCE", timedelta(seconds=20))
    monkeypatch.setattr(device, "has_half_precision", lambda _: True)
    classes = torch.tensor([0, 1, 0, 0])
    _, statistics = numbers_of(step_of_the_generator(Process(), classes, amp=True))
    for _, found in in_processes(2, gradients_with_statistics_of_the_whole_batch, classes, True):
        assert off(found, statistics) < 1e-3


def gradients_of_sure_critics(process):
    """Critics' averaged gradients with a penalty: those of diseased images are known, no others.

    Dropout is off.
    """
    options = Options(**{**RECIPES["fast"], "translation": "combined", "image_size": 64})
    torch.manual_seed(0)
    networks = [network.double() for network in build_networks(options)]
    state = TrainingState(*networks, options, torch.device("cpu"), process)
    state.iteration, critic = logistic.PENALTY_EVERY, state.discriminator.network.eval()
    with torch.no_grad():
        critic.exits[0].bias[1:] = torch.tensor([-9.0, 9.0])
    images, fakes = 2 * torch.rand(2, 6, 1, 64, 64).double() - 1
    classes, mine = torch.tensor([0, 1, 0, 1, 1, 1]), slice(process.rank, None, process.world)
    none = torch.zeros_like(images[mine])
    batch = Batch(images[mine], classes[mine], none, classes, process)
    terms = logistic.critic_step(state, batch, fakes[mine], options)
    assert terms["critic/gradient penalty"] > 0
    return torch.cat([parameter.grad.flatten() for parameter in critic.parameters()]).numpy()


def gradients_of_sure_critics_of_this_process():
    with process_group(torch.device("cpu")) as process:
        return gradients_of_sure_critics(process)


def test_the_penalty_grows_with_the_share_of_known_fakes_of_the_whole_batch():
    whole = gradients_of_sure_critics(Process())
    for part in in_processes(2, gradients_of_sure_critics_of_this_process):
        assert off(part, whole) < 1e-6


def test_losses_of_parts_average_to_the_loss_of_the_whole():
    images, (outputs, _), _, classes = whole_batch(10)
    counts = torch.bincount(classes, minlength=2) / 2
    parts = [slice(0, None, 2), slice(1, None, 2)]
    mean = sum(
        losses.identity_loss(images[p], outputs[p], classes[p], counts) for p in parts
    ) / len(parts)
    whole = losses.identity_loss(images, outputs, classes)
    torch.testing.assert_close(mean, whole)


def history(folder: Path) -> list[dict]:
    text = (folder / "metrics_synthetic.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


# Networks of two processes, on batches of two.
TRAIN = [*TINY, "--visdom", "off", "--log-every", 1, "--batch-size", 2]


def train(*arguments):
    """Train by two processes; what the first of them printed, which alone prints."""
    first, second = in_processes(2, program, "main.py", *TRAIN, *arguments)
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert not second.stdout
    return first.stdout


@pytest.fixture(scope="module")
def whole(synthetic, tmp_path_factory):
    """The folder of a run of two processes, two epochs, that nothing stopped."""
    folder = tmp_path_factory.mktemp("distributed") / "whole"
    printed = train("--dataset-path", synthetic, "--save-dir", folder, "--epochs", 2)
    assert "training and" in printed
    return folder


def test_a_run_of_two_processes_resumes_and_repeats_bit_for_bit(whole, synthetic, tmp_path):
    train("--dataset-path", synthetic, "--save-dir", tmp_path, "--epochs", 1)
    train("--resume", "--save-dir", tmp_path, "--epochs", 2)
    assert history(whole) == history(tmp_path)
    weights = [
        torch.load(folder / "netG_synthetic.pt", weights_only=True) for folder in (whole, tmp_path)
    ]
    for key, value in weights[0].items():
        assert torch.equal(value, weights[1][key]), key
    assert [r["iteration"] for r in history(whole) if r["kind"] == "losses"] == [*range(1, 7)]


def test_processes_stop_together_by_a_signal_to_one_in_the_last_validation(
    synthetic, tmp_path, monkeypatch
):
    validate, seen = training.validate, []

    def validate_and_stop(*given: object) -> dict:  # by the first process alone
        if seen:  # the first is that of the untrained networks
            signal.raise_signal(signal.SIGTERM)
        seen.append(given)
        return validate(*given)

    monkeypatch.setattr(training, "validate", validate_and_stop)
    where = ["--dataset-path", synthetic, "--save-dir", tmp_path, "--epochs", 1]
    both = in_processes(2, program, "main.py", *TRAIN, *where)
    assert [result.returncode for result in both] == 2 * [128 + signal.SIGTERM]


DYING = """
import os, sys
sys.path.insert(0, {root!r})
import main
from descargan.checkpoints import Run
from descargan.cli import run
save = Run.save
def save_and_die(self, training):
    save(self, training)
    os._exit(1)
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    Run.save = save_and_die
sys.exit(run(main.main))
"""


def test_torchrun_restarts_a_failed_run_from_its_last_checkpoint(whole, synthetic, tmp_path):
    """The first process dies after the first epoch; the same command line ends the run."""
    script = tmp_path / "dying.py"
    script.write_text(DYING.format(root=str(ROOT)))
    folder = tmp_path / "restarted"
    where = ["--dataset-path", synthetic, "--save-dir", folder, "--epochs", 2]
    restarted = torchrun("--max-restarts=1", script, *TRAIN, *where)
    assert restarted.returncode == 0, restarted.stderr
    assert restarted.stdout.count("training and") == 2
    assert history(whole) == history(folder)


def test_a_failing_rank_ends_the_run_with_its_error(tmp_path):
    result = torchrun("main.py", "--dataset-path", tmp_path / "nowhere", "--visdom", "off")
    assert result.returncode != 0
    assert "does not exist" in result.stderr
