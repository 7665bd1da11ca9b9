"""The bench's own servers, in a folder that goes away with them."""

import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psycopg
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from adapters.postgres.migrations.reach import upgrade
from runtime.embedded_postgres import PostgresServer, create_database, start_postgres, stop_postgres
from runtime.settings import read_development_settings
from runtime.temporal import ensure_search_attributes
from runtime.temporal_program import find_temporal_program
from runtime.temporal_server import DYNAMIC_CONFIG, end_with_parent
from workflows.ids import SEARCH_ATTRIBUTES

_SERVER_ARGUMENTS = ("--output", "none", *DYNAMIC_CONFIG)
"""As `make run` has it."""


@contextmanager
def own_postgres() -> Iterator[PostgresServer]:
    """An embedded PostgreSQL with its stock settings, durability on."""
    home = Path(tempfile.mkdtemp(prefix="tidemark-bench-"))
    try:
        server = start_postgres(
            home / "postgres",
            log=home / "postgres.log",
            say=print,
            before_start=end_with_parent(signal.SIGQUIT),
        )
        try:
            yield server
        finally:
            stop_postgres(server.folder, at_once=True)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def migrated_database(server: PostgresServer, name: str) -> str:
    """The address of a new, empty database of the product."""
    url = create_database(server, name)
    upgrade(url)
    return url


def run_script(url: str, script: str, **values: int) -> None:
    """Run the statements of a script, separated by semicolons, each in a commit of its own."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in filter(str.strip, script.split(";")):
            connection.execute(statement.encode(), values)


@asynccontextmanager
async def own_temporal() -> AsyncIterator[Client]:
    """Temporal's development server, keeping its state in memory: so its disk hides none of our own time."""
    program = find_temporal_program(read_development_settings().temporal_program, say=print)
    environment = await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(program),
        dev_server_extra_args=_SERVER_ARGUMENTS,
        dev_server_log_level="never",
        data_converter=pydantic_data_converter,
    )
    try:
        await ensure_search_attributes(environment.client, SEARCH_ATTRIBUTES)
        yield environment.client
    finally:
        await environment.shutdown()
