"""The account page: passkeys, codes and browsers looked after, and nothing of it for whoever stole a session."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest_asyncio
from sqlalchemy import text

from adapters.postgres.database import Database, run_sql
from console.visitors import COOKIE
from tests.console.authenticator import Passkey, make_passkey
from tests.console.visits import Visit, another_browser, codes_in, given_in, link_for, visiting


@dataclass(frozen=True, slots=True)
class Home:
    """An operator signed in with their first passkey."""

    visit: Visit
    passkey: Passkey
    codes: list[str]


@pytest_asyncio.fixture
async def home(site: str, database: Database) -> AsyncIterator[Home]:
    async with visiting(site) as visit:
        passkey, registered = await visit.join(await link_for(database), name="First")
        yield Home(visit, passkey, codes_in(registered))


async def ids(database: Database, table: str) -> list[str]:
    async with database.read() as session:
        rows = await run_sql(session, text(f"SELECT id FROM {table} ORDER BY id"))  # noqa: S608 ours
        return list(rows.scalars())


class TestPasskeys:
    async def test_are_shown_by_name_with_their_last_use_and_the_one_in_use(self, home: Home) -> None:
        page = await home.visit.get("/account")

        assert "First" in page.text
        assert "Used last on" in page.text
        assert "This browser is signed in with it" in page.text
        assert "You have one passkey only" in page.text

    async def test_are_added_after_showing_one_that_is_there(self, home: Home) -> None:
        second, added = await home.visit.add_passkey(home.passkey, name="  Blue\n key ")
        page = await home.visit.get("/account")

        assert added.headers["location"] == "/account?done=passkey-added"
        assert "Blue key" in page.text
        assert "You have one passkey only" not in page.text
        assert (await another_browser(home.visit).sign_in(second)).status_code == 303

    async def test_are_not_added_by_who_stole_a_session(self, home: Home) -> None:
        thief = replace(home.visit, cookies={COOKIE: home.visit.cookies[COOKIE]})
        await thief.get("/account")
        asked = await thief.options("/account/passkeys/options")
        way = thief.way
        made = {"rp": {"id": "localhost"}, "user": {"id": "AAAA"}, "challenge": asked["challenge"]}
        stolen, credential = make_passkey(made, way)
        answers = [
            await thief.answer("/account/passkeys", credential),
            await thief.answer("/account/passkeys/confirm", stolen.sign(asked, way)),
        ]
        await thief.options("/account/passkeys/options")
        answers.append(await thief.answer("/account/passkeys/confirm", stolen.sign(asked, way)))

        assert [answer.status_code for answer in answers] == [403, 403, 403]
        assert "First" in answers[0].text

    async def test_of_somebody_else_add_nothing(self, home: Home, database: Database) -> None:
        theirs, _ = await another_browser(home.visit).join(await link_for(database, name="Mallory"))
        options = await home.visit.options("/account/passkeys/options")

        answer = await home.visit.answer("/account/passkeys/confirm", theirs.sign(options, home.visit.way))

        assert answer.status_code == 403
        assert "belongs to somebody else" in answer.text

    async def test_cannot_be_added_with_somebody_elses_ceremony(self, home: Home, database: Database) -> None:
        path = await link_for(database, name="Mallory")
        mallory = another_browser(home.visit)
        _, credential = make_passkey(await mallory.options(f"{path}/options"), home.visit.way)
        home.visit.cookies |= mallory.cookies

        answer = await home.visit.answer("/account/passkeys", credential)

        assert answer.status_code == 403
        assert len(await ids(database, "passkey")) == 1

    async def test_are_added_once_for_each_time_one_is_shown(self, home: Home, database: Database) -> None:
        options = await home.visit.options("/account/passkeys/options")
        shown = await home.visit.answer(
            "/account/passkeys/confirm", home.passkey.sign(options, home.visit.way)
        )
        given = given_in(shown)
        answers = [
            await home.visit.answer("/account/passkeys", make_passkey(given, home.visit.way)[1])
            for _ in range(2)
        ]

        assert [answer.status_code for answer in answers] == [303, 403]
        assert len(await ids(database, "passkey")) == 2

    async def test_are_renamed(self, home: Home, database: Database) -> None:
        (passkey_id,) = await ids(database, "passkey")
        answer = await home.visit.send(
            f"/account/passkeys/{passkey_id}/rename", name="<b>" + "é" * 100 + "\u202e"
        )
        page = await home.visit.get("/account")

        assert answer.headers["location"] == "/account?done=passkey-renamed"
        assert "&lt;b&gt;" + "é" * 57 in page.text
        assert "<b>é" not in page.text

    async def test_are_removed_but_never_the_last_that_opens_anything(
        self, home: Home, database: Database
    ) -> None:
        second, _ = await home.visit.add_passkey(home.passkey)
        first_id, second_id = await ids(database, "passkey")
        other = another_browser(home.visit)
        await other.sign_in(second)

        removed = await home.visit.send(f"/account/passkeys/{second_id}/remove")
        refused = await home.visit.send(f"/account/passkeys/{first_id}/remove")

        assert removed.headers["location"] == "/account?done=passkey-removed"
        assert refused.status_code == 403
        assert "Add another one first" in refused.text
        assert (await other.get("/account")).headers["location"].startswith("/sign-in")
        assert (await other.sign_in(second)).status_code == 403
        assert (await home.visit.get("/account")).status_code == 200

    async def test_of_somebody_else_are_not_there(self, home: Home, database: Database) -> None:
        other = another_browser(home.visit)
        theirs, _ = await other.join(await link_for(database, name="Mallory"))
        await other.add_passkey(theirs)
        _, their_id, _ = await ids(database, "passkey")

        for deed in ("rename", "remove"):
            answer = await home.visit.send(f"/account/passkeys/{their_id}/{deed}", name="Mine")
            assert answer.status_code == 404
        assert their_id in await ids(database, "passkey")

    async def test_that_may_have_been_copied_are_told_and_can_be_removed(
        self, home: Home, database: Database
    ) -> None:
        second, _ = await home.visit.add_passkey(home.passkey, name="Second")
        copied = second.copy()
        other = another_browser(home.visit)
        await other.sign_in(second)
        await other.sign_in(copied)
        page = await home.visit.get("/account")
        _, second_id = await ids(database, "passkey")

        removed = await home.visit.send(f"/account/passkeys/{second_id}/remove")

        assert "One of your passkeys may have been copied" in page.text
        assert "You have one passkey only" in page.text
        assert removed.status_code == 303
        assert "may have been copied" not in (await home.visit.get("/account")).text

    async def test_are_at_most_twenty(self, home: Home, database: Database) -> None:
        async with database.commit() as session:
            more = (
                "INSERT INTO passkey (id, person_id, name, credential_id, public_key, sign_count, transports, "
                "backed_up) SELECT 'p' || n, person_id, name, CAST('c' || n AS bytea), public_key, 0, '{}', "
                "false FROM passkey, generate_series(1, 19) n"
            )
            await run_sql(session, text(more))
        _, refused = await home.visit.add_passkey(home.passkey)

        assert refused.status_code == 403
        assert "Remove one before you add another" in refused.text


class TestCodes:
    async def test_are_made_anew_by_showing_a_passkey_and_end_the_old_ones(self, home: Home) -> None:
        options = await home.visit.options("/account/recovery-codes/options")
        page = await home.visit.answer("/account/recovery-codes", home.passkey.sign(options, home.visit.way))
        fresh = codes_in(page)

        assert len(fresh) == 10
        assert not set(fresh) & set(home.codes)
        assert (await another_browser(home.visit).send("/recover", code=home.codes[0])).status_code == 403
        assert (await another_browser(home.visit).send("/recover", code=fresh[0])).status_code == 303
        assert "You have 9 recovery codes left" in (await home.visit.get("/account")).text

    async def test_are_not_made_by_who_stole_a_session(self, home: Home) -> None:
        await home.visit.options("/account/recovery-codes/options")
        stolen = replace(home.passkey, credential_id=b"unheard of")
        options = await home.visit.options("/account/recovery-codes/options")
        answer = await home.visit.answer("/account/recovery-codes", stolen.sign(options, home.visit.way))

        assert answer.status_code == 403
        assert codes_in(answer) == []
        assert "You have 10 recovery codes left" in answer.text


class TestBrowsers:
    async def test_are_listed_and_signed_out_one_by_one(self, home: Home, database: Database) -> None:
        other = another_browser(home.visit)
        await other.sign_in(home.passkey)
        first, second = await ids(database, "page_session")
        page = await home.visit.get("/account")
        answer = await home.visit.send(f"/account/sessions/{second}/end")

        assert len(re.findall("Safari on iPhone", page.text)) >= 2
        assert first not in page.text
        assert answer.headers["location"] == "/account?done=session-ended"
        assert (await other.get("/account")).headers["location"].startswith("/sign-in")

    async def test_of_somebody_else_stay_signed_in(self, home: Home, database: Database) -> None:
        other = another_browser(home.visit)
        await other.join(await link_for(database, name="Mallory"))
        _, theirs = await ids(database, "page_session")
        await home.visit.send(f"/account/sessions/{theirs}/end")

        assert (await other.get("/account")).status_code == 200

    async def test_of_ones_own_lead_to_the_sign_in(self, home: Home, database: Database) -> None:
        (mine,) = await ids(database, "page_session")
        answer = await home.visit.send(f"/account/sessions/{mine}/end")

        assert answer.headers["location"] == "/sign-in?done=signed-out"


FORMS = (
    "/account/passkeys/options",
    "/account/passkeys/confirm",
    "/account/passkeys",
    "/account/passkeys/x/rename",
    "/account/passkeys/x/remove",
    "/account/recovery-codes/options",
    "/account/recovery-codes",
    "/account/sessions/x/end",
)


class TestAForm:
    async def test_of_nobody_is_told_to_a_script_in_words(self, home: Home) -> None:
        for path in FORMS:
            answer = await another_browser(home.visit).ask(path)
            assert answer.status_code == 401, path
            assert "sign in" in answer.json()["message"]
