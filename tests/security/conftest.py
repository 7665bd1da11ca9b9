"""Towns whose Temporal keeps nothing readable."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from adapters.postgres.database import Database
from runtime.payload_keys import PayloadKeys
from runtime.payloads import converter_of
from tests.stories.town import Town, open_town

OpenSealed = Callable[[PayloadKeys], AbstractAsyncContextManager[Town]]


def client_with(keys: PayloadKeys, other: Client) -> Client:
    """A client of the same server that reads and writes with these keys."""
    return Client(other.service_client, namespace=other.namespace, data_converter=converter_of(keys))


@pytest.fixture
def open_sealed(temporal: WorkflowEnvironment, database: Database, database_url: str) -> OpenSealed:
    """Opens the town with these keys; opened twice it is the same database, with another task queue."""

    def opening(keys: PayloadKeys) -> AbstractAsyncContextManager[Town]:
        return open_town(client_with(keys, temporal.client), database, database_url)

    return opening
