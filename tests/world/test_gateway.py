"""Every fault of a gateway at each rank of a top-up: what is told is what moved, and never more than the amount."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta

import pytest

from activities.messages import Ended
from adapters.postgres.tables import DrawRow, TopUpRow
from tests.builders import Household
from tests.outages.invariants import assert_invariants
from tests.stories.town import Town
from tests.world.gateway import (
    ANSWERED,
    HOLDINGS,
    LIES,
    NONSENSE,
    Fault,
    Gateway,
    MovedBehindTheLookUp,
    come_late,
    hang,
    outlast,
    slow,
)
from topup.money import Money

RANKS = tuple(HOLDINGS)
SHARES = {"USDT": 60, "USDC": 30, "USDG": 10}
DRAW_TIMEOUT = timedelta(seconds=10)
"""A draw gives up by itself two seconds before."""
BELOW_SECONDS = 4.0


def units(whole: int) -> int:
    """So much of a stable coin in its least units."""
    return Money.parse(str(whole), "USDT").units


async def low_wallet(town: Town) -> Household:
    """A low wallet and a rule over three sources, which together give 60, 30 and 10."""
    home = await town.open_household(balance="80")
    for asset, held in HOLDINGS.items():
        await home.fund(str(held), asset)
    await home.draw_up_rule(sources=RANKS)
    await home.spend("45")
    return home


async def top_up_with(
    town: Town, gateway: Gateway, faults: Mapping[str, Fault]
) -> dict[tuple[str, str], "Story"]:
    """A top-up for each fault at each rank, side by side; all have ended when this returns."""
    town.accounts = gateway
    homes = {(what, asset): await low_wallet(town) for what in faults for asset in RANKS}
    for (what, asset), home in homes.items():
        gateway.spoil(home, asset, faults[what])
    async with town.worker():
        await town.watch()
        runs = [await town.handle(home) for home in homes.values()]
        ended = await asyncio.gather(*[run.result() for run in runs])
        await gateway.finish_late()
    await assert_invariants(town.database)
    stories = [await read_story(home, told) for home, told in zip(homes.values(), ended, strict=True)]
    for story in stories:
        await assert_told_truly(story)
    return dict(zip(homes, stories, strict=True))


class Story:
    """How one top-up went."""

    def __init__(self, home: Household, top_up: TopUpRow, draws: Sequence[DrawRow], told: Ended) -> None:
        """Of a top-up that has ended."""
        self.home = home
        self.top_up = top_up
        self.credited = {row.asset: row.credited for row in draws}
        self.statuses = {row.asset: row.status for row in draws}
        self.told = told

    @property
    def ending(self) -> tuple[str | None, str | None]:
        """Outcome and reason."""
        return self.top_up.outcome, self.top_up.reason

    async def moved(self) -> dict[str, int]:
        """What is missing at each source."""
        return {asset: units(held) - await self._held(asset) for asset, held in HOLDINGS.items()}

    async def _held(self, asset: str) -> int:
        return Money.parse(await self.home.holding(asset), asset).units


async def read_story(home: Household, told: Ended) -> Story:
    """How the household's only top-up went."""
    (top_up,) = await home.top_ups()
    return Story(home, top_up, await home.draws(top_up.id), told)


async def assert_told_truly(story: Story) -> None:
    """What is told of each source, in all, and to the operator is what has moved, and not more than was wanted."""
    moved = await story.moved()
    arrived = Money.parse(await story.home.balance(), "USDT").units - units(35)
    assert story.credited == moved
    assert story.top_up.credited == sum(moved.values()) == arrived <= story.top_up.amount
    assert story.told.credited == str(Money("USDT", arrived))
    lines = [line for line in story.told.in_words if any(f". {asset}" in line for asset in RANKS)]
    for asset, line in zip(RANKS, lines, strict=True):
        assert (Money(asset, moved[asset]).text in line) or not moved[asset], line


