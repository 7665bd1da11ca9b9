"""Claim, lock, draw, fence and settle under READ COMMITTED: whatever the order of their statements, one right result.

Every order leaves books that agree, ends within the results that are allowed, and finds nobody in a deadlock.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql

from activities.messages import DrawOrder, Moved, NotMoved, Patience, Refused, Settled, SettleOrder
from activities.results import result_of
from adapters.postgres.claims import Claims, Judged
from adapters.postgres.database import Database
from adapters.postgres.ledger import LedgerAccounts
from adapters.postgres.payments import Posted, pay_from_wallet
from adapters.postgres.rules import (
    Author,
    RuleExists,
    RuleLocked,
    TermsDraft,
    VersionStale,
    create_rule,
    delete_rule,
    disable_rule,
    edit_rule,
)
from adapters.postgres.tables import TopUpRow
from adapters.postgres.top_ups import TopUpRecords
from adapters.postgres.wallets import name_wallet, open_wallet
from tests.builders import Household, open_household
from tests.conftest import address
from tests.isolation.stepping import (
    Deed,
    Gate,
    Orders,
    every_statement,
    locks_and_ledger,
    open_stage,
)
from tests.outages.invariants import assert_invariants
from topup.keys import draw_key
from topup.money import Money
from topup.outcome import DrawReason, conclude
from topup.quote import Quote, quote_at, read_rate

AUTHOR = Author("key isolation", None)
AT_PAR = Quote("USDT", "USDT", 1, 1)
SAMPLED = int(os.environ.get("ISOLATION_ORDERS") or 4)
"""How many orders of all single statements are tried for each scene."""
ALL_MAX = 70
"""Where there are more orders than this, some are made from a seed instead."""


@dataclass(frozen=True, slots=True)
class Ground:
    """A database that lasts, as its programs reach it and as it is watched."""

    database: Database
    url: str
    watching_url: str


Check = Callable[[Sequence[Any]], Awaitable[None]]
"""Whether these results, one for each actor, are allowed, and what has become of everything."""


class Scene(Protocol):
    """What stands before an order is run: made anew each time."""

    async def __call__(self, database: Database) -> tuple[Sequence[Deed], Check]:
        """Who does what, and what has to be so afterwards."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ground(postgres_url: str, template: str) -> AsyncIterator[Ground]:
    name = "isolation"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
        connection.execute(copy.format(sql.Identifier(name), sql.Identifier(template)))
    url = address(postgres_url, name)
    database = Database.open(url, pool_size=2)
    yield Ground(database, url, url)
    await database.close()


async def run_orders(ground: Ground, scene: Scene, *, gate: Gate, sampled: int = 0) -> int:
    """Run the scene in every order, or in some; how many there were."""
    orders = Orders(sampled)
    async with open_stage(ground.url, ground.watching_url, "A B C D E F G H", gate) as stage:
        for choose in orders:
            deeds, check = await scene(ground.database)
            results, told = await stage.play(deeds, choose)
            try:
                await check(results)
                await assert_invariants(ground.database)
            except AssertionError as failed:
                failed.add_note(orders.told(told))
                failed.add_note(f"results: {results}")
                raise
    return orders.tried


# ----------------------------------------------------------------------------------------------- who does what


def claim(database: Database) -> Awaitable[Judged]:
    return Claims(database).judge_waiting()


def drawing(home: Household, top_up_id: str, rank: int, credit: str, quote: Quote = AT_PAR) -> DrawOrder:
    return DrawOrder(
        top_up_id=top_up_id,
        rank=rank,
        key=draw_key(top_up_id, rank),
        owner_id=home.owner_id,
        account="funding",
        asset=quote.asset,
        currency=home.currency,
        wallet_id=home.wallet_id,
        credit=Money.parse(credit, home.currency),
        quote=quote,
    )


def draw(order: DrawOrder) -> Deed:
    return lambda database: LedgerAccounts(database).draw(order)


def look_up(order: DrawOrder) -> Deed:
    return lambda database: LedgerAccounts(database).look_up(order)


