"""The scripts of visdom's page: fetched once per machine, checked, and kept in the user's cache.

visdom comes without the scripts that its page loads, and its own server fetches them into the
installed package each time it starts. Here they come, in the versions that visdom names, from npm
(through the user's npm and its configured registry) or else from visdom's own downloader. A file
counts only with the right SHA-256, whichever source it came from. The installed packages stay as
they are. Formulas of TeX, which the dashboard has none of, are left out: their package would be
four fifths of all there is to fetch.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from descargan.errors import UserError
from descargan.files import naming, write_atomically

DOWNLOAD_SECONDS = 600


class Asset(NamedTuple):
    """A file of an npm package, NAME@VERSION, and its place under visdom's static folder."""

    package: str
    file: str
    place: str
    sha256: str

    @property
    def archive(self) -> str:
        return f"{self.package.replace('@', '-')}.tgz"


def known_assets() -> dict[str, tuple[Asset, ...]]:
    """The files that each known version of visdom needs."""
    table = json.loads(Path(__file__).with_suffix(".json").read_text())
    common = table.pop("common")
    return {v: tuple(Asset(**a) for a in [*common, *own]) for v, own in table.items()}


def wanted_assets() -> tuple[Asset, ...]:
    """The files that the installed visdom needs. Raises UserError for an unknown visdom."""
    installed, known = version("visdom"), known_assets()
    if installed not in known:
        raise UserError(
            f"visdom {installed} is installed, but the page's scripts are known for "
            f"{' and '.join(known)} only: install one of these"
        )
    return known[installed]


def static_folder() -> Path:
    """Where visdom keeps what its page loads."""
    return Path(find_spec("visdom").origin).parent / "static"


def cache_folder() -> Path:
    """Where the scripts of the installed visdom are kept, for all projects of the user."""
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not caches.is_absolute():  # which its rules leave out
        try:
            caches = Path.home() / ".cache"
        except RuntimeError:  # users without a home, as in some containers
            caches = Path(tempfile.gettempdir())
    return caches / "descargan" / f"visdom-{version('visdom')}"


def cached(place: str) -> bool:
    """Whether the cache holds that file of the page, whole."""
    path = cache_folder() / place
    sums = {a.sha256 for a in known_assets().get(version("visdom"), ()) if a.place == place}
    return bool(sums) and path.is_file() and sha256(path.read_bytes()) in sums


def missing_assets() -> list[str]:
    """Files that visdom's page loads and that are neither in the cache nor in visdom itself."""
    page = (static_folder() / "index.html").read_text()
    loaded = re.findall(r"""static_url\(["']([^"'.][^"']*)["']\)""", page)
    return [
        place
        for place in loaded
        if "mathjax" not in place and not (static_folder() / place).is_file() and not cached(place)
    ]


def install_assets(folder: Path | None = None) -> Path:
    """Put the scripts into the cache, and return its folder.

    They come from npm or visdom's own downloader; with ``folder`` from the npm archives in it, to
    which missing ones are added with npm, so that it can be carried to a machine without either.
    Raises UserError where they cannot be had, or are not those expected; nothing is kept then.
    """
    assets = wanted_assets()
    with tempfile.TemporaryDirectory() as temporary:
        if folder is not None:
            contents = from_npm(assets, folder)
        else:
            contents = from_any_source(assets, Path(temporary))
    for asset, content in contents.items():
        target = cache_folder() / asset.place
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, content)
    return cache_folder()


def from_any_source(assets: tuple[Asset, ...], folder: Path) -> dict[Asset, bytes]:
    """The files from npm, or else from visdom's downloader. Raises UserError with both reasons."""
    refuse_offline()
    reasons = []
    for source in (from_npm, from_visdom):
        try:
            return source(assets, folder)
        except UserError as error:
            reasons.append(str(error))
    raise UserError("; ".join(reasons))


def from_npm(assets: tuple[Asset, ...], folder: Path) -> dict[Asset, bytes]:
    """The files out of the npm archives in ``folder``; npm fetches those that are not there."""
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
    archives = {asset.package: folder / asset.archive for asset in assets}
    absent = [package for package, archive in archives.items() if not archive.is_file()]
    if absent:
        refuse_offline()
        npm = shutil.which("npm")
        if npm is None:
            raise UserError(
                f"{absent[0]} is missing and there is no npm to fetch it with: run this command "
                "with a folder on a machine that has npm, and bring that folder here"
            )
        command = [npm, "pack", *absent, "--ignore-scripts", "--loglevel=error"]
        complaint = failure(
            [*command, "--fetch-retries=1", "--fetch-retry-mintimeout=1000"], folder
        )
        if complaint:
            reason = " ".join(complaint.replace("npm error", "").split())[:200]
            raise UserError(f"npm could not fetch {absent[0]}: {reason}; see its registry setting")
    return {asset: member(archives[asset.package], asset) for asset in assets}


def from_visdom(assets: tuple[Asset, ...], folder: Path) -> dict[Asset, bytes]:
    """The files as visdom's own downloader gets them from the web, into ``folder``."""
    program = (
        "import sys; from visdom.server.build import download_scripts; "
        "download_scripts(install_dir=sys.argv[1])"
    )
    # It gets other files too, so that its failure alone says nothing.
    complaint = failure([sys.executable, "-c", program, str(folder)], folder)
    contents = {}
    for asset in assets:
        path = folder / "static" / asset.place
        content = path.read_bytes() if path.is_file() else b""
        if sha256(content) != asset.sha256:
            reason = complaint.splitlines()[-1:] or ["its SHA-256 differs"]
            raise UserError(f"visdom's own downloader did not get {asset.place}: {reason[0]}")
        contents[asset] = content
    return contents


def refuse_offline() -> None:
    """Raise UserError where DESCARGAN_OFFLINE forbids to fetch anything."""
    if os.environ.get("DESCARGAN_OFFLINE", "0") not in ("", "0"):
        raise UserError("DESCARGAN_OFFLINE is set, so nothing is fetched: unset it")


def failure(command: list[str], folder: Path) -> str:
    """Run a command in ``folder``. What it complained of if it failed, else nothing."""
    try:
        result = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"it took more than {DOWNLOAD_SECONDS} s"
    return (result.stderr.strip() or "no reason given") if result.returncode else ""


def member(archive: Path, asset: Asset) -> bytes:
    """The file out of an npm archive, whose one folder may have any name.

    Raises UserError where it is not the one expected.
    """
    content = b""
    with contextlib.suppress(tarfile.TarError, EOFError), tarfile.open(archive) as tar:
        for info in tar:
            if info.isfile() and info.name.partition("/")[2] == asset.file:
                content = tar.extractfile(info).read()
    if sha256(content) != asset.sha256:
        raise UserError(
            f"{archive} does not hold the {asset.file} expected, its SHA-256 differs: remove it"
        )
    return content


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
