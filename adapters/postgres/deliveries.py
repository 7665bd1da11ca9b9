"""The notifications queued for owners, one row for each channel, and what became of each (R23, R24)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import groupby

from sqlalchemy import case, func, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.elements import ColumnElement
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.messages import Delivery, Telling
from activities.ports import Letter
from adapters.postgres.database import Database
from adapters.postgres.ids import new_id
from adapters.postgres.tables import DeliveryRow, DrawRow, Owner, TopUpRow
from topup.money import Money
from topup.outcome import DrawReason, DrawResult, DrawStatus, Ending, Outcome, Reason
from topup.rule import AccountKind
from topup.words import Notice, Wording, tell_checking, tell_ending

FAILURE_LENGTH_MAX = 300
UNTOLD_MAX = 1000
"""At most this many deliveries are handed to one sweep; the next one gets the rest."""
LAST_TRIES = timedelta(minutes=1)
"""A delivery found long after its time is tried for this long before it is given up."""
SUPERSEDED = "not sent: the top-up ended before this could be told, and the owner is told how it ended"

_PENDING = col(DeliveryRow.status) == "pending"
_ONE_MORE = col(DeliveryRow.attempts) + 1
_ADDRESS = re.compile(r"[^\s<>()\[\]\"',:;=]+@[^\s<>()\[\]\"',:;=]+")


class Channel(StrEnum):
    """The ways an owner is told; every notice goes out on all of them (R23)."""

    PUSH = "push"
    EMAIL = "email"


class DeliveryMissing(LookupError):
    """There is no such delivery."""


class NotEnded(LookupError):
    """The delivery tells how a top-up ended that is still in progress: settle queues it in the same commit."""


@dataclass(frozen=True, slots=True)
class DeliveryRecords:
    """Fulfils the Deliveries port; touches the deliveries alone, never a top-up or a rule (R24)."""

    database: Database
    give_up_after: timedelta = timedelta(hours=24)

    async def letter(self, delivery_id: str) -> Letter | None:
        """What to send; None when it is sent or given up. Raises DeliveryMissing.

        "Being checked" is given up here once the top-up has ended: told late, it would be untrue.
        """
        async with self.database.read() as session:
            delivery, top_up, owner, draws = await _found(session, delivery_id)
        if delivery.status != "pending":
            return None
        if delivery.kind == Notice.BEING_CHECKED and top_up.state == "ended":
            await self.record_undeliverable(delivery_id, failure=SUPERSEDED)
            return None
        return _letter(delivery, top_up, owner, draws)

    async def record_sent(self, delivery_id: str) -> None:
        """It reached the channel, on one more attempt; a delivery sent before keeps its first moment."""
        unsent = col(DeliveryRow.status) != "sent"
        await self._record(
            delivery_id, unsent, status="sent", sent_at=func.now(), attempts=_ONE_MORE, last_failure=None
        )

    async def record_attempt(self, delivery_id: str, *, failure: str) -> None:
        """One attempt failed; it stays queued."""
        await self._record(delivery_id, _PENDING, attempts=_ONE_MORE, last_failure=cleaned(failure))

    async def record_undeliverable(self, delivery_id: str, *, failure: str) -> None:
        """It is given up; what failed last stays readable behind the reason."""
        last, words = col(DeliveryRow.last_failure), cleaned(failure)
        said_before = last.is_(None) | (last == words)
        both = case((said_before, words), else_=func.concat(words, "; before that: ", last))
        await self._record(
            delivery_id, _PENDING, status="undeliverable", last_failure=func.left(both, FAILURE_LENGTH_MAX)
        )

    async def untold(self, *, older_than: timedelta) -> tuple[Telling, ...]:
        """Deliveries queued for longer than this and neither sent nor given up, by top-up and kind."""
        now = datetime.now(UTC)
        query = (
            select(DeliveryRow)
            .where(_PENDING, col(DeliveryRow.created_at) <= now - older_than)
            .order_by(col(DeliveryRow.created_at), col(DeliveryRow.id))
            .limit(UNTOLD_MAX)
        )
        async with self.database.read() as session:
            rows = (await session.exec(query)).all()
        groups = groupby(sorted(rows, key=_notice_of), key=_notice_of)
        return tuple(
            self._telling(top_up_id, kind, list(pending), now) for (top_up_id, kind), pending in groups
        )

    def _telling(self, top_up_id: str, kind: str, pending: Sequence[DeliveryRow], now: datetime) -> Telling:
        due = max(row.created_at for row in pending) + self.give_up_after
        return Telling(
            top_up_id=top_up_id,
            kind=kind,
            deliveries=tuple(Delivery(delivery_id=row.id, channel=row.channel) for row in pending),
            give_up_after=max(LAST_TRIES, due - now),
        )

    async def _record(self, delivery_id: str, only: ColumnElement[bool], **columns: object) -> None:
        statement = update(DeliveryRow).where(col(DeliveryRow.id) == delivery_id, only).values(**columns)
        async with self.database.commit() as session:
            await session.exec(statement)


async def queue_deliveries(
    session: AsyncSession, *, top_up_id: str, owner_id: str, kind: str, subject: str
) -> tuple[Delivery, ...]:
    """Queue one delivery for each channel inside the caller's commit; a repeat gets the first one's (R23).

    Safe under concurrent callers: the later one waits for the earlier one's commit and returns its rows. `kind` is
    one of `Notice`.
    """
    common = {"top_up_id": top_up_id, "owner_id": owner_id, "kind": Notice(kind).value, "subject": subject}
    rows = [
        {"id": new_id("delivery"), "channel": channel.value, "status": "pending", **common}
        for channel in Channel
    ]
    once = insert(DeliveryRow).values(rows).on_conflict_do_nothing(constraint="delivery_once_per_channel")
    await session.exec(once)
    return await queued_deliveries(session, top_up_id, kind)


def cleaned(failure: str) -> str:
    """A failure fit to be kept: one line, clipped, with everything that looks like an e-mail address taken out."""
    return _ADDRESS.sub("[address]", " ".join(failure.split()))[:FAILURE_LENGTH_MAX]


async def queued_deliveries(session: AsyncSession, top_up_id: str, kind: str) -> tuple[Delivery, ...]:
    """What has been queued of this kind, whatever became of it."""
    query = select(DeliveryRow.id, DeliveryRow.channel).where(
        col(DeliveryRow.top_up_id) == top_up_id, col(DeliveryRow.kind) == kind
    )
    queued = [Delivery(delivery_id=row_id, channel=channel) for row_id, channel in await session.exec(query)]
    order = list(Channel)
    return tuple(sorted(queued, key=lambda delivery: order.index(Channel(delivery.channel))))


def _notice_of(delivery: DeliveryRow) -> tuple[str, str]:
    return delivery.top_up_id, delivery.kind


async def _found(
    session: AsyncSession, delivery_id: str
) -> tuple[DeliveryRow, TopUpRow, Owner, Sequence[DrawRow]]:
    query = (
        select(DeliveryRow, TopUpRow, Owner)
        .join(TopUpRow, col(TopUpRow.id) == col(DeliveryRow.top_up_id))
        .join(Owner, col(Owner.id) == col(DeliveryRow.owner_id))
        .where(col(DeliveryRow.id) == delivery_id)
    )
    row = (await session.exec(query)).first()
    if row is None:
        message = f"there is no delivery {delivery_id}"
        raise DeliveryMissing(message)
    delivery, top_up, owner = row
    draws = await session.exec(select(DrawRow).where(col(DrawRow.top_up_id) == top_up.id))
    return delivery, top_up, owner, draws.all()


def _letter(delivery: DeliveryRow, top_up: TopUpRow, owner: Owner, draws: Sequence[DrawRow]) -> Letter:
    words = _words(delivery, top_up, [_draw_result(draw, top_up.currency) for draw in draws])
    return Letter(
        delivery_id=delivery.id,
        channel=delivery.channel,
        top_up_id=top_up.id,
        to_name=owner.name,
        to_address=owner.email if delivery.channel == Channel.EMAIL else owner.id,
        subject=delivery.subject,
        why=words.why,
        lines=words.lines,
        next_step=words.next_step,
    )


def _words(delivery: DeliveryRow, top_up: TopUpRow, draws: Sequence[DrawResult]) -> Wording:
    amount, threshold = Money(top_up.currency, top_up.amount), Money(top_up.currency, top_up.threshold)
    account = AccountKind(top_up.account)
    match Notice(delivery.kind):
        case Notice.ENDED:
            return tell_ending(_ending(top_up), draws, amount=amount, threshold=threshold, account=account)
        case Notice.BEING_CHECKED:
            return tell_checking(draws, amount=amount, threshold=threshold, account=account)


def _ending(top_up: TopUpRow) -> Ending:
    if top_up.outcome is None or top_up.reason is None:
        message = f"{top_up.id} has not ended, so nobody can be told how"
        raise NotEnded(message)
    return Ending(Outcome(top_up.outcome), Reason(top_up.reason), Money(top_up.currency, top_up.credited))


def _draw_result(draw: DrawRow, currency: str) -> DrawResult:
    return DrawResult(
        rank=draw.rank,
        asset=draw.asset,
        status=DrawStatus(draw.status),
        reason=DrawReason(draw.reason) if draw.reason else None,
        debited=Money(draw.asset, draw.debited),
        credited=Money(currency, draw.credited),
    )
