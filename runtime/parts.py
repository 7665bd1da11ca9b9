"""The parts of a development run: each a program that is started, watched and ended in its own way."""

import json
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from runtime.embedded_postgres import (
    PROGRAM_USER,
    SUPERUSER,
    PostgresServer,
    create_database,
    running_postgres,
    start_postgres,
    stop_postgres,
)
from runtime.lifeline import VARIABLE as LIFELINE
from runtime.pids import Identity, identify_started
from runtime.temporal_server import TemporalServerPlan, start_temporal_server, wait_until_serving

Say = Callable[[str], None]

CHECKOUT = Path(__file__).resolve().parent.parent
DATABASE_NAME = "tidemark"

# The exit status of a program whose settings are refused: starting it again would not help.
SETTINGS_REFUSED = 2

_PAUSE_SECONDS = 0.03
_LOG_BYTES_MAX = 5_000_000
_LINES_TOLD = 6
_LINE_LENGTH_MAX = 400


class Part(ABC):
    """One program of the run; its pid changes with every start, its name does not."""

    def __init__(self, name: str, *, stop_seconds: float) -> None:
        """Name a part and say how long its end may take; nothing runs before `start`."""
        self.name = name
        self.stop_seconds = stop_seconds
        self.started_at = 0.0

    @abstractmethod
    def start(self) -> None:
        """Start the program; raises what it raises, as a `RuntimeError` or `OSError`."""

    @abstractmethod
    def identity(self) -> Identity | None:
        """Tell which program runs; none when none does."""

    @abstractmethod
    def stop(self, *, at_once: Callable[[], bool]) -> bool:
        """End the program and wait until it has ended; False when it had to be killed."""

    def exit_words(self) -> str:
        """Say how it ended, as far as known."""
        return "gone"

    def settings_refused(self) -> bool:
        """Tell whether it ended because its settings cannot be used."""
        return False

    def last_words(self) -> str:
        """Give the last lines it wrote since its start."""
        return ""

    def news(self) -> list[str]:
        """Give the warnings and errors it wrote since the last call, each a line."""
        return []


class PostgresPart(Part):
    """The embedded PostgreSQL server."""

    def __init__(
        self, folder: Path, *, log: Path, say: Say, before_start: Callable[[], None] | None = None
    ) -> None:
        """Plan the server of a data folder."""
        super().__init__("postgres", stop_seconds=30)
        self._folder = folder
        self._log = log
        self._say = say
        self._before_start = before_start
        self.server: PostgresServer | None = None

    def start(self) -> None:
        """Start it, or attach to the one that runs in the folder, and make the database."""
        self.started_at = time.monotonic()
        self.server = start_postgres(
            self._folder, log=self._log, say=self._say, before_start=self._before_start
        )
        create_database(self.server, DATABASE_NAME)

    def identity(self) -> Identity | None:
        """Tell which server serves the folder."""
        return running_postgres(self._folder.resolve())

    def stop(self, *, at_once: Callable[[], bool]) -> bool:
        """Stop it, whoever started it."""
        stop_postgres(self._folder, at_once=at_once())
        return True

    def database_url(self) -> str:
        """Give the address of the product's database, as its programs use it."""
        return self._url(PROGRAM_USER)

    def owner_url(self) -> str:
        """Give the address of the product's database, as the owner of its tables."""
        return self._url(SUPERUSER)

    def _url(self, user: str) -> str:
        if self.server is None:
            msg = "PostgreSQL is not started"
            raise RuntimeError(msg)
        return self.server.url(DATABASE_NAME, user=user)


