"""A wallet that has just fallen below its threshold: what most pages have something to say about."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from activities.messages import DrawName, DrawOrder, Moved, NotMoved, Refused
from activities.ports import AnswerMissing
from adapters.postgres.rules import Author, RuleRecord, TermsDraft, create_rule
from tests.builders import Household
from tests.stories.accounts import Gate, Through
from tests.stories.town import Town

ADA = Author(name="Ada (user_ada)", bound_to=None)


@dataclass
class Silent(Through):
    """No draw is answered, and nobody can say what became of one until the story says so; none of them has moved."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when somebody is asked what became of a draw."""
    known: bool = False

    async def draw(self, order: DrawOrder) -> Moved | Refused | NotMoved:
        """Lose the answer."""
        del order
        raise AnswerMissing

    async def look_up(self, name: DrawName) -> Moved | Refused | NotMoved | None:
        """Know nothing at first."""
        self.asked.set()
        return await super().look_up(name) if self.known else None


@asynccontextmanager
async def held_at_draw(town: Town, home: Household, rank: int) -> AsyncIterator[tuple[str, Gate]]:
    """The wallet's top-up while its draw of this rank waits at a gate, for as long as it takes; its id, and the gate.

    Afterwards the gate is open, and the top-up is seen through.
    """
    town.watcher.patience = town.watcher.patience.model_copy(update={"draw": timedelta(minutes=5)})
    town.accounts = gate = Gate(town.accounts, rank=rank, after_moving=False)
    async with town.worker():
        await town.watch()
        await asyncio.wait_for(gate.reached.wait(), timeout=90)
        (top_up,) = await home.top_ups()
        yield top_up.id, gate
        gate.opened.set()
        await town.see_through(home)


async def low_wallet(town: Town, *, usdt: str = "60", usdc: str = "500") -> Household:
    """A balance of 35 under a threshold of 50; a rule that tops up 100 from USDT, then USDC."""
    home = await town.open_household(balance="80")
    await home.fund(usdt, "USDT")
    await home.fund(usdc, "USDC")
    await home.draw_up_rule(sources=("USDT", "USDC"))
    await home.spend("45")
    return home


async def save_rule(home: Household, *, enabled: bool = True, threshold: str = "50.00") -> RuleRecord:
    """Give the wallet its rule as its owner does, written into the rule's history."""
    draft = TermsDraft(threshold, "100.00", "funding", ("USDT", "USDC"))
    async with home.database.commit() as session:
        return await create_rule(session, wallet_id=home.wallet_id, draft=draft, enabled=enabled, author=ADA)
