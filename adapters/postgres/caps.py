"""Caps as they are kept with a rule, and what a wallet's top-ups have used of them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.clock import read_clock
from adapters.postgres.database import run_sql
from adapters.postgres.tables import Rule
from topup.caps import Cap, CapReached, Caps, Period, Usage, Used, cap_reached
from topup.money import Money

_USED = text(
    "SELECT wallet_id, "
    "count(*) AS month_count, sum(moved) AS month_amount, "
    "count(*) FILTER (WHERE in_day) AS day_count, coalesce(sum(moved) FILTER (WHERE in_day), 0) AS day_amount "
    "FROM ("
    "SELECT wallet_id, started_at >= :day_start AND started_at < :day_end AS in_day, "
    "CASE state WHEN 'in_progress' THEN amount ELSE credited END AS moved FROM top_up "
    "WHERE wallet_id = ANY(:wallet_ids) AND started_at >= :month_start AND started_at < :month_end"
    ") AS started WHERE moved > 0 GROUP BY wallet_id"
)


def caps_of(rule: Rule, currency: str) -> Caps | None:
    """The caps a rule's row keeps."""
    day = _cap(rule.cap_day_amount, rule.cap_day_count, currency)
    month = _cap(rule.cap_month_amount, rule.cap_month_count, currency)
    return Caps(day, month) if day or month else None


def cap_columns(caps: Caps | None) -> dict[str, int | None]:
    """The columns a rule's row keeps its caps in."""
    kept = {period: caps.of(period) if caps else None for period in Period}
    return {
        name: value
        for period, cap in kept.items()
        for name, value in (
            (f"cap_{period}_amount", cap.amount.units if cap and cap.amount else None),
            (f"cap_{period}_count", cap.count if cap else None),
        )
    }


async def read_reached(
    session: AsyncSession, rules: Sequence[tuple[Rule, str]], *, at: datetime | None = None
) -> dict[str, CapReached]:
    """The caps that a top-up of each rule would pass if it started at this moment, by the wallet's id.

    A rule comes with its wallet's currency; the moment is the database's own unless another is given. Strict for a
    caller who holds the wallets' rows, since a top-up is only ever made by one who does.
    """
    capped = [(rule, currency, caps) for rule, currency in rules if (caps := caps_of(rule, currency))]
    if not capped:
        return {}
    at = at or await read_clock(session)
    usages = await _read_usages(session, {rule.wallet_id: currency for rule, currency, _ in capped}, at)
    reached = {
        rule.wallet_id: cap_reached(caps, usages[rule.wallet_id], amount=Money(currency, rule.amount), at=at)
        for rule, currency, caps in capped
    }
    return {wallet_id: cap for wallet_id, cap in reached.items() if cap}


async def read_cap_of(
    session: AsyncSession, wallet_id: str, caps: Caps | None, *, amount: Money
) -> CapReached | None:
    """The cap of these that a top-up of this amount would pass if it started at this moment."""
    at = await read_clock(session)
    usages = await _read_usages(session, {wallet_id: amount.asset}, at)
    return cap_reached(caps, usages[wallet_id], amount=amount, at=at)


async def _read_usages(
    session: AsyncSession, currencies: Mapping[str, str], at: datetime
) -> dict[str, Usage]:
    """What top-ups have used of this moment's day and month, by wallet: those that moved something or still may."""
    bounds = {f"{period}_{edge}": getattr(period, edge)(at) for period in Period for edge in ("start", "end")}
    rows = await run_sql(session, _USED, wallet_ids=list(currencies), **bounds)
    found: dict[str, Any] = {row.wallet_id: row for row in rows}
    return {wallet_id: _usage(found.get(wallet_id), currency) for wallet_id, currency in currencies.items()}


def _usage(row: Any, currency: str) -> Usage:
    if row is None:
        return dict.fromkeys(Period, Used(Money.nothing(currency), 0))
    return {
        Period.DAY: Used(Money(currency, int(row.day_amount)), row.day_count),
        Period.MONTH: Used(Money(currency, int(row.month_amount)), row.month_count),
    }


def _cap(amount: int | None, count: int | None, currency: str) -> Cap | None:
    if amount is None and count is None:
        return None
    return Cap(Money(currency, amount) if amount is not None else None, count)
