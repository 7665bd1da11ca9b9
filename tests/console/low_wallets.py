"""A wallet that has just fallen below its threshold: what most pages have something to say about."""

import asyncio
from dataclasses import dataclass, field

from activities.messages import DrawName, DrawOrder, Moved, NotMoved, Refused
from activities.ports import AnswerMissing
from adapters.postgres.rules import Author, RuleRecord, TermsDraft, create_rule
from tests.builders import Household
from tests.stories.accounts import Through
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
