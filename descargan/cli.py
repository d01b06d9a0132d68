"""What the command lines share: a parser whose errors are one sentence, and value types."""

import argparse
import io
import math
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from descargan import __version__
from descargan.errors import UserError

BROKEN_PIPE = 13  # the number of SIGPIPE, which Windows lacks


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
        except ValueError:
            parsed = math.nan
        if not math.isfinite(parsed) or not condition(parsed):
            raise argparse.ArgumentTypeError(f"{value!r} is not {text}")
        return parsed

    return parse


count = number(int, lambda x: x >= 1, "a whole number of at least 1")
natural = number(int, lambda x: 0 <= x < 2**63, "a whole number from 0 to 2^63 - 1")
positive = number(float, lambda x: x > 0, "a number greater than 0")
weight = number(float, lambda x: x >= 0, "a number of at least 0")
fraction = number(float, lambda x: 0 <= x < 1, "a number from 0 to below 1")
port = number(int, lambda x: 1 <= x <= 65535, "a port from 1 to 65535")
