"""The exceptions and warnings that a user is meant to read."""

import sys


class UserError(ValueError):
    """Something the user can mend. Its text is one sentence that names the culprit and the mend.

    The command lines print it after ``error:`` and exit with status 2.
    """


class FileError(UserError, OSError):
    """A file or folder that is missing, damaged, or cannot be written."""


def warn(message: str) -> None:
    """Print a sentence that the user should know of; the program goes on."""
    print(f"warning: {message}", file=sys.stderr)
