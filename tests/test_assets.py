"""The scripts of visdom's page: the right files from the right archives, or nothing."""

import base64
import hashlib
import io
import tarfile

import pytest

from descargan import assets
from descargan.assets import Package
from descargan.errors import UserError


def archive(folder, files):
    """An npm archive of the given files; returns the package that describes it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    content = buffer.getvalue()
    digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
    package = Package("thing", "1.2.3", digest, {"dist/a.js": "js/a.js"})
    folder.mkdir(exist_ok=True)
    (folder / package.archive).write_bytes(content)
    return package


@pytest.fixture
def static(tmp_path, monkeypatch):
    static = tmp_path / "static"
    monkeypatch.setattr(assets, "static_folder", lambda: static)
    return static


@pytest.fixture
def package(tmp_path, monkeypatch):
    package = archive(tmp_path / "archives", {"dist/a.js": b"wanted", "b.js": b"not wanted"})
    monkeypatch.setattr(assets, "packages", lambda: (package,))
    return package


def test_wanted_files_are_put_in_place_without_npm(tmp_path, static, package, monkeypatch):
    monkeypatch.setattr(assets.shutil, "which", lambda _: None)
    assert assets.missing_assets() == ["js/a.js"]
    assets.install_assets(tmp_path / "archives")
    assert [p.relative_to(static).as_posix() for p in static.rglob("*.js")] == ["js/a.js"]
    assert (static / "js/a.js").read_bytes() == b"wanted"
    assert assets.missing_assets() == []


def test_a_tampered_archive_is_refused_and_nothing_installed(tmp_path, static, package):
    archive(tmp_path / "archives", {"dist/a.js": b"evil"})
    with pytest.raises(UserError, match=r"SHA-512.*remove it"):
        assets.install_assets(tmp_path / "archives")
    assert not static.exists()


def test_neither_npm_nor_archives_says_how_to_bring_them(tmp_path, static, package, monkeypatch):
    monkeypatch.setattr(assets.shutil, "which", lambda _: None)
    with pytest.raises(UserError, match="on a machine that has npm"):
        assets.install_assets(tmp_path / "empty")


def test_npm_that_fails_is_named_with_its_reason(tmp_path, static, package, monkeypatch):
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'registry is down' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setattr(assets.shutil, "which", lambda _: str(npm))
    with pytest.raises(UserError, match=r"thing@1\.2\.3: registry is down"):
        assets.install_assets(tmp_path / "empty")


def test_every_known_visdom_has_the_files_of_its_page():
    for packages in assets.known_packages().values():
        places = [place for package in packages for place in package.files.values()]
        assert len(places) == len(set(places))
        for needed in ("jquery", "bootstrap", "react-dom", "plotly-plotly", "mathjax", "d3.v3"):
            assert any(needed in place for place in places)
        for package in packages:
            assert len(base64.b64decode(package.sha512)) == 64


def test_an_unknown_visdom_is_left_alone(monkeypatch):
    monkeypatch.setattr(assets, "version", lambda _: "9.9")
    assert assets.missing_assets() == []
    with pytest.raises(UserError, match=r"visdom 9\.9"):
        assets.packages()
