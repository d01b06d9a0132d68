"""Ends a program with one sentence where a package that it needs is not installed.

To be imported before what imports these packages, whose absence would be a traceback.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

from descargan.commands import ROOT, shorter

NEEDED = ("torch", "numpy", "scipy", "skimage", "sklearn", "PIL", "matplotlib", "jinja2")
NEEDED += ("tifffile", "pydicom", "nibabel", "tqdm", "filelock")


def complaint(missing: list[str], marker: Path = ROOT / ".venv" / "installed") -> str:
    """What to do about packages that are missing; ``marker`` is there where make has set it up."""
    said = f"{', '.join(missing)} cannot be imported by {sys.executable}: "
    python = shorter(marker.parent / "bin" / "python")
    if marker.is_file():
        return f"{said}use {python}, which has all that is needed"
    return (
        f"{said}set up once, with 'make {shorter(marker)}', and use {python}; or without make, as "
        "README.md says under 'By hand'"
    )


def refuse_missing() -> None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(f"error: {complaint(missing)}", file=sys.stderr)
        sys.exit(2)


refuse_missing()
