"""Where a visitor is led first."""

from sqlalchemy import text

from adapters.postgres.database import Database, run_sql
from tests.builders import open_household
from tests.console.conftest import Browser, sign_in


class TestTheStartPage:
    async def test_leads_a_stranger_to_the_sign_in(self, stranger: Browser) -> None:
        answer = await stranger.get("/")

        assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")

    async def test_leads_an_owner_of_one_wallet_to_it(self, stranger: Browser, database: Database) -> None:
        home = await open_household(database)
        owner = await sign_in(stranger, database, owner_id=home.owner_id)

        answer = await owner.get("/")

        assert answer.headers["location"] == f"/wallets/{home.wallet_id}"

    async def test_notes_a_minute_later_that_a_browser_is_still_used(
        self, stranger: Browser, database: Database
    ) -> None:
        home = await open_household(database)
        owner = await sign_in(stranger, database, owner_id=home.owner_id)
        rows = text(
            "SELECT now() - last_seen_at < interval '30 seconds' AS fresh, xmin::text FROM page_session"
        )
        async with database.commit() as session:
            await run_sql(
                session, text("UPDATE page_session SET last_seen_at = now() - interval '2 minutes'")
            )

        await owner.get("/")
        async with database.read() as session:
            first = (await run_sql(session, rows)).one()
        await owner.get("/")
        async with database.read() as session:
            second = (await run_sql(session, rows)).one()

        assert first.fresh
        assert second == first, "a look within the minute writes nothing"

    async def test_leads_an_operator_to_the_overview(self, stranger: Browser, database: Database) -> None:
        operator = await sign_in(stranger, database, owner_id=None)

        assert (await operator.get("/")).headers["location"] == "/operator"
