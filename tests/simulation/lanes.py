"""Connections to a real PostgreSQL on which every statement waits its turn, and a wait for a lock is seen as one."""

import re
import select
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.simulation.programs import ACT, PROGRAM, Act, Gates, Kind, Program, Verdict, connection_gone

_OPTIONS = (
    "-c search_path=simulated,pg_catalog,public -c deadlock_timeout=600s -c plan_cache_mode=force_generic_plan "
    "-c synchronous_commit=off -c jit=off"
)
"""Names of the simulation come first; no time-out, since the time of the wall counts for nothing here."""
_BLOCKERS = "SELECT pid, pg_blocking_pids(pid) FROM unnest(%s::int[]) AS pid"
_PATIENCE = (1, 2, 5, 10, 20, 50, 100, 200, 500)
"""How many milliseconds to wait for an answer before asking whether it waits for a lock; then again."""
_NAME = re.compile(r"\b(?:ledger_\w+|hold_balance|pg_notify)\b")
_TABLE = re.compile(r"\b(?:INTO|UPDATE|FROM)\s+(\w+)", re.IGNORECASE)


_NEVER_WAITS = re.compile(
    r"select (?!ledger_|hold_balance).*(?<!for update)$|insert (?:decision|event|rule_revision|draw)$"
)
"""Statements that take no lock which anybody else could hold."""


class Stuck(AssertionError):
    """Statements wait for each other in a circle, or an answer never came."""


def label_of(statement: str) -> str:
    """A statement in a few words."""
    verb = statement.split(None, 1)[0].lower()
    name = _NAME.search(statement)
    table = _TABLE.search(statement)
    what = name.group() if name else table.group(1) if table else ""
    return f"{verb} {what}{' for update' if 'FOR NO KEY UPDATE' in statement else ''}"


@dataclass(eq=False)
class Lane:
    """One connection of the server's, used by one program after the other."""

    number: int
    raw: psycopg.Connection[Any]
    yard: "Yard"
    user: Program | None = None
    cut: bool = False
    """The program using it has lost it."""
    waits: Any = None
    """Set while a statement waits for a lock: the rest of it, to be gone on with."""
    reading: bool = False
    waiting_for: tuple[Act, Kind, str] | None = None
    """What is told to the model once the statement that waits is done, where it commits by itself."""

    def __post_init__(self) -> None:
        """Watch the socket."""
        self.poll = select.poll()
        self.poll.register(self.raw.pgconn.socket, select.POLLIN)
        self.pid = self.raw.info.backend_pid

    @property
    def idle(self) -> bool:
        """Whether no transaction is open on it."""
        return self.raw.pgconn.transaction_status == TransactionStatus.IDLE

    async def run(self, start: Callable[[], Generator[Any, Any, Any]], kind: Kind, label: str) -> None:
        """Wait for the turn, then have the server do it."""
        self.user = PROGRAM.get()
        if self.cut:
            raise connection_gone()
        verdict = await self.yard.gates.wait(kind, label, self)
        if verdict is Verdict.CUT:
            self.drop()
            raise connection_gone()
        if self.raw.autocommit:
            self._command(b"BEGIN")
        if await self._finish(start(), kind, label):
            self._tell(ACT.get(_NOBODY), kind, label)
        if verdict is Verdict.LOST:
            self.drop()
            raise connection_gone()

    async def _finish(self, rest: Generator[Any, Any, Any], kind: Kind, label: str) -> bool:
        """True when it went through at once; else it is told when the lock it waits for is let go."""
        if self.advance(rest):
            return True
        self.waits, self.waiting_for = rest, (ACT.get(_NOBODY), kind, label)
        self.yard.blocked.append(self)
        try:
            await self.yard.gates.wait(Kind.WOKEN, label, self)
        except BaseException:
            self.give_up_waiting()
            raise
        answer, self.waits = self.waits, None
        if isinstance(answer, Exception):
            raise answer
        return False

    def advance(self, rest: Generator[Any, Any, Any]) -> bool:
        """Go on with a statement until it is done; False when it waits for a lock that somebody else holds."""
        try:
            state = next(rest)
            while True:
                if not state & 1:
                    state = rest.send(2)
                elif self._answered():
                    state = rest.send(1)
                else:
                    return False
        except StopIteration:
            return True

    def go_on(self) -> bool:
        """Whether a statement that waited is done by now; its error is kept for whoever takes the answer."""
        if not self.poll.poll(0):
            return False
        try:
            state = self.waits.send(1)
            while True:
                self.poll.poll(1000)
                state = self.waits.send(state & 1 or 2)
        except StopIteration:
            self.waits = None
            if self.waiting_for:
                self._tell(*self.waiting_for)
        except psycopg.Error as refused:
            self.waits = refused
        return True

    def _answered(self) -> bool:
        for pause in _PATIENCE:
            if self.poll.poll(pause):
                return True
            if self.yard.blockers_of(self):
                return False
        message = f"no answer on connection {self.number}"
        raise Stuck(message)

    def give_up_waiting(self) -> None:
        """Cancel the statement that waits for a lock, as the server does when its client is gone."""
        if self in self.yard.blocked:
            self.yard.blocked.remove(self)
            rest, self.waits = self.waits, None
            self.raw.pgconn.get_cancel().cancel()
            try:
                while True:
                    self.poll.poll(10_000)
                    rest.send(1)
            except (StopIteration, psycopg.Error):
                pass
        self.waits = None

    def _tell(self, act: Act, kind: Kind, label: str) -> None:
        """Have the model look at what has just become true."""
        if self.raw.autocommit:
            # Begun and committed by hand: one that waited must not commit before its release was looked at.
            self._command(b"COMMIT")
        if kind is Kind.COMMIT or self.raw.autocommit:
            self.yard.released = True
            reading, self.reading = self.reading, False
            if not reading and "pg_notify" not in label:
                self.yard.committed(act)

    def _command(self, command: bytes) -> None:
        self.raw.wait(self.raw._exec_command(command))

    def drop(self) -> None:
        """What the server does with a connection whose client is gone; nobody can use it any more."""
        self.cut = True
        self.undo()

    def undo(self) -> None:
        """Roll back whatever is open."""
        if not self.idle:
            self.raw.wait(self.raw._rollback_gen())
            self.yard.released = True
        self.reading = False


