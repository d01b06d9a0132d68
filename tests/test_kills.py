"""Training killed at any moment goes on from a complete checkpoint, to the same weights."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, TINY, assert_refused, program, succeed

from descargan.checkpoints import Run
from descargan.errors import UserError


@pytest.mark.slow
def test_a_run_killed_in_every_write_has_the_weights_of_an_uninterrupted_one(synthetic, tmp_path):
    common = [*TINY, "--epochs", 11, "--batch-size", 6, "--critic-steps", 1]
    common += ["--log-every", 1, "--visdom", "off"]
    common += ["--dataset-path", synthetic, "--resume", "auto", "--save-dir"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    succeed("main.py", *common, whole)
    harness = [sys.executable, "tests/kill_harness.py", killed, *common, killed]
    result = subprocess.run(
        [str(x) for x in harness], cwd=ROOT, capture_output=True, text=True, timeout=500
    )
    assert result.returncode == 0, result.stderr
    log = json.loads(result.stdout)
    assert len(log) >= 20
    assert all(entry["killed"] for entry in log), log
    iterations = [entry["iteration"] for entry in log]
    assert iterations == sorted(iterations), "what is saved is never lost"
    assert iterations[-1] >= 16, "most of the last twelve kills come after another epoch"
    succeed("main.py", *common, killed)
    for name in ("netG", "netD"):
        first, second = (
            torch.load(folder / f"{name}_synthetic.pt", weights_only=True)
            for folder in (whole, killed)
        )
        for key, value in first.items():
            assert torch.equal(value, second[key]), key
    lines = [(folder / "metrics_synthetic.jsonl").read_text() for folder in (whole, killed)]
    assert lines[0] == lines[1]
    assert not list(killed.glob(".*")), "halves of files"


def test_a_full_disk_is_one_error_and_the_last_checkpoint_stays(trained, synthetic, tmp_path):
    """A file-size limit stands for the disk: the state of the next epoch does not fit."""
    folder = tmp_path / "run"
    folder.mkdir()
    for path in trained.iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    state = (folder / "training_synthetic.pt").read_bytes()
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(state) // 2}, {len(state) // 2}));"
        "sys.path.insert(0, '.'); import main; from descargan.cli import run;"
        "sys.exit(run(main.main))"
    )
    arguments = ["--resume", "--epochs", "3", "--visdom", "off", "--dataset-path", str(synthetic)]
    result = subprocess.run(
        [sys.executable, "-c", script, *arguments, "--save-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2, result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "training_synthetic.pt" in errors[0]
    assert "Traceback" not in result.stderr
    assert (folder / "training_synthetic.pt").read_bytes() == state
    assert not list(folder.glob(".*"))


def test_resume_falls_back_to_the_previous_state_and_says_so(trained, synthetic, tmp_path):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    state = tmp_path / "training_synthetic.pt"
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 16
    state.write_bytes(content)
    common = ["--dataset-path", synthetic, "--save-dir", tmp_path, "--visdom", "off"]
    result = program("main.py", "--resume", *common)
    assert result.returncode == 0, result.stderr
    assert f"going on from {state}.previous" in result.stderr
    for key, value in torch.load(tmp_path / "netG_synthetic.pt", weights_only=True).items():
        whole = torch.load(trained / "netG_synthetic.pt", weights_only=True)
        assert torch.equal(value, whole[key])


def test_two_damaged_states_are_an_error(trained, synthetic, tmp_path):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    for name in ("training_synthetic.pt", "training_synthetic.pt.previous"):
        (tmp_path / name).write_bytes(b"nothing")
    common = ["--dataset-path", synthetic, "--save-dir", tmp_path, "--visdom", "off"]
    assert_refused(program("main.py", "--resume", *common), "training_synthetic.pt", "damaged")
    with pytest.raises(UserError):
        Run(tmp_path, "Synthetic").load_state()


def test_a_state_of_other_networks_is_refused(trained, synthetic, tmp_path):
    """As a version before this one may have had them."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "training_synthetic.pt"
    state = torch.load(path, weights_only=True)
    state["discriminator"]["exits.0.weight"] = torch.zeros(3)
    torch.save(state, path)
    path.with_name(f"{path.name}.sha256").unlink()
    common = ["--dataset-path", synthetic, "--save-dir", tmp_path, "--visdom", "off"]
    result = program("main.py", "--resume", *common)
    assert_refused(result, "training_synthetic.pt", "networks as an earlier version had them")
