"""Accounts that behave as a story needs, around the real ones."""

import asyncio
from dataclasses import dataclass, field

from activities.messages import CheckOrder, DrawName, DrawOrder, Moved, NotMoved, Refused
from activities.ports import Accounts, AnswerMissing, Sight
from tests.builders import Household


@dataclass
class Through:
    """The real accounts, unchanged."""

    accounts: Accounts

    async def look(self, order: CheckOrder) -> Sight:
        """Look."""
        return await self.accounts.look(order)

    async def draw(self, order: DrawOrder) -> Moved | Refused | NotMoved:
        """Draw."""
        return await self.accounts.draw(order)

    async def look_up(self, name: DrawName) -> Moved | Refused | NotMoved | None:
        """Look up."""
        return await self.accounts.look_up(name)


@dataclass
class EmptiedMeanwhile(Through):
    """Somebody else takes money between the check and the first draw."""

    home: Household
    asset: str
    amount: str
    done: bool = False

    async def draw(self, order: DrawOrder) -> Moved | Refused | NotMoved:
        """Take the money, then draw."""
        if not self.done:
            self.done = True
            await self.home.take(self.amount, self.asset)
        return await super().draw(order)


@dataclass
class Blind(Through):
    """Looking always fails."""

    looks: int = 0

    async def look(self, order: CheckOrder) -> Sight:
        """Fail, and count."""
        del order
        self.looks += 1
        raise ConnectionError


@dataclass
class Gate(Through):
    """The draw of one rank waits at a gate, before or after its money has moved, and shrugs off being called back."""

    rank: int
    after_moving: bool
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    late: asyncio.Future[Moved | Refused | NotMoved] = field(default_factory=asyncio.Future)

    async def draw(self, order: DrawOrder) -> Moved | Refused | NotMoved:
        """Draw, with a wait at the gate for the one rank."""
        if order.rank != self.rank:
            return await super().draw(order)
        return await asyncio.shield(asyncio.ensure_future(self._through_the_gate(order)))

    async def _through_the_gate(self, order: DrawOrder) -> Moved | Refused | NotMoved:
        answer = await super().draw(order) if self.after_moving else None
        self.reached.set()
        await self.opened.wait()
        answer = answer or await super().draw(order)
        if not self.late.done():
            self.late.set_result(answer)
        return answer


@dataclass
class Unknowable(Through):
    """The first draw's answer is lost, and nobody can say what became of it until the story says so."""

    known: bool = False
    asked: int = 0

    async def draw(self, order: DrawOrder) -> Moved | Refused | NotMoved:
        """Lose the first answer."""
        await super().draw(order)
        raise AnswerMissing

    async def look_up(self, name: DrawName) -> Moved | Refused | NotMoved | None:
        """Know nothing at first."""
        self.asked += 1
        return await super().look_up(name) if self.known else None
