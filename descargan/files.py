"""Files and folders that are written as a whole or not at all, and many files in parallel."""

import csv
import glob
import io
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from descargan.errors import FileError, UserError
from descargan.locks import held

Job, Outcome = TypeVar("Job"), TypeVar("Outcome")

MOST_WORKERS = 61  # processes that Windows can wait for
MARKERS = {  # files in folders that this program wrote, and what only it writes there
    "preparation.json": b'"left_out"',
    "dataset.json": b'"healthy_counterpart"',
    "predictions.csv": b"anomaly_score",
    "metrics.json": b'"dice_threshold_chosen_on_validation"',
}


def is_marker(path: Path) -> bool:
    """Whether a file says of its folder that this program wrote it: others use such names, too."""
    try:
        return path.name in MARKERS and MARKERS[path.name] in path.read_bytes()
    except OSError:
        return False


def half_of(path: Path) -> Path:
    """A new name beside ``path`` for what is to become it. Long names have no room for more."""
    return path.with_name(f".{path.name[:32]}.{os.urandom(4).hex()}")


def write_atomically(path: Path, content: bytes, previous: Path | None = None) -> None:
    """Write a file as a whole or not at all; keep the old one as ``previous``."""
    temporary = half_of(path)
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            path.replace(previous)
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):  # where it could not be made
            temporary.unlink()
        if not isinstance(error, OSError):
            raise
        kept = ". The last one is kept" if path.exists() else ""
        raise FileError(f"{path} cannot be written: {error.strerror}{kept}") from error


def remove_halves(path: Path) -> None:
    """Remove what writes of a file have left that were killed."""
    for half in path.parent.glob(f".{glob.escape(path.name[:32])}.????????"):
        with suppress(OSError):  # of another user, or gone
            half.unlink()


def write_json(path: Path, value: object) -> None:
    write_atomically(path, (json.dumps(value, indent=2) + "\n").encode())


def write_lines(path: Path, lines: Iterable[str]) -> None:
    write_atomically(path, "".join(f"{line}\n" for line in lines).encode())


def write_json_lines(path: Path, records: Iterable[dict]) -> None:
    write_lines(path, map(json.dumps, records))


def read_json(path: Path) -> dict:
    """The object in a file; empty where there is none. Raises UserError where it is damaged."""
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise FileError(f"{path} is damaged: restore or remove it")
    return value


def without_nan(value: object) -> object:
    """``value`` with None for every NaN or infinity, which JSON does not know."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_table(path: Path, header: tuple, rows: Iterable[tuple]) -> None:
    """Write a CSV file atomically, in UTF-8; bytes of names that are none become ``\\udcXX``."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(header)
    writer.writerows(rows)
    write_atomically(path, buffer.getvalue().encode(errors="backslashreplace"))


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a table that :func:`write_table` wrote, by the names of its columns.

    Raises FileError where it is damaged.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileError(f"{path} is damaged: restore or remove it") from error


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn an error of the system into the sentence that ``path`` cannot be written.

    A full disk is reported by the writing itself, which knows no name of the file.
    """
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror or error}") from error


@contextmanager
def built_whole(output: Path, marker: str, overwrite: bool) -> Iterator[Path]:
    """A temporary folder that takes the place of ``output`` when the block ends without an error.

    An existing ``output`` is replaced with ``overwrite`` only, and only where the file ``marker``,
    which the block must write, says that it is a data set of this program. Raises UserError before
    anything is written.
    """
    with naming(output):
        place_of(output).parent.mkdir(parents=True, exist_ok=True)
    with alone_at(output):
        if output.exists() or place_of(output).is_symlink():
            refuse_to_replace(output, marker, overwrite)
        with replacement(output) as temporary:
            yield temporary


@contextmanager
def in_place_of(folder: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of ``folder`` when the block ends without an error.

    Raises UserError where another process writes to it.
    """
    with alone_at(folder), replacement(folder) as temporary:
        yield temporary


def refuse_to_replace(output: Path, marker: str, overwrite: bool) -> None:
    """Raise UserError where what is there is not to be replaced."""
    if not overwrite:
        raise UserError(f"{output} exists: pass --overwrite to replace it, or another --output")
    if not is_marker(output / marker):
        raise UserError(
            f"{output} is no data set of this program, so --overwrite does not replace it: "
            "move it away, or pass another --output"
        )
    if Path.cwd().is_relative_to(place_of(output)):
        raise UserError(
            f"{output} is the folder that you work in, or holds it, so it cannot be replaced: "
            "change to another folder"
        )


def place_of(folder: Path) -> Path:
    """Where a folder lies, behind links; of a link that leads to itself, the link."""
    return Path(os.path.realpath(folder))


@contextmanager
def alone_at(folder: Path) -> Iterator[None]:
    """Keep other processes from writing to ``folder``, and clear up after those that were killed.

    Raises UserError where another process writes to it.
    """
    place = place_of(folder)
    with held(place.parent / f".{place.name}.lock") as ours:
        if not ours:
            raise UserError(
                f"{folder} is being written by another process: wait until it has ended, or name "
                "another folder"
            )
        with naming(folder):
            clear_up(place)
        yield


@contextmanager
def replacement(folder: Path) -> Iterator[Path]:
    """:func:`in_place_of` for one that is :func:`alone_at`. Of a link, its target is replaced."""
    place = place_of(folder)
    temporary = place.parent / f".{place.name}.unfinished-{os.urandom(4).hex()}"
    try:
        with naming(folder):
            temporary.mkdir()
        yield temporary
        with naming(folder):
            if place.exists():
                place.rename(temporary.with_name(f"{temporary.name}.old"))
            temporary.rename(place)
    finally:
        with naming(folder):
            clear_up(place)


def clear_up(place: Path) -> None:
    """Remove what writes of a folder have left; put back one that nothing has taken the place of.

    What is to be removed loses its ending first: half of it is never put back.
    """
    unfinished = glob.escape(f".{place.name}.unfinished-")
    for old in place.parent.glob(f"{unfinished}????????.old"):
        old.rename(old.with_suffix(".del") if place.exists() else place)
    for ending in ("", ".del"):
        for left in place.parent.glob(f"{unfinished}????????{ending}"):
            shutil.rmtree(left, ignore_errors=True)


def available_cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    if hasattr(os, "process_cpu_count"):  # from Python 3.13 on
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_in_processes(
    work: Callable[[Job], Outcome], jobs: list[Job], workers: int | None
) -> Iterator[Outcome]:
    """``map``, in order, by ``workers`` processes (None: one a core that may be used).

    What is left is dropped at an error. Raises UserError where a process is ended from outside.
    """
    workers = min(workers or available_cores(), len(jobs), MOST_WORKERS)
    if workers <= 1:
        yield from map(work, jobs)
        return
    with ProcessPoolExecutor(workers) as pool:
        try:
            yield from pool.map(work, jobs, chunksize=max(1, min(32, len(jobs) // (4 * workers))))
        except BrokenProcessPool as error:
            raise UserError(
                "a process was ended from outside, most likely for want of memory: "
                "pass fewer --workers"
            ) from error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
