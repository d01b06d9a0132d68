"""Locks on files, so that one process at a time writes to a run."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """A lock file that is held for the block, and goes with it, or with the process.

    Gives whether it is ours: False where another process holds it. On file systems that have no
    locks nothing is held.
    """
    from filelock import FileLock, Timeout  # which a program's --help does without

    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    except (NotImplementedError, OSError):
        yield True
        return
    try:
        yield True
    finally:
        with suppress(OSError):  # Windows keeps what is open
            path.unlink()
        lock.release()
