"""The home folder of a development run: its lock, the record of its programs, and small files written whole."""

import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from runtime.cannot_run import CannotRun
from runtime.pids import Identity, end, is_alive

_LEFTOVER_SECONDS = 10.0


class HomeUnusable(CannotRun):
    """The home folder cannot be used; the message says why and what helps."""


class HomeBusy(HomeUnusable):
    """Another development run uses the home folder."""


class Home:
    """A locked home folder; one development run at a time uses it."""

    def __init__(self, folder: Path) -> None:
        """Make and lock the folder; raises `HomeBusy` or `HomeUnusable`."""
        self.folder = folder.expanduser().resolve()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock: IO[str] = (self.folder / "lock").open("a+")
        except OSError as refused:
            msg = (
                f"The folder {self.folder} cannot be used ({refused.strerror}). "
                f"Set TIDEMARK_HOME to a folder of your own."
            )
            raise HomeUnusable(msg) from None
        self._take_lock()

    @property
    def database(self) -> Path:
        """The folder of the embedded PostgreSQL server."""
        return self.folder / "postgres"

    @property
    def temporal_database(self) -> Path:
        """The file of Temporal's development server."""
        return self.folder / "temporal.db"

    def log(self, name: str) -> Path:
        """The log of one program."""
        return self.folder / "logs" / f"{name}.log"

    def note_address(self, address: str) -> None:
        """Note in the lock where this run answers, for whoever finds it locked."""
        self._lock.seek(0)
        self._lock.truncate()
        self._lock.write(json.dumps({"pid": os.getpid(), "api": address}))
        self._lock.flush()

    def record_programs(self, programs: Mapping[str, Identity]) -> None:
        """Record which programs run, for the start after a `kill -9`."""
        record = [{"name": name, **asdict(program)} for name, program in programs.items()]
        write_whole(self.folder / "children.json", json.dumps(record, indent=1))

    def end_leftovers(self) -> list[str]:
        """End the programs a killed run has left behind, and only those; gives their names."""
        ended = [name for name, program in self._recorded() if _end_leftover(program)]
        self.record_programs({})
        return ended

    def release(self) -> None:
        """Give the folder free."""
        self._lock.close()

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.seek(0)
            holder = self._lock.read()
            self._lock.close()
            raise HomeBusy(_busy_words(self.folder, holder)) from None
        self.note_address("")

    def _recorded(self) -> Iterable[tuple[str, Identity]]:
        try:
            record = json.loads((self.folder / "children.json").read_text(encoding="utf-8"))
            return [
                (
                    str(entry["name"]),
                    Identity(int(entry["pid"]), str(entry["started"]), str(entry["command"])),
                )
                for entry in record
            ]
        except (OSError, ValueError, KeyError, TypeError):
            return []


def write_whole(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Write a file in one step, so that a reader finds the old text or the new, never half of it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    with os.fdopen(
        os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8"
    ) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_object(path: Path) -> dict[str, Any]:
    """Read a file's JSON object; empty when there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _end_leftover(program: Identity) -> bool:
    return is_alive(program) and end(program, patience_seconds=_LEFTOVER_SECONDS)


def _busy_words(folder: Path, holder: str) -> str:
    try:
        known = json.loads(holder)
        who = f"pid {known['pid']}" + (f", {known['api']}" if known["api"] else ", still starting")
    except (ValueError, KeyError, TypeError):
        who = "pid unknown"
    return (
        f"Tidemark already runs from {folder} ({who}). Stop it there with Ctrl-C, or start another beside it with "
        f"TIDEMARK_HOME set to another folder and other ports (TIDEMARK_API_PORT=0 takes any free one)."
    )
