"""Registering by a link: once, in time, with a passkey of one's own device; and the codes, shown once."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx2
import pytest
import pytest_asyncio
from sqlalchemy import text

from adapters.postgres.database import Database, run_sql
from console.visitors import COOKIE
from tests.builders import open_household
from tests.console.authenticator import Way, make_passkey
from tests.console.conftest import Browser, sign_in
from tests.console.visits import Visit, another_browser, codes_in, link_for, visiting


@pytest_asyncio.fixture
async def visit(site: str) -> AsyncIterator[Visit]:
    async with visiting(site) as visit:
        yield visit


async def run(database: Database, statement: str) -> None:
    async with database.commit() as session:
        await run_sql(session, text(statement))


def is_over(answer: httpx2.Response) -> bool:
    """Whether the page says that the link no longer works, and what to do next."""
    return answer.status_code == 410 and "ask whoever runs Tidemark for you for a new link" in answer.text


class TestALink:
    async def test_lets_its_person_register_and_shows_ten_codes_once(
        self, visit: Visit, database: Database
    ) -> None:
        home = await open_household(database)
        path = await link_for(database, owner_id=home.owner_id)

        welcome = await visit.get(path)
        _, registered = await visit.join(path, name="My phone")
        start = await visit.get("/")
        account = await visit.get("/account")

        assert "Welcome, Ada" in welcome.text
        assert registered.status_code == 200
        assert len(set(codes_in(registered))) == 10
        assert registered.headers["cache-control"] == "no-store"
        assert start.headers["location"] == f"/wallets/{home.wallet_id}"
        assert "My phone" in account.text
        assert codes_in(account) == []
        assert "Safari on iPhone" in account.text

    async def test_lets_an_operator_register(self, visit: Visit, database: Database) -> None:
        _, registered = await visit.join(await link_for(database, name="Opal"))

        assert registered.status_code == 200
        assert (await visit.get("/")).headers["location"] == "/operator"

    async def test_is_used_up_by_registering_and_by_nothing_less(
        self, visit: Visit, database: Database
    ) -> None:
        path = await link_for(database)
        for _ in range(3):
            assert (await visit.get(path)).status_code == 200
        await visit.join(path)
        other = another_browser(visit)

        for answer in (await other.get(path), await other.ask(f"{path}/options")):
            assert answer.status_code == 410
        assert is_over(await other.get(path))

    async def test_is_used_by_one_of_two_at_once(self, visit: Visit, database: Database) -> None:
        path = await link_for(database)
        answers = await asyncio.gather(*(another_browser(visit).join(path) for _ in range(5)))

        assert sorted(answer.status_code for _, answer in answers) == [200, 410, 410, 410, 410]
        async with database.read() as session:
            kept = (await run_sql(session, text("SELECT count(*) FROM passkey"))).scalar_one()
        assert kept == 1

    async def test_ends_after_a_day(self, visit: Visit, database: Database) -> None:
        path = await link_for(database)
        _, credential = make_passkey(await visit.options(f"{path}/options"), visit.way)
        await run(
            database, "UPDATE registration_link SET expires_at = now() WHERE expires_at > now() + '23 hours'"
        )

        assert is_over(await visit.get(path))
        assert is_over(await visit.answer(path, credential))
        assert COOKIE not in visit.cookies

    async def test_ends_with_the_next_one(self, visit: Visit, database: Database) -> None:
        first = await link_for(database)
        second = await link_for(database)

        assert is_over(await visit.get(first))
        assert (await visit.get(second)).status_code == 200

    @pytest.mark.parametrize("token", ["x", "x" * 43, "%00", "../account", "ä" * 20])
    async def test_that_nobody_made_says_what_to_do(self, visit: Visit, token: str) -> None:
        answer = await visit.get(f"/join/{token}")

        assert is_over(answer) or answer.status_code in (303, 404)

    async def test_is_kept_as_a_hash_only(self, database: Database) -> None:
        token = (await link_for(database)).removeprefix("/join/")

        async with database.read() as session:
            rows = (await run_sql(session, text("SELECT CAST(l AS text) FROM registration_link l"))).all()
        assert re.fullmatch(r"[A-Za-z0-9_-]{43}", token)
        assert token not in str(rows)


class TestARegistration:
    @pytest.mark.parametrize(
        ("changed", "words"),
        [
            ({"verified": False}, "did not check that it is you"),
            ({"origin": "https://evil.example"}, "on another page than ours"),
            ({"cross_origin": True}, "on another page than ours"),
            ({"challenge": "AAAA"}, "does not fit what was asked"),
        ],
    )
    async def test_that_is_not_what_was_asked_for_is_refused_and_can_be_tried_again(
        self, visit: Visit, database: Database, changed: dict[str, object], words: str
    ) -> None:
        path = await link_for(database)
        way: Way = replace(visit.way, **changed)  # type: ignore[arg-type]
        _, credential = make_passkey(await visit.options(f"{path}/options"), way)

        refused = await visit.answer(path, credential)
        _, registered = await visit.join(path)

        assert refused.status_code == 403
        assert words in refused.text
        assert registered.status_code == 200

    async def test_is_refused_for_the_challenge_of_another_link(
        self, visit: Visit, database: Database
    ) -> None:
        mine, theirs = await link_for(database, name="Mallory"), await link_for(database, name="Opal")
        _, credential = make_passkey(await visit.options(f"{mine}/options"), visit.way)

        answer = await visit.answer(theirs, credential)

        assert answer.status_code == 403
        assert "Try again" in answer.text
        assert COOKIE not in visit.cookies

    async def test_is_refused_without_a_challenge_of_this_browser(
        self, visit: Visit, database: Database
    ) -> None:
        path = await link_for(database)
        _, credential = make_passkey(await visit.options(f"{path}/options"), visit.way)

        answer = await another_browser(visit).answer(path, credential)

        assert answer.status_code == 403

    async def test_of_a_passkey_that_is_known_already_is_refused(
        self, visit: Visit, database: Database
    ) -> None:
        first, second = await link_for(database, name="Opal"), await link_for(database, name="Mallory")
        passkey, _ = await visit.join(first)
        options = await visit.options(f"{second}/options")
        _, credential = make_passkey(options, visit.way, credential_id=passkey.credential_id)

        answer = await visit.answer(second, credential)

        assert answer.status_code == 403
        assert "registered already" in answer.text
        assert (await visit.get(second)).status_code == 200

    async def test_ends_the_session_that_the_browser_had(
        self, visit: Visit, stranger: Browser, database: Database
    ) -> None:
        operator = await sign_in(stranger, database, owner_id=None)
        assert operator.token
        visit.cookies[COOKIE] = operator.token
        home = await open_household(database)

        _, registered = await visit.join(await link_for(database, owner_id=home.owner_id))

        assert registered.status_code == 200
        assert visit.cookies[COOKIE] != operator.token
        assert (await operator.get("/")).headers["location"] == "/sign-in"

    async def test_asks_for_a_passkey_that_its_device_keeps_and_opens_for_its_owner(
        self, visit: Visit, database: Database
    ) -> None:
        options = await visit.options(f"{await link_for(database)}/options")

        assert options["authenticatorSelection"]["residentKey"] == "required"
        assert options["authenticatorSelection"]["userVerification"] == "required"
        assert options["attestation"] == "none"
        assert options["rp"]["id"] == "localhost"
        assert "Opal" not in str(options["user"]["id"])

    async def test_by_a_second_link_names_the_passkeys_there_are(
        self, visit: Visit, database: Database
    ) -> None:
        await visit.join(await link_for(database))

        options = await another_browser(visit).options(f"{await link_for(database)}/options")

        assert len(options["excludeCredentials"]) == 1