class _ChildPart(Part):
    """A program that is our child and writes to a log of its own."""

    def __init__(self, name: str, *, stop_seconds: float, log: Path) -> None:
        super().__init__(name, stop_seconds=stop_seconds)
        self._log = log
        self._child: subprocess.Popen[bytes] | None = None
        self._identity: Identity | None = None
        self._log_start = 0
        self._log_read = 0

    @abstractmethod
    def _open(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start the program with its output going to the log."""

    def start(self) -> None:
        """Start the program, its log continued, or begun anew when it has grown large."""
        self.started_at = time.monotonic()
        self._log.parent.mkdir(parents=True, exist_ok=True)
        if self._log.exists() and self._log.stat().st_size > _LOG_BYTES_MAX:
            self._log.replace(self._log.with_suffix(".log.1"))
        with self._log.open("ab") as log:
            self._log_start = self._log_read = log.tell()
            self._child = self._open(log)
        self._identity = identify_started(self._child.pid)

    def identity(self) -> Identity | None:
        """Tell which program runs, collecting it if it has ended."""
        if self._child is None or self._child.poll() is not None:
            return None
        return self._identity

    def stop(self, *, at_once: Callable[[], bool]) -> bool:
        """Ask it to end, and kill it when it has not after its time, or at once."""
        child = self._child
        if child is None or child.poll() is not None:
            return True
        child.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self.stop_seconds
        while child.poll() is None and time.monotonic() < deadline and not at_once():
            time.sleep(_PAUSE_SECONDS)
        ended = child.poll() is not None
        if not ended:
            child.kill()
            child.wait()
        return ended

    def exit_words(self) -> str:
        """Say how it ended."""
        status = None if self._child is None else self._child.poll()
        if status is None:
            return "not started"
        return f"killed by signal {-status}" if status < 0 else f"exit status {status}"

    def settings_refused(self) -> bool:
        """Tell whether it ended because its settings cannot be used."""
        return self._child is not None and self._child.poll() == SETTINGS_REFUSED

    def last_words(self) -> str:
        """Give the last lines of its log since its start."""
        lines = [_readable(line) for line in self._lines(self._log_start) if line.strip()]
        return "\n".join(f"  {line}" for line in lines[-_LINES_TOLD:])

    def _lines(self, start: int) -> list[str]:
        try:
            with self._log.open("rb") as log:
                log.seek(start)
                return log.read().decode(errors="replace").splitlines()
        except OSError:
            return []


class TemporalPart(_ChildPart):
    """Temporal's development server."""

    def __init__(self, plan: TemporalServerPlan, *, log: Path) -> None:
        """Plan the server."""
        super().__init__("temporal", stop_seconds=15, log=log)
        self.plan = plan

    def _open(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        return start_temporal_server(self.plan, log=log)

    def wait_until_serving(self) -> None:
        """Wait until it answers; raises `TemporalServerFailed`."""
        wait_until_serving(self.plan, is_alive=lambda: self.identity() is not None)


class ProgramPart(_ChildPart):
    """One of Tidemark's own programs, `python -m ...`, ending by its lifeline when the run is gone."""

    def __init__(
        self,
        name: str,
        module: Sequence[str],
        *,
        environment: Callable[[], Mapping[str, str]],
        lifeline: int,
        log: Path,
        stop_seconds: float,
    ) -> None:
        """Plan a program; its environment is asked for at each start."""
        super().__init__(name, stop_seconds=stop_seconds, log=log)
        self._module = tuple(module)
        self._environment = environment
        self._lifeline = lifeline

    def _open(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", *self._module],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=CHECKOUT,
            env={**self._environment(), LIFELINE: str(self._lifeline)},
            pass_fds=(self._lifeline,),
            start_new_session=True,
        )

    def news(self) -> list[str]:
        """Give the warnings and errors among the log lines since the last call."""
        try:
            with self._log.open("rb") as log:
                log.seek(self._log_read)
                whole, newline, _rest = log.read().rpartition(b"\n")
        except OSError:
            return []
        self._log_read += len(whole) + len(newline)
        lines = whole.decode(errors="replace").splitlines()
        return [_readable(line) for line in lines if _is_worrying(line)]


def _parsed(line: str) -> dict[str, object] | None:
    try:
        event = json.loads(line) if line.startswith("{") else None
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def _is_worrying(line: str) -> bool:
    event = _parsed(line)
    return event is not None and event.get("level") in {"warning", "error", "critical"}


def _readable(line: str) -> str:
    """Turn a JSON log line into words; other lines stay as they are."""
    event = _parsed(line)
    if event is None:
        return line[:_LINE_LENGTH_MAX]
    exception = str(event.pop("exception", "")).strip()
    head = f"{event.pop('level', '')}: {event.pop('event', event.pop('msg', ''))}"
    rest = " ".join(
        f"{name}={value}" for name, value in event.items() if name not in {"timestamp", "logger", "time"}
    )
    cause = f" ({exception.splitlines()[-1]})" if exception else ""
    return f"{head} {rest}".strip()[:_LINE_LENGTH_MAX] + cause


def run_program(module: Sequence[str], environment: Mapping[str, str], *, seconds: float) -> str:
    """Run one of Tidemark's own commands to its end and give what it printed.

    Raises `RuntimeError` with its last words when it fails or takes longer.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", *module],
            capture_output=True,
            text=True,
            check=False,
            cwd=CHECKOUT,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        msg = f"python -m {' '.join(module)} did not end within {seconds:.0f} seconds."
        raise RuntimeError(msg) from None
    if done.returncode != 0:
        said = [
            _readable(line) for line in (done.stdout + os.linesep + done.stderr).splitlines() if line.strip()
        ]
        words = "\n".join(f"  {line}" for line in said[-_LINES_TOLD:])
        msg = f"python -m {' '.join(module)} failed (exit status {done.returncode}):\n{words}"
        raise RuntimeError(msg)
    return done.stdout