def without(asset: str) -> dict[str, int]:
    """What moves where one source gives nothing, and its share is not taken from another (R18)."""
    return {name: 0 if name == asset else units(share) for name, share in SHARES.items()}


ENDINGS = {
    "rejects": ("partial", "source_failed"),
    "loses the answer before moving": ("partial", "not_confirmed"),
    "loses it after moving": ("completed", "full"),
}
ALL = {name: units(share) for name, share in SHARES.items()}


@pytest.fixture
def gateway(idle_town: Town) -> Gateway:
    """The real accounts, no fault yet."""
    idle_town.settings = idle_town.with_settings(draw_timeout=DRAW_TIMEOUT)
    idle_town.watcher.patience = idle_town.watcher.patience.model_copy(update={"draw": DRAW_TIMEOUT})
    return MovedBehindTheLookUp(idle_town.accounts)


@pytest.mark.rule("R21")
class TestAGatewayThatFails:
    @pytest.mark.rule("R18")
    async def test_gives_all_or_nothing_of_its_share(self, idle_town: Town, gateway: Gateway) -> None:
        stories = await top_up_with(idle_town, gateway, ANSWERED)

        for (what, asset), story in stories.items():
            moved = ALL if what == "loses it after moving" else without(asset)
            assert (what, story.ending, await story.moved()) == (what, ENDINGS[what], moved)

    async def test_moves_nothing_any_more_once_it_was_looked_up(
        self, idle_town: Town, gateway: Gateway
    ) -> None:
        stories = await top_up_with(idle_town, gateway, {"late": come_late})

        assert [answer.kind for answer in await gateway.finish_late()] == ["not_moved"] * len(RANKS)
        for (_, asset), story in stories.items():
            assert (story.ending, await story.moved()) == (("partial", "not_confirmed"), without(asset))

    async def test_is_waited_for_just_so_long(self, idle_town: Town, gateway: Gateway) -> None:
        faults = {"below": slow(BELOW_SECONDS), "just above": outlast, "for ever": hang}

        stories = await top_up_with(idle_town, gateway, faults)

        for (what, asset), story in stories.items():
            moved = await story.moved()
            assert moved == ALL if what == "below" else moved == without(asset) or what == "just above"
            full = moved == ALL
            assert story.ending == (("completed", "full") if full else ("partial", "not_confirmed"))
            assert story.statuses[asset] == ("transferred" if full else "confirmed_not_moved")
        late = await gateway.finish_late()
        assert len(late) == len(RANKS)
        assert {answer.kind for answer in late} <= {"moved", "not_moved"}


@pytest.mark.rule("R19")
class TestAGatewayWhoseAnswersAreUntrue:
    @pytest.mark.rule("R21")
    async def test_is_looked_up_and_not_believed_where_it_talks_nonsense(
        self, idle_town: Town, gateway: Gateway
    ) -> None:
        stories = await top_up_with(idle_town, gateway, NONSENSE)

        for (what, _), story in stories.items():
            assert (what, story.ending, await story.moved()) == (what, ("completed", "full"), ALL)
            assert set(story.statuses.values()) == {"transferred"}

    async def test_is_told_of_as_the_ledger_knows_it_where_it_lies(
        self, idle_town: Town, gateway: Gateway
    ) -> None:
        stories = await top_up_with(idle_town, gateway, LIES)

        for (what, asset), story in stories.items():
            moved = await story.moved()
            match what:
                case "says moved though nothing has":
                    assert (story.ending, moved) == (("partial", "not_confirmed"), without(asset))
                    assert story.statuses[asset] == "confirmed_not_moved"
                case "says all of it though it was half":
                    assert moved == {**ALL, asset: units(SHARES[asset]) // 2}
                    assert story.top_up.outcome == "partial"
                case _:
                    assert (what, story.ending, sum(moved.values())) == (
                        what,
                        ("completed", "full"),
                        units(100),
                    )
