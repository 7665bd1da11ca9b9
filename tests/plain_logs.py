"""How the tests log, wherever no test is about the logs themselves."""

import structlog
from structlog.dev import ConsoleRenderer, plain_traceback


def log_plainly() -> None:
    """Log as structlog does by itself, but for failures: it shows each variable of each frame, a second's work."""
    structlog.reset_defaults()
    renderer = ConsoleRenderer(exception_formatter=plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], renderer])
