"""Health, and what happens when the database or Temporal cannot be reached."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from fastapi import FastAPI
from httpx2 import AsyncClient
from sqlalchemy import text

from adapters.postgres.database import Database, run_sql
from api.app import build_app
from runtime.settings import Settings
from runtime.temporal import connect
from tests.api.conftest import TERMS, Caller, build, client_of
from tests.conftest import address
from tests.hands import by_hand

KEY = "tm_" + "a" * 43


@pytest_asyncio.fixture
async def cut_off(tmp_path: Path) -> AsyncIterator[FastAPI]:
    """The application, with a database that nothing listens for."""
    database = Database.open(f"postgresql://nobody@/nothing?host={tmp_path}", pool_size=2)
    yield build(database)
    await database.close()


class TestLiveness:
    async def test_asks_nobody_else(self, cut_off: FastAPI) -> None:
        async with client_of(cut_off) as client:
            answer = await client.get("/livez")

        assert (answer.status_code, answer.json()) == (200, {"status": "alive"})


class TestReadiness:
    async def test_is_given_when_everything_is_in_reach_and_up_to_date(self, nobody: AsyncClient) -> None:
        answer = await nobody.get("/readyz")

        assert answer.status_code == 200
        assert answer.json()["status"] == "ready"
        assert {check["ok"] for check in answer.json()["checks"].values()} == {True}
        assert set(answer.json()["checks"]) == {"database", "migrations", "temporal"}

    async def test_is_refused_without_a_database(self, cut_off: FastAPI) -> None:
        async with client_of(cut_off) as client:
            answer = await client.get("/readyz")

        assert answer.status_code == 503
        problem = answer.json()
        assert problem["code"] == "not_ready"
        assert int(answer.headers["Retry-After"]) > 0
        assert [problem["checks"][name]["ok"] for name in ("database", "migrations", "temporal")] == [
            False,
            False,
            True,
        ]

    async def test_is_refused_when_the_database_is_behind(
        self, nobody: AsyncClient, database: Database
    ) -> None:
        async with by_hand(database) as session:
            await run_sql(session, text("UPDATE alembic_version SET version_num = 'an_older_one'"))
        answer = await nobody.get("/readyz")

        assert answer.status_code == 503
        checks = answer.json()["checks"]
        assert checks["database"]["ok"] is True
        assert "an_older_one" in checks["migrations"]["detail"]
        assert "python -m adapters.postgres upgrade" in checks["migrations"]["detail"]

    async def test_is_refused_when_the_database_was_never_upgraded(self, postgres_url: str) -> None:
        database = Database.open(address(postgres_url, "postgres"), pool_size=1)
        async with client_of(build(database)) as client:
            answer = await client.get("/readyz")
        await database.close()

        assert "at nothing" in answer.json()["checks"]["migrations"]["detail"]

    async def test_is_refused_without_temporal(
        self, database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
        monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "none.toml"))
        settings = Settings.model_validate({"database_url": "postgresql:///unused"})
        client = await connect(settings, lazy=True)

        async def reach() -> None:
            await client.service_client.check_health()

        async with client_of(build_app(settings, database=database, reach_temporal=reach)) as http:
            answer = await http.get("/readyz")

        assert answer.status_code == 503
        assert answer.json()["checks"]["temporal"]["ok"] is False
        assert answer.json()["checks"]["database"]["ok"] is True


class TestADatabaseOutOfReach:
    @pytest.mark.parametrize("method", ["GET", "POST"])
    async def test_is_told_as_unavailable_with_when_to_ask_again(self, cut_off: FastAPI, method: str) -> None:
        async with client_of(cut_off, KEY) as client:
            answer = await client.request(method, "/v1/rules", json={})

        assert answer.status_code == 503
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["code"] == "unavailable"
        assert int(answer.headers["Retry-After"]) > 0
        assert "nobody" not in answer.text

    async def test_in_the_middle_of_a_change_leaves_nothing_half_done(
        self, caller: Caller, database: Database
    ) -> None:
        wallet_id = await caller.open_wallet(balance="60")
        async with by_hand(database) as session:
            await run_sql(session, text(_CUT_CONNECTION))
        broken = await caller.post("/v1/rules", {"wallet_id": wallet_id, **TERMS}, key="k")
        async with by_hand(database) as session:
            await run_sql(session, text("DROP TRIGGER cut ON rule_revision"))
        repeated = await caller.post("/v1/rules", {"wallet_id": wallet_id, **TERMS}, key="k")

        assert broken.status_code == 503
        assert repeated.status_code == 201
        assert repeated.json()["version"] == 1
        assert len((await caller.get("/v1/rules")).json()["data"]) == 1

    async def test_that_is_busy_is_told_as_unavailable(self, caller: Caller, database: Database) -> None:
        rule = await caller.create_rule(await caller.open_wallet())
        async with database.commit() as session:
            await run_sql(session, text("SELECT 1 FROM wallet FOR UPDATE"))
            answer = await caller.change("DELETE", f"/v1/rules/{rule['id']}", version=1)

        assert answer.status_code == 503
        assert (await caller.change("DELETE", f"/v1/rules/{rule['id']}", version=1)).status_code == 204


_CUT_CONNECTION = """
CREATE FUNCTION cut_connection() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_terminate_backend(pg_backend_pid());
    RETURN NEW;
END
$$;
CREATE TRIGGER cut BEFORE INSERT ON rule_revision FOR EACH ROW EXECUTE FUNCTION cut_connection();
"""
