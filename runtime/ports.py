"""Ports on this machine: free ones, busy ones, and who keeps them busy."""

import contextlib
import errno
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

from runtime.cannot_run import CannotRun
from runtime.pids import identify
from runtime.settings import variable

LOCALHOST = "127.0.0.1"

_LISTENING = "0A"
_COMMAND_SHOWN = 80


class PortUnusable(CannotRun):
    """A port cannot be used; the message names it, who has it where that is known, and the setting to change."""


def choose_ports(wanted: Mapping[str, int]) -> dict[str, int]:
    """Check that each wanted port is free, and pick a free one for every 0.

    The names are those of the settings (`api_port`, ...). Raises `PortUnusable`.
    """
    with contextlib.ExitStack() as held:
        chosen: dict[str, int] = {}
        # Fixed ones first, so that no free pick takes one of them.
        for name, port in sorted(wanted.items(), key=lambda item: item[1] == 0):
            _refuse_twice(name, port, chosen)
            chosen[name] = _hold(name, port, held)
        return chosen


def port_holder(port: int) -> str | None:
    """Say which program listens on a port, such as `pid 12 (python -m api)`; none where that cannot be seen."""
    sockets = set(_listening_sockets(port))
    for pid in _pids():
        if sockets & _sockets_of(pid):
            program = identify(pid)
            command = "" if program is None else f" ({program.command[:_COMMAND_SHOWN].strip()})"
            return f"pid {pid}{command}"
    return None


def _refuse_twice(name: str, port: int, chosen: Mapping[str, int]) -> None:
    for other, taken in chosen.items():
        if port == taken:
            msg = (
                f"{variable(name)} and {variable(other)} are both {port}. "
                f"Give each a port of its own, or 0 for any free one."
            )
            raise PortUnusable(msg)


def _hold(name: str, port: int, held: contextlib.ExitStack) -> int:
    """Bind a port until all are chosen, so that no two picks are the same."""
    listening = held.enter_context(socket.socket())
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((LOCALHOST, port))
        listening.listen()
    except OSError as refused:
        raise PortUnusable(_refusal(name, port, refused)) from None
    return int(listening.getsockname()[1])


def _refusal(name: str, port: int, refused: OSError) -> str:
    remedy = f"Set {variable(name)} to another port, or to 0 for any free one."
    if refused.errno != errno.EADDRINUSE:
        return f"Port {port} ({variable(name)}) cannot be used: {refused.strerror}. {remedy}"
    holder = port_holder(port)
    by = "another program" if holder is None else holder
    return f"Port {port} ({variable(name)}) is already used by {by}. {remedy}"


def _listening_sockets(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]


def _pids() -> list[int]:
    with contextlib.suppress(OSError):
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return []


def _sockets_of(pid: int) -> set[str]:
    found: set[str] = set()
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                match = re.fullmatch(r"socket:\[(\d+)\]", str(entry.readlink()))
                found.update(match.groups() if match else ())
    return found
