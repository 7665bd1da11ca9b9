"""The start page: it leads on to where a visitor belongs."""

from http import HTTPStatus

from fastapi import Request
from starlette.responses import RedirectResponse, Response

from adapters.postgres.database import Database
from adapters.postgres.sessions import PersonKind, Visitor
from adapters.postgres.wallets import list_wallets
from console.page import render
from console.routes import pages
from console.visitors import KnownVisitor
from console.wiring import DatabaseDep

WALLETS_MAX = 100

router = pages()


@router.get("/")
async def start(request: Request, visitor: KnownVisitor, database: DatabaseDep) -> Response:
    """An operator's overview; an owner's only wallet, or the list of them."""
    return await _lead(request, visitor, database, below="")


@router.get("/history")
async def history(request: Request, visitor: KnownVisitor, database: DatabaseDep) -> Response:
    """The history of an owner's only wallet, or the list of them."""
    return await _lead(request, visitor, database, below="/history")


async def _lead(request: Request, visitor: Visitor, database: Database, *, below: str) -> Response:
    if visitor.recovering:
        return _go("/account")
    if visitor.kind is PersonKind.OPERATOR or visitor.owner_id is None:
        return _go("/operator")
    async with database.read() as session:
        wallets = await list_wallets(
            session, bound_to=visitor.owner_id, owner_id=None, after=None, most=WALLETS_MAX
        )
    if len(wallets) == 1:
        return _go(f"/wallets/{wallets[0].id}{below}")
    return render(request, "wallets.html", wallets=wallets, below=below)


def _go(location: str) -> Response:
    return RedirectResponse(location, status_code=HTTPStatus.SEE_OTHER)
