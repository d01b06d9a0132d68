"""Several processes over gloo: the same gradients, the same run, and no hang."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from conftest import ROOT, TINY, free_port

from descargan import losses
from descargan.distributed import Process
from descargan.models import Discriminator
from descargan.options import Options
from descargan.steps import Batch, Player, critic_step


def torchrun(*arguments, processes=2):
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
    command += ["--master-addr=127.0.0.1", f"--master-port={free_port()}", *map(str, arguments)]
    with tempfile.TemporaryDirectory() as temporary:  # torchrun leaves a folder of logs there
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": temporary}
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240
        )


WORKER = """
import sys
from pathlib import Path
import torch
sys.path.insert(0, {root!r})
sys.path.insert(0, {root!r} + "/tests")
from test_distributed import gradients_of_one_step
from descargan.distributed import process_group
with process_group(torch.device("cpu")) as process:
    gradients, terms = gradients_of_one_step(process)
    torch.save((gradients, terms), Path({folder!r}) / f"{{process.rank}}.pt")
"""


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
        terms = critic_step(
            Player(discriminator, optimizer, scaler),
            Batch(images[mine], classes[mine], torch.zeros(1), classes, process),
            [fake[mine] for fake in fakes],
            options,
        )
    finally:
        torch.rand = original
    return {n: p.grad for n, p in discriminator.named_parameters()}, terms


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_with_parts_of_a_batch_give_the_gradients_of_the_whole(tmp_path, processes):
    """Two with 5 images, or three with 4, 3 and 3 of unequal classes, against one with 10."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER.format(root=str(ROOT), folder=str(tmp_path)))
    result = torchrun(script, processes=processes)
    assert result.returncode == 0, result.stderr
    expected, _ = gradients_of_one_step(Process())
    for rank in range(processes):
        gradients, _ = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, gradient in expected.items():
            torch.testing.assert_close(gradients[name], gradient, rtol=1e-5, atol=1e-9, msg=name)


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


def train(script, *arguments):
    """Train networks of two processes on batches of two."""
    common = [*TINY, "--visdom", "off", "--log-every", 1, "--batch-size", 2]
    result = torchrun(*script, *common, *arguments)
    assert result.returncode == 0, result.stderr
    return result


@pytest.fixture(scope="module")
def whole(synthetic, tmp_path_factory):
    """The folder of a run of two processes, two epochs, that nothing stopped."""
    folder = tmp_path_factory.mktemp("distributed") / "whole"
    result = train(["main.py"], "--dataset-path", synthetic, "--save-dir", folder, "--epochs", 2)
    assert result.stdout.count("training and") == 1
    return folder


def test_a_run_of_two_processes_resumes_and_repeats_bit_for_bit(whole, synthetic, tmp_path):
    train(["main.py"], "--dataset-path", synthetic, "--save-dir", tmp_path, "--epochs", 1)
    train(["main.py", "--resume"], "--save-dir", tmp_path, "--epochs", 2)
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
    restarted = train(
        ["--max-restarts=1", script],
        *("--dataset-path", synthetic, "--save-dir", folder, "--epochs", 2),
    )
    assert restarted.stdout.count("training and") == 2
    assert history(whole) == history(folder)


def test_a_failing_rank_ends_the_run_with_its_error(tmp_path):
    result = torchrun("main.py", "--dataset-path", tmp_path / "nowhere", "--visdom", "off")
    assert result.returncode != 0
    assert "does not exist" in result.stderr
