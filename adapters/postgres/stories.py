"""One top-up with everything that is known of it by now, to be told step by step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.messages import Checked, Covered, Recovered, Uncovered
from adapters.postgres.deliveries import Channel
from adapters.postgres.history import TopUpRecord, read_top_up
from adapters.postgres.tables import DeliveryRow, TopUpRow
from topup.outcome import Ending
from topup.steps import Seen, Story, Told, ToldState
from topup.waterfall import Plan, Shortfall
from topup.words import Notice

_CHANNELS = list(Channel)


@dataclass(frozen=True, slots=True)
class StoryRecord:
    """A top-up's story, and whose it is."""

    id: str
    wallet_id: str
    story: Story


async def read_story(session: AsyncSession, top_up_id: str, *, bound_to: str | None) -> StoryRecord:
    """The top-up as it stands. Raises TopUpUnknown."""
    record = await read_top_up(session, top_up_id, bound_to=bound_to)
    checked = (await session.exec(select(TopUpRow.checked).where(col(TopUpRow.id) == record.id))).one()
    story = _story(record, _seen(checked), await _told(session, record.id))
    return StoryRecord(record.id, record.wallet_id, story)


def _story(record: TopUpRecord, seen: Seen | None, told: Sequence[Told]) -> Story:
    ended = record.outcome and record.reason and Ending(record.outcome, record.reason, record.credited)
    return Story(
        amount=record.amount,
        threshold=record.threshold,
        account=record.account,
        trigger_balance=record.trigger_balance,
        seen=seen,
        draws=record.draws,
        ending=ended or None,
        told=tuple(told),
        started_at=record.started_at,
        ended_at=record.ended_at,
    )


def _seen(checked: Mapping[str, Any] | None) -> Seen | None:
    if checked is None:
        return None
    match Checked.model_validate(checked).finding:
        case Covered(balance=balance, draws=draws):
            return Seen(balance, Plan(draws))
        case Uncovered(balance=balance, available=available, missing=missing):
            return Seen(balance, Shortfall(available, missing))
        case Recovered(balance=balance):
            return Seen(balance, None)


async def _told(session: AsyncSession, top_up_id: str) -> list[Told]:
    rows = await session.exec(select(DeliveryRow).where(col(DeliveryRow.top_up_id) == top_up_id))
    told = [Told(Notice(row.kind), row.channel, ToldState(row.status), row.attempts) for row in rows]
    return sorted(told, key=lambda one: (one.notice is Notice.ENDED, _CHANNELS.index(Channel(one.channel))))
