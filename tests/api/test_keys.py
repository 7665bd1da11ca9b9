"""API keys: shown once, listed without themselves, bound, ended and revoked by command, and written down nowhere."""

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
import pytest_asyncio
from fastapi import FastAPI
from httpx2 import AsyncClient, Response
from sqlalchemy import text
from sqlmodel import select

from adapters.postgres.database import Database, run_sql
from adapters.postgres.tables import ApiKey
from api.__main__ import _parser
from api.keys import run_key_command
from api.scopes import Scope
from tests.api.conftest import Caller, client_of
from tests.api.programs import serving
from tests.hands import by_hand

Command = Callable[..., Awaitable[tuple[int, str, str]]]

KEY = "tm_" + "Zq7-_" * 8 + "x"


@pytest.fixture
def command(database: Database, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `python -m api keys ...` in this program: exit code, standard output, standard error."""

    async def run(*arguments: str) -> tuple[int, str, str]:
        asked = _parser().parse_args(["keys", *arguments])
        code = await run_key_command(asked, database)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


async def status_with(app: FastAPI, key: str, path: str = "/v1/rules") -> int:
    async with client_of(app, key) as client:
        return (await client.get(path)).status_code


class TestAKeyMadeByCommand:
    async def test_is_shown_once_and_listed_without_itself(self, command: Command) -> None:
        _, made, _ = await command("create", "--name", "shop", "--scopes", "rules:read,rules:read")
        *_, key = made.splitlines()
        _, listed, _ = await command("list")

        assert re.fullmatch(r"tm_[A-Za-z0-9_-]{43}", key)
        assert listed.split()[1:] == ["valid", "rules:read", "shop"]
        assert key not in listed
        assert key[3:15] not in listed

    async def test_has_the_scopes_that_were_named_and_no_others(self, command: Command, app: FastAPI) -> None:
        _, made, _ = await command("create", "--name", "shop", "--scopes", "wallets:read")
        key = made.splitlines()[-1]

        assert await status_with(app, key, "/v1/wallets") == 200
        assert await status_with(app, key, "/v1/rules") == 403

    async def test_bound_to_an_owner_knows_no_other(
        self, command: Command, app: FastAPI, caller: Caller
    ) -> None:
        own, other = await caller.register_owner("Own"), await caller.register_owner("Other")
        scopes = ",".join(Scope)
        _, made, _ = await command("create", "--name", "own", "--scopes", scopes, "--owner", own)
        key = made.splitlines()[-1]

        assert await status_with(app, key, f"/v1/owners/{own}/accounts") == 200
        assert await status_with(app, key, f"/v1/owners/{other}/accounts") == 404
        assert f" owner={own} " in (await command("list"))[1]

    async def test_ends_when_its_days_are_over(
        self, command: Command, app: FastAPI, database: Database
    ) -> None:
        _, made, _ = await command(
            "create", "--name", "trial", "--scopes", "rules:read", "--expires-in-days", "30"
        )
        key = made.splitlines()[-1]
        ends = datetime.now(UTC) + timedelta(days=30)
        before = await status_with(app, key)
        _, listed_before, _ = await command("list")
        async with by_hand(database) as session:
            await run_sql(session, text("UPDATE api_key SET expires_at = now()"))
        after = await status_with(app, key)

        assert f"until {ends:%Y-%m-%d}" in made
        assert (before, after) == (200, 401)
        assert f" valid rules:read until={ends:%Y-%m-%d}" in listed_before
        assert " expired rules:read until=" in (await command("list"))[1]

    async def test_is_worthless_from_its_revocation_on(self, command: Command, app: FastAPI) -> None:
        _, made, _ = await command("create", "--name", "shop", "--scopes", "rules:read")
        key_id, key = made.split()[0], made.splitlines()[-1]
        before = await status_with(app, key)
        first, again = await command("revoke", key_id), await command("revoke", key_id)

        assert (before, await status_with(app, key)) == (200, 401)
        assert (first[0], again[0]) == (0, 0)
        assert f"{key_id} revoked" in (await command("list"))[1]

    async def test_is_kept_as_a_hash_alone(self, command: Command, database: Database) -> None:
        _, made, _ = await command("create", "--name", "shop", "--scopes", "rules:read")
        async with database.read() as session:
            kept = (await session.exec(select(ApiKey))).one().model_dump_json()

        assert made.splitlines()[-1][3:] not in kept

    @pytest.mark.parametrize(
        "wrong",
        [
            ("--name", " ", "--scopes", "admin"),
            ("--name", "x" * 101, "--scopes", "admin"),
            ("--name", "a\nb", "--scopes", "admin"),
            ("--name", "x", "--scopes", ""),
            ("--name", "x", "--scopes", "admin,everything"),
            ("--name", "x"),
            ("--scopes", "admin"),
            ("--name", "x", "--scopes", "admin", "--expires-in-days", "0"),
            ("--name", "x", "--scopes", "admin", "--expires-in-days", "-1"),
            ("--name", "x", "--scopes", "admin", "--expires-in-days", "1.5"),
            ("--name", "x", "--scopes", "admin", "--expires-in-days", "99999"),
        ],
    )
    async def test_is_refused_when_it_makes_no_sense(
        self, command: Command, database: Database, wrong: tuple[str, ...]
    ) -> None:
        with pytest.raises(SystemExit) as refusal:
            await command("create", *wrong)

        assert refusal.value.code == 2
        async with database.read() as session:
            assert (await session.exec(select(ApiKey))).all() == []


@pytest_asyncio.fixture
async def strangely(database: Database) -> None:
    """A database that refuses one owner in a way nobody foresaw."""
    refuse = (
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'no % here', NEW.name; END $$; "
        "CREATE TRIGGER refuse BEFORE INSERT ON owner FOR EACH ROW "
        "WHEN (NEW.email = 'refused@example.com') EXECUTE FUNCTION refuse()"
    )
    async with by_hand(database) as session:
        await run_sql(session, text(refuse))


async def ask_with_keys_everywhere(client: AsyncClient, valid: str) -> list[Response]:
    """Requests that carry keys where one belongs, and everywhere one does not."""
    own = {"Authorization": f"Bearer {valid}"}
    json = {**own, "Content-Type": "application/json"}
    refused = {"name": f"key {KEY}", "email": "refused@example.com"}
    return [
        await client.get("/v1/rules", headers={"Authorization": f"Bearer {KEY}"}),
        await client.get("/v1/rules", headers={"Authorization": KEY}),
        await client.get("/v1/rules", headers={"Authorization": f"Basic {KEY}"}),
        await client.get("/v1/rules", headers={**own, "X-Request-Id": KEY, "Cookie": f"key={KEY}"}),
        await client.get("/v1/rules", headers={**own, "X-Request-Id": f"a.{KEY}"}),
        await client.get(f"/v1/rules?api_key={KEY}", headers=own),
        await client.get(f"/v1/rules?{KEY}=1", headers=own),
        await client.get(f"/v1/rules?after={KEY}", headers=own),
        await client.get(f"/v1/top-ups?wallet_id={KEY}&state={KEY}", headers=own),
        await client.get(f"/v1/rules/{KEY}", headers=own),
        await client.get(f"/v1/rules/rule_{KEY}/decisions", headers=own),
        await client.get(f"/v1/wallets/{quote(' ' + KEY)}", headers=own),
        await client.get(f"/{KEY}", headers=own),
        await client.get(f"/v1/{KEY}/{KEY}", headers=own),
        await client.request("PUT", f"/v1/rules/{KEY}", headers=own),
        await client.patch(f"/v1/rules/{KEY}", json={"amount": "1"}, headers={**own, "If-Match": KEY}),
        await client.patch(f"/v1/rules/{KEY}", json={"amount": "1"}, headers={**own, "If-Match": '"1"'}),
        await client.post("/v1/wallets", json={"owner_id": KEY, "currency": KEY}, headers=own),
        await client.post("/v1/wallets", json={"owner_id": KEY, "currency": "USDT"}, headers=own),
        await client.post("/v1/wallets", json={KEY: 1, "owner_id": [KEY]}, headers=own),
        await client.post("/v1/owners", content=f'{{"name": {KEY}}}', headers=json),
        await client.post("/v1/owners", content=KEY, headers={**own, "Content-Type": KEY}),
        await client.post(
            "/v1/owners", json={"name": "x", "email": KEY}, headers={**own, "Idempotency-Key": f"a {KEY}"}
        ),
        await client.post(
            "/v1/owners", json={"name": "x", "email": KEY}, headers={**own, "Idempotency-Key": KEY}
        ),
        await client.post("/v1/owners", json=refused, headers=own),
        await client.post("/v1/balance-events", json={"event_id": KEY, "wallet_id": KEY}, headers=own),
        await client.get("/v1/events", headers={**own, "Last-Event-ID": KEY}),
    ]


@pytest.mark.usefixtures("strangely")
class TestAKeyIsWrittenDownNowhere:
    async def test_neither_in_logs_nor_in_problems_wherever_it_was_sent(
        self, command: Command, database_url: str
    ) -> None:
        _, made, _ = await command("create", "--name", "shop", "--scopes", ",".join(Scope))
        valid = made.splitlines()[-1]
        async with (
            serving(database_url, TIDEMARK_LOG_LEVEL="debug") as program,
            AsyncClient(base_url=program.url, trust_env=False) as client,
        ):
            answers = await ask_with_keys_everywhere(client, valid)
            await program.finish()

        statuses = [answer.status_code for answer in answers]
        assert {200, 400, 401, 404, 405, 412, 415, 422, 500} <= set(statuses), statuses
        logged = "".join(program.written)
        assert logged.count("request.answered") == len(answers)
        assert "request.broken" in logged
        answered = "".join(f"{answer.headers} {answer.text}" for answer in answers)
        for secret in (KEY, valid):
            for place in (logged, answered):
                assert secret not in place
                assert secret[10:30] not in place
                assert quote(secret) not in place
