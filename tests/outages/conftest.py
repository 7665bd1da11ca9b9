"""One running product for all tests of outages, found at rest and sound after each."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from httpx2 import AsyncClient, Limits

from adapters.postgres.database import Database
from runtime.first_start import KEY_SCOPES
from runtime.stack import Stack, temporary_settings
from tests.outages.invariants import assert_invariants
from tests.outages.product import Product

_ENVIRONMENT = {
    "TIDEMARK_DRAW_TIMEOUT": "5s",
    "TIDEMARK_CHECK_TIMEOUT": "5s",
    "TIDEMARK_SWEEP_INTERVAL": "2s",
    "TIDEMARK_SWEEP_GRACE": "1s",
}
_CALLS_MAX = 100


@pytest.fixture(scope="package")
def stack() -> Iterator[Stack]:
    """Everything `make run` starts, in a place of its own."""
    # Root's PostgreSQL runs as another user, who may not enter pytest's own folders.
    home = Path(tempfile.mkdtemp(prefix="tidemark-test-"))
    settings = temporary_settings(home)
    with Stack(settings, say=print, extra_environment=_ENVIRONMENT, ends_with_starter=True) as started:
        yield started
    shutil.rmtree(home)


@pytest_asyncio.fixture(scope="package")
async def product(stack: Stack) -> AsyncIterator[Product]:
    """The product, with an API key and a way to its database."""
    key = stack.create_api_key(scopes=KEY_SCOPES, name="outages")
    database = Database.open(stack.database_url(), pool_size=10)
    client = AsyncClient(
        base_url=stack.addresses.api,
        headers={"Authorization": f"Bearer {key}"},
        limits=Limits(max_connections=_CALLS_MAX),
        timeout=120,
        trust_env=False,
    )
    async with client:
        yield Product(stack, database, client)
    await database.close()


@pytest_asyncio.fixture(autouse=True)
async def sound(product: Product) -> AsyncIterator[None]:
    """After each test: everything has come to an end by itself, and the books are in order."""
    yield
    await product.quiet()
    await assert_invariants(product.database)
