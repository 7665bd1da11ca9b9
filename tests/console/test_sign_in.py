"""Signing in: with one's own passkey, on our page, for this very challenge; and out again."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text

from adapters.postgres.database import Database, run_sql
from console.ceremony import COOKIE as CEREMONY
from console.visitors import COOKIE
from tests.builders import open_household
from tests.console.authenticator import Passkey, Way
from tests.console.visits import Visit, another_browser, link_for, visiting
from tests.hands import by_hand


@pytest_asyncio.fixture
async def visit(site: str) -> AsyncIterator[Visit]:
    """A browser that has never been here."""
    async with visiting(site) as visit:
        yield visit


@pytest_asyncio.fixture
async def passkey(visit: Visit, database: Database) -> Passkey:
    """The passkey of an operator who has registered with another browser."""
    passkey, _ = await another_browser(visit).join(await link_for(database))
    return passkey


async def count(database: Database, statement: str) -> int:
    async with database.read() as session:
        return int((await run_sql(session, text(statement))).scalar_one())


class TestAPasskey:
    async def test_opens_the_page_that_was_asked_for(self, visit: Visit, passkey: Passkey) -> None:
        asked = await visit.get("/operator?day=2")
        page = await visit.get(asked.headers["location"])
        answer = await visit.sign_in(passkey, next="/operator?day=2")

        assert asked.headers["location"] == "/sign-in?next=%2Foperator%3Fday%3D2"
        assert 'value="/operator?day=2"' in page.text
        assert (answer.status_code, answer.headers["location"]) == (303, "/operator?day=2")

    async def test_leads_on_at_once_where_one_is_signed_in(self, visit: Visit, passkey: Passkey) -> None:
        await visit.sign_in(passkey)
        answer = await visit.get("/sign-in?next=/account")

        assert answer.headers["location"] == "/account"

    async def test_of_an_owner_opens_their_wallet_only(self, visit: Visit, database: Database) -> None:
        home = await open_household(database)
        passkey, _ = await another_browser(visit).join(await link_for(database, owner_id=home.owner_id))
        await visit.sign_in(passkey)

        assert (await visit.get("/")).headers["location"] == f"/wallets/{home.wallet_id}"
        assert (await visit.get("/operator")).status_code == 403

    @pytest.mark.parametrize(
        "away",
        ["https://evil.example/", "//evil.example", "/\\evil.example", "evil", "/\t/evil.example", "\n//x"],
    )
    async def test_leads_nowhere_else(self, visit: Visit, passkey: Passkey, away: str) -> None:
        page = await visit.client.get("/sign-in", params={"next": away})
        answer = await visit.sign_in(passkey, next=away)

        assert "evil" not in page.text
        assert answer.headers["location"] == "/"

    async def test_gets_a_new_session_each_time_and_ends_the_browsers_old_one(
        self, visit: Visit, passkey: Passkey
    ) -> None:
        visit.cookies[COOKIE] = "set-by-somebody-else"
        await visit.sign_in(passkey)
        first = visit.cookies[COOKIE]
        await visit.sign_in(passkey)
        second = visit.cookies[COOKIE]
        stale = replace(visit, cookies={COOKIE: first})

        assert len({"set-by-somebody-else", first, second}) == 3
        assert (await stale.get("/account")).headers["location"].startswith("/sign-in")
        assert (await visit.get("/account")).status_code == 200

    async def test_is_asked_for_with_its_holder_checked(self, visit: Visit) -> None:
        options = await visit.options("/sign-in/options")

        assert options["userVerification"] == "required"
        assert options["rpId"] == "localhost"
        assert options["allowCredentials"] == []


def forged(visit: Visit) -> Way:
    return replace(visit.way, signature=b"forged")


ATTACKS: dict[str, tuple[Callable[[Visit], Way], str]] = {
    "forged": (forged, "does not fit what was asked"),
    "unchecked": (lambda visit: replace(visit.way, verified=False), "did not check that it is you"),
    "from another page": (lambda visit: replace(visit.way, origin="https://evil.example"), "another page"),
    "from within another page": (lambda visit: replace(visit.way, cross_origin=True), "another page"),
    "for another challenge": (lambda visit: replace(visit.way, challenge="AAAA"), "does not fit"),
    "as somebody else": (lambda visit: replace(visit.way, user_handle=b"x"), "does not fit"),
}


class TestAnAnswer:
    @pytest.mark.parametrize("attack", ATTACKS)
    async def test_that_was_not_asked_for_is_refused_in_words(
        self, visit: Visit, passkey: Passkey, attack: str
    ) -> None:
        way_of, words = ATTACKS[attack]
        options = await visit.options("/sign-in/options")
        answer = await visit.answer("/sign-in", passkey.sign(options, way_of(visit)))

        assert answer.status_code == 403
        assert words in answer.text
        assert "Nothing was changed" in answer.text or "nothing was changed" in answer.text
        assert COOKIE not in visit.cookies

    async def test_that_was_given_before_is_refused(self, visit: Visit, passkey: Passkey) -> None:
        credential = passkey.sign(await visit.options("/sign-in/options"), visit.way)
        ceremony = visit.cookies[CEREMONY]
        await visit.answer("/sign-in", credential)
        replaying = replace(visit, cookies={CEREMONY: ceremony}, csrf="")

        answer = await replaying.answer("/sign-in", credential)

        assert answer.status_code == 403
        assert "answered already" in answer.text
        assert COOKIE not in replaying.cookies

    async def test_that_failed_cannot_be_mended(self, visit: Visit, passkey: Passkey) -> None:
        options = await visit.options("/sign-in/options")
        await visit.answer("/sign-in", passkey.sign(options, forged(visit)))
        answer = await visit.answer("/sign-in", passkey.sign(options, visit.way))

        assert answer.status_code == 403

    async def test_that_comes_too_late_is_refused(
        self, visit: Visit, passkey: Passkey, database: Database
    ) -> None:
        credential = passkey.sign(await visit.options("/sign-in/options"), visit.way)
        async with by_hand(database) as session:
            late = "UPDATE ceremony SET expires_at = expires_at - interval '5 minutes'"
            await run_sql(session, text(late))
        answer = await visit.answer("/sign-in", credential)

        assert answer.status_code == 403
        assert "took too long" in answer.text

    async def test_to_the_challenge_of_another_browser_is_refused(
        self, visit: Visit, passkey: Passkey
    ) -> None:
        other = another_browser(visit)
        credential = passkey.sign(await other.options("/sign-in/options"), visit.way)
        await visit.options("/sign-in/options")

        answer = await visit.answer("/sign-in", credential)

        assert answer.status_code == 403

    async def test_to_a_challenge_for_something_else_is_refused(
        self, visit: Visit, database: Database, passkey: Passkey
    ) -> None:
        await visit.sign_in(passkey)
        credential = passkey.sign(await visit.options("/account/recovery-codes/options"), visit.way)
        ceremony = visit.cookies[CEREMONY]
        other = replace(another_browser(visit), cookies={CEREMONY: ceremony})

        answer = await other.answer("/sign-in", credential)

        assert answer.status_code == 403
        assert COOKIE not in other.cookies
        assert await count(database, "SELECT count(*) FROM ceremony") == 0

    @pytest.mark.parametrize("credential", ["", "{", "[]", '{"rawId": 7}', "x" * 20_000, '{"rawId": "AAAA"}'])
    async def test_that_is_none_is_refused(self, visit: Visit, credential: str) -> None:
        await visit.options("/sign-in/options")
        answer = await visit.send("/sign-in", credential=credential)

        assert answer.status_code in (403, 422)
        assert "<h1>" in answer.text

    async def test_from_a_form_of_another_site_is_refused(self, visit: Visit, passkey: Passkey) -> None:
        credential = passkey.sign(await visit.options("/sign-in/options"), visit.way)
        away = replace(visit, origin="https://evil.example")

        answer = await away.answer("/sign-in", credential)

        assert answer.status_code == 403
        assert "This form has expired" in answer.text
        assert COOKIE not in visit.cookies

    async def test_of_a_copied_passkey_is_refused_and_so_is_the_true_one_after_it(
        self, visit: Visit, passkey: Passkey
    ) -> None:
        copied = passkey.copy()
        await visit.sign_in(passkey)
        thief = another_browser(visit)

        stolen = await thief.answer(
            "/sign-in", copied.sign(await thief.options("/sign-in/options"), visit.way)
        )
        account = await visit.get("/account")
        again = await thief.sign_in(passkey)

        assert stolen.status_code == again.status_code == 403
        assert "may have been copied" in stolen.text
        assert account.headers["location"].startswith("/sign-in")


class TestSigningOut:
    async def test_ends_the_session_for_whoever_holds_its_token(self, visit: Visit, passkey: Passkey) -> None:
        await visit.sign_in(passkey)
        kept = dict(visit.cookies)
        answer = await visit.send("/sign-out")

        assert answer.headers["location"] == "/sign-in?done=signed-out"
        assert COOKIE not in visit.cookies
        assert (await replace(visit, cookies=kept).get("/account")).status_code == 303

    async def test_everywhere_ends_all_of_them(self, visit: Visit, passkey: Passkey) -> None:
        other = another_browser(visit)
        await other.sign_in(passkey)
        await visit.sign_in(passkey)
        await visit.send("/sign-out/everywhere")

        assert (await other.get("/account")).headers["location"].startswith("/sign-in")

    async def test_is_not_done_by_another_site(self, visit: Visit, passkey: Passkey) -> None:
        await visit.sign_in(passkey)
        forged: dict[str, Any] = {"csrf": "guessed"}
        answers = [
            await replace(visit, origin="https://evil.example").send("/sign-out"),
            await visit.send("/sign-out", **forged),
        ]

        assert [answer.status_code for answer in answers] == [403, 403]
        assert (await visit.get("/account")).status_code == 200


class TestAnotherAddress:
    async def test_leads_to_the_one_that_passkeys_are_bound_to(self, visit: Visit) -> None:
        port = visit.origin.rpartition(":")[2]
        answer = await visit.client.get("/sign-in?next=%2Faccount", headers={"Host": f"127.0.0.1:{port}"})

        assert answer.status_code == 307
        assert answer.headers["location"] == f"{visit.origin}/sign-in?next=%2Faccount"

    async def test_is_as_good_where_a_proxy_says_so(self, visit: Visit) -> None:
        host = visit.origin.partition("//")[2]
        answer = await visit.get("/sign-in", Host="api:8080", **{"X-Forwarded-Host": host})

        assert answer.status_code == 200

    async def test_does_for_the_api_and_for_health(self, visit: Visit) -> None:
        paths = ("/livez", "/v1/openapi.json", "/static/tidemark.css")
        answers = [await visit.client.get(path, headers={"Host": "127.0.0.1"}) for path in paths]

        assert {answer.status_code for answer in answers} == {200}
