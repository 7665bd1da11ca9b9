"""Temporal and PostgreSQL are reached by TLS that is verified, and no secret goes anywhere without it."""

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import pytest_asyncio
import trustme
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from temporalio.testing import WorkflowEnvironment

from adapters.postgres.database import Database, run_sql
from runtime.settings import Settings, SettingsInvalid, read_settings
from runtime.temporal import TemporalNotTrusted, TemporalSettingsInvalid, connect
from tests.security.tls import Front, Open, in_front_of, in_front_of_postgres, server_side
from tests.stories.town import open_town

PATIENT = timedelta(seconds=30)
SETTINGS = Settings(database_url="postgresql:///unused")
KEY = "temporal-api-key-of-this-test"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA, tmp_path: Path) -> str:
    """A file that names the authority."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return str(tmp_path / "ca.pem")


@pytest_asyncio.fixture
async def temporal_front(temporal: WorkflowEnvironment, authority: trustme.CA) -> AsyncIterator[Front]:
    """Temporal behind TLS, under the name localhost."""
    host, _, port = temporal.client.service_client.config.target_host.partition(":")
    behind = partial(asyncio.open_connection, host, int(port))
    async with in_front_of(behind, server_side(authority, "localhost")) as front:
        yield front


class Use:
    """The variables of one test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, **variables: str) -> None:
        for name, value in variables.items():
            self._monkeypatch.setenv(f"TEMPORAL_{name}", value)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Sets Temporal's own variables, and no others of them."""
    for name in [name for name in os.environ if name.startswith("TEMPORAL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", os.devnull)
    return Use(monkeypatch)


class TestTemporal:
    async def test_is_worked_with_by_tls_that_a_ca_of_our_own_vouches_for(
        self, temporal_front: Front, use: Use, trusting: str, database: Database, database_url: str
    ) -> None:
        use(ADDRESS=f"localhost:{temporal_front.port}", TLS="true", TLS_SERVER_CA_CERT_PATH=trusting)
        client = await connect(SETTINGS, patience=PATIENT)
        async with open_town(client, database, database_url) as town, town.worker():
            home = await town.open_household(balance="80")
            await home.fund("500", "USDT")
            await home.draw_up_rule()
            await home.spend("45")
            top_up = await town.see_through(home)

        assert top_up.outcome == "completed"
        assert temporal_front.sent

    async def test_is_sent_its_api_key_with_every_call(
        self, temporal_front: Front, use: Use, trusting: str
    ) -> None:
        use(ADDRESS=f"localhost:{temporal_front.port}", API_KEY=KEY, TLS_SERVER_CA_CERT_PATH=trusting)

        client = await connect(SETTINGS, patience=PATIENT)
        await client.service_client.check_health()

        assert {header.get("authorization") for header in temporal_front.words} == {f"Bearer {KEY}"}

    @pytest.mark.parametrize("trusted", ["another", "the machine's own"])
    async def test_is_refused_at_once_when_nobody_vouches_for_it(
        self, temporal_front: Front, use: Use, tmp_path: Path, trusted: str
    ) -> None:
        use(ADDRESS=f"localhost:{temporal_front.port}", API_KEY=KEY)
        if trusted == "another":
            trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
            use(TLS_SERVER_CA_CERT_PATH=str(tmp_path / "other.pem"))

        with pytest.raises(
            TemporalNotTrusted, match=r"not trusted here \(UnknownIssuer\)\. Name the CA in TEMPORAL"
        ):
            await connect(SETTINGS)

        assert [bytes(sent) for sent in temporal_front.sent if sent] == []

    async def test_is_refused_under_another_name(
        self, temporal_front: Front, use: Use, trusting: str
    ) -> None:
        use(ADDRESS=f"127.0.0.1:{temporal_front.port}", TLS="true", TLS_SERVER_CA_CERT_PATH=trusting)

        with pytest.raises(
            TemporalNotTrusted, match="the name in the certificate in TEMPORAL_TLS_SERVER_NAME"
        ):
            await connect(SETTINGS)

        use(TLS_SERVER_NAME="localhost")
        assert await connect(SETTINGS, patience=PATIENT)

    async def test_may_ask_for_a_certificate_of_ours(
        self, temporal: WorkflowEnvironment, authority: trustme.CA, use: Use, trusting: str, tmp_path: Path
    ) -> None:
        host, _, port = temporal.client.service_client.config.target_host.partition(":")
        ours = authority.issue_cert("worker")
        ours.private_key_pem.write_to_path(tmp_path / "key.pem")
        ours.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
        behind = partial(asyncio.open_connection, host, int(port))
        context = server_side(authority, "localhost", clients=authority)
        async with in_front_of(behind, context) as front:
            use(ADDRESS=f"localhost:{front.port}", TLS="true", TLS_SERVER_CA_CERT_PATH=trusting)
            use(
                TLS_CLIENT_CERT_PATH=str(tmp_path / "cert.pem"), TLS_CLIENT_KEY_PATH=str(tmp_path / "key.pem")
            )

            client = await connect(SETTINGS, patience=PATIENT)

            assert await client.service_client.check_health()

    @pytest.mark.parametrize(
        "address", ["temporal.example.com:7233", "10.0.0.7:7233", "127.evil.example:7233"]
    )
    async def test_gets_no_api_key_over_an_open_network(self, use: Use, address: str) -> None:
        use(ADDRESS=address, API_KEY=KEY, TLS="false")

        with pytest.raises(
            TemporalSettingsInvalid, match="TEMPORAL_API_KEY would travel readably"
        ) as refused:
            await connect(SETTINGS, lazy=True)

        assert KEY not in str(refused.value)

    @pytest.mark.parametrize("address", ["localhost:7233", "127.0.0.1:7233", "[::1]:7233"])
    async def test_on_this_machine_may_have_its_key_without(self, use: Use, address: str) -> None:
        use(ADDRESS=address, API_KEY=KEY, TLS="false")

        assert await connect(SETTINGS, lazy=True)


class TestPostgres:
    @pytest.fixture
    def behind(self, database_url: str) -> Open:
        """Opens connections to the real server."""
        folder = parse_qs(urlsplit(database_url).query)["host"][0]
        return partial(asyncio.open_unix_connection, f"{folder}/.s.PGSQL.5432")

    def url(self, database_url: str, port: int, *, host: str = "localhost", **asked: str) -> str:
        """The same database by this port."""
        parts = urlsplit(database_url)
        query = "&".join(f"{name}={quote(value)}" for name, value in asked.items())
        return f"postgresql://{parts.username}@{host}:{port}{parts.path}?{query}"

    async def test_is_worked_with_by_tls_that_a_ca_of_our_own_vouches_for(
        self, database_url: str, behind: Open, authority: trustme.CA, trusting: str
    ) -> None:
        async with in_front_of_postgres(behind, server_side(authority, "localhost")) as front:
            url = self.url(database_url, front.port, sslmode="verify-full", sslrootcert=trusting)
            assert await answer_of(url) == 1

    async def test_is_refused_when_nobody_vouches_for_it_or_for_another_name(
        self,
        database_url: str,
        behind: Open,
        authority: trustme.CA,
        trusting: str,
        tmp_path: Path,
    ) -> None:
        trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
        other = str(tmp_path / "other.pem")
        async with in_front_of_postgres(behind, server_side(authority, "localhost")) as front:
            for asked, said in (
                (
                    self.url(database_url, front.port, sslmode="verify-full", sslrootcert=other),
                    "certificate verify",
                ),
                (
                    self.url(
                        database_url,
                        front.port,
                        host="127.0.0.1",
                        sslmode="verify-full",
                        sslrootcert=trusting,
                    ),
                    "does not match host name",
                ),
            ):
                with pytest.raises(OperationalError, match=said):
                    await answer_of(asked)

        assert [bytes(sent) for sent in front.sent if sent] == []

    async def test_without_tls_is_refused_where_tls_is_asked_for(
        self, database_url: str, behind: Open, trusting: str
    ) -> None:
        async with in_front_of_postgres(behind, None) as front:
            for mode in ("require", "verify-full"):
                url = self.url(database_url, front.port, sslmode=mode, sslrootcert=trusting)
                with pytest.raises(
                    OperationalError, match="server does not support SSL, but SSL was required"
                ):
                    await answer_of(url)

    @pytest.mark.parametrize(
        "url",
        [
            "postgresql://tidemark:hunter2@db.example.com/tidemark",
            "postgresql://tidemark:hunter2@10.0.0.7/tidemark?sslmode=prefer",
            "postgresql://tidemark:hunter2@db/tidemark?sslmode=allow",
            "postgresql:///tidemark?host=db&password=hunter2",
            "postgresql://tidemark:hunter2@localhost,db/tidemark",
            "postgresql://tidemark:hunter2@127.0.0.1.example.com/tidemark",
            "postgresql://localhost/tidemark?hostaddr=10.0.0.7&password=hunter2",
        ],
    )
    def test_on_another_machine_is_refused_in_production_until_somebody_has_decided(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TIDEMARK_DATABASE_URL", url)

        with pytest.raises(SettingsInvalid, match="does not say how the way there is protected") as refused:
            read_settings()

        assert "hunter2" not in str(refused.value)

    @pytest.mark.parametrize(
        "url",
        [
            "postgresql:///tidemark",
            "postgresql:///tidemark?host=/run/postgresql",
            "postgresql://tidemark@localhost:5432/tidemark",
            "postgresql://tidemark@[::1]:5432/tidemark",
            "postgresql://tidemark@127.0.0.1,localhost/tidemark",
            "postgresql://tidemark@db/tidemark?sslmode=verify-full",
            "postgresql://tidemark@db/tidemark?sslmode=disable",
        ],
    )
    def test_on_this_machine_or_with_a_decision_is_accepted(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TIDEMARK_DATABASE_URL", url)

        assert read_settings().database_url == url


async def answer_of(url: str) -> int:
    """What the product's own pool gets from there."""
    database = Database.open(url, pool_size=1)
    try:
        async with database.read() as session:
            return int((await run_sql(session, text("SELECT 1"))).scalar_one())
    finally:
        await database.close()
