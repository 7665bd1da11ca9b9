"""The frame of every page over HTTP: where it leads, what it says after a change, pages for what is not there."""

import re

import pytest

from adapters.postgres.database import Database
from adapters.postgres.ids import new_id
from adapters.postgres.ledger import open_account
from adapters.postgres.tables import Wallet
from console.flashes import FLASHES
from tests.builders import open_household
from tests.console.conftest import Browser, sign_in
from topup.trigger import Kept


class TestTheFrame:
    async def test_gives_the_token_of_its_forms_to_who_is_signed_in_and_to_nobody_else(
        self, stranger: Browser, database: Database
    ) -> None:
        home = await open_household(database)
        owner = await sign_in(stranger, database, owner_id=home.owner_id)

        signed_in = (await owner.get("/wallets/nothing/here")).text
        unknown = (await stranger.get("/wallets/nothing/here")).text

        assert f'<meta name="csrf" content="{owner.csrf}">' in signed_in
        assert 'action="/sign-out"' in signed_in
        assert 'name="csrf"' not in unknown
        assert "/sign-out" not in unknown

    async def test_leads_operators_to_their_overview(self, stranger: Browser, database: Database) -> None:
        operator = await sign_in(stranger, database, owner_id=None)

        page = (await operator.get("/operator/nothing")).text

        assert 'href="/operator" aria-current="page"' in page
        assert 'href="/history"' not in page

    async def test_names_only_files_that_are_there(self, stranger: Browser) -> None:
        page = (await stranger.get("/wallets/nothing/here")).text

        for address in re.findall(r'(?:href|src)="(/static/[^"]+)"', page):
            answer = await stranger.get(address)
            assert answer.status_code == 200, address
            assert "immutable" in answer.headers["cache-control"]


class TestAFlash:
    async def test_says_what_was_done(self, stranger: Browser) -> None:
        page = (await stranger.get("/wallets/nothing/here?done=rule-saved")).text

        assert FLASHES["rule-saved"].message in page

    @pytest.mark.parametrize("code", ["", "Send+money+to+me", "rule-saved.", "__class__"])
    async def test_says_nothing_that_is_not_on_its_list(self, stranger: Browser, code: str) -> None:
        page = (await stranger.get(f"/wallets/nothing/here?done={code}")).text

        assert 'class="notice' not in page
        assert "money" not in page

    @pytest.mark.parametrize("code", FLASHES)
    def test_is_a_sentence(self, code: str) -> None:
        assert FLASHES[code].message.endswith(".")
        assert FLASHES[code].kind in {"success", "info", "warning"}


class TestAnAddressOfNothing:
    @pytest.mark.parametrize(
        "path", ["/wallets", "/top-ups", "/operator/x", "/account/x/y", "/sign-out", "/join"]
    )
    async def test_is_answered_with_a_page(self, stranger: Browser, path: str) -> None:
        answer = await stranger.get(path)

        assert answer.status_code == 404
        assert answer.headers["content-type"].startswith("text/html")
        assert "Content-Security-Policy" in answer.headers


class TestTheWayToTheHistory:
    async def test_is_that_of_an_owners_only_wallet(self, stranger: Browser, database: Database) -> None:
        home = await open_household(database)
        owner = await sign_in(stranger, database, owner_id=home.owner_id)

        answer = await owner.get("/history")

        assert (answer.status_code, answer.headers["location"]) == (303, f"/wallets/{home.wallet_id}/history")

    async def test_is_the_list_where_there_are_several(self, stranger: Browser, database: Database) -> None:
        home = await open_household(database, balance="12.5")
        async with database.commit() as session:
            other = Wallet(
                id=new_id("wallet"), owner_id=home.owner_id, currency="EUR", kept=Kept.LEDGER.value
            )
            session.add(other)
            await session.flush()
            await open_account(
                session, kind="wallet", owner_id=home.owner_id, wallet_id=other.id, asset="EUR"
            )
        owner = await sign_in(stranger, database, owner_id=home.owner_id)

        page = (await owner.get("/history")).text

        assert f'href="/wallets/{home.wallet_id}/history"' in page
        assert f'href="/wallets/{other.id}/history"' in page
