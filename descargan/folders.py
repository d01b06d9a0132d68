"""Building a folder of many files: in parallel, and as a whole or not at all."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from descargan.errors import UserError

Job, Outcome = TypeVar("Job"), TypeVar("Outcome")


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
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    try:
        temporary.chmod(0o755)
        yield temporary
        old = temporary.with_name(temporary.name + ".old")
        if output.exists():
            output.rename(old)
        temporary.rename(output)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def map_in_processes(
    work: Callable[[Job], Outcome], jobs: list[Job], workers: int
) -> Iterator[Outcome]:
    """``map``, in order, by ``workers`` processes; what is left is dropped at an error."""
    if workers <= 1:
        yield from map(work, jobs)
        return
    with ProcessPoolExecutor(workers) as pool:
        try:
            yield from pool.map(work, jobs, chunksize=max(1, min(32, len(jobs) // (4 * workers))))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
