"""A watcher or a worker cut off from the database in the middle of its work: the others go on, and nothing is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

from adapters.postgres.claims import Claims
from adapters.postgres.database import Database
from adapters.postgres.ledger import LedgerAccounts
from tests.builders import Household, low_wallet
from tests.chaos.wires import Wire, unix
from tests.outages.invariants import assert_invariants
from tests.outages.product import until
from tests.stories.town import Town

MIDDLE_OF_JUDGING = b"UPDATE balance_event SET judged"
"""The last statement of a judging: all is written and nothing committed."""
MIDDLE_OF_SETTLING = b"hold_balance("
DRAWING = b"ledger_draw("
NOTHING_MORE = b"no statement says this"
"""The connection that has gone silent stays so; others work."""


@dataclass(frozen=True, slots=True)
class Far:
    """A database behind a wire that can be cut."""

    wire: Wire
    database: Database


@asynccontextmanager
async def open_far(database_url: str) -> AsyncIterator[Far]:
    """The same database by real sockets of our own."""
    url = make_url(database_url)
    folder = url.query["host"]
    assert isinstance(folder, str)
    wire = await Wire.open(unix(str(Path(folder) / ".s.PGSQL.5432")))
    near = url.set(host="127.0.0.1", port=wire.port, query={"sslmode": "disable", "gssencmode": "disable"})
    database = Database.open(near.render_as_string(hide_password=False), pool_size=10)
    try:
        yield Far(wire, database)
    finally:
        await wire.close()
        await database.close()


async def claimed(home: Household) -> bool:
    """Whether its rule has fired, after one more watcher's round."""
    await Claims(home.database).judge_waiting()
    return bool(await home.top_ups())


@pytest.mark.rule("R10")
class TestAWatcherCutOff:
    @pytest.mark.parametrize("how", ["reset", "silent"])
    async def test_in_the_middle_of_judging_is_taken_over_by_the_other(
        self, database: Database, database_url: str, how: str
    ) -> None:
        async with open_far(database_url) as far:
            stuck = await low_wallet(database)
            silence = far.wire.hold_replies(MIDDLE_OF_JUDGING)
            judging = asyncio.create_task(Claims(far.database).judge_waiting())
            await asyncio.wait_for(silence.reached.wait(), timeout=30)
            other = await low_wallet(database)

            at_once, too_early = await claimed(other), await stuck.top_ups()
            if how == "reset":
                far.wire.cut()
            await until(lambda: claimed(stuck))
            silence.released.set()
            with pytest.raises(OperationalError):
                await judging
            await Claims(far.database).judge_waiting()

        assert (at_once, too_early) == (True, [])
        for home in (stuck, other):
            assert [row.fired for row in await home.decisions()] == [True]
            assert len(await home.top_ups()) == 1
        await assert_invariants(database)


class TestAWorkerCutOff:
    @pytest.mark.rule("R21")
    async def test_in_the_middle_of_a_draw_finds_out_what_became_of_it(
        self, idle_town: Town, database_url: str
    ) -> None:
        home = await low_wallet(idle_town.database)
        async with open_far(database_url) as far, far_worker(idle_town, far):
            silence = far.wire.hold_replies(DRAWING)
            await idle_town.watch()
            await asyncio.wait_for(silence.reached.wait(), timeout=60)
            ended = await idle_town.see_through(home)
            silence.released.set()

        assert (ended.outcome, await home.balance()) == ("completed", "135.00")
        await assert_invariants(idle_town.database)

    @pytest.mark.rule("R21")
    async def test_before_a_draw_was_sent_ends_as_the_fence_or_the_draw_came_first(
        self, idle_town: Town, database_url: str
    ) -> None:
        home = await low_wallet(idle_town.database)
        async with open_far(database_url) as far, far_worker(idle_town, far):
            await idle_town.watch()
            await until(lambda: planned(home))
            silence = far.wire.hold_requests()
            await asyncio.wait_for(silence.reached.wait(), timeout=60)
            far.wire.cut()
            silence.released.set()
            ended = await idle_town.see_through(home)

        assert (ended.outcome, await home.balance()) in {("completed", "135.00"), ("failed", "35.00")}
        assert (await home.rule()).locked_by is None
        await assert_invariants(idle_town.database)

    @pytest.mark.rule("R7")
    async def test_in_the_middle_of_settling_settles_once_the_server_has_let_go(
        self, idle_town: Town, database_url: str
    ) -> None:
        home = await low_wallet(idle_town.database)
        async with open_far(database_url) as far, far_worker(idle_town, far):
            silence = far.wire.hold_replies(MIDDLE_OF_SETTLING)
            await idle_town.watch()
            await asyncio.wait_for(silence.reached.wait(), timeout=60)
            silence.pattern = NOTHING_MORE
            other = await low_wallet(idle_town.database)
            meanwhile = await idle_town.see_through(other)
            still_locked = (await home.rule()).locked_by
            await (await idle_town.handle(home)).result()
            silence.released.set()

        (top_up,) = await home.top_ups()
        assert still_locked == top_up.id
        assert (meanwhile.outcome, top_up.outcome) == ("completed", "completed")
        assert (await home.rule()).locked_by is None
        assert await home.balance() == "135.00"
        assert len(await home.deliveries()) == 2
        await assert_invariants(idle_town.database)


async def planned(home: Household) -> bool:
    """Whether its top-up has been checked, and is about to draw."""
    return any(row.checked is not None for row in await home.top_ups())


@asynccontextmanager
async def far_worker(town: Town, far: Far) -> AsyncIterator[None]:
    """A worker that reaches the database by the wire alone; the watcher reaches it as ever."""
    settings = town.with_settings(draw_timeout=timedelta(seconds=5))
    town.watcher.patience = town.watcher.patience.model_copy(update={"draw": timedelta(seconds=5)})
    there = replace(town, database=far.database, accounts=LedgerAccounts(far.database), settings=settings)
    async with there.worker():
        yield