def settle(top_up: TopUpRow, *, drawn: Sequence[tuple[DrawOrder, Any]] = ()) -> Deed:
    draws = tuple(result_of(order, answer) for order, answer in drawn)
    ending = conclude(Money(top_up.currency, top_up.amount), draws, stopped=not draws)
    order = SettleOrder(top_up_id=top_up.id, draws=draws, ending=ending)
    return lambda database: TopUpRecords(database, Patience()).settle(order)


def edit(rule_id: str, **changes: Any) -> Deed:
    async def save(database: Database) -> Any:
        async with database.commit() as session:
            return await edit_rule(session, rule_id, changes, version=1, author=AUTHOR)

    return save


def turn_off(rule_id: str) -> Deed:
    async def save(database: Database) -> Any:
        async with database.commit() as session:
            return await disable_rule(session, rule_id, version=1, author=AUTHOR)

    return save


def delete(rule_id: str) -> Deed:
    async def remove(database: Database) -> Any:
        async with database.commit() as session:
            return await delete_rule(session, rule_id, version=1, author=AUTHOR)

    return remove


def create(home: Household) -> Deed:
    async def make(database: Database) -> Any:
        draft = TermsDraft(threshold="50", amount="100", account="funding", sources=("USDT",))
        async with database.commit() as session:
            return await create_rule(
                session, wallet_id=home.wallet_id, draft=draft, enabled=True, author=AUTHOR
            )

    return make


def pay(home: Household, amount: str) -> Deed:
    async def move(database: Database) -> Any:
        async with database.commit() as session:
            wallet = await name_wallet(session, home.wallet_id, bound_to=None)
            return await pay_from_wallet(session, wallet, Money.parse(amount, home.currency))

    return move


# ---------------------------------------------------------------------------------------------- what stands before


async def low(database: Database, *sources: str, funded: str = "500") -> tuple[Household, str]:
    """A wallet of 80 with a rule at 50, from which 45 have been spent: not judged yet."""
    home = await open_household(database, balance="80")
    if funded != "0":
        await home.fund(funded, "USDT")
    rule_id = await home.draw_up_rule(amount="100", sources=sources or ("USDT",))
    await home.spend("45")
    return home, rule_id


async def in_progress(
    database: Database, *sources: str, funded: str = "500"
) -> tuple[Household, str, TopUpRow]:
    """The same with its top-up in progress."""
    home, rule_id = await low(database, *sources, funded=funded)
    await judge_all(database)
    (top_up,) = await home.top_ups()
    return home, rule_id, top_up


async def judge_all(database: Database) -> None:
    while (await Claims(database).judge_waiting()).events:
        pass


async def end_all(home: Household) -> None:
    """Have what is left judged, and end the wallet's open top-up, so that the next order finds nothing."""
    await judge_all(home.database)
    for top_up in await home.top_ups():
        if top_up.state == "in_progress":
            await settle(top_up)(home.database)
    await judge_all(home.database)


# ----------------------------------------------------------------------------------------------------- scenes


async def two_claims(database: Database) -> tuple[Sequence[Deed], Check]:
    home, _ = await low(database)

    async def one_top_up(results: Sequence[Any]) -> None:
        assert sorted(len(judged.claimed) for judged in results) == [0, 1]
        await judge_all(database)
        assert len(await home.top_ups()) == 1
        await end_all(home)

    return (claim, claim), one_top_up


async def claim_and_edit(database: Database) -> tuple[Sequence[Deed], Check]:
    home, rule_id = await low(database)

    async def under_the_old_or_the_new_terms(results: Sequence[Any]) -> None:
        _, edited = results
        await judge_all(database)
        (top_up,) = await home.top_ups()
        if isinstance(edited, RuleLocked):
            assert (top_up.amount, top_up.rule_version) == (100_000_000, 1)
        else:
            assert (top_up.amount, top_up.rule_version) == (70_000_000, edited.version)
        await end_all(home)

    return (claim, edit(rule_id, amount="70")), under_the_old_or_the_new_terms


