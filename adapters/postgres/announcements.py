"""What is told publicly of top-ups: their views as the API gives them, in the commit that begins or ends them."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.events import EventKind, moment_text, write_event
from adapters.postgres.history import TopUpRecord, claimed_record, read_top_up
from adapters.postgres.tables import TopUpRow
from topup.keys import workflow_id
from topup.outcome import DrawResult, DrawStatus


async def tell_started(session: AsyncSession, claimed: Iterable[TopUpRow]) -> None:
    """Tell that these top-ups exist, in the commit of their claim."""
    for row in claimed:
        payload = _top_up(claimed_record(row))
        await write_event(session, EventKind.TOP_UP_STARTED, owner_id=row.owner_id, payload=payload)


async def tell_ended(session: AsyncSession, top_up: TopUpRow, unseen: Sequence[DrawResult]) -> None:
    """Tell how a top-up ended, in the commit that settles it; and before that of draws the ledger had no answer to.

    A source that was not drawn from has no event of its own: the top-up's lists it.
    """
    for draw in unseen:
        if draw.status is not DrawStatus.NOT_REACHED:
            payload = {"top_up_id": top_up.id, **_draw(draw)}
            await write_event(session, EventKind.DRAW_SETTLED, owner_id=top_up.owner_id, payload=payload)
    record = await read_top_up(session, top_up.id, bound_to=None)
    await write_event(session, EventKind.TOP_UP_ENDED, owner_id=top_up.owner_id, payload=_top_up(record))


def _top_up(record: TopUpRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "rule_id": record.rule_id,
        "wallet_id": record.wallet_id,
        "state": record.state,
        "outcome": record.outcome,
        "reason": record.reason,
        "amount": record.amount.text,
        "credited": record.credited.text,
        "trigger": {
            "event_id": record.trigger_event_id,
            "balance": record.trigger_balance.text,
            "threshold": record.threshold.text,
        },
        "rule_version": record.rule_version,
        "draws": [_draw(draw) for draw in record.draws],
        "notifications": [{"channel": channel, "status": status} for channel, status in record.notifications],
        "workflow_id": workflow_id(record.id),
        "started_at": moment_text(record.started_at),
        "ended_at": _or_none(record.ended_at),
    }


def _draw(draw: DrawResult) -> dict[str, Any]:
    return {
        "rank": draw.rank,
        "asset": draw.asset,
        "status": draw.status,
        "reason": draw.reason,
        "debited": draw.debited.text,
        "credited": draw.credited.text,
    }


def _or_none(at: datetime | None) -> str | None:
    return None if at is None else moment_text(at)
