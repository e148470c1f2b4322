"""The errors that a person can mend: each is one clear line, and none shows a traceback."""


class UserError(ValueError):
    """The command line or the config is wrong; the command exits with status 2."""


class RunError(RuntimeError):
    """The run itself failed, for a reason that one line explains; the command exits with status 1."""
