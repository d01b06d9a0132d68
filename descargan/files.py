"""Files and folders that are written as a whole or not at all, and many files in parallel."""

import csv
import glob
import io
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from descargan.errors import FileError, UserError
from descargan.locks import held

Job, Outcome = TypeVar("Job"), TypeVar("Outcome")


def write_atomically(path: Path, content: bytes, previous: Path | None = None) -> None:
    """Write a file as a whole or not at all; keep the old one as ``previous``."""
    # Long names have no room for more letters.
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:32]}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(handle)
        Path(temporary).chmod(0o644)
        if previous is not None and path.exists():
            path.replace(previous)
        Path(temporary).replace(path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        kept = ". The last one is kept" if path.exists() else ""
        raise FileError(f"{path} cannot be written: {error.strerror}{kept}") from error
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


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
    """The rows of a table that :func:`write_table` wrote, by the names of its columns."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


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

    An existing ``output`` is replaced with ``overwrite`` only, and only where it holds the file
    ``marker``, which the block must write. Raises UserError before anything is written.
    """
    if output.exists() or output.is_symlink():
        if not overwrite:
            raise UserError(f"{output} exists: pass --overwrite to replace it, or another --output")
        if not (output / marker).is_file():
            raise UserError(
                f"{output} is no data set of this program, so --overwrite does not replace it: "
                "move it away, or pass another --output"
            )
    with naming(output):
        output.parent.mkdir(parents=True, exist_ok=True)
    with in_place_of(output) as temporary:
        yield temporary


@contextmanager
def in_place_of(folder: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of ``folder`` when the block ends without an error.

    What killed processes have left of such is removed. Raises UserError where another process
    writes to it.
    """
    unfinished = f".{folder.name}.unfinished-"
    with held(folder.with_name(f".{folder.name}.lock")) as ours:
        if not ours:
            raise UserError(
                f"{folder} is being written by another process: wait until it has ended, or name "
                "another folder"
            )
        for left in folder.parent.glob(f"{glob.escape(unfinished)}????????"):
            shutil.rmtree(left, ignore_errors=True)
        with naming(folder):
            temporary = Path(tempfile.mkdtemp(prefix=unfinished, dir=folder.parent))
        try:
            temporary.chmod(0o755)
            yield temporary
            old = temporary.with_name(temporary.name + ".old")
            if folder.exists():
                folder.rename(old)
            temporary.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


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
    workers = min(workers or available_cores(), len(jobs))
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
