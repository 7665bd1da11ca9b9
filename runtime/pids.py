"""Which program a pid stands for: pids are used again, so its start and command line count too."""

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

_PAUSE_SECONDS = 0.05
_APPEARING_SECONDS = 2.0
_ZOMBIE = "Z"


@dataclass(frozen=True, slots=True)
class Identity:
    """One started program: pid, when it started (in the system's own words), and its command line."""

    pid: int
    started: str
    command: str


def identify(pid: int) -> Identity | None:
    """Tell which program runs under a pid; none when there is none, or only its unreaped remains."""
    try:
        if Path("/proc/self/stat").exists():
            return _identify_by_proc(pid)
        return _identify_by_ps(pid)
    except (OSError, ValueError, IndexError):
        return None


def identify_started(pid: int) -> Identity | None:
    """Tell which program runs under the pid of a child just started; its command line takes a moment to appear."""
    deadline = time.monotonic() + _APPEARING_SECONDS
    found = identify(pid)
    while found is not None and not found.command and time.monotonic() < deadline:
        time.sleep(_PAUSE_SECONDS / 10)
        found = identify(pid)
    return found


def is_alive(program: Identity) -> bool:
    """Tell whether exactly this program, not another one under its pid, still runs.

    A program that is just ending has lost its command line already; it counts as alive until it is gone.
    """
    found = identify(program.pid)
    return found is not None and found.started == program.started and found.command in {program.command, ""}


def is_zombie(pid: int) -> bool:
    """Tell whether a pid belongs to a program that has ended but was not collected by its parent."""
    try:
        return _stat_fields(pid)[0] == _ZOMBIE
    except (OSError, IndexError):
        return False


def end(program: Identity, *, patience_seconds: float) -> bool:
    """End exactly this program: politely, and after the patience with SIGKILL. False when it was gone."""
    if not is_alive(program):
        return False
    for number in (signal.SIGTERM, signal.SIGKILL):
        _send(program, number)
        if wait_until_gone(program, patience_seconds=patience_seconds):
            break
    return True


def wait_until_gone(program: Identity, *, patience_seconds: float) -> bool:
    """Wait until a program has ended; False when it still runs after the patience."""
    deadline = time.monotonic() + patience_seconds
    while is_alive(program):
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE_SECONDS)
    return True


def _send(program: Identity, number: signal.Signals) -> None:
    try:
        os.kill(program.pid, number)
    except ProcessLookupError:
        return


def _stat_fields(pid: int) -> list[str]:
    """Read /proc's status fields from the third on; the second may contain spaces and parentheses."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()


def _identify_by_proc(pid: int) -> Identity | None:
    fields = _stat_fields(pid)
    if fields[0] in {_ZOMBIE, "X"}:
        return None
    command = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ")
    return Identity(pid=pid, started=fields[19], command=command.decode(errors="replace"))


def _identify_by_ps(pid: int) -> Identity | None:
    asked = ["ps", "-ww", "-o", "stat=,lstart=,command=", "-p", str(pid)]
    words = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
    if not words or words[0].startswith(_ZOMBIE):
        return None
    return Identity(pid=pid, started=" ".join(words[1:6]), command=" ".join(words[6:]))
