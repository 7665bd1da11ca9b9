"""The application on a real socket, in the loop of the test."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import uvicorn
from fastapi import FastAPI

PATIENCE_SECONDS = 90
"""How long an answer may take where many tests run at once."""
_TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def client_at(address: str, **options: Any) -> httpx2.AsyncClient:
    """A client of what is served without TLS: it does without certificates, which take a while to read."""
    given = {"timeout": PATIENCE_SECONDS, "trust_env": False, **options}
    return httpx2.AsyncClient(base_url=address, verify=_TRUSTS_NOBODY, **given)


@contextlib.asynccontextmanager
async def serve(app: FastAPI) -> AsyncIterator[str]:
    """Serve on a free port of this machine until the block ends; gives the address."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none"))
    serving = asyncio.create_task(server._serve(sockets=[listener]))  # serve() would take the test's signals.
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving
        listener.close()
