"""Links to register by: made by an admin or by command, told once, and kept by nobody."""

import re

import pytest
from httpx2 import Response
from sqlalchemy import text

from adapters.postgres.database import Database, run_sql
from api.__main__ import _parser
from api.link_commands import run_link_command
from tests.api.conftest import Caller, MakeCaller
from tests.api.programs import environment, run

TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


async def make(caller: Caller, owner_id: str, *, key: str | None = None) -> Response:
    return await caller.post(f"/v1/owners/{owner_id}/registration-links", key=key)


def token_in(answer: Response) -> str:
    """The secret of the link."""
    place, _, token = answer.json()["url"].rpartition("/")
    assert place == "http://localhost:8080/join"
    assert TOKEN.fullmatch(token)
    return str(token)


async def command(database: Database, *words: str) -> int:
    """Run the command in this program; its exit code."""
    asked = _parser().parse_args(["links", "create", *words])
    return await run_link_command(asked, database, public_url="http://localhost:8080")


async def opens(caller: Caller, token: str) -> bool:
    """Whether somebody can register by it."""
    page = await caller.client.get(f"/join/{token}", headers={"Host": "localhost:8080"})
    assert page.status_code in (200, 410)
    return page.status_code == 200


class TestALink:
    async def test_opens_the_page_to_register(self, caller: Caller) -> None:
        made = await make(caller, await caller.register_owner())

        assert made.status_code == 201
        assert made.json().keys() == {"url", "expires_at"}
        assert await opens(caller, token_in(made))

    async def test_ends_the_one_before_it(self, caller: Caller) -> None:
        owner_id = await caller.register_owner()
        first, second = await make(caller, owner_id), await make(caller, owner_id)

        assert not await opens(caller, token_in(first))
        assert await opens(caller, token_in(second))

    async def test_is_the_same_again_for_the_same_key_though_nothing_of_it_is_kept(
        self, caller: Caller, database: Database
    ) -> None:
        owner_id = await caller.register_owner()
        first, second = await make(caller, owner_id, key="k"), await make(caller, owner_id, key="k")
        async with database.read() as session:
            tables = ("kept_answer", "registration_link", "person")
            kept = [
                str((await run_sql(session, text(f"SELECT CAST(t AS text) FROM {table} t"))).all())  # noqa: S608
                for table in tables
            ]

        assert second.headers["Idempotency-Replayed"] == "true"
        assert second.json() == first.json()
        assert await opens(caller, token_in(second))
        assert "/join/" in kept[0]
        assert token_in(first) not in "".join(kept)
        (seed,) = re.findall(r"/join/([A-Za-z0-9_-]+)", kept[0])
        assert not await opens(caller, seed)

    async def test_of_somebody_else_is_not_made_by_a_bound_key(
        self, caller: Caller, caller_with: MakeCaller
    ) -> None:
        mine, theirs = await caller.register_owner(), await caller.register_owner()
        bound = await caller_with("admin", owner_id=mine)

        assert (await make(bound, theirs)).status_code == 404
        assert (await make(bound, mine)).status_code == 201


class TestTheCommand:
    async def test_makes_links_for_an_owner_and_an_operator(self, caller: Caller, database_url: str) -> None:
        env = environment(database_url, TIDEMARK_PUBLIC_URL="http://localhost:8080")
        owner_id = await caller.register_owner("Ada")
        code, out, _ = await run("links", "create", "--owner", owner_id, "--operator", "Opal", env=env)
        lines = out.splitlines()

        assert code == 0
        assert [re.sub("until .*", "", line) for line in lines[::2]] == [
            "By this link Ada registers a passkey, once, ",
            "By this link Opal registers a passkey, once, ",
        ]
        assert [await opens(caller, url.rpartition("/")[2]) for url in lines[1::2]] == [True, True]

    async def test_knows_an_operator_by_name(
        self, database: Database, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for _ in range(2):
            assert await command(database, "--operator", "Opal") == 0
        async with database.read() as session:
            people = (await run_sql(session, text("SELECT kind, name FROM person"))).all()

        assert [tuple(person) for person in people] == [("operator", "Opal")]
        assert capsys.readouterr().out.count("/join/") == 2

    async def test_makes_none_for_who_is_registered_if_told_so(
        self, database: Database, capsys: pytest.CaptureFixture[str]
    ) -> None:
        await command(database, "--operator", "Opal")
        async with database.commit() as session:
            registered = (
                "INSERT INTO passkey (id, person_id, name, credential_id, public_key, sign_count, transports, "
                "backed_up) SELECT 'passkey_1', id, 'x', 'x', 'x', 0, '{}', false FROM person"
            )
            await run_sql(session, text(registered))
        capsys.readouterr()

        await command(database, "--operator", "Opal", "--unless-registered")
        unless = capsys.readouterr().out
        await command(database, "--operator", "Opal")
        anyway = capsys.readouterr().out

        assert unless == "Opal has a passkey already: no link was made.\n"
        assert "/join/" in anyway

    async def test_refuses_in_words_what_cannot_be(
        self, database: Database, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert await command(database, "--owner", "owner_1", "--operator", "Opal") == 1
        assert await command(database) == 2
        with pytest.raises(SystemExit):
            await command(database, "--operator", "  ")
        told = capsys.readouterr()

        assert told.out == ""
        for words in ("There is no owner 'owner_1'", "Say whose link", "1 to 100 printable characters"):
            assert words in told.err
