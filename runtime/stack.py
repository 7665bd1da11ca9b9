"""The development stack: everything Tidemark needs on one machine, started, watched over and stopped together."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import httpx2

from runtime.cannot_run import CannotRun
from runtime.embedded_postgres import stop_postgres
from runtime.home import Home
from runtime.parts import Part, PostgresPart, ProgramPart, Say, TemporalPart, run_program
from runtime.pids import Identity, wait_until_gone
from runtime.ports import LOCALHOST, choose_ports
from runtime.settings import DevelopmentSettings
from runtime.temporal_program import find_temporal_program
from runtime.temporal_server import (
    NAMESPACE,
    TemporalServerPlan,
    end_with_parent,
    environment_without_temporal,
    has_worker,
)

TASK_QUEUE = "tidemark"

_PORTS = ("api_port", "temporal_port", "temporal_ui_port", "inbox_port", "smtp_port")
# A user's own values of these would lead the programs out of the development run, or into each other's way.
_NOT_PASSED_ON = (
    "TIDEMARK_SMTP_USERNAME",
    "TIDEMARK_SMTP_PASSWORD",
    "TIDEMARK_METRICS_BIND",
    "TIDEMARK_API_HOST",
    # The owner's address is for the upgrade alone.
    "TIDEMARK_MIGRATION_DATABASE_URL",
)
# Whoever develops asks more often than a caller may; their own setting goes before this one.
_UNHURRIED = {
    "TIDEMARK_RATE_LIMIT": "100000/minute",
    "TIDEMARK_RATE_LIMIT_UNAUTHENTICATED": "100000/minute",
}

_WATCH_SECONDS = 0.2
_READY_SECONDS = 120.0
_KILL_SECONDS = 10.0
_MIGRATION_SECONDS = 300.0
_COMMAND_SECONDS = 60.0
# A program that ends sooner than this after its start ended quickly; five such ends in a row are given up on.
_QUICK_SECONDS = 8.0
_QUICK_ENDS_MAX = 5
_SAME_NEWS_SECONDS = 20.0


class StackFailed(CannotRun):
    """The development run cannot start or go on; the message says why and what helps."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a development run answers."""

    api: str
    temporal: str
    temporal_ui: str
    inbox: str
    smtp_port: int
    pages: str = ""
    """The API's address by a name: passkeys are bound to names, never to numbers."""


