"""The frame around every page, in a real browser: its ways, its look, its words."""

from adapters.postgres.database import Database
from tests.builders import open_household
from tests.console.browser import Window, assert_accessible, assert_fits
from tests.console.conftest import Browser, sign_in


class TestTheFrame:
    async def test_stands_around_a_page_of_trouble_too(
        self, small: Window, stranger: Browser, database: Database
    ) -> None:
        home = await open_household(database)
        owner = await sign_in(stranger, database, owner_id=home.owner_id)
        assert owner.token
        await small.sign_in(owner.token)
        small.expect_trouble("status of 404")

        answer = await small.go("/wallets/nothing/at/all")

        assert answer.status == 404
        await assert_accessible(small.page)
        await assert_fits(small.page)
        assert await small.page.get_by_role("navigation", name="Main").is_visible()
