"""The scripts of visdom's page, from npm, so that the dashboard works without internet.

visdom's own server fetches them from the web when it starts, and dies or shows an empty page where
it cannot. Here they come from the npm packages of exactly the versions that visdom's
``server/build.py`` names, through the user's npm and its configured registry, checked by their
SHA-512, into the folder where visdom looks for them.
"""

import base64
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from descargan.errors import UserError
from descargan.files import write_atomically


class Package(NamedTuple):
    """An npm package: SHA-512 of its archive, and file in it: file under visdom's static folder."""

    name: str
    version: str
    sha512: str
    files: dict[str, str]

    @property
    def archive(self) -> str:
        return f"{self.name}-{self.version}.tgz"


def known_packages() -> dict[str, tuple[Package, ...]]:
    """The packages that each known version of visdom needs."""
    table = json.loads(Path(__file__).with_suffix(".json").read_text())
    common = table.pop("common")
    return {v: tuple(Package(**p) for p in [*common, *own]) for v, own in table.items()}


def packages() -> tuple[Package, ...]:
    """The packages that the installed visdom needs. Raises UserError for an unknown visdom."""
    installed = version("visdom")
    known = known_packages()
    if installed not in known:
        raise UserError(
            f"visdom {installed} is installed, but the page's scripts are known for "
            f"{' and '.join(known)} only: install one of these"
        )
    return known[installed]


def static_folder() -> Path:
    return Path(find_spec("visdom").origin).parent / "static"


def missing_assets() -> list[str]:
    """Files of visdom's page that are not there; an unknown visdom is taken to have its own."""
    if version("visdom") not in known_packages():
        return []
    static = static_folder()
    return [f for p in packages() for f in p.files.values() if not (static / f).is_file()]


def install_assets(folder: Path | None) -> None:
    """Put the page's scripts in place, from the archives in ``folder`` or else from npm.

    Archives that ``folder`` lacks are fetched into it, so that it can be carried to a machine
    without internet, where the same command needs no npm. Raises UserError where an archive can
    be had from neither, or is not the one expected; nothing is installed then.
    """
    static = static_folder()
    with tempfile.TemporaryDirectory() as temporary:
        source = folder or Path(temporary)
        source.mkdir(parents=True, exist_ok=True)
        contents = {}
        for package in packages():
            contents |= unpack(fetch(package, source), package)
    for name, content in contents.items():
        target = static / name
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, content)
    print(f"{len(contents)} files of visdom's page are in {static}")


def fetch(package: Package, folder: Path) -> Path:
    """The archive of a package in ``folder``, fetched with npm where it is not there."""
    archive = folder / package.archive
    if archive.is_file():
        return archive
    npm = shutil.which("npm")
    wanted = f"{package.name}@{package.version}"
    if npm is None:
        raise UserError(
            f"{archive} is missing and there is no npm to fetch it with: run this command with a "
            "folder on a machine that has npm, and bring that folder here"
        )
    result = subprocess.run(
        [npm, "pack", wanted, "--ignore-scripts", "--silent"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    if result.returncode or not archive.is_file():
        reason = " ".join(result.stderr.split())[-200:] or "npm gave no reason"
        raise UserError(f"npm could not fetch {wanted}: {reason}; see npm's registry setting")
    return archive


def unpack(archive: Path, package: Package) -> dict[str, bytes]:
    """The wanted files of an archive, by their place under visdom's static folder."""
    content = archive.read_bytes()
    if base64.b64encode(hashlib.sha512(content).digest()).decode() != package.sha512:
        raise UserError(f"{archive} is not the archive expected, its SHA-512 differs: remove it")
    found = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for member in tar:
            inner = member.name.partition("/")[2]
            if member.isfile() and inner in package.files:
                found[package.files[inner]] = tar.extractfile(member).read()
    return found
