"""The scripts of visdom's page: the right files from any source, or nothing."""

import hashlib
import io
import os
import re
import sys
import tarfile

import pytest

from descargan import assets
from descargan.assets import Asset, install_assets
from descargan.errors import UserError

WANTED = b"wanted"
ASSET = Asset("thing@1.2.3", "dist/a.js", "js/a.js", hashlib.sha256(WANTED).hexdigest())


def write_archive(folder, content):
    """An npm archive that holds ``content`` as dist/a.js, and another file."""
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / ASSET.archive, "w:gz") as tar:
        for name, inside in (("dist/a.js", content), ("b.js", b"not wanted")):
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(inside)
            tar.addfile(info, io.BytesIO(inside))


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A machine with an empty cache, a visdom without scripts that needs one, and no npm."""
    static = tmp_path / "visdom" / "static"
    static.mkdir(parents=True)
    (static / "index.html").write_text(
        """<script src={{ static_url("js/a.js") }}></script>
        <script src={{ static_url('js/mathjax/MathJax.js') }}></script>
        <link href={{ static_url("../user/style.css") }}>"""
    )
    monkeypatch.setattr(assets, "static_folder", lambda: static)
    monkeypatch.setattr(assets, "version", lambda _: "1.0")
    monkeypatch.setattr(assets, "known_assets", lambda: {"1.0": (ASSET,)})
    monkeypatch.setattr(assets.shutil, "which", lambda _: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return static


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def npm(tmp_path, monkeypatch, text):
    """An npm of the test's own; the machine is not offline."""
    if os.name == "nt":
        pytest.skip("a shell script is no program there")
    program = tmp_path / "npm"
    program.write_text(text)
    program.chmod(0o755)
    monkeypatch.setattr(assets.shutil, "which", lambda _: str(program))
    monkeypatch.delenv("DESCARGAN_OFFLINE")


def visdom_downloads(monkeypatch, content):
    """A downloader of visdom's that gets ``content``; the machine is not offline."""

    def run(command, folder):
        assert command[0] == sys.executable
        (folder / "static" / "js").mkdir(parents=True)
        (folder / "static" / "js" / "a.js").write_bytes(content)
        return "some other file did not come"

    monkeypatch.setattr(assets, "failure", run)
    monkeypatch.delenv("DESCARGAN_OFFLINE")


def test_archives_brought_along_need_neither_npm_nor_web(tmp_path, machine):
    write_archive(tmp_path / "archives", WANTED)
    assert assets.missing_assets() == ["js/a.js"]
    folder = install_assets(tmp_path / "archives")
    assert folder == tmp_path / "caches" / "descargan" / "visdom-1.0"
    assert (folder / "js" / "a.js").read_bytes() == WANTED
    assert files(folder) == ["js/a.js"]
    assert assets.missing_assets() == []
    assert files(machine) == ["index.html"], "the installed package stays as it is"


def test_npm_fetches_what_is_missing(tmp_path, monkeypatch):
    write_archive(tmp_path / "registry", WANTED)
    npm(
        tmp_path,
        monkeypatch,
        f"#!/bin/sh\ncp {tmp_path}/registry/$2 . || cp {tmp_path}/registry/* .",
    )
    install_assets()
    assert assets.missing_assets() == []


def test_visdoms_own_downloader_serves_where_there_is_no_npm(monkeypatch):
    visdom_downloads(monkeypatch, WANTED)
    install_assets()
    assert assets.missing_assets() == []


def test_a_wrong_file_is_refused_whichever_source_it_came_from(tmp_path, monkeypatch):
    write_archive(tmp_path / "archives", b"evil")
    with pytest.raises(UserError, match=r"dist/a\.js expected, its SHA-256 differs: remove it"):
        install_assets(tmp_path / "archives")
    visdom_downloads(monkeypatch, b"evil")
    with pytest.raises(UserError, match=r"visdom's own downloader did not get js/a\.js"):
        install_assets()
    assert not assets.cache_folder().exists()


@pytest.mark.parametrize("damage", [b"", b"wanted and more"])
def test_a_damaged_file_in_the_cache_counts_as_missing(tmp_path, damage):
    write_archive(tmp_path / "archives", WANTED)
    (install_assets(tmp_path / "archives") / "js" / "a.js").write_bytes(damage)
    assert assets.missing_assets() == ["js/a.js"]
    install_assets(tmp_path / "archives")
    assert assets.missing_assets() == []


def test_an_archive_that_is_none_is_refused(tmp_path):
    (tmp_path / "thing-1.2.3.tgz").write_bytes(b"no archive")
    with pytest.raises(UserError, match="remove it"):
        install_assets(tmp_path)


def test_scripts_that_visdom_has_itself_are_enough(machine):
    (machine / "js").mkdir()
    (machine / "js" / "a.js").write_bytes(b"another build of it")
    assert assets.missing_assets() == []


def test_offline_nothing_is_fetched(monkeypatch, tmp_path):
    monkeypatch.setenv("DESCARGAN_OFFLINE", "1")
    monkeypatch.setattr(assets, "failure", lambda *_: pytest.fail("something was fetched"))
    for folder in (None, tmp_path / "empty"):
        with pytest.raises(UserError, match="DESCARGAN_OFFLINE is set"):
            install_assets(folder)


def test_neither_npm_nor_archives_says_how_to_bring_them(tmp_path, monkeypatch):
    monkeypatch.delenv("DESCARGAN_OFFLINE")
    with pytest.raises(UserError, match="on a machine that has npm"):
        install_assets(tmp_path / "empty")


def test_sources_that_fail_are_named_with_their_reasons(tmp_path, monkeypatch):
    npm(tmp_path, monkeypatch, "#!/bin/sh\necho 'npm error registry is down' >&2\nexit 1\n")
    monkeypatch.setattr(assets.sys, "executable", str(tmp_path / "npm"))
    with pytest.raises(UserError) as refused:
        install_assets()
    assert "npm could not fetch thing@1.2.3: registry is down" in str(refused.value)
    assert "visdom's own downloader did not get js/a.js: npm error registry" in str(refused.value)


def test_the_cache_of_users_without_a_home(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/left/out")
    monkeypatch.setattr(assets.tempfile, "gettempdir", lambda: str(tmp_path))

    def no_home():
        raise RuntimeError

    monkeypatch.setattr(assets.Path, "home", no_home)
    assert assets.cache_folder() == tmp_path / "descargan" / "visdom-1.0"


def test_an_unknown_visdom_is_told_from_one_that_has_its_scripts(monkeypatch):
    monkeypatch.setattr(assets, "version", lambda _: "9.9")
    assert assets.missing_assets() == ["js/a.js"]
    with pytest.raises(UserError, match=r"visdom 9\.9 .* 1\.0 only"):
        install_assets()


def test_every_known_visdom_has_the_files_that_its_page_loads(monkeypatch):
    monkeypatch.undo()  # the real machine
    known = assets.known_assets()
    assert assets.version("visdom") in known
    page = (assets.static_folder() / "index.html").read_text()
    for wanted in known.values():
        places = [asset.place for asset in wanted]
        assert len(places) == len(set(places))
        assert set(assets.missing_assets()) <= set(places)
        assert all(re.fullmatch("[0-9a-f]{64}", asset.sha256) for asset in wanted)
        for needed in ("jquery", "bootstrap", "react-dom", "plotly-plotly", "d3.v3"):
            assert any(needed in place for place in places if place in page)
