"""The balance page kept up to date while it is open."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated

from fastapi import Depends, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from sqlmodel.ext.asyncio.session import AsyncSession

from console.live import Live, Now, live_messages, open_live
from console.page import locale_of, render_part
from console.routes import pages
from console.visitors import AnyVisitor
from console.wallets import WalletId, wallet_now
from console.wiring import WiringDep
from topup.words import checking_headline

router = pages()


async def _live(
    request: Request, wallet_id: WalletId, visitor: AnyVisitor, wiring: WiringDep
) -> AsyncIterator[Live | None]:
    show = partial(_show, request=request, wallet_id=wallet_id, development=wiring.development)
    async with open_live(request, wiring, visitor, show) as live:
        yield live


@router.get("/wallets/{wallet_id}/live", response_class=EventSourceResponse)
async def get_live(
    request: Request, live: Annotated[Live | None, Depends(_live)]
) -> AsyncIterator[ServerSentEvent]:
    """The part of the page that changes, at once and whenever something has happened to the wallet."""
    async for message in live_messages(request, live):
        yield message


async def _show(
    session: AsyncSession, owner_id: str, *, request: Request, wallet_id: str, development: bool
) -> Now:
    words = await wallet_now(session, wallet_id, owner_id, locale=locale_of(request), development=development)
    running = words["running"]
    checked = running is not None and running.story.being_checked
    return Now(
        part=render_part(request, "parts/wallet_now.html", **words),
        currency=words["wallet"].balance.asset,
        top_ups=frozenset(top_up.id for top_up in words["top_ups"]),
        balance_of=wallet_id,
        aside=f"{checking_headline(running.story.amount)}." if checked else None,
        moving=running is not None,
    )
