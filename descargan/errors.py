"""The exceptions that a user is meant to read."""


class UserError(ValueError):
    """Something the user can mend. Its text is one sentence that names the culprit and the mend.

    The command lines print it after ``error:`` and exit with status 2.
    """


class FileError(UserError, OSError):
    """A file or folder that is missing, damaged, or cannot be written."""
