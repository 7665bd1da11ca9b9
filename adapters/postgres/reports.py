"""Balance events from outside: what is told of wallets kept elsewhere, each taken once and in its version's order."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.clock import read_clock
from adapters.postgres.tables import BalanceEvent, BalanceReport, Wallet
from adapters.postgres.wallets import WalletName, name_of, wallet_unknown
from topup.keys import report_key
from topup.money import Money
from topup.trigger import Kept, change_reported


class WalletKeptHere(Exception):
    """The wallet's balance is kept by the ledger, and nobody else can tell of it."""

    def __init__(self, wallet_id: str) -> None:
        """Say where money in and out goes instead."""
        super().__init__(
            f"The balance of {wallet_id} is kept by Tidemark's own ledger: book deposits and payments there. Only a "
            'wallet opened with `"kept": "elsewhere"` takes balance events.'
        )


class EventIdReused(Exception):
    """The wallet has another balance event under this id already."""

    def __init__(self, wallet_id: str, event_id: str) -> None:
        """Name the event."""
        super().__init__(
            f"{wallet_id} has a balance event {event_id!r} that says something else. Repeat an event exactly as it "
            "was, and give a new one a new id."
        )


@dataclass(frozen=True, slots=True)
class Report:
    """One balance event as told from outside; `event_id` is its wallet's own name for it."""

    event_id: str
    wallet_id: str
    balance: Money
    version: int
    occurred_at: datetime


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a report: seen before, or older than one that was accepted before it."""

    duplicate: bool
    stale: bool


async def hold_wallets_elsewhere(
    session: AsyncSession, wallet_ids: Iterable[str], *, bound_to: str | None
) -> Mapping[str, WalletName]:
    """Lock the wallets' rows until the caller's commit, in the order in which watchers do.

    Raises WalletUnknown and WalletKeptHere.
    """
    wanted = sorted(set(wallet_ids))
    statement = select(Wallet).where(col(Wallet.id).in_(wanted)).order_by(col(Wallet.id))
    rows = (await session.exec(statement.with_for_update(key_share=True))).all()
    held = {row.id: name_of(row) for row in rows if bound_to in (None, row.owner_id)}
    for wallet_id in wanted:
        if wallet_id not in held:
            raise wallet_unknown(wallet_id)
        if held[wallet_id].kept is not Kept.ELSEWHERE:
            raise WalletKeptHere(wallet_id)
    return held


async def record_reports(session: AsyncSession, reports: Sequence[Report]) -> tuple[Receipt, ...]:
    """Take the reports in order, in the caller's commit; the caller holds their wallets' rows.

    A report that was taken before has no further effect. One whose version is not above the last accepted one is
    recorded as stale and moves nothing; any other is the wallet's balance from now on. Raises EventIdReused.
    """
    known = await _known(session, reports)
    last = await _last(session, reports)
    at = await read_clock(session)
    return tuple([_take(session, report, known, last, at) for report in reports])


def _take(
    session: AsyncSession,
    report: Report,
    known: dict[str, BalanceEvent],
    last: dict[str, BalanceReport],
    at: datetime,
) -> Receipt:
    event = _event(report, last.get(report.wallet_id))
    first = known.setdefault(event.id, event)
    if first is not event:
        return _repeated(report, event, first)
    session.add(event)
    if not event.stale:
        last[report.wallet_id] = _accept(session, report, last.get(report.wallet_id), at)
    return Receipt(duplicate=False, stale=event.stale)


def _event(report: Report, last: BalanceReport | None) -> BalanceEvent:
    before = Money(report.balance.asset, last.balance) if last else None
    return BalanceEvent(
        id=report_key(report.wallet_id, report.event_id),
        wallet_id=report.wallet_id,
        change=change_reported(report.balance, before=before).value,
        balance=report.balance.units,
        version=report.version,
        occurred_at=report.occurred_at,
        stale=last is not None and report.version <= last.version,
    )


def _repeated(report: Report, event: BalanceEvent, first: BalanceEvent) -> Receipt:
    said, before = ((told.balance, told.version, told.occurred_at) for told in (event, first))
    if said != before:
        raise EventIdReused(report.wallet_id, report.event_id)
    return Receipt(duplicate=True, stale=first.stale)


def _accept(session: AsyncSession, report: Report, last: BalanceReport | None, at: datetime) -> BalanceReport:
    news: dict[str, Any] = {
        "balance": report.balance.units,
        "version": report.version,
        "event_id": report.event_id,
        "occurred_at": report.occurred_at,
        "received_at": at,
    }
    accepted = last or BalanceReport(wallet_id=report.wallet_id, **news)
    for name, value in news.items():
        setattr(accepted, name, value)
    session.add(accepted)
    return accepted


async def _known(session: AsyncSession, reports: Sequence[Report]) -> dict[str, BalanceEvent]:
    keys = {report_key(report.wallet_id, report.event_id) for report in reports}
    rows = await session.exec(select(BalanceEvent).where(col(BalanceEvent.id).in_(keys)))
    return {row.id: row for row in rows}


async def _last(session: AsyncSession, reports: Sequence[Report]) -> dict[str, BalanceReport]:
    wallet_ids = {report.wallet_id for report in reports}
    rows = await session.exec(select(BalanceReport).where(col(BalanceReport.wallet_id).in_(wallet_ids)))
    return {row.wallet_id: row for row in rows}
