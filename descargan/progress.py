"""How far a long piece of work is: a moving bar in a terminal, now and then a line in a log."""

import sys
from collections.abc import Iterable

from tqdm import tqdm as Bar

A_LINE = 30.0  # seconds from one line of a log to the next
LINE = "{percentage:3.0f}% {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]\n"


def progress_bar(items: Iterable | None = None, **settings: object) -> Bar:
    """A bar of tqdm with its ``settings``, on stderr.

    A file keeps every picture of a moving bar, so there it is a line each A_LINE seconds.
    """
    if not sys.stderr.isatty():
        lines = {"mininterval": A_LINE, "maxinterval": A_LINE, "bar_format": LINE}
        settings = {**lines, **settings}
    return Bar(items, **settings)
