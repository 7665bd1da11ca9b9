"""Sites of other settings than those most tests are content with."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

from fastapi import FastAPI

from adapters.postgres.database import Database
from tests.api.conftest import build
from tests.console.conftest import Browser, by_name
from tests.served import client_at, serve


@asynccontextmanager
async def opened(
    database: Database, database_url: str, **settings: Any
) -> AsyncIterator[tuple[FastAPI, Browser]]:
    """An application of these settings, and a browser for it with which nobody has signed in."""
    async with AsyncExitStack() as stack:
        app = build(database, url=database_url, **settings)
        address = by_name(await stack.enter_async_context(serve(app)))
        app.state.console = replace(app.state.console, public_url=address)
        client = await stack.enter_async_context(client_at(address))
        yield app, Browser(client, address)
