"""The one error for a user's mistake."""


class InputError(ValueError):
    """Bad input or bad arguments: the message says what, where, what was expected and what to do.

    The command line prints the message on one line and exits with status 2, without a traceback.
    """
