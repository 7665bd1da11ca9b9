"""The notifications queued for owners, one row for each channel, and what became of each (R23, R24)."""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import groupby

from sqlalchemy import case, func, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.elements import ColumnElement
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.messages import Delivery, Telling
from activities.ports import Letter, LetterDraw
from adapters.postgres.caps import read_reached
from adapters.postgres.clock import read_clock
from adapters.postgres.database import Database, run_sql
from adapters.postgres.ids import new_id
from adapters.postgres.tables import DecisionRow, DeliveryRow, DrawRow, Owner, PushReceipt, Rule, TopUpRow
from topup.caps import CapReached
from topup.money import Money
from topup.outcome import DrawReason, DrawResult, DrawStatus, Ending, Outcome, Reason
from topup.rule import AccountKind
from topup.trigger import DecisionReason
from topup.words import (
    Notice,
    Wording,
    draw_sentence,
    low_balance_headline,
    tell_checking,
    tell_ending,
    tell_low_balance,
)

FAILURE_LENGTH_MAX = 300
UNTOLD_MAX = 1000
"""At most this many deliveries are handed to one sweep; the next one gets the rest."""
LAST_TRIES = timedelta(minutes=1)
"""A delivery found long after its time is tried for this long before it is given up."""
SUPERSEDED = "not sent: the top-up ended before this could be told, and the owner is told how it ended"
RECOVERED = "not sent: before this could be told, the balance had recovered, or the rule had changed"
REACHED_SOME = "not every browser could be reached"

_STOP = text(
    "UPDATE owner SET low_balance_notices = false WHERE id = (SELECT owner_id FROM delivery WHERE stop_token = :token) "
    "RETURNING id"
)
_CHOOSE = text("UPDATE owner SET low_balance_notices = :wanted WHERE id = :owner_id")
_PENDING = col(DeliveryRow.status) == "pending"
_ONE_MORE = col(DeliveryRow.attempts) + 1
_ADDRESS = re.compile(r"[^\s<>()\[\]\"',:;=]+@[^\s<>()\[\]\"',:;=]+")


class Channel(StrEnum):
    """The ways an owner is told; every notice goes out on all of them (R23)."""

    PUSH = "push"
    EMAIL = "email"


class DeliveryMissing(LookupError):
    """There is no such delivery."""


class StopTokenUnknown(LookupError):
    """No notice was ever sent with this token."""


class NotEnded(LookupError):
    """The delivery tells how a top-up ended that is still in progress: settle queues it in the same commit."""


