"""Addresses among those of the pages at which there is nothing: they answer with a page too."""

from collections.abc import Iterable
from http import HTTPStatus

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import Response

from console.routes import pages
from console.visitors import AnyVisitor


def lead_nowhere(names: Iterable[str]) -> APIRouter:
    """The routes of all addresses that begin so; they come last, after the rooms'."""
    router = pages()
    for name in sorted(names):
        for path in (f"/{name}", f"/{name}/{{rest:path}}"):
            router.add_api_route(path, _nowhere, methods=["GET"])
    return router


async def _nowhere(visitor: AnyVisitor) -> Response:
    del visitor  # Asked for, as the frame around the page is theirs.
    raise HTTPException(HTTPStatus.NOT_FOUND)
