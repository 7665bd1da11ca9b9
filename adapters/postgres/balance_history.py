"""A wallet's balance as it went: few enough points to draw, and the top-ups to mark on them."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.database import run_sql
from topup.money import Money
from topup.outcome import Outcome

SLOTS = 120
"""The time shown is cut into so many slots; of each at most the lowest, the highest and the last balance are kept."""
TOP_UPS_MAX = 60

_BALANCES = text("""
WITH told AS (
    SELECT seq, greatest(occurred_at, :since) AS at, balance, occurred_at < :since AS before
    FROM balance_event
    WHERE wallet_id = :wallet_id AND NOT stale AND occurred_at >= :since AND occurred_at <= :until
    UNION ALL (
        SELECT seq, CAST(:since AS timestamptz), balance, true
        FROM balance_event WHERE wallet_id = :wallet_id AND NOT stale AND occurred_at < :since
        ORDER BY seq DESC LIMIT 1
    )
), slotted AS (
    SELECT seq, at, balance, before,
        floor(:slots * extract(epoch FROM at - :since)
            / extract(epoch FROM CAST(:until AS timestamptz) - CAST(:since AS timestamptz))) AS slot
    FROM told
), ranked AS (
    SELECT seq, at, balance, before,
        row_number() OVER (PARTITION BY slot ORDER BY seq DESC) AS newest,
        row_number() OVER (PARTITION BY slot ORDER BY balance, seq) AS lowest,
        row_number() OVER (PARTITION BY slot ORDER BY balance DESC, seq) AS highest
    FROM slotted
)
SELECT at, balance FROM ranked WHERE before OR 1 IN (newest, lowest, highest) ORDER BY at, seq
""")
_TOP_UPS = text(
    "SELECT id, started_at, ended_at, outcome, amount, credited, currency FROM top_up "
    "WHERE wallet_id = :wallet_id AND ended_at >= :since AND ended_at <= :until AND outcome <> 'not_needed' "
    "ORDER BY id DESC LIMIT :most"
)


@dataclass(frozen=True, slots=True)
class BalanceAt:
    """From this moment on the wallet held this much, until the next one."""

    at: datetime
    balance: Money


@dataclass(frozen=True, slots=True)
class TopUpAt:
    """A top-up that ended at this moment, and what it brought."""

    id: str
    at: datetime
    outcome: Outcome
    amount: Money
    credited: Money


@dataclass(frozen=True, slots=True)
class BalanceHistory:
    """What a wallet held from `since` until `until`, and the top-ups that ended in that time, oldest first."""

    since: datetime
    until: datetime
    balances: tuple[BalanceAt, ...]
    """The first one is what it held at the beginning, where that is known; a few hundred at most."""
    top_ups: tuple[TopUpAt, ...]


async def read_balance_history(
    session: AsyncSession, wallet_id: str, *, currency: str, since: datetime, until: datetime
) -> BalanceHistory:
    """What the wallet held between the two moments. Who may see the wallet is the caller's to know."""
    asked = {"wallet_id": wallet_id, "since": since, "until": until}
    balances = await run_sql(session, _BALANCES, **asked, slots=SLOTS)
    top_ups = await run_sql(session, _TOP_UPS, **asked, most=TOP_UPS_MAX)
    return BalanceHistory(
        since=since,
        until=until,
        balances=tuple(BalanceAt(row.at, Money(currency, int(row.balance))) for row in balances),
        top_ups=tuple(
            TopUpAt(
                id=row.id,
                at=row.ended_at,
                outcome=Outcome(row.outcome),
                amount=Money(row.currency, int(row.amount)),
                credited=Money(row.currency, int(row.credited)),
            )
            for row in reversed(top_ups.all())
        ),
    )
