"""A fork server: it has imported the product once, so that a program of it starts in a moment, as often as killed."""

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

from runtime.parts import CHECKOUT
from runtime.temporal_server import end_with_parent

_DIE_WITH_PARENT = end_with_parent(signal.SIGKILL)


class Child:
    """One started program; it is somebody else's child, so its end is learned from the system."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)
        self.ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._descriptor, self._note_end)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if not self.ended.is_set():
            signal.pidfd_send_signal(self._descriptor, number)

    def _note_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        self.ended.set()


@dataclass(slots=True)
class Zygote:
    """The fork server's handle; programs that it has started end with it."""

    _server: asyncio.subprocess.Process
    _asking: asyncio.Lock

    @classmethod
    async def open(cls) -> Self:
        """Start the fork server; it answers when it has imported everything."""
        server = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.chaos.zygote"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=CHECKOUT,
            preexec_fn=_DIE_WITH_PARENT,
            start_new_session=True,  # Ctrl-C is for the campaign, which ends in good order.
        )
        return cls(server, asyncio.Lock())

    async def start(self, program: str, environment: Mapping[str, str], *, log: Path) -> Child:
        """Start worker, watcher, api or inbox."""
        order = {"program": program, "environment": dict(environment), "log": str(log)}
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        async with self._asking:
            self._server.stdin.write(json.dumps(order).encode() + b"\n")
            answer = await self._server.stdout.readline()
            return Child(int(answer))

    async def close(self) -> None:
        """End it, and everything it has started."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        await self._server.wait()


def serve() -> None:
    """Fork a program for each line of orders, until there are no more."""
    programs = _programs()
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(programs[order["program"]], order["environment"], order["log"])
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def _programs() -> Mapping[str, Callable[[], int]]:
    import api.__main__ as api  # noqa: PLC0415 - only the fork server imports them all
    import api.serving as _  # noqa: F401, PLC0415 - read before the fork
    import starter.__main__ as starter  # noqa: PLC0415
    import worker  # noqa: PLC0415
    from runtime.inbox import run_inbox  # noqa: PLC0415
    from runtime.settings import read_development_settings  # noqa: PLC0415

    return {
        "worker": worker.main,
        "watcher": lambda: starter.main(["watch"]),
        "api": lambda: api.main([]),
        "inbox": lambda: run_inbox(read_development_settings()),
    }


def _become(program: Callable[[], int], environment: Mapping[str, str], log: str) -> None:
    """Run the program in place of the forked server, and end with it."""
    if _DIE_WITH_PARENT is not None:
        _DIE_WITH_PARENT()
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, end in ((nothing, 0), (written, 1), (written, 2)):
        os.dup2(descriptor, end)
    os.environ.clear()
    os.environ.update(environment)
    code = 1
    try:
        code = program()
    except BaseException:  # noqa: BLE001 - it ends here whatever comes
        cast("Callable[..., None]", sys.excepthook)(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