async def claim_and_turning_off(database: Database) -> tuple[Sequence[Deed], Check]:
    home, rule_id = await low(database)

    async def fires_or_is_off(results: Sequence[Any]) -> None:
        _, off = results
        await judge_all(database)
        top_ups = await home.top_ups()
        assert len(top_ups) == (1 if isinstance(off, RuleLocked) else 0)
        await end_all(home)

    return (claim, turn_off(rule_id)), fires_or_is_off


async def claim_and_deletion(database: Database) -> tuple[Sequence[Deed], Check]:
    home, rule_id = await low(database)

    async def fires_or_is_gone(results: Sequence[Any]) -> None:
        _, deleted = results
        await judge_all(database)
        assert len(await home.top_ups()) == (1 if isinstance(deleted, RuleLocked) else 0)
        await end_all(home)

    return (claim, delete(rule_id)), fires_or_is_gone


async def two_edits(database: Database) -> tuple[Sequence[Deed], Check]:
    home = await open_household(database, balance="80")
    rule_id = await home.draw_up_rule()

    async def one_is_stale(results: Sequence[Any]) -> None:
        assert [type(result) for result in results].count(VersionStale) == 1
        assert (await home.rule()).version == 2
        await end_all(home)

    return (edit(rule_id, amount="70"), edit(rule_id, amount="60")), one_is_stale


async def two_creations(database: Database) -> tuple[Sequence[Deed], Check]:
    home = await open_household(database, balance="80")

    async def one_rule(results: Sequence[Any]) -> None:
        assert [type(result) for result in results].count(RuleExists) == 1
        await end_all(home)

    return (create(home), create(home)), one_rule


async def claim_and_settle(database: Database) -> tuple[Sequence[Deed], Check]:
    home, _, top_up = await in_progress(database)
    order = drawing(home, top_up.id, 1, "100")
    answer = await LedgerAccounts(database).draw(order)
    await judge_all(database)
    await home.spend("1")

    async def ended_and_judged_once(results: Sequence[Any]) -> None:
        _, settled = results
        assert settled.ending.outcome == "completed"
        await judge_all(database)
        (ended,) = await home.top_ups()
        rule = await home.rule()
        assert (ended.state, rule.locked_by, rule.armed) == ("ended", None, True)
        assert len(await home.deliveries()) == 2

    return (claim, settle(top_up, drawn=[(order, answer)])), ended_and_judged_once


async def claim_and_settle_while_low(database: Database) -> tuple[Sequence[Deed], Check]:
    """The top-up completes, and what was spent meanwhile leaves the wallet below again: judged once, it fires (R12)."""
    home, _, top_up = await in_progress(database)
    order = drawing(home, top_up.id, 1, "100")
    answer = await LedgerAccounts(database).draw(order)
    await home.spend("120")

    async def the_next_one_follows(results: Sequence[Any]) -> None:
        assert isinstance(results[1], Settled)
        await judge_all(database)
        first, second = await home.top_ups()
        assert (first.state, second.state) == ("ended", "in_progress")
        await end_all(home)

    return (claim, settle(top_up, drawn=[(order, answer)])), the_next_one_follows


async def two_settles(database: Database) -> tuple[Sequence[Deed], Check]:
    """The story's own, and a sweep's that knows of no draw: the ledger has the last word in both."""
    home, _, top_up = await in_progress(database)
    order = drawing(home, top_up.id, 1, "100")
    answer = await LedgerAccounts(database).draw(order)

    async def one_ending(results: Sequence[Any]) -> None:
        story, sweep = results
        assert story.ending == sweep.ending
        assert story.deliveries == sweep.deliveries
        assert len(await home.deliveries()) == 2
        assert (await home.top_ups())[0].credited == 100_000_000
        await judge_all(database)

    return (settle(top_up, drawn=[(order, answer)]), settle(top_up)), one_ending


