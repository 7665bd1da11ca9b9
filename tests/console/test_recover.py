"""Recovery codes: a way in for who lost their passkeys, once each, and only as far as a new passkey."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlalchemy import text

from adapters.postgres.database import Database, run_sql
from console.visitors import COOKIE
from tests.api.conftest import build
from tests.console.authenticator import make_passkey
from tests.console.visits import Visit, another_browser, codes_in, link_for, visiting
from tests.hands import by_hand
from tests.served import serve


@pytest_asyncio.fixture
async def visit(site: str) -> AsyncIterator[Visit]:
    """A browser that has never been here."""
    async with visiting(site) as visit:
        yield visit


@pytest_asyncio.fixture
async def codes(visit: Visit, database: Database) -> list[str]:
    """The codes of an operator who has registered with another browser."""
    _, registered = await another_browser(visit).join(await link_for(database))
    return codes_in(registered)


CLOSED = (
    "/account/passkeys/confirm",
    "/account/passkeys/passkey_x/rename",
    "/account/passkeys/passkey_x/remove",
    "/account/recovery-codes",
    "/account/recovery-codes/options",
    "/account/sessions/session_x/end",
    "/operator/links",
)


class TestACode:
    async def test_lets_in_as_far_as_a_new_passkey_and_then_further(
        self, visit: Visit, codes: list[str]
    ) -> None:
        answer = await visit.send("/recover", code=codes[0])
        account = await visit.get("/account")
        before = await visit.get("/operator")
        short = visit.cookies[COOKIE]
        passkey, credential = make_passkey(await visit.options("/account/passkeys/options"), visit.way)
        added = await visit.answer("/account/passkeys", credential)

        assert answer.headers["location"] == "/account"
        assert "Make a new passkey" in account.text
        assert before.headers["location"] == "/account"
        assert added.headers["location"] == "/account?done=passkey-added"
        assert visit.cookies[COOKIE] != short
        assert (await visit.get("/operator")).status_code == 200
        assert (await another_browser(visit).sign_in(passkey)).status_code == 303

    async def test_opens_nothing_else(self, visit: Visit, codes: list[str]) -> None:
        await visit.send("/recover", code=codes[0])
        await visit.get("/account")
        for path in CLOSED:
            answer = await visit.send(path, name="x")
            assert (answer.status_code, answer.headers["location"]) == (303, "/account"), path

    async def test_works_once(self, visit: Visit, codes: list[str]) -> None:
        await visit.send("/recover", code=codes[0])
        answer = await another_browser(visit).send("/recover", code=codes[0])
        other = await another_browser(visit).send("/recover", code=codes[1])

        assert answer.status_code == 403
        assert "ask whoever runs Tidemark for you for a new link" in answer.text
        assert other.status_code == 303

    async def test_is_taken_however_it_is_written(self, visit: Visit, codes: list[str]) -> None:
        code = codes[0].replace("-", " ").lower().replace("0", "o").replace("1", "l")

        assert (await visit.send("/recover", code=f" {code} ")).status_code == 303

    @pytest.mark.parametrize("code", ["", "AAAAA-AAAAA-AAAAA-AAAAA", "x" * 200, "\x00", "ß" * 20])
    async def test_that_is_none_is_refused(self, visit: Visit, code: str) -> None:
        answer = await visit.send("/recover", code=code)

        assert answer.status_code in (403, 422)
        assert COOKIE not in visit.cookies

    async def test_session_ends_after_a_quarter_of_an_hour(
        self, visit: Visit, codes: list[str], database: Database
    ) -> None:
        await visit.send("/recover", code=codes[0])
        async with by_hand(database) as session:
            late = "UPDATE page_session SET expires_at = expires_at - interval '15 minutes' WHERE recovering"
            await run_sql(session, text(late))

        assert (await visit.get("/account")).headers["location"].startswith("/sign-in")

    async def test_is_kept_as_a_hash_only(self, codes: list[str], database: Database) -> None:
        async with database.read() as session:
            rows = str((await run_sql(session, text("SELECT CAST(c AS text) FROM recovery_code c"))).all())

        assert rows.count("user_") == 10
        assert not [code for code in codes if code in rows or code.replace("-", "") in rows]

    async def test_cannot_be_guessed_at_will(self, database: Database, database_url: str) -> None:
        app = build(database, url=database_url, rate_limit_unauthenticated="5/minute")
        async with serve(app) as address, visiting(address) as visit:
            answers = [await visit.client.post("/recover", data={"code": f"guess {n}"}) for n in range(7)]

        assert [answer.status_code for answer in answers] == [403] * 5 + [429] * 2
        assert answers[-1].headers["retry-after"] == "60"
        assert "Wait a minute" in answers[-1].text
