"""Two kinds of work at once: what is computed next, while the last is written."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")


def ahead(items: Iterator[Item], number: int) -> Iterator[Item]:
    """The items in order, made by a thread that is at most ``number`` ahead of who takes them.

    PyTorch and the system's calls let the other thread go on. What ``items`` raises is raised here,
    in its place.
    """
    nothing = object()
    # Vanishing numbers are flushed in each thread by itself.
    thread = ThreadPoolExecutor(1, initializer=torch.set_flush_denormal, initargs=(True,))
    try:
        coming = deque(thread.submit(next, items, nothing) for _ in range(number))
        while (item := coming.popleft().result()) is not nothing:
            coming.append(thread.submit(next, items, nothing))
            yield item
    finally:
        thread.shutdown(cancel_futures=True)