async def settle_and_payment(database: Database) -> tuple[Sequence[Deed], Check]:
    home, _, top_up = await in_progress(database)
    order = drawing(home, top_up.id, 1, "100")
    answer = await LedgerAccounts(database).draw(order)

    async def both_count(results: Sequence[Any]) -> None:
        settled, paid = results
        assert isinstance(settled, Settled)
        assert isinstance(paid, Posted)
        await judge_all(database)
        assert await home.balance() == "15.00"
        top_ups = await home.top_ups()
        assert [row.state for row in top_ups] == ["ended", "in_progress"], "the spend is judged, once"
        await end_all(home)

    return (settle(top_up, drawn=[(order, answer)]), pay(home, "120")), both_count


async def settle_and_late_draw(database: Database) -> tuple[Sequence[Deed], Check]:
    """A sweep ends a top-up whose run is gone while a draw of it is still under way somewhere."""
    home, _, top_up = await in_progress(database)
    order = drawing(home, top_up.id, 1, "100")

    async def counted_or_fenced(results: Sequence[Any]) -> None:
        settled, answer = results
        assert isinstance(settled, Settled)
        assert isinstance(answer, Moved | NotMoved)
        moved = isinstance(answer, Moved)
        assert settled.ending.credited.units == (100_000_000 if moved else 0)
        assert await home.balance() == ("135.00" if moved else "35.00")
        await end_all(home)

    return (settle(top_up), draw(order)), counted_or_fenced


async def settle_and_late_draw_by_way_of_the_house(database: Database) -> tuple[Sequence[Deed], Check]:
    home, _, top_up = await in_progress(database, "USDT", "BTC")
    await home.fund("1", "BTC")
    order = drawing(home, top_up.id, 2, "100", quote_at("BTC", "USDT", read_rate("60000")))

    async def counted_or_fenced(results: Sequence[Any]) -> None:
        settled, answer = results
        assert isinstance(answer, Moved | NotMoved)
        assert settled.ending.credited.units == (100_000_000 if isinstance(answer, Moved) else 0)
        await end_all(home)

    return (settle(top_up), draw(order)), counted_or_fenced


async def settle_look_up_and_late_draw(database: Database) -> tuple[Sequence[Deed], Check]:
    home, _, top_up = await in_progress(database)
    order = drawing(home, top_up.id, 1, "100")

    async def all_say_the_same(results: Sequence[Any]) -> None:
        settled, found, answer = results
        assert found == answer
        assert bool(settled.ending.credited) == isinstance(answer, Moved)
        await end_all(home)

    return (settle(top_up), look_up(order), draw(order)), all_say_the_same


async def one_key_twice(database: Database) -> tuple[Sequence[Deed], Check]:
    home, _, top_up = await in_progress(database)
    order = drawing(home, top_up.id, 1, "100")

    async def moved_once(results: Sequence[Any]) -> None:
        assert results[0] == results[1]
        assert await home.balance() == "135.00"
        await end_all(home)

    return (draw(order), draw(order)), moved_once


async def draw_and_fence(database: Database) -> tuple[Sequence[Deed], Check]:
    home, _, top_up = await in_progress(database)
    order = drawing(home, top_up.id, 1, "100")

    async def one_truth(results: Sequence[Any]) -> None:
        drawn, found = results
        assert drawn == found
        assert await home.balance() == ("135.00" if isinstance(drawn, Moved) else "35.00")
        await end_all(home)

    return (draw(order), look_up(order)), one_truth


async def both_directions(database: Database) -> tuple[Sequence[Deed], Check]:
    """One owner: a wallet in USDT that draws BTC, and one in BTC that draws USDT, through the same house accounts."""
    dollars, _, first = await in_progress(database, "BTC")
    await dollars.fund("1", "BTC")
    coins = await open_household(database, currency="BTC", balance="1")
    await coins.fund("100000", "USDT")
    await coins.draw_up_rule(threshold="0.5", amount="0.1")
    await coins.spend("0.6")
    await judge_all(database)
    (second,) = await coins.top_ups()
    into_dollars = drawing(dollars, first.id, 1, "100", quote_at("BTC", "USDT", read_rate("60000")))
    into_coins = drawing(coins, second.id, 1, "0.1", Quote("USDT", "BTC", 1, 600))

    async def both_move(results: Sequence[Any]) -> None:
        assert [type(result) for result in results] == [Moved, Moved]
        assert (await dollars.balance(), await coins.balance()) == ("135.00", "0.50")
        for home in (dollars, coins):
            await end_all(home)

    return (draw(into_dollars), draw(into_coins)), both_move


