"""Top-ups: each from its trigger to its outcome, with the result of every source."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from adapters.postgres.history import TopUpRecord, TopUpUnknown, Which, list_top_ups, read_top_up
from api.authentication import RulesReader
from api.given import DatabaseDep
from api.lists import Page, PageQuery, page_of
from api.refusals import refusals
from api.wire import ID_PATTERN, Moment, PathId, View
from topup.keys import workflow_id
from topup.outcome import DrawReason, DrawResult, DrawStatus, Outcome, Reason

router = APIRouter(prefix="/v1/top-ups", tags=["top-ups"])

FilterId = Annotated[str, Field(max_length=100, pattern=ID_PATTERN)]
State = Literal["in_progress", "ended"]


class TopUpQuery(PageQuery):
    """Which top-ups are asked for."""

    wallet_id: FilterId | None = None
    rule_id: FilterId | None = None
    state: State | None = None
    outcome: Outcome | None = None


class TriggerView(View):
    """What made the rule fire."""

    event_id: str
    balance: str
    threshold: str


class DrawView(View):
    """What one source gave: debited in its asset, credited in the wallet's currency."""

    rank: int
    asset: str
    status: DrawStatus
    reason: DrawReason | None
    debited: str
    credited: str


class NotificationView(View):
    """Whether the owner was told on one channel."""

    channel: str
    status: str


class TopUpView(View):
    """One execution of a rule. While it runs, draws show what the ledger knows already."""

    id: str
    rule_id: str
    wallet_id: str
    state: State
    outcome: Outcome | None
    reason: Reason | None
    amount: str
    credited: str
    trigger: TriggerView
    rule_version: int
    draws: list[DrawView]
    notifications: list[NotificationView]
    workflow_id: str
    started_at: Moment
    ended_at: Moment | None


@router.get("", operation_id="list_top_ups", responses=refusals())
async def get_top_ups(
    asked: Annotated[TopUpQuery, Query()], reader: RulesReader, database: DatabaseDep
) -> Page[TopUpView]:
    """Top-ups, newest first, of deleted rules too (R6)."""
    which = Which(
        bound_to=reader.owner_id,
        wallet_id=asked.wallet_id,
        rule_id=asked.rule_id,
        state=asked.state,
        outcome=asked.outcome,
        after=asked.position(),
    )
    async with database.read() as session:
        found = await list_top_ups(session, which, most=asked.most)
    return page_of(found, asked, view=_top_up_view, position=lambda record: record.id)


@router.get("/{top_up_id}", operation_id="get_top_up", responses=refusals(TopUpUnknown))
async def get_top_up(top_up_id: PathId, reader: RulesReader, database: DatabaseDep) -> TopUpView:
    """One top-up as it stands."""
    async with database.read() as session:
        return _top_up_view(await read_top_up(session, top_up_id, bound_to=reader.owner_id))


def _top_up_view(record: TopUpRecord) -> TopUpView:
    return TopUpView(
        id=record.id,
        rule_id=record.rule_id,
        wallet_id=record.wallet_id,
        state="ended" if record.state == "ended" else "in_progress",
        outcome=record.outcome,
        reason=record.reason,
        amount=record.amount.text,
        credited=record.credited.text,
        trigger=TriggerView(
            event_id=record.trigger_event_id,
            balance=record.trigger_balance.text,
            threshold=record.threshold.text,
        ),
        rule_version=record.rule_version,
        draws=[_draw_view(draw) for draw in record.draws],
        notifications=[
            NotificationView(channel=channel, status=status) for channel, status in record.notifications
        ],
        workflow_id=workflow_id(record.id),
        started_at=record.started_at,
        ended_at=record.ended_at,
    )


def _draw_view(draw: DrawResult) -> DrawView:
    return DrawView(
        rank=draw.rank,
        asset=draw.asset,
        status=draw.status,
        reason=draw.reason,
        debited=draw.debited.text,
        credited=draw.credited.text,
    )
