"""Development only: named points on the way of a top-up, where a program says where it is and stands until let go."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import structlog
from sqlalchemy import Connection, Engine, event
from sqlalchemy.util import await_only
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from activities.messages import Checked, DrawName, Order, SettleOrder
from activities.ports import Letter
from runtime.settings import Settings

Port = TypeVar("Port")
Done = TypeVar("Done")

Names = Callable[..., tuple[str, str]]
"""From a deed's arguments the name of the step, and whom it is for."""

_DRAWING = ("ledger_draw(", "ledger_fence(")
"""Statements that commit by themselves: they get a middle only by being taken apart."""
_PAYMENTS = "/v1/ledger/payments"
_LOG = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class StopPoints:
    """The socket of whoever watches. Each step has three points: before, during (sent, not committed) and after."""

    socket: Path

    async def reach(self, point: str, whom: str) -> None:
        """Say where the program is, and stand still until an answer comes, or until nobody is there any more."""
        try:
            answer, said = await asyncio.open_unix_connection(self.socket)
        except OSError:
            return
        try:
            said.write(f"{point} {whom}\n".encode())
            await answer.readline()
        except OSError:
            _LOG.warning("point.left", point=point)
        finally:
            said.close()

    async def around(
        self,
        step: str,
        whom: str,
        deed: Callable[[], Awaitable[Done]],
        tell: Callable[[Done], str] = lambda _: "",
    ) -> Done:
        """Do the deed between its points; `tell` says from what was done for whom, where nobody knew before."""
        await self.reach(f"{step}:before", whom)
        before = _STEP.set(_Step(self, step, whom))
        try:
            done = await deed()
        finally:
            _STEP.reset(before)
        await self.reach(f"{step}:after", whom or tell(done))
        return done


@dataclass(slots=True)
class _Step:
    points: StopPoints
    name: str
    whom: str
    written: set[str] = field(default_factory=set)
    """The tables that it has written to."""
    passed: bool = False

    async def reach_middle(self) -> None:
        """Once for each step, however often it commits."""
        if not self.passed:
            self.passed = True
            await self.points.reach(
                f"{self.name}:during", " ".join([self.whom, *sorted(self.written)]).strip()
            )


_STEP: ContextVar[_Step | None] = ContextVar("step", default=None)


@dataclass(frozen=True, slots=True)
class _Stopped:
    """A port whose named deeds have points around them; everything else is passed on."""

    port: Any
    points: StopPoints
    steps: Mapping[str, Names]
    tell: Callable[[Any], str]

    def __getattr__(self, deed: str) -> object:
        inner = getattr(self.port, deed)
        names = self.steps.get(deed)
        if names is None:
            return inner

        async def with_points(*arguments: object) -> object:
            step, whom = names(*arguments)
            return await self.points.around(step, whom, lambda: inner(*arguments), self.tell)

        return with_points


class StoppedPayments:
    """Points around the payments that the API takes; their callers are named by their Idempotency-Key."""

    def __init__(self, app: ASGIApp, *, points: StopPoints) -> None:
        """Wrap the application."""
        self._app = app
        self._points = points

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; its answer stands still before it is given."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] != _PAYMENTS:
            await self._app(scope, receive, send)
            return
        whom = dict(scope["headers"]).get(b"idempotency-key", b"").decode("latin-1")

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                await self._points.reach("payment:after", whom)
            await send(message)

        await self._points.reach("payment:before", whom)
        before = _STEP.set(_Step(self._points, "payment", whom))
        try:
            await self._app(scope, receive, answer)
        finally:
            _STEP.reset(before)


def points_of(settings: Settings) -> StopPoints | None:
    """The points of a development run that has them; None everywhere else, and then nothing has changed."""
    if settings.stop_points is None:
        return None
    if not event.contains(Engine, "commit", _stand_before_commit):
        event.listen(Engine, "before_cursor_execute", _take_apart)
        event.listen(Engine, "after_cursor_execute", _put_together)
        event.listen(Engine, "commit", _stand_before_commit)
    return StopPoints(settings.stop_points)


def stop_at(
    points: StopPoints | None,
    port: Port,
    steps: Mapping[str, Names],
    tell: Callable[[Any], str] = lambda _: "",
) -> Port:
    """The port with points around these of its deeds; itself where there are no points."""
    return port if points is None else cast("Port", _Stopped(port, points, steps, tell))


def _name_draw(name: DrawName) -> tuple[str, str]:
    return f"draw-{name.rank}", name.top_up_id


def _name_look_up(name: DrawName) -> tuple[str, str]:
    return "look-up", name.top_up_id


def _name_hold(top_up_id: str) -> tuple[str, str]:
    return "hold", top_up_id


def _name_check(top_up_id: str, _checked: Checked) -> tuple[str, str]:
    return "check", top_up_id


def _name_settle(order: SettleOrder) -> tuple[str, str]:
    return "settle", order.top_up_id


def _name_start(order: Order) -> tuple[str, str]:
    return "start-workflow", order.top_up_id


def _name_notify(letter: Letter) -> tuple[str, str]:
    return f"notify-{letter.channel}", f"{letter.about} {letter.delivery_id}"


def _name_record(delivery_id: str) -> tuple[str, str]:
    return "record-sent", delivery_id


def _name_claim() -> tuple[str, str]:
    return "claim", ""


ACCOUNTS: Mapping[str, Names] = {"draw": _name_draw, "look_up": _name_look_up}
TOP_UPS: Mapping[str, Names] = {
    "holds_lock": _name_hold,
    "remember_check": _name_check,
    "settle": _name_settle,
}
SENDER: Mapping[str, Names] = {"send": _name_notify}
DELIVERIES: Mapping[str, Names] = {"record_sent": _name_record}
RUNS: Mapping[str, Names] = {"start": _name_start}
CLAIMS: Mapping[str, Names] = {"judge_waiting": _name_claim}


def _take_apart(connection: Connection, cursor: Any, statement: str, *_rest: object) -> None:
    """Note what is written; and begin what would commit by itself, so that it has a middle."""
    step = _STEP.get()
    if step is None:
        return
    words = statement.split(None, 3)
    if words[0] in {"INSERT", "UPDATE"}:
        step.written.add(words[2 if words[0] == "INSERT" else 1])
    if _commits_alone(connection, statement):
        cursor.execute("BEGIN")


def _put_together(connection: Connection, _cursor: object, statement: str, *_rest: object) -> None:
    """Stand in the middle of what would have committed by itself, then commit it."""
    step = _STEP.get()
    if step is None or not _commits_alone(connection, statement):
        return
    await_only(step.reach_middle())
    ending = connection.connection.cursor()
    ending.execute("COMMIT")
    ending.close()


def _stand_before_commit(_connection: Connection) -> None:
    step = _STEP.get()
    if step is not None:
        await_only(step.reach_middle())


def _commits_alone(connection: Connection, statement: str) -> bool:
    alone = connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT"
    return alone and any(name in statement for name in _DRAWING)
