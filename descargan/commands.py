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

    >>> command("main.py", "--resume", "--save-dir", Path("my run"))
    ".venv/bin/python main.py --resume --save-dir 'my run'"
    """
    script, *arguments = map(str, words)
    if (ROOT / script).is_file():
        script = shorter(ROOT / script)
    return join([python(), script, *arguments])


def python() -> str:
    """The Python that runs this, by its name where that finds it, else by its path."""
    for name in ("python", "python3", Path(sys.executable).name):
        if (found := shutil.which(name)) and Path(found) == Path(sys.executable):
            return name
    return shorter(Path(sys.executable))


def shorter(path: Path) -> str:
    """A path from the current folder where it lies in it, else the whole path."""
    folder = Path.cwd()
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def join(words: Iterable[str]) -> str:
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)
