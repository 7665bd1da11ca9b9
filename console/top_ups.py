"""One top-up, step by step: as it stands when the page is opened, and live while it goes on."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.responses import Response

from adapters.postgres.stories import StoryRecord, read_story
from console.live import Live, Now, live_messages, open_live
from console.page import render, render_part
from console.routes import pages
from console.visitors import AnyVisitor, OwnerVisitor, owner_of
from console.wiring import DatabaseDep, WiringDep
from topup.outcome import Outcome
from topup.steps import Story, tell_steps
from topup.words import CHECKING_STEP, Wording, checking_headline, headline, next_step, tell_checking

router = pages()


@router.get("/top-ups/{top_up_id}")
async def get_top_up(
    request: Request, top_up_id: str, visitor: OwnerVisitor, database: DatabaseDep
) -> Response:
    """The top-up as it stands; browsers without scripts load the page again by themselves while it goes on."""
    async with database.read() as session:
        found = await read_story(session, top_up_id, bound_to=owner_of(visitor))
    return render(request, "top_up.html", **_words(found))


async def _live(
    request: Request, top_up_id: str, visitor: AnyVisitor, wiring: WiringDep
) -> AsyncIterator[Live | None]:
    show = partial(_show, request=request, top_up_id=top_up_id)
    async with open_live(request, wiring, visitor, show) as live:
        yield live


@router.get("/top-ups/{top_up_id}/live", response_class=EventSourceResponse)
async def get_live(
    request: Request, live: Annotated[Live | None, Depends(_live)]
) -> AsyncIterator[ServerSentEvent]:
    """The part of the page that changes, at once and after each step, until the top-up is over."""
    async for message in live_messages(request, live):
        yield message


async def _show(session: AsyncSession, owner_id: str, *, request: Request, top_up_id: str) -> Now:
    found = await read_story(session, top_up_id, bound_to=owner_id)
    story = found.story
    return Now(
        part=render_part(request, "parts/top_up_now.html", **_words(found)),
        currency=story.amount.asset,
        top_ups=frozenset({found.id}),
        aside=f"{checking_headline(story.amount)}." if story.being_checked else None,
        moving=not story.over,
        over=story.over,
    )


def _words(found: StoryRecord) -> dict[str, Any]:
    """What the template speaks of."""
    story = found.story
    return {
        "id": found.id,
        "wallet_id": found.wallet_id,
        "story": story,
        "steps": tell_steps(story),
        "outcome": story.ending.outcome if story.ending else None,
        "headline": headline(story.ending, story.amount) if story.ending else None,
        "next_step": next_step(story.ending.outcome) if story.ending else None,
        "checking": _checking(story) if story.being_checked else None,
        "checking_headline": checking_headline(story.amount),
        "checking_step": CHECKING_STEP,
        "failed": story.ending is not None and story.ending.outcome is Outcome.FAILED,
    }


def _checking(story: Story) -> Wording:
    return tell_checking(story.draws, amount=story.amount, threshold=story.threshold, account=story.account)
