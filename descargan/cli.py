"""What the command lines share: a parser whose errors are one sentence, and value types."""

import argparse
import io
import math
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from descargan import __version__
from descargan.errors import UserError

BROKEN_PIPE = 13  # the number of SIGPIPE, which Windows lacks
MOST = 10**6  # of anything that is counted: more is a slip, and no memory holds it


class Parser(argparse.ArgumentParser):
    """Parser that raises UserError instead of printing its usage, and takes no abbreviations."""

    def __init__(self, **settings: object) -> None:
        super().__init__(allow_abbrev=False, **settings)
        self.add_argument("--version", action="version", version=f"DeScarGAN {__version__}")

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see --help)")


def run(main: Callable[[], int | None]) -> int:
    """Call ``main``; a UserError or an error of the system becomes one sentence and status 2.

    Ctrl-C and SIGTERM unwind it, so that temporary files go, and give 130 and 143.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed, as by 2>&-
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 (to the end)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files need not be UTF-8
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        return main() or 0
    except UserError as error:
        message = str(error)
    except KeyboardInterrupt:
        print("interrupted; nothing that was saved before is lost", file=sys.stderr)
        return 130
    except BrokenPipeError:  # as of "| head": nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + BROKEN_PIPE
    except MemoryError:
        message = "the memory is full: pass a smaller --image-size or --batch-size"
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        message = f"{where}{error.strerror or error}"
    print(f"error: {message}", file=sys.stderr)
    return 2


def number(kind: type, condition: Callable[[float], bool], text: str) -> Callable[[str], float]:
    """A type for argparse: a finite number that meets ``condition``, which ``text`` describes."""

    def parse(value: str) -> float:
        try:
            parsed = kind(value)
            fits = condition(parsed) and math.isfinite(parsed)
        except ValueError:
            fits = False
        if not fits:
            raise argparse.ArgumentTypeError(f"{value!r} is not {text}")
        return parsed

    return parse


def address(value: str) -> str:
    """A type for argparse: the address of a server, http:// or https:// and its host."""
    host = r"[\w-]{1,63}(\.[\w-]{1,63})*|\[[\da-f:]+\]"
    found = re.fullmatch(rf"(https?://)?({host})/?", value, re.ASCII | re.IGNORECASE)
    if found is None:
        raise argparse.ArgumentTypeError(
            f"{value!r} is no address of a server as http://localhost is; its port goes to "
            "--visdom-port"
        )
    return (found[1] or "http://").lower() + found[2]


def path(value: str) -> Path:
    """A type for argparse: a path; nothing is none, and not the current folder."""
    if not value:
        raise argparse.ArgumentTypeError("an empty name is no path: the current folder is '.'")
    return Path(value)


count = number(int, lambda x: 1 <= x <= MOST, f"a whole number from 1 to {MOST}")
count_or_none = number(int, lambda x: 0 <= x <= MOST, f"a whole number from 0 to {MOST}")
natural = number(int, lambda x: 0 <= x < 2**63, "a whole number from 0 to 2^63 - 1")
positive = number(float, lambda x: x > 0, "a number greater than 0")
weight = number(float, lambda x: x >= 0, "a number of at least 0")
fraction = number(float, lambda x: 0 <= x < 1, "a number from 0 to below 1")
port = number(int, lambda x: 1 <= x <= 65535, "a port from 1 to 65535")