_NOBODY = Act("nothing")


@dataclass(eq=False)
class Yard:
    """All lanes, and which of them wait for locks."""

    url: str
    gates: Gates
    committed: Callable[[Act], None] = lambda _act: None
    blocked: list[Lane] = field(default_factory=list)
    waits: int = 0
    """How many statements had to wait for a lock."""
    released: bool = False
    """Somebody has let go of locks since the blocked were last looked after."""

    def __post_init__(self) -> None:
        """Open the overseer's own connection."""
        self.lanes: list[Lane] = []
        self.holders: set[int] = set()
        self._free: list[Lane] = []
        self.overseer = psycopg.connect(self.url, autocommit=True, options=_OPTIONS)
        self.engine: AsyncEngine = create_async_engine(
            re.sub(r"^postgres(ql)?:", "postgresql+psycopg:", self.url),
            pool_size=40,
            max_overflow=0,
            hide_parameters=True,
            use_native_hstore=False,
            connect_args={"async_creator_fn": self._open},
        )

    async def _open(self, *_: Any, context: Any = None, **__: Any) -> "Gated":
        if self._free:
            lane = self._free.pop()
        else:
            raw: psycopg.Connection[Any] = psycopg.connect(self.url, context=context, options=_OPTIONS)
            lane = Lane(len(self.lanes), raw, self)
            self.lanes.append(lane)
        lane.cut, lane.user, lane.reading = False, None, False
        return Gated(lane)

    def release(self, lane: Lane) -> None:
        """Take back a lane that nobody uses any more."""
        lane.give_up_waiting()
        lane.undo()
        lane.raw.autocommit = False
        lane.raw.isolation_level = None
        if lane not in self._free:
            self._free.append(lane)

    def close(self) -> None:
        """Close all connections."""
        for lane in self.lanes:
            lane.raw.close()
        self.overseer.close()

    def blockers_of(self, lane: Lane) -> set[int]:
        """The connections that hold what this one waits for."""
        row = self.overseer.execute(_BLOCKERS, ([lane.pid],), prepare=True).fetchone()
        found = set(row[1]) if row else set()
        if found:
            self.waits += 1
            self.holders |= found
        return found

    def may_be_sent(self, lane: Lane, kind: Kind, label: str) -> bool:
        """Whether nobody can come to wait side by side with somebody who waits already.

        Of two that wait for one lock the server wakes both, and who comes first then no seed could know. So behind
        one who waits only those go on that it waits for, and statements that never wait.
        """
        if not self.blocked or kind is not Kind.STATEMENT or lane.pid in self.holders:
            return True
        return _NEVER_WAITS.search(label) is not None

    def look_after_blocked(self) -> None:
        """After something was let go: see which statements can go on, until it is certain who still waits."""
        going_on, self.released = self.released, False
        self.holders = set()
        while self.blocked and going_on:
            going_on = False
            for lane in list(self.blocked):
                for pause in _PATIENCE:
                    if lane.go_on():
                        self.blocked.remove(lane)
                        going_on = True
                        break
                    if self._waits_for_somebody(lane):
                        break
                    lane.poll.poll(pause)
                else:
                    message = f"connection {lane.number} neither waits for anybody nor goes on"
                    raise Stuck(message)

    def _waits_for_somebody(self, lane: Lane) -> bool:
        rows = self.overseer.execute(_BLOCKERS, ([one.pid for one in self.blocked],)).fetchall()
        holders = {pid: set(pids) for pid, pids in rows}
        self._refuse_circle(lane.pid, holders)
        self.holders |= holders[lane.pid]
        return bool(holders[lane.pid])

    @staticmethod
    def _refuse_circle(pid: int, holders: dict[int, set[int]]) -> None:
        seen: set[int] = set()
        following = set(holders.get(pid, ()))
        while following - seen:
            seen |= following
            following = {other for one in following for other in holders.get(one, ())}
            if pid in following:
                message = "statements wait for each other in a circle"
                raise Stuck(message)


