"""Commands that are printed work when they are pasted; without the packages there is a sentence."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, program

from descargan import __version__, commands
from descargan.cli import run
from descargan.commands import command
from descargan.errors import UserError
from descargan.installed import NEEDED, complaint


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """A Python in .venv of the current folder, which runs, and one on the PATH; gives both."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "on-path"))
    paths = tmp_path / ".venv" / "bin" / "python", tmp_path / "on-path" / "python3"
    for path in paths:
        path.parent.mkdir(parents=True)
        path.touch(0o755)
    monkeypatch.setattr(sys, "executable", str(paths[0]))
    return paths


def test_python_is_named_by_its_path_from_the_current_folder(environment):
    assert command("-m", "x") == ".venv/bin/python -m x"


def test_python_is_named_by_its_name_where_that_finds_it(environment, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(environment[1]))
    assert command("-m", "x") == "python3 -m x"


def test_python_elsewhere_is_named_by_its_whole_path(environment, monkeypatch):
    (folder := Path("some where")).mkdir()
    monkeypatch.chdir(folder)
    assert command("-m", "x") == f"{environment[0]} -m x"


def test_a_script_is_found_from_any_folder_and_words_are_quoted(environment, monkeypatch):
    said = command("main.py", "--save-dir", Path("my run"))
    assert said == f".venv/bin/python {ROOT / 'main.py'} --save-dir 'my run'"
    monkeypatch.chdir(ROOT)
    assert " main.py --resume" in command("main.py", "--resume")


def test_a_module_of_the_project_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my run").mkdir()
    said = command("-m", "descargan.dashboard", "--replay", Path("my run"))
    assert said.startswith(f"cd {ROOT} && ")
    assert said.endswith(f" -m descargan.dashboard --replay '{tmp_path / 'my run'}'")
    done = subprocess.run(said, shell=True, capture_output=True, text=True)
    assert "my run holds no metrics of a run" in done.stderr  # so it ran


def test_a_script_that_torchrun_starts_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = command("-m", "torch.distributed.run", "main.py", "--save-dir", Path("run"))
    assert said.startswith(f"cd {ROOT} && ")
    assert said.endswith(f"main.py --save-dir {tmp_path / 'run'}")


def test_in_the_projects_folder_nothing_more_is_said(monkeypatch):
    monkeypatch.chdir(ROOT)
    said = command("-m", "descargan.dashboard", "--replay", Path("runs/one"))
    assert said.endswith("python -m descargan.dashboard --replay runs/one")


def test_on_windows_words_are_quoted_as_its_shell_reads_them(monkeypatch):
    monkeypatch.setattr(commands.sys, "platform", "win32")
    assert commands.join(["python", "-m", "my run"]) == 'python -m "my run"'


@pytest.mark.parametrize(
    "program",
    [
        *("main.py", "create_synthetic_dataset.py"),
        *("prepare_folders.py", "prepare_table.py", "prepare_chexpert.py"),
        *("-m descargan.dashboard", "-m descargan.comparison"),
    ],
)
def test_without_its_packages_a_program_ends_with_one_sentence(program):
    """-S leaves the environment's packages out."""
    words = [sys.executable, "-S", *program.split()]
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {', '.join(NEEDED)} cannot be imported by ")
    assert result.stderr.count("\n") == 1


def test_the_environment_that_make_set_up_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    marker = tmp_path / ".venv" / "installed"
    assert "'make .venv/installed', and use .venv/bin/python" in complaint(["torch"], marker)
    marker.parent.mkdir()
    marker.touch()
    said = complaint(["torch"], marker)
    assert said.endswith("use .venv/bin/python, which has all that is needed")


def test_every_program_knows_its_version():
    for script in ("main.py", "create_synthetic_dataset.py", "prepare_folders.py"):
        assert program(script, "--version").stdout == f"DeScarGAN {__version__}\n"


def test_a_closed_stream_is_written_to_in_vain(monkeypatch):
    """As of `main.py ... 2>&-`."""
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)

    def fail() -> None:
        assert not sys.stderr.isatty()
        print("x")
        raise UserError("a sentence")

    assert run(fail) == 2


def test_nobody_who_reads_on_is_no_error():
    """As of `main.py ... | head`."""
    code = "import sys; from descargan.cli import run; sys.exit(run(lambda: print('x' * 10**6)))"
    settings = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", code], **settings)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141
    process.stderr.close()
