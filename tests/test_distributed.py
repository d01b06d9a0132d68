"""Several processes over gloo: the same gradients, the same run, and no hang."""

import json
import os
import subprocess
import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from conftest import ROOT, TINY, free_port, program

from descargan import losses
from descargan.distributed import Process, process_group
from descargan.models import Discriminator
from descargan.options import Options
from descargan.steps import Batch, Player, critic_step


def torchrun(*arguments):
    """Run a script by two processes that torchrun starts."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command += ["--master-addr=127.0.0.1", f"--master-port={free_port()}", *map(str, arguments)]
    with tempfile.TemporaryDirectory() as temporary:  # torchrun leaves a folder of logs there
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": temporary}
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240
        )


def in_processes(number, work, *arguments):
    """What ``work`` gives in each of ``number`` processes, told who they are as by torchrun.

    Forked from this one, as what a process imports takes longer than all that it does here.
    """
    port = free_port()
    with get_context("fork").Pool(number) as pool:  # each waits for the others, so one takes one
        tasks = [(rank, number, port, work, arguments) for rank in range(number)]
        return pool.starmap_async(as_rank, tasks, chunksize=1).get(timeout=240)


def as_rank(rank, world, port, work, arguments):
    os.environ |= {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": f"{world}"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}"}
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
