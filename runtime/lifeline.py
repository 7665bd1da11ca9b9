"""The lifeline: a pipe held by the development run, at whose end its programs end themselves."""

import os
import signal
import threading

VARIABLE = "TIDEMARK_LIFELINE_FD"

# Longer than the longest draw, so that a worker can let its last one finish.
_GRACE_SECONDS = 60.0


def watch_lifeline() -> None:
    """End this program when the development run that started it is gone, however it went.

    Does nothing outside a development run. The end begins with SIGTERM, so the program stops as it always does;
    only if it has not after a minute, it is killed.
    """
    text = os.environ.pop(VARIABLE, "")
    if not text.isdecimal():
        return
    lifeline = int(text)
    os.set_inheritable(lifeline, False)  # noqa: FBT003 - the only way to call it
    threading.Thread(target=_end_with, args=(lifeline,), name="lifeline", daemon=True).start()


def _end_with(lifeline: int) -> None:
    try:
        while os.read(lifeline, 1):
            pass
    except OSError:
        return
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(_GRACE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
