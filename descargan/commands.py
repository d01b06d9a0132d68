"""Commands that the programs print, as they work when they are pasted into the current folder."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]  # of the project, with its scripts; none where it is installed


def command(*words: object) -> str:
    """The words after the Python that runs this, quoted for a shell. A script is named by itself.

    A module of the project is found from its folder alone, so elsewhere the command goes there.

    >>> command("main.py", "--resume", "--save-dir", Path("my run"))
    ".venv/bin/python main.py --resume --save-dir 'my run'"
    """
    script, *arguments = words
    if script == "-m" and is_ours(arguments) and Path.cwd() != ROOT:
        arguments = [word.absolute() if isinstance(word, Path) else word for word in arguments]
        return f"{join(['cd', str(ROOT)])} && {join([python(ROOT), '-m', *map(str, arguments)])}"
    if (ROOT / str(script)).is_file():
        script = shorter(ROOT / script)
    return join(map(str, [python(), script, *arguments]))


def is_ours(words: list[object]) -> bool:
    """Whether a module and its arguments need the project's folder, which is not installed."""
    module, *arguments = map(str, words)
    return (ROOT / "main.py").is_file() and (
        module.startswith(f"{__package__}.") or any((ROOT / word).is_file() for word in arguments)
    )


def python(folder: Path | None = None) -> str:
    """The Python that runs this, by its name where that finds it, else by its path."""
    for name in ("python", "python3", Path(sys.executable).name):
        if (found := shutil.which(name)) and Path(found) == Path(sys.executable):
            return name
    return shorter(Path(sys.executable), folder)


def shorter(path: Path, folder: Path | None = None) -> str:
    """A path from a folder, the current one, where it lies in it, else the whole path."""
    folder = folder or Path.cwd()
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def join(words: Iterable[str]) -> str:
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)
