"""No space left for PostgreSQL in the middle of top-ups: clear errors, nothing half-written, and all ends after it."""

import asyncio
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from httpx2 import Response
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from temporalio.testing import WorkflowEnvironment

from adapters.postgres.database import Database, run_sql
from adapters.postgres.migrations.reach import upgrade
from api.scopes import Scope
from runtime.embedded_postgres import PostgresServer, create_database, start_postgres, stop_postgres
from tests.api.conftest import build, client_of, make_key
from tests.builders import Household, low_wallet
from tests.hands import by_hand
from tests.outages.invariants import assert_invariants
from tests.outages.product import until
from tests.stories.accounts import Gate
from tests.stories.town import Town, open_town

_FILL = """
CREATE OR REPLACE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
END $$
"""


@asynccontextmanager
async def full(database: Database, table: str) -> AsyncIterator[None]:
    """No row fits into this table any more, as PostgreSQL itself says it where a file cannot grow."""
    async with by_hand(database) as session:
        await run_sql(session, text(_FILL))
        trigger = f"CREATE TRIGGER no_space BEFORE INSERT ON {table} EXECUTE FUNCTION no_space()"
        await run_sql(session, text(trigger))
    try:
        yield
    finally:
        async with by_hand(database) as session:
            await run_sql(session, text(f"DROP TRIGGER no_space ON {table}"))


async def pay(database: Database, home: Household, *, key: str) -> Response:
    """Ask the API for a payment."""
    async with client_of(build(database), key) as client:
        body = {"wallet_id": home.wallet_id, "amount": "1"}
        return await client.post("/v1/ledger/payments", json=body, headers={"Idempotency-Key": str(uuid4())})


def assert_to_be_tried_later(answer: Response) -> None:
    """The API says that it cannot serve, and for how long to wait."""
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["Retry-After"]) > 0


class TestATableThatCannotGrow:
    @pytest.mark.rule("R10")
    async def test_in_the_middle_of_a_claim_claims_nothing_and_loses_nothing(self, idle_town: Town) -> None:
        home = await low_wallet(idle_town.database)

        async with full(idle_town.database, "decision"):
            with pytest.raises(OperationalError, match="No space left"):
                await idle_town.watch()
            nothing, rule = await home.top_ups(), await home.rule()
        await idle_town.watch()

        assert (nothing, rule.armed, rule.locked_by) == ([], True, None)
        assert [row.fired for row in await home.decisions()] == [True]
        assert len(await home.top_ups()) == 1

    @pytest.mark.rule("R21")
    async def test_in_the_middle_of_a_draw_moves_nothing_and_ends_once_there_is_space(
        self, town: Town
    ) -> None:
        home = await low_wallet(town.database)
        key = await make_key(town.database, [*Scope])

        async with full(town.database, "transfer"):
            await town.watch()
            await until(lambda: being_checked(home))
            assert_to_be_tried_later(await pay(town.database, home, key=key))
            meanwhile = (await home.balance(), await home.holding("USDT"))
        ended = await town.see_through(home)

        assert meanwhile == (await home.balance(), await home.holding("USDT")) == ("35.00", "500.00")
        assert (ended.outcome, ended.reason) == ("failed", "not_confirmed")
        await assert_invariants(town.database)

    @pytest.mark.rule("R7")
    async def test_in_the_middle_of_settling_writes_no_part_of_it_until_there_is_space(
        self, town: Town
    ) -> None:
        home = await low_wallet(town.database)

        async with full(town.database, "delivery"):
            await town.watch()
            await until(lambda: arrived(home))
            (open_top_up,), rule = await home.top_ups(), await home.rule()
            draws = await home.draws(open_top_up.id)
        ended = await town.see_through(home)

        assert (open_top_up.state, draws, rule.locked_by) == ("in_progress", [], open_top_up.id)
        assert (ended.outcome, (await home.rule()).locked_by) == ("completed", None)
        assert len(await home.deliveries()) == 2
        await assert_invariants(town.database)


async def being_checked(home: Household) -> bool:
    """Whether a draw is shown as being checked."""
    top_ups = await home.top_ups()
    return bool(top_ups) and any(row.status == "being_checked" for row in await home.draws(top_ups[0].id))


async def arrived(home: Household) -> bool:
    """Whether the money is in the wallet."""
    return await home.balance() == "135.00"


class TestADiskOnWhichNothingCanBeWritten:
    @pytest.mark.rule("R7")
    @pytest.mark.rule("R21")
    async def test_in_the_middle_of_a_draw_ends_with_true_results_once_there_is_space(
        self, temporal: WorkflowEnvironment
    ) -> None:
        async with own_server() as folder:
            server = await asyncio.to_thread(start, folder)
            url = await asyncio.to_thread(create_database, server, "tidemark")
            await asyncio.to_thread(upgrade, url)
            database = Database.open(url, pool_size=10)
            async with open_town(temporal.client, database, url) as town:
                home, key = await low_wallet(town.database), await make_key(database, [*Scope])
                town.settings = town.with_settings(draw_timeout=timedelta(seconds=10))
                town.accounts = gate = Gate(town.accounts, rank=1, after_moving=False)
                async with town.worker():
                    await town.watch()
                    await asyncio.wait_for(gate.reached.wait(), timeout=60)
                    run = await town.handle(home)
                    take_space(server, url)
                    gate.opened.set()
                    refused = await pay(database, home, key=key)
                    await asyncio.to_thread(stop_postgres, folder / "data", at_once=True)
                    still_refused = await pay(database, home, key=key)
                    await asyncio.to_thread(start, folder)
                    await run.result()

            (top_up,) = await home.top_ups()
            arrived = {"completed": "135.00", "failed": "35.00"}[str(top_up.outcome)]
            assert await home.balance() == arrived
            assert (await home.rule()).locked_by is None
            assert (await pay(database, home, key=key)).status_code == 201
            await assert_invariants(database)
            await database.close()
        for answer in (refused, still_refused):
            assert_to_be_tried_later(answer)


@asynccontextmanager
async def own_server() -> AsyncIterator[Path]:
    """A folder for a server of the test's own, which is stopped at the end."""
    # Root's PostgreSQL runs as another user, who may not enter pytest's own folders.
    folder = Path(tempfile.mkdtemp(prefix="tidemark-full-"))
    try:
        yield folder
    finally:
        await asyncio.to_thread(stop_postgres, folder / "data", at_once=True)
        shutil.rmtree(folder, ignore_errors=True)


def start(folder: Path) -> PostgresServer:
    """Start the server, with as much space as there is."""
    return start_postgres(folder / "data", log=folder / "postgres.log", say=print)


def take_space(server: PostgresServer, url: str) -> None:
    """Have no file of the server's take any more: not its tables, and not what it writes ahead."""
    with psycopg.connect(url) as connection:
        pids = [row[0] for row in connection.execute("SELECT pid FROM pg_stat_activity").fetchall()]
    owner = pwd.getpwuid(
        server.folder.stat().st_uid
    )  # Nobody else may set its limits, not even root everywhere.
    for pid in (*pids, server.pid):
        asked = ["prlimit", f"--pid={pid}", "--fsize=0:"]
        subprocess.run(
            asked, user=owner.pw_uid, group=owner.pw_gid, check=pid == server.pid, capture_output=True
        )
