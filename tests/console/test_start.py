"""Where a visitor is led first."""

from adapters.postgres.database import Database
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

    async def test_leads_an_operator_to_the_overview(self, stranger: Browser, database: Database) -> None:
        operator = await sign_in(stranger, database, owner_id=None)

        assert (await operator.get("/")).headers["location"] == "/operator"
