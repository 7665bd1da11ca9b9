"""The Temporal client waits for its server, and the search attributes are as the workflows need them."""

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio.client import Client
from temporalio.common import SearchAttributeIndexedValueType as Kind

from runtime.parts import TemporalPart
from runtime.pids import identify
from runtime.ports import choose_ports
from runtime.settings import Settings, read_development_settings
from runtime.temporal import (
    SearchAttributesMissing,
    TemporalSettingsInvalid,
    TemporalUnreachable,
    connect,
    ensure_search_attributes,
)
from runtime.temporal_program import find_temporal_program
from runtime.temporal_server import TemporalServerPlan, has_worker

PATIENT = timedelta(seconds=30)


@pytest.fixture(scope="module")
def server() -> Iterator[TemporalPart]:
    ports = choose_ports({"temporal_port": 0, "temporal_ui_port": 0})
    with tempfile.TemporaryDirectory() as folder:
        plan = TemporalServerPlan(
            program=find_temporal_program(read_development_settings().temporal_program, say=print),
            database=Path(folder) / "temporal.db",
            port=ports["temporal_port"],
            ui_port=ports["temporal_ui_port"],
        )
        part = TemporalPart(plan, log=Path(folder) / "temporal.log")
        part.start()
        part.wait_until_serving()
        yield part
        assert part.stop(at_once=lambda: False)


@pytest.fixture
def settings(server: TemporalPart, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in [name for name in os.environ if name.startswith("TEMPORAL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("TEMPORAL_ADDRESS", server.plan.address)
    return Settings(database_url="postgresql:///tidemark")


@pytest_asyncio.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    yield await connect(settings, patience=PATIENT)


class TestConnecting:
    async def test_goes_where_temporals_own_settings_say(self, client: Client, server: TemporalPart) -> None:
        assert client.service_client.config.target_host == server.plan.address
        assert client.namespace == "default"

    async def test_tells_after_its_patience_that_nobody_answers(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")

        with pytest.raises(TemporalUnreachable, match=r"Temporal at 127\.0\.0\.1:1 did not answer"):
            await connect(settings, patience=timedelta(seconds=0.5))

    async def test_does_not_wait_when_lazy(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")

        assert await connect(settings, lazy=True)

    async def test_tells_when_temporals_settings_cannot_be_used(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TEMPORAL_PROFILE", "nobody")

        with pytest.raises(TemporalSettingsInvalid, match="nobody"):
            await connect(settings)


class TestSearchAttributes:
    async def test_are_registered_once_and_found_ever_after(self, client: Client) -> None:
        wanted = {"TidemarkTestRule": Kind.KEYWORD, "TidemarkTestAttention": Kind.BOOL}

        for _ in range(2):
            await ensure_search_attributes(client, wanted, patience=PATIENT)

    async def test_of_another_type_are_refused_with_the_remedy(self, client: Client) -> None:
        await ensure_search_attributes(client, {"TidemarkTestKind": Kind.KEYWORD}, patience=PATIENT)

        with pytest.raises(
            SearchAttributesMissing, match="exists as KEYWORD but must be TEXT: remove it with"
        ):
            await ensure_search_attributes(client, {"TidemarkTestKind": Kind.TEXT}, patience=PATIENT)

    async def test_that_the_server_refuses_are_told_in_its_words(self, client: Client) -> None:
        too_many = {f"TidemarkTest{number}": Kind.BOOL for number in range(9)}

        with pytest.raises(SearchAttributesMissing, match="cannot have more than"):
            await ensure_search_attributes(client, too_many, patience=PATIENT)


class TestTheDevelopmentServer:
    async def test_keeps_finished_runs_for_a_month(self, client: Client) -> None:
        from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest  # noqa: PLC0415 - only here

        described = await client.workflow_service.describe_namespace(
            DescribeNamespaceRequest(namespace=client.namespace)
        )

        assert described.config.workflow_execution_retention_ttl.ToTimedelta() == timedelta(days=30)

    def test_knows_whether_a_worker_is_there(self, server: TemporalPart) -> None:
        assert not has_worker(server.plan, "nobody-works-here")

    def test_is_a_program_of_its_own(self, server: TemporalPart) -> None:
        running = server.identity()

        assert running is not None
        assert identify(running.pid) == running
