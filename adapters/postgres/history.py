"""What has happened, read back: top-ups, decisions, revisions of rules, notifications. It outlives the rule (R6)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.database import run_sql
from adapters.postgres.rules import RuleUnknown
from adapters.postgres.tables import (
    DecisionRow,
    DeliveryRow,
    DrawRow,
    RuleRevision,
    TopUpRow,
    Transfer,
)
from topup.keys import draw_key, shown_event
from topup.money import Money
from topup.outcome import DrawReason, DrawResult, DrawStatus, Outcome, Reason, not_drawn
from topup.rule import AccountKind
from topup.trigger import DecisionReason

_RULE_OWNER = text(
    "SELECT w.owner_id FROM wallet w WHERE w.id IN ("
    "SELECT wallet_id FROM rule WHERE id = :rule_id "
    "UNION SELECT wallet_id FROM rule_revision WHERE rule_id = :rule_id)"
)


class TopUpUnknown(LookupError):
    """There is no such top-up, or none that the caller may know of."""


@dataclass(frozen=True, slots=True)
class Which:
    """Which top-ups are asked for; None does not narrow."""

    bound_to: str | None
    top_up_id: str | None = None
    wallet_id: str | None = None
    rule_id: str | None = None
    state: str | None = None
    outcome: str | None = None
    after: str | None = None


@dataclass(frozen=True, slots=True)
class TopUpRecord:
    """One top-up as it stands, with what is known of each source."""

    id: str
    rule_id: str
    rule_version: int
    wallet_id: str
    state: str
    outcome: Outcome | None
    reason: Reason | None
    amount: Money
    credited: Money
    threshold: Money
    account: AccountKind
    trigger_event_id: str
    trigger_balance: Money
    draws: tuple[DrawResult, ...]
    notifications: tuple[tuple[str, str], ...]
    """The newest delivery of each channel, and its status."""
    started_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """Why a rule fired or did not (R13)."""

    seq: int
    at: datetime
    event_id: str
    balance: Money
    fired: bool
    reason: DecisionReason
    top_up_id: str | None


@dataclass(frozen=True, slots=True)
class RevisionRecord:
    """Who changed a rule, how and when."""

    version: int
    change: str
    terms: Mapping[str, Any]
    enabled: bool
    by: str
    proof: Mapping[str, Any] | None
    at: datetime


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """One notification on one channel, and what became of it."""

    id: str
    top_up_id: str | None
    """None where it is a low balance that is told of."""
    kind: str
    channel: str
    status: str
    attempts: int
    subject: str
    sent_at: datetime | None


async def list_top_ups(session: AsyncSession, which: Which, *, most: int) -> tuple[TopUpRecord, ...]:
    """Top-ups, newest first. One that is in progress shows what the ledger knows of its draws by now."""
    rows = (await session.exec(_narrowed(which).order_by(col(TopUpRow.id).desc()).limit(most))).all()
    ids = [row.id for row in rows]
    draws = await _draws(session, ids)
    transfers = await _transfers(session, [row for row in rows if row.state == "in_progress"])
    told = await _told(session, ids)
    return tuple(_top_up(row, draws, transfers, told.get(row.id, {})) for row in rows)


async def read_top_up(session: AsyncSession, top_up_id: str, *, bound_to: str | None) -> TopUpRecord:
    """One top-up as it stands. Raises TopUpUnknown."""
    found = await list_top_ups(session, Which(bound_to=bound_to, top_up_id=top_up_id), most=1)
    if not found:
        message = f"There is no top-up {top_up_id!r}; check the id."
        raise TopUpUnknown(message)
    return found[0]


def claimed_record(row: TopUpRow) -> TopUpRecord:
    """A top-up of which nothing is known yet but that it was claimed."""
    return _top_up(row, {}, {}, {})


async def require_rule_once(session: AsyncSession, rule_id: str, *, bound_to: str | None) -> None:
    """Raise RuleUnknown unless there is or was such a rule, and the caller may know of it."""
    owner_id = (await run_sql(session, _RULE_OWNER, rule_id=rule_id)).scalar_one_or_none()
    if owner_id is None or bound_to not in (None, owner_id):
        message = f"There is no rule {rule_id!r}, and there was none; check the id."
        raise RuleUnknown(message)


async def list_decisions(
    session: AsyncSession, rule_id: str, *, after: int | None, most: int
) -> tuple[DecisionRecord, ...]:
    """The rule's decisions, newest first, from behind the one numbered `after`."""
    statement = select(DecisionRow).where(col(DecisionRow.rule_id) == rule_id)
    if after is not None:
        statement = statement.where(col(DecisionRow.seq) < after)
    rows = await session.exec(statement.order_by(col(DecisionRow.seq).desc()).limit(most))
    return tuple(
        DecisionRecord(
            seq=row.seq or 0,
            at=row.at,
            event_id=shown_event(row.event_id),
            balance=Money(row.currency, row.balance),
            fired=row.fired,
            reason=DecisionReason(row.reason),
            top_up_id=row.top_up_id,
        )
        for row in rows
    )