class Gated:
    """A connection as SQLAlchemy wants it, each of whose statements waits its turn."""

    def __init__(self, lane: Lane) -> None:
        """Use one lane until it is closed."""
        self.lane = lane
        self.raw = lane.raw

    def cursor(self, *_: Any, **__: Any) -> "GatedCursor":
        """A cursor of the same kind."""
        return GatedCursor(self.lane)

    async def commit(self) -> None:
        """Commit, if there is anything to."""
        if self.lane.cut:
            raise connection_gone()
        if not self.lane.idle:
            await self.lane.run(self.raw._commit_gen, Kind.COMMIT, "commit")

    async def rollback(self) -> None:
        """Roll back, if there is anything to; the server does it by itself where the program is gone."""
        if not self.lane.cut:
            self.lane.undo()

    async def close(self) -> None:
        """Give the lane back."""
        self.lane.yard.release(self.lane)

    async def set_autocommit(self, value: bool) -> None:
        """Have each statement commit by itself, or not."""
        self.raw.autocommit = value

    async def set_isolation_level(self, value: Any) -> None:
        """How much a transaction sees of others."""
        self.raw.isolation_level = value

    @property
    def closed(self) -> bool:
        """Whether it is lost."""
        return self.lane.cut

    @property
    def broken(self) -> bool:
        """Whether it is lost."""
        return self.lane.cut

    def __getattr__(self, name: str) -> Any:
        """All else is the driver's."""
        return getattr(self.raw, name)


class GatedCursor:
    """A cursor whose statements wait their turn."""

    def __init__(self, lane: Lane) -> None:
        """Make the driver's cursor."""
        self.lane = lane
        self.raw = lane.raw.cursor()
        self.changed: int | None = None

    async def __aenter__(self) -> Self:
        """Nothing to be done."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to be undone."""

    async def execute(self, statement: str, parameters: Any = None, **options: Any) -> Self:
        """Run a statement when its turn comes."""
        if statement.startswith("SET TRANSACTION READ ONLY"):
            self.lane.reading = True
            return self
        start = self.raw._execute_gen
        await self.lane.run(
            lambda: start(statement, parameters, **options), Kind.STATEMENT, label_of(statement)
        )
        return self

    async def executemany(self, statement: str, all_parameters: Any) -> None:
        """Run a statement for each set of values, in one turn."""
        first, *others = all_parameters
        await self.execute(statement, first)
        changed = self.raw.rowcount
        for parameters in others:
            self.lane.raw.wait(self.raw._execute_gen(statement, parameters))
            changed += self.raw.rowcount
        self.changed = changed

    @property
    def rowcount(self) -> int:
        """How many rows were changed, by all of a statement's values together."""
        return self.raw.rowcount if self.changed is None else self.changed

    async def fetchall(self) -> list[Any]:
        """What the server answered."""
        return self.raw.fetchall()

    def __getattr__(self, name: str) -> Any:
        """All else is the driver's."""
        return getattr(self.raw, name)
