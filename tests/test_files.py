"""Files and folders written as a whole: their permissions, and what killed processes leave."""

import os
import shutil
import signal
import stat
from pathlib import Path

import pytest

from descargan import files
from descargan.errors import FileError, UserError
from descargan.files import in_place_of, read_table, remove_halves, write_atomically
from descargan.layout import read_patients


@pytest.fixture(params=[0o077, 0o002], ids=oct)
def umask(request):
    """What the user withholds of new files."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def replace(folder, content):
    """Write a folder that holds the file ``name`` alone."""
    with in_place_of(folder) as temporary:
        (temporary / "name").write_text(content)


def fail_to_replace(folder):
    with pytest.raises(ZeroDivisionError), in_place_of(folder):
        raise ZeroDivisionError


def killed(work):
    """Run ``work`` in a process that kills itself in it."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("name")}


def test_what_is_written_has_the_permissions_that_the_user_grants(tmp_path, umask):
    write_atomically(tmp_path / "file", b"1")
    replace(tmp_path / "folder", "1")
    assert mode(tmp_path / "file") == 0o666 & ~umask
    assert mode(tmp_path / "folder") == 0o777 & ~umask


def test_halves_of_files_are_removed_by_the_name_they_are_written_under(tmp_path, monkeypatch):
    path, kept = tmp_path / ("long name " * 9), tmp_path / ".long name"
    kept.touch()
    half = files.half_of(path)
    half.touch()
    remove_halves(path)
    assert list(tmp_path.iterdir()) == [kept]


def test_a_file_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(FileError, match=r"name cannot be written"):
            write_atomically(folder / "name", b"")


def test_a_folder_killed_between_its_renames_is_put_back_by_the_next_write(tmp_path):
    folder = tmp_path / "set"
    replace(folder, "old")
    rename = Path.rename

    def second(path, target):
        return rename(path, target) if path == folder else die()

    def work():
        Path.rename = second
        replace(folder, "new")

    killed(work)
    assert not folder.exists()
    fail_to_replace(folder)
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
    assert contents(tmp_path) == {"set/name": "old"}


def test_a_folder_killed_while_the_old_one_is_removed_leaves_it_to_the_next_write(tmp_path):
    folder = tmp_path / "set"
    replace(folder, "old")

    def work():
        shutil.rmtree = die
        replace(folder, "new")

    killed(work)
    assert sorted(contents(tmp_path).values()) == ["new", "old"]
    assert contents(folder) == {"name": "new"}
    shutil.rmtree(folder)
    replace(folder, "newest")
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
    assert contents(folder) == {"name": "newest"}


def test_an_old_folder_that_an_earlier_version_left_is_removed_or_put_back(tmp_path):
    for name, other in (("a", "a"), ("b", "c")):
        replace(tmp_path / other, "present")
        replace(tmp_path / f".{name}.unfinished-ab_d3fgh.old", "old")
    for name in ("a", "b"):
        fail_to_replace(tmp_path / name)
    assert contents(tmp_path) == {"a/name": "present", "b/name": "old", "c/name": "present"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "c"]


def test_a_folder_that_cannot_take_the_place_leaves_the_old_one_there(tmp_path, monkeypatch):
    folder = tmp_path / "set"
    replace(folder, "old")
    rename = Path.rename

    def refused(path, target):
        if Path(target) == folder and ".old" not in path.name:
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(FileError, match=r"set cannot be written: Permission denied"):
        replace(folder, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
    assert contents(folder) == {"name": "old"}


def test_a_link_to_a_folder_stays_and_leads_to_the_new_one(tmp_path):
    folder, link = tmp_path / "disk" / "set", tmp_path / "link"
    folder.parent.mkdir()
    link.symlink_to(folder)
    for content in ("first", "second"):
        replace(link, content)
        assert link.is_symlink()
        assert contents(folder) == {"name": content}
    assert sorted(p.name for p in (*tmp_path.iterdir(), *folder.parent.iterdir())) == [
        "disk",
        "link",
        "set",
    ]


def test_two_names_of_a_folder_are_written_by_one_process_at_a_time(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "set")
    with in_place_of(tmp_path / "set"), pytest.raises(UserError, match=r"link is being written"):
        replace(tmp_path / "link", "")


@pytest.mark.parametrize("row", ["x" * 200_000, "\udcff"])
def test_a_damaged_table_is_one_sentence_and_tells_no_patients(tmp_path, row):
    path = tmp_path / "manifest.csv"
    path.write_bytes(f"file,patient\n{row},1\n".encode(errors="surrogateescape"))
    with pytest.raises(FileError, match=r"manifest\.csv is damaged"):
        read_table(path)
    assert read_patients(tmp_path, [tmp_path / "a.png"]) == []
