"""A wallet's real history, read back for a dry run over the past."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.database import run_sql
from adapters.postgres.reading import read_rates
from adapters.postgres.wallets import WalletName
from topup.backtest import Told
from topup.money import Money
from topup.quote import Quote, find_quote
from topup.trigger import Change

EVENTS_MAX = 10_000
"""No dry run looks back over more events than this; the newest ones count."""

_TOLD = (
    "SELECT e.seq, e.change, e.balance, e.occurred_at, t.credited FROM balance_event e "
    "LEFT JOIN top_up t ON t.trigger_event_id = e.id WHERE e.wallet_id = :wallet_id AND NOT e.stale "
)
_HISTORY = text(
    _TOLD + "AND (CAST(:since AS timestamptz) IS NULL OR e.occurred_at >= :since) "
    "AND (CAST(:until AS timestamptz) IS NULL OR e.occurred_at < :until) ORDER BY e.seq DESC LIMIT :most"
)
_BEFORE = text(
    _TOLD + "AND (CAST(:seq AS bigint) IS NULL OR e.seq < :seq) "
    "AND (CAST(:moment AS timestamptz) IS NULL OR e.occurred_at < :moment) ORDER BY e.seq DESC LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class Past:
    """What was told of a wallet in some time, oldest first, and what was told before."""

    history: tuple[Told, ...]
    before: Told | None
    """None where nothing was known of the wallet before."""
    truncated: bool
    """There is more of it, older than what is here."""


async def read_past(
    session: AsyncSession, wallet: WalletName, *, since: datetime | None, until: datetime | None
) -> Past:
    """The newest events of the time from `since` to before `until`; None does not bound."""
    bounds = {"wallet_id": wallet.id, "since": since, "until": until, "most": EVENTS_MAX + 1}
    rows = (await run_sql(session, _HISTORY, **bounds)).all()
    newest = rows[:EVENTS_MAX]
    return Past(
        history=tuple(_told(row, wallet.currency) for row in reversed(newest)),
        before=await _before(session, wallet, newest[-1].seq if newest else None, since or until),
        truncated=len(rows) > EVENTS_MAX,
    )


async def read_quotes(
    session: AsyncSession, sources: tuple[str, ...], currency: str
) -> dict[str, Quote | None]:
    """What each source is worth today."""
    rates = await read_rates(session)
    return {asset: find_quote(asset, currency, rates) for asset in sources}


async def _before(
    session: AsyncSession, wallet: WalletName, seq: int | None, moment: datetime | None
) -> Told | None:
    """What was told before this event; without one, before the moment."""
    bounds = {"wallet_id": wallet.id, "seq": seq, "moment": None if seq else moment}
    row = (await run_sql(session, _BEFORE, **bounds)).one_or_none()
    return row and _told(row, wallet.currency)


def _told(row: Row[Any], currency: str) -> Told:
    return Told(
        at=row.occurred_at,
        change=Change(row.change),
        balance=Money(currency, int(row.balance)),
        handed_over=Money(currency, int(row.credited)) if row.credited else None,
    )