class Stack:
    """Embedded PostgreSQL, Temporal's development server, inbox, worker, watcher and API as one thing.

    A program that ends by itself is started again. Use it as a context manager, or call `start` and `stop`.
    All calls may come from any thread; `say` is called from several.
    """

    def __init__(
        self,
        settings: DevelopmentSettings,
        *,
        say: Say,
        extra_environment: Mapping[str, str] | None = None,
        ends_with_starter: bool = False,
    ) -> None:
        """Plan a stack; nothing happens before `start`.

        `extra_environment` goes to the programs on top of everything else. With `ends_with_starter` even
        PostgreSQL ends when the starting program is killed (Linux); else the next start finds it running.
        """
        self._settings = settings
        self._say = say
        self._extra_environment = dict(extra_environment or {})
        self._ends_with_starter = ends_with_starter
        self._home: Home | None = None
        self._parts: dict[str, Part] = {}
        self._wanted: set[str] = set()
        self._quick_ends: dict[str, int] = {}
        self._told: dict[str, float] = {}
        self._lifeline: tuple[int, ...] = ()
        self._changing = threading.RLock()
        self._hurry = threading.Event()
        self._stopping = threading.Event()
        self._failed = threading.Event()
        self._failure = ""
        self._watching: threading.Thread | None = None
        # Linux ends a program with the very thread that started it, so one lasting thread starts them all.
        self._starter: ThreadPoolExecutor | None = None
        self.addresses = Addresses("", "", "", "", 0)

    def __enter__(self) -> Self:
        """Start it; see `start`. Whatever was started by a failure is stopped."""
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        """Stop it; see `stop`."""
        self.stop()

    def start(self) -> None:
        """Start everything and wait until it is ready. After a failure too, `stop` has to be called.

        Raises `HomeBusy`, `HomeUnusable`, `PortUnusable`, `TemporalProgramMissing`, `PostgresUnavailable` or
        `StackFailed`, each with a message for people.
        """
        self._home = Home(self._settings.home)
        self._prepare(self._home)
        self._start_servers()
        self._start_programs()

    def stop(self) -> None:
        """Stop everything, the API first and PostgreSQL last, each within bounds; twice does no harm."""
        self._stopping.set()
        with self._changing:
            self._wanted.clear()
            for name in reversed(list(self._parts)):
                self._stop_part(self._parts.pop(name))
        if self._watching is not None:
            self._watching.join()
        if self._starter is not None:
            self._starter.shutdown()
        for end in self._lifeline:
            os.close(end)
        self._lifeline = ()
        self._starter = self._watching = None
        if self._home is not None:
            self._home.record_programs({})
            self._home.release()
            self._home = None

    def is_stopping(self) -> bool:
        """Tell whether `stop` was called."""
        return self._stopping.is_set()

    def hurry(self) -> None:
        """Let a `stop` under way kill what has not ended."""
        self._hurry.set()

    def halt(self, name: str, *, kill: bool = False) -> None:
        """Stop one program and leave it stopped until `resume`; with `kill` by SIGKILL."""
        with self._changing:
            self._wanted.discard(name)
            program = self._parts[name].identity()
            if kill and program is not None:
                os.kill(program.pid, signal.SIGKILL)
                wait_until_gone(program, patience_seconds=_KILL_SECONDS)
            self._stop_part(self._parts[name])

    def resume(self, name: str) -> None:
        """Start a halted program again; PostgreSQL and Temporal answer when this returns."""
        with self._changing:
            self._start_part(self._parts[name])

    def pid(self, name: str) -> int | None:
        """Give the pid of a running program: postgres, temporal, inbox, worker, watcher or api."""
        program = self._parts[name].identity()
        return None if program is None else program.pid

    def pids(self) -> dict[str, int]:
        """Give the pids of all running programs by name."""
        return {name: program.pid for name, program in self._identities().items()}

    def environment(self) -> dict[str, str]:
        """Give the environment in which every program of this stack runs, for commands beside it too."""
        kept = {
            name: value
            for name, value in environment_without_temporal(os.environ).items()
            if name not in _NOT_PASSED_ON
        }
        addresses = self.addresses
        return {
            **_UNHURRIED,
            **kept,
            "NO_PROXY": f"{LOCALHOST},localhost",
            "no_proxy": f"{LOCALHOST},localhost",
            "PYTHONUNBUFFERED": "1",
            "TEMPORAL_ADDRESS": addresses.temporal,
            "TEMPORAL_NAMESPACE": NAMESPACE,
            "TIDEMARK_ENVIRONMENT": "development",
            "TIDEMARK_HOME": str(self._settings.home.expanduser().resolve()),
            "TIDEMARK_DATABASE_URL": self.database_url(),
            "TIDEMARK_TASK_QUEUE": TASK_QUEUE,
            "TIDEMARK_API_PORT": addresses.api.rpartition(":")[2],
            "TIDEMARK_PUBLIC_URL": addresses.pages,
            "TIDEMARK_TEMPORAL_UI_URL": addresses.temporal_ui,
            "TIDEMARK_INBOX_PORT": addresses.inbox.rpartition(":")[2],
            "TIDEMARK_SMTP_HOST": LOCALHOST,
            "TIDEMARK_SMTP_PORT": str(addresses.smtp_port),
            "TIDEMARK_SMTP_SECURITY": "none",
            "TIDEMARK_PUSH_INBOX_URL": addresses.inbox,
            "TIDEMARK_WEBHOOKS_ALLOW_PRIVATE": "true",
            "TIDEMARK_LOG_FORMAT": "json",
            **self._extra_environment,
        }

    def database_url(self) -> str:
        """Give the address of the product's database, as its programs use it."""
        return self._settings.database_url or self._postgres().database_url()

    def owner_url(self) -> str:
        """Give the address of the product's database as the owner of its tables, for the upgrade."""
        settings = self._settings
        return settings.migration_database_url or settings.database_url or self._postgres().owner_url()

    def _postgres(self) -> PostgresPart:
        postgres = self._parts.get("postgres")
        if not isinstance(postgres, PostgresPart):
            msg = "The stack is not started."
            raise StackFailed(msg)
        return postgres

    def create_api_key(self, *, scopes: str, name: str) -> str:
        """Create an API key; scopes are given as the command takes them, with commas between."""
        made = run_program(
            ["api", "keys", "create", "--scopes", scopes, "--name", name],
            self.environment(),
            seconds=_COMMAND_SECONDS,
        )
        return made.strip().splitlines()[-1].strip()

    def create_links(self, *, owner_id: str, operator: str) -> tuple[str, ...]:
        """Make links by which this owner and this operator register for the pages; none for who has a passkey."""
        made = run_program(
            ["api", "links", "create", "--owner", owner_id, "--operator", operator, "--unless-registered"],
            self.environment(),
            seconds=_COMMAND_SECONDS,
        )
        return tuple(made.strip().splitlines())

    def wait_until_failed(self) -> str:
        """Wait until the stack cannot go on, and say why; returns empty words when it is stopped."""
        while not self._stopping.is_set():
            if self._failed.wait(_WATCH_SECONDS):
                return self._failure
        return self._failure

    def _prepare(self, home: Home) -> None:
        leftovers = home.end_leftovers()
        if leftovers:
            self._say(f"The last run was killed; ended what it left behind: {', '.join(leftovers)}.")
        if self._settings.database_url is not None:
            stop_postgres(home.database)
        ports = choose_ports({name: getattr(self._settings, name) for name in _PORTS})
        self.addresses = Addresses(
            api=f"http://{LOCALHOST}:{ports['api_port']}",
            temporal=f"{LOCALHOST}:{ports['temporal_port']}",
            temporal_ui=f"http://localhost:{ports['temporal_ui_port']}",
            inbox=f"http://{LOCALHOST}:{ports['inbox_port']}",
            smtp_port=ports["smtp_port"],
            pages=f"http://localhost:{ports['api_port']}",
        )
        home.note_address(self.addresses.api)
        program = find_temporal_program(self._settings.temporal_program, say=self._say)
        self._lifeline = os.pipe()
        self._starter = ThreadPoolExecutor(1, "tidemark-starter")
        self._plan_parts(home, program, ports)

    def _plan_parts(self, home: Home, program: Path, ports: Mapping[str, int]) -> None:
        if self._settings.database_url is None:
            self._parts["postgres"] = PostgresPart(
                home.database,
                log=home.log("postgres"),
                say=self._say,
                before_start=end_with_parent(signal.SIGQUIT) if self._ends_with_starter else None,
            )
        plan = TemporalServerPlan(
            program=program,
            database=home.temporal_database,
            port=ports["temporal_port"],
            ui_port=ports["temporal_ui_port"],
        )
        self._parts["temporal"] = TemporalPart(plan, log=home.log("temporal"))
        self._plan_program(home, "inbox", "runtime", "inbox", stop_seconds=5)
        # The worker lets a draw under way end, which takes at most half a minute.
        self._plan_program(home, "worker", "worker", stop_seconds=45)
        self._plan_program(home, "watcher", "starter", "watch", stop_seconds=15)
        self._plan_program(home, "api", "api", stop_seconds=15)

    def _plan_program(self, home: Home, name: str, *module: str, stop_seconds: float) -> None:
        self._parts[name] = ProgramPart(
            name,
            module,
            environment=self.environment,
            lifeline=self._lifeline[0],
            log=home.log(name),
            stop_seconds=stop_seconds,
        )

    def _start_servers(self) -> None:
        self._say("Starting PostgreSQL and Temporal.")
        for name in ("temporal", "postgres"):
            if name in self._parts:
                self._launch(self._parts[name])
        for part in self._parts.values():
            if isinstance(part, TemporalPart):
                self._await_temporal(part)
        self._launch(self._parts["inbox"])

    def _start_programs(self) -> None:
        self._say("Bringing the database up to date.")
        with _explained():
            owner = {"TIDEMARK_MIGRATION_DATABASE_URL": self.owner_url()}
            upgrade = ["adapters.postgres", "upgrade"]
            run_program(upgrade, {**self.environment(), **owner}, seconds=_MIGRATION_SECONDS)
        self._say("Starting worker, watcher and API.")
        for name in ("worker", "watcher", "api"):
            self._launch(self._parts[name])
        self._wanted.update(self._parts)
        self._watching = threading.Thread(target=self._watch, name="tidemark-watch", daemon=True)
        self._watching.start()
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        # One client for all questions: each new one reads all certificates first.
        with httpx2.Client(timeout=5, trust_env=False) as client:
            self._wait_for("the API", partial(self._api_is_ready, client), deadline=deadline)
        self._wait_for("the worker", self._worker_is_ready, deadline=deadline)

    def _wait_for(self, awaited: str, is_ready: Callable[[], bool], *, deadline: float) -> None:
        while not is_ready():
            if self._failed.is_set():
                raise StackFailed(self._failure)
            if time.monotonic() > deadline:
                msg = (
                    f"Waited {_READY_SECONDS:.0f} seconds for {awaited}. Its log may say why: {self._logs()}"
                )
                raise StackFailed(msg)
            time.sleep(_WATCH_SECONDS)

    def _api_is_ready(self, client: httpx2.Client) -> bool:
        try:
            answer = client.get(f"{self.addresses.api}/readyz")
        except httpx2.HTTPError:
            return False
        return answer.status_code == httpx2.codes.OK

    def _worker_is_ready(self) -> bool:
        temporal = self._parts["temporal"]
        return isinstance(temporal, TemporalPart) and has_worker(temporal.plan, TASK_QUEUE)

    def _logs(self) -> Path:
        return self._settings.home / "logs"

    def _start_part(self, part: Part) -> None:
        self._launch(part)
        if isinstance(part, TemporalPart):
            self._await_temporal(part)
        self._wanted.add(part.name)

    def _launch(self, part: Part) -> None:
        if self._starter is None or self._home is None:
            msg = "The stack is not started."
            raise StackFailed(msg)
        self._starter.submit(part.start).result()
        self._home.record_programs(self._leftovers_later())

    def _leftovers_later(self) -> dict[str, Identity]:
        """Tell what the next start has to end if this run is killed; PostgreSQL it uses on instead."""
        return {name: program for name, program in self._identities().items() if name != "postgres"}

    def _identities(self) -> dict[str, Identity]:
        found = {name: part.identity() for name, part in list(self._parts.items())}
        return {name: program for name, program in found.items() if program is not None}

    def _await_temporal(self, part: TemporalPart) -> None:
        try:
            part.wait_until_serving()
        except RuntimeError as failed:
            msg = f"{failed}:\n{part.last_words()}"
            raise StackFailed(msg) from None

    def _stop_part(self, part: Part) -> None:
        if part.identity() is None:
            return
        if self._stopping.is_set():
            self._say(f"Stopping {part.name}.")
        try:
            if not part.stop(at_once=self._hurry.is_set):
                why = "was killed" if self._hurry.is_set() else "did not end in time and was killed"
                self._say(f"{part.name} {why}.")
        except (RuntimeError, OSError) as refused:
            self._say(f"{part.name}: {refused}")

    def _watch(self) -> None:
        """Tell what the programs report, and start again what ends by itself, until all is stopped."""
        while not self._stopping.wait(_WATCH_SECONDS):
            for part in list(self._parts.values()):
                self._tell_news(part)
                if part.name in self._wanted and part.identity() is None:
                    self._start_again(part)

    def _tell_news(self, part: Part) -> None:
        now = time.monotonic()
        for line in part.news():
            words = " ".join(line.split()[:2])
            if now - self._told.get(part.name + words, -_SAME_NEWS_SECONDS) >= _SAME_NEWS_SECONDS:
                self._told[part.name + words] = now
                self._say(f"{part.name}: {line}")

    def _start_again(self, part: Part) -> None:
        with self._changing:
            # Stopped or halted in the meantime, which is nothing to repair.
            if part.name not in self._wanted or part.identity() is not None:
                return
            if self._give_up_on(part):
                return
            self._say(f"{part.name} ended unexpectedly ({part.exit_words()}); starting it again.")
            try:
                self._launch(part)
            except (RuntimeError, OSError) as refused:
                self._say(f"{part.name} did not start: {refused}")
        self._stopping.wait(_WATCH_SECONDS * self._quick_ends[part.name])

    def _give_up_on(self, part: Part) -> bool:
        quick = time.monotonic() - part.started_at < _QUICK_SECONDS
        self._quick_ends[part.name] = self._quick_ends.get(part.name, 0) + 1 if quick else 0
        if part.settings_refused():
            return self._fail(f"{part.name} refuses its settings:\n{part.last_words()}")
        if self._quick_ends[part.name] >= _QUICK_ENDS_MAX:
            return self._fail(
                f"{part.name} ended {_QUICK_ENDS_MAX} times soon after its start ({part.exit_words()}). "
                f"Its last words:\n{part.last_words()}\n"
                f"All of its log is in {self._logs() / part.name}.log. Mend the cause and start again; "
                f"to begin with empty servers, move {self._settings.home} away first."
            )
        return False

    def _fail(self, why: str) -> bool:
        self._wanted.clear()
        self._failure = why
        self._failed.set()
        return True


def temporary_settings(home: Path) -> DevelopmentSettings:
    """Give the settings of a stack in a folder of its own, on free ports, with embedded servers only."""
    return DevelopmentSettings(
        home=home,
        database_url=None,
        migration_database_url=None,
        api_port=0,
        temporal_port=0,
        temporal_ui_port=0,
        inbox_port=0,
        smtp_port=0,
    )


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except RuntimeError as failed:
        msg = f"The database could not be brought up to date: {failed}"
        raise StackFailed(msg) from None