async def list_revisions(
    session: AsyncSession, rule_id: str, *, after: int | None, most: int
) -> tuple[RevisionRecord, ...]:
    """The rule's changes, newest first, from behind the version `after`."""
    statement = select(RuleRevision).where(col(RuleRevision.rule_id) == rule_id)
    if after is not None:
        statement = statement.where(col(RuleRevision.version) < after)
    rows = await session.exec(statement.order_by(col(RuleRevision.version).desc()).limit(most))
    return tuple(
        RevisionRecord(row.version, row.change, row.terms, row.enabled, row.by, row.proof, row.at)
        for row in rows
    )


async def list_deliveries(
    session: AsyncSession, owner_id: str, *, after: str | None, most: int
) -> tuple[DeliveryRecord, ...]:
    """The owner's notifications, newest first, from behind the one named `after`."""
    statement = select(DeliveryRow).where(col(DeliveryRow.owner_id) == owner_id)
    if after is not None:
        statement = statement.where(col(DeliveryRow.id) < after)
    rows = await session.exec(statement.order_by(col(DeliveryRow.id).desc()).limit(most))
    return tuple(
        DeliveryRecord(
            id=row.id,
            top_up_id=row.top_up_id,
            kind=row.kind,
            channel=row.channel,
            status=row.status,
            attempts=row.attempts,
            subject=row.subject,
            sent_at=row.sent_at,
        )
        for row in rows
    )


def _narrowed(which: Which) -> Any:
    statement = select(TopUpRow)
    wanted = (
        (col(TopUpRow.owner_id), which.bound_to),
        (col(TopUpRow.id), which.top_up_id),
        (col(TopUpRow.wallet_id), which.wallet_id),
        (col(TopUpRow.rule_id), which.rule_id),
        (col(TopUpRow.state), which.state),
        (col(TopUpRow.outcome), which.outcome),
    )
    for column, value in wanted:
        if value is not None:
            statement = statement.where(column == value)
    if which.after is not None:
        statement = statement.where(col(TopUpRow.id) < which.after)
    return statement


async def _draws(session: AsyncSession, top_up_ids: Sequence[str]) -> dict[tuple[str, int], DrawRow]:
    rows = await session.exec(select(DrawRow).where(col(DrawRow.top_up_id).in_(top_up_ids)))
    return {(row.top_up_id, row.rank): row for row in rows}


async def _transfers(session: AsyncSession, top_ups: Sequence[TopUpRow]) -> dict[str, Transfer]:
    keys = [draw_key(row.id, rank) for row in top_ups for rank in range(1, len(row.sources) + 1)]
    if not keys:
        return {}
    rows = await session.exec(select(Transfer).where(col(Transfer.id).in_(keys)))
    return {row.id: row for row in rows}


async def _told(session: AsyncSession, top_up_ids: Sequence[str]) -> dict[str, dict[str, str]]:
    """The status of each channel's newest delivery, by top-up."""
    statement = select(DeliveryRow).where(col(DeliveryRow.top_up_id).in_(top_up_ids))
    told: dict[str, dict[str, str]] = {}
    for row in await session.exec(statement.order_by(col(DeliveryRow.created_at), col(DeliveryRow.id))):
        told.setdefault(row.top_up_id or "", {})[row.channel] = row.status
    return told


def _top_up(
    row: TopUpRow,
    draws: Mapping[tuple[str, int], DrawRow],
    transfers: Mapping[str, Transfer],
    told: Mapping[str, str],
) -> TopUpRecord:
    results = tuple(
        _result(row, rank, draws.get((row.id, rank)), transfers.get(draw_key(row.id, rank)))
        for rank in range(1, len(row.sources) + 1)
    )
    known = sum((result.credited for result in results), Money.nothing(row.currency))
    return TopUpRecord(
        id=row.id,
        rule_id=row.rule_id,
        rule_version=row.rule_version,
        wallet_id=row.wallet_id,
        state=row.state,
        outcome=Outcome(row.outcome) if row.outcome else None,
        reason=Reason(row.reason) if row.reason else None,
        amount=Money(row.currency, row.amount),
        credited=Money(row.currency, row.credited) if row.state == "ended" else known,
        threshold=Money(row.currency, row.threshold),
        account=AccountKind(row.account),
        trigger_event_id=shown_event(row.trigger_event_id),
        trigger_balance=Money(row.currency, row.trigger_balance),
        draws=results,
        notifications=tuple(told.items()),
        started_at=row.started_at,
        ended_at=row.ended_at,
    )


def _result(row: TopUpRow, rank: int, draw: DrawRow | None, transfer: Transfer | None) -> DrawResult:
    """What is known of one source: the ledger's word while the top-up runs, the settled one afterwards."""
    asset = row.sources[rank - 1]
    if transfer is not None:
        status, reason = _known(transfer)
        debited, credited = transfer.debited, transfer.credited
    elif draw is not None:
        status, reason = DrawStatus(draw.status), DrawReason(draw.reason) if draw.reason else None
        debited, credited = draw.debited, draw.credited
    else:
        return not_drawn(rank, asset, currency=row.currency)
    return DrawResult(rank, asset, status, reason, Money(asset, debited), Money(row.currency, credited))


def _known(transfer: Transfer) -> tuple[DrawStatus, DrawReason | None]:
    match transfer.status:
        case "moved":
            return DrawStatus.TRANSFERRED, None
        case "void":
            return DrawStatus.CONFIRMED_NOT_MOVED, None
        case _:
            return DrawStatus.SHORT, DrawReason.INSUFFICIENT