@dataclass(frozen=True, slots=True)
class DeliveryRecords:
    """Fulfils the Deliveries port; touches the deliveries alone, never a top-up or a rule (R24)."""

    database: Database
    give_up_after: timedelta = timedelta(hours=24)

    async def letter(self, delivery_id: str) -> Letter | None:
        """What to send; None when it is sent or given up. Raises DeliveryMissing.

        What would be untrue, told late, is given up here: "being checked" once the top-up has ended, and a low
        balance that is none any more.
        """
        async with self.database.read() as session:
            delivery, owner = await _found(session, delivery_id)
            if delivery.status != "pending":
                return None
            letter = await _letter_of(session, delivery, owner)
        if isinstance(letter, Letter):
            return letter
        await self.record_undeliverable(delivery_id, failure=letter)
        return None

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
        """It is given up; what failed last stays readable behind the reason.

        A push that has reached one of the owner's browsers was sent, though others of them could not be reached.
        """
        last, words = col(DeliveryRow.last_failure), cleaned(failure)
        said_before = last.is_(None) | (last == words)
        both = case((said_before, words), else_=func.concat(words, "; before that: ", last))
        at = select(func.min(col(PushReceipt.at))).where(col(PushReceipt.delivery_id) == delivery_id)
        first = at.scalar_subquery()
        await self._record(
            delivery_id,
            _PENDING,
            status=case((first.is_(None), "undeliverable"), else_="sent"),
            sent_at=first,
            last_failure=func.left(
                case((first.is_(None), both), else_=func.concat(REACHED_SOME, ": ", both)), FAILURE_LENGTH_MAX
            ),
        )

    async def untold(self, *, older_than: timedelta) -> tuple[Telling, ...]:
        """Deliveries queued for longer than this and neither sent nor given up, by what they are about and kind.

        The clock may have been turned back meanwhile: what seems to come from the future has waited long enough.
        """
        queued = col(DeliveryRow.created_at)
        async with self.database.read() as session:
            now = await read_clock(session)
            query = (
                select(DeliveryRow)
                .where(_PENDING, (queued <= now - older_than) | (queued > now))
                .order_by(queued, col(DeliveryRow.id))
                .limit(UNTOLD_MAX)
            )
            rows = (await session.exec(query)).all()
        groups = groupby(sorted(rows, key=_notice_of), key=_notice_of)
        return tuple(self._telling(list(pending), now) for _, pending in groups)

    def _telling(self, pending: Sequence[DeliveryRow], now: datetime) -> Telling:
        due = min(now, max(row.created_at for row in pending)) + self.give_up_after
        return Telling(
            top_up_id=pending[0].top_up_id,
            event_id=pending[0].event_id,
            kind=pending[0].kind,
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
    rows = [{**_new_row(channel), **common} for channel in Channel]
    once = insert(DeliveryRow).values(rows).on_conflict_do_nothing(constraint="delivery_once_per_channel")
    await session.exec(once)
    return await queued_deliveries(session, top_up_id, kind)


async def queue_low_balance(
    session: AsyncSession, *, event_id: str, owner_id: str, threshold: Money
) -> tuple[Delivery, ...]:
    """Queue on each channel, inside the caller's commit, that the event left the balance low, and nothing follows."""
    common = {"event_id": event_id, "owner_id": owner_id, "kind": Notice.LOW_BALANCE.value}
    subject = low_balance_headline(threshold)
    rows = [
        {**_new_row(channel), **common, "subject": subject, "stop_token": secrets.token_urlsafe(24)}
        for channel in Channel
    ]
    await session.exec(insert(DeliveryRow).values(rows))
    return tuple(Delivery(delivery_id=row["id"], channel=row["channel"]) for row in rows)


async def choose_low_balance_notices(session: AsyncSession, owner_id: str, *, wanted: bool) -> None:
    """Turn an owner's low-balance notices on or off, in the caller's commit."""
    await run_sql(session, _CHOOSE, owner_id=owner_id, wanted=wanted)


async def stop_low_balance_notices(session: AsyncSession, token: str) -> None:
    """Turn off the low-balance notices of the owner who got this token with one. Raises StopTokenUnknown."""
    if (await run_sql(session, _STOP, token=token)).one_or_none() is None:
        message = "no notice was sent with this token"
        raise StopTokenUnknown(message)


async def wants_low_balance_notices(session: AsyncSession, owner_id: str) -> bool:
    """Whether an owner wants to be told of a low balance that no top-up follows."""
    statement = select(Owner.low_balance_notices).where(col(Owner.id) == owner_id)
    return (await session.exec(statement)).one()


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


def _new_row(channel: Channel) -> dict[str, str]:
    return {"id": new_id("delivery"), "channel": channel.value, "status": "pending"}


def _notice_of(delivery: DeliveryRow) -> tuple[str, str]:
    return delivery.top_up_id or delivery.event_id or "", delivery.kind


async def _found(session: AsyncSession, delivery_id: str) -> tuple[DeliveryRow, Owner]:
    query = (
        select(DeliveryRow, Owner)
        .join(Owner, col(Owner.id) == col(DeliveryRow.owner_id))
        .where(col(DeliveryRow.id) == delivery_id)
    )
    row = (await session.exec(query)).first()
    if row is None:
        message = f"there is no delivery {delivery_id}"
        raise DeliveryMissing(message)
    delivery, owner = row
    return delivery, owner


async def _letter_of(session: AsyncSession, delivery: DeliveryRow, owner: Owner) -> Letter | str:
    """The letter; or why it is not to be sent any more."""
    if delivery.top_up_id is None:
        return await _low_letter(session, delivery, owner)
    top_up = (await session.exec(select(TopUpRow).where(col(TopUpRow.id) == delivery.top_up_id))).one()
    if delivery.kind == Notice.BEING_CHECKED and top_up.state == "ended":
        return SUPERSEDED
    rows = await session.exec(select(DrawRow).where(col(DrawRow.top_up_id) == top_up.id))
    draws = sorted((draw_result(row, top_up.currency) for row in rows), key=lambda draw: draw.rank)
    words = _words(delivery, top_up, draws)
    letter = _write(
        delivery, owner, words, about=top_up.id, page=f"/top-ups/{top_up.id}", wallet_id=top_up.wallet_id
    )
    return replace(
        letter,
        outcome=top_up.outcome,
        sums=_sums(top_up),
        draws=tuple(map(_letter_draw, draws)),
    )


async def _low_letter(session: AsyncSession, delivery: DeliveryRow, owner: Owner) -> Letter | str:
    """The letter about a low balance, as long as it is one and its owner still wants to be told."""
    found = await session.exec(
        select(DecisionRow, Rule)
        .join(Rule, col(Rule.id) == col(DecisionRow.rule_id))
        .where(
            col(DecisionRow.event_id) == delivery.event_id,
            col(Rule.told_low_event_id) == delivery.event_id,
        )
    )
    row = found.first()
    if row is None or not owner.low_balance_notices:
        return RECOVERED
    decision, rule = row
    cap = (await read_reached(session, [(rule, decision.currency)])).get(rule.wallet_id)
    words = _low_words(decision, rule, cap)
    wallet_id = decision.wallet_id
    return _write(delivery, owner, words, about=wallet_id, page=f"/wallets/{wallet_id}", wallet_id=wallet_id)


def _write(
    delivery: DeliveryRow, owner: Owner, words: Wording, *, about: str, page: str, wallet_id: str
) -> Letter:
    """A letter of these words; `page` shows what it is about."""
    return Letter(
        delivery_id=delivery.id,
        channel=delivery.channel,
        kind=delivery.kind,
        about=about,
        queued_at=delivery.created_at,
        to_name=owner.name,
        to_address=_address(delivery, owner),
        subject=delivery.subject,
        why=words.why,
        brief=words.brief,
        lines=words.lines,
        next_step=words.next_step,
        page=page,
        rule_page=_rule_page(wallet_id),
        stop_token=delivery.stop_token,
    )


def _low_words(decision: DecisionRow, rule: Rule, cap: CapReached | None) -> Wording:
    """Why nothing follows by now: an owner may have turned the rule off since."""
    threshold = Money(decision.currency, decision.threshold)
    reason = DecisionReason(decision.reason) if rule.enabled else DecisionReason.OFF
    return tell_low_balance(reason, threshold=threshold, cap=cap)


def _address(delivery: DeliveryRow, owner: Owner) -> str:
    return owner.email if delivery.channel == Channel.EMAIL else owner.id


def _rule_page(wallet_id: str) -> str:
    return f"/wallets/{wallet_id}/auto-top-up"


def _sums(top_up: TopUpRow) -> tuple[tuple[str, str], ...]:
    """What was to arrive, what did, and what is missing; while that is not known, the first alone."""
    amount, credited = Money(top_up.currency, top_up.amount), Money(top_up.currency, top_up.credited)
    if top_up.state != "ended":
        return (("Top-up amount", str(amount)),)
    sums = (("Top-up amount", str(amount)), ("Arrived", str(credited)))
    return sums if credited == amount else (*sums, ("Did not arrive", str(amount - credited)))


def _letter_draw(draw: DrawResult) -> LetterDraw:
    return LetterDraw(
        source=f"{draw.rank}. {draw.asset}",
        result=draw_sentence(draw),
        credited=str(draw.credited),
        moved=bool(draw.credited),
    )


def _words(delivery: DeliveryRow, top_up: TopUpRow, draws: Sequence[DrawResult]) -> Wording:
    amount, threshold = Money(top_up.currency, top_up.amount), Money(top_up.currency, top_up.threshold)
    account = AccountKind(top_up.account)
    if delivery.kind == Notice.BEING_CHECKED:
        return tell_checking(draws, amount=amount, threshold=threshold, account=account)
    return tell_ending(_ending(top_up), draws, amount=amount, threshold=threshold, account=account)


def _ending(top_up: TopUpRow) -> Ending:
    if top_up.outcome is None or top_up.reason is None:
        message = f"{top_up.id} has not ended, so nobody can be told how"
        raise NotEnded(message)
    return Ending(Outcome(top_up.outcome), Reason(top_up.reason), Money(top_up.currency, top_up.credited))


def draw_result(draw: DrawRow, currency: str) -> DrawResult:
    """What a source gave, as it is kept."""
    return DrawResult(
        rank=draw.rank,
        asset=draw.asset,
        status=DrawStatus(draw.status),
        reason=DrawReason(draw.reason) if draw.reason else None,
        debited=Money(draw.asset, draw.debited),
        credited=Money(currency, draw.credited),
    )
