"""The programs of a simulation and the points at which they wait to be let on: everything that can be interrupted."""

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import psycopg

from tests.simulation.loop import SimulatedLoop

if TYPE_CHECKING:
    from tests.simulation.lanes import Lane


class Crashed(BaseException):
    """The program that was to go on is not there any more."""


class Verdict(StrEnum):
    """What becomes of a program at a point."""

    GO = "go"
    CUT = "cut"
    """Nothing is sent: the connection is gone before."""
    LOST = "lost"
    """It happens, but the answer is lost with the connection."""


class Kind(StrEnum):
    """What a program waits to do."""

    STATEMENT = "statement"
    COMMIT = "commit"
    WOKEN = "woken"
    """Take the answer of a statement that had to wait for a lock."""
    CALL = "call"
    """Something outside the database: Temporal, a mail server, a caller's answer."""


@dataclass(eq=False, slots=True)
class Program:
    """A program that runs until it crashes; the next one of its name is another."""

    name: str
    alive: bool = True


@dataclass(slots=True)
class Act:
    """What a program is doing, as the model needs to know it; filled in on the way."""

    kind: str
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Point:
    """A program that waits to be let on."""

    program: Program
    kind: Kind
    label: str
    future: asyncio.Future[Verdict]
    lane: "Lane | None"


PROGRAM: ContextVar[Program] = ContextVar("program")
ACT: ContextVar[Act] = ContextVar("act")


@dataclass(slots=True)
class Gates:
    """All programs stop here, and are let on one by one."""

    loop: SimulatedLoop
    points: list[Point] = field(default_factory=list)
    open: bool = True
    """Let everybody pass, as when the stage is set."""

    async def wait(self, kind: Kind, label: str, lane: "Lane | None" = None) -> Verdict:
        """Wait until let on. Raises Crashed in a program that is gone."""
        program = PROGRAM.get()
        if not program.alive:
            raise Crashed
        if self.open:
            return Verdict.GO
        point = Point(program, kind, label, self.loop.create_future(), lane)
        self.points.append(point)
        try:
            return await point.future
        finally:
            if point in self.points:
                self.points.remove(point)

    async def call(self, label: str) -> bool:
        """Wait to reach somebody outside. False when the answer will be lost; raises ConnectionError before that."""
        verdict = await self.wait(Kind.CALL, label)
        if verdict is Verdict.CUT:
            raise ConnectionError(label)
        return verdict is Verdict.GO


def connection_gone() -> psycopg.OperationalError:
    """What the driver says of a connection that is cut."""
    return psycopg.OperationalError("the connection is closed")
