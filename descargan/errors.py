"""The one exception that a user is meant to read."""


class UserError(Exception):
    """Something the user can mend. Its text is one sentence that names the culprit and the mend.

    The command lines print it after ``error:`` and exit with status 2.
    """