async def three_ranks_at_once(database: Database) -> tuple[Sequence[Deed], Check]:
    """All draws of one top-up, each for all of it: together never more than its amount (R19)."""
    home, _, top_up = await in_progress(database, "USDT", "USDC", "BTC", funded="60")
    await home.fund("70", "USDC")
    await home.fund("1", "BTC")
    quotes = (AT_PAR, Quote("USDC", "USDT", 1, 1), quote_at("BTC", "USDT", read_rate("60000")))
    orders = [drawing(home, top_up.id, rank, "100", quote) for rank, quote in enumerate(quotes, 1)]

    async def never_more_than_its_amount(results: Sequence[Any]) -> None:
        moved = sum(result.credited.units for result in results if isinstance(result, Moved))
        assert moved == 100_000_000
        assert await home.balance() == "135.00"
        await end_all(home)

    return tuple(draw(order) for order in orders), never_more_than_its_amount


async def eight_draws_on_one_source(database: Database) -> tuple[Sequence[Deed], Check]:
    """Eight top-ups of one owner draw 50 each from a source of 230: four get all, one the rest, three nothing."""
    first = await open_household(database, balance="80")
    await first.fund("230", "USDT")
    homes = [first, *[await _another_wallet(first) for _ in range(7)]]
    for home in homes:
        await home.draw_up_rule(amount="50")
        await home.spend("45")
    await judge_all(database)
    orders = [drawing(home, (await home.top_ups())[0].id, 1, "50") for home in homes]

    async def each_unit_once(results: Sequence[Any]) -> None:
        moved = sorted(result.credited.units for result in results if isinstance(result, Moved))
        assert moved == [30_000_000, *[50_000_000] * 4]
        assert results.count(Refused(reason=DrawReason.INSUFFICIENT)) == 3
        assert await first.holding("USDT") == "0.00"
        for home in homes:
            await end_all(home)

    return tuple(draw(order) for order in orders), each_unit_once


async def _another_wallet(home: Household) -> Household:
    """One more wallet of 80 of the same owner."""
    async with home.database.commit() as session:
        wallet = await open_wallet(session, owner_id=home.owner_id, currency="USDT", bound_to=None)
    another = Household(home.database, home.owner_id, wallet.id, "USDT")
    await another.add("80")
    return another


FEW = (
    two_edits,
    two_creations,
    two_claims,
    claim_and_edit,
    claim_and_turning_off,
    claim_and_deletion,
    two_settles,
    settle_and_payment,
    settle_and_late_draw,
    settle_and_late_draw_by_way_of_the_house,
    one_key_twice,
    draw_and_fence,
    both_directions,
    three_ranks_at_once,
)
MANY = (
    claim_and_settle,
    claim_and_settle_while_low,
    settle_look_up_and_late_draw,
    eight_draws_on_one_source,
)


@pytest.mark.rule("R7")
@pytest.mark.rule("R10")
@pytest.mark.rule("R19")
@pytest.mark.rule("R21")
class TestEveryOrder:
    @pytest.mark.parametrize("scene", FEW, ids=lambda scene: scene.__name__)
    async def test_of_locks_ledger_calls_and_commits_comes_to_one_right_end(
        self, ground: Ground, scene: Scene
    ) -> None:
        tried = await run_orders(ground, scene, gate=locks_and_ledger)

        assert 1 < tried <= ALL_MAX


@pytest.mark.rule("R10")
@pytest.mark.rule("R19")
@pytest.mark.rule("R21")
class TestOrdersFromASeed:
    @pytest.mark.parametrize("scene", [*FEW, *MANY], ids=lambda scene: scene.__name__)
    async def test_of_every_single_statement_come_to_one_right_end(
        self, ground: Ground, scene: Scene
    ) -> None:
        assert await run_orders(ground, scene, gate=every_statement, sampled=SAMPLED) == SAMPLED
