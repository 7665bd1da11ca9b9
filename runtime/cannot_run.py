"""The one exception that a command turns into a sentence and an exit code instead of a traceback."""


class CannotRun(RuntimeError):
    """Something foreseen keeps a command from running; the message is for the person who started it."""
