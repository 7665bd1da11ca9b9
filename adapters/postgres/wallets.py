"""Pay wallets, each with its balance and what an owner must know when it is low (R25)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.caps import read_reached
from adapters.postgres.database import run_sql
from adapters.postgres.ids import new_id
from adapters.postgres.ledger import open_account
from adapters.postgres.owners import require_owner
from adapters.postgres.tables import Rule, Wallet
from topup.alert import Alert, Low, alert_for
from topup.caps import CapReached
from topup.money import Money
from topup.outcome import Outcome, Reason
from topup.rule import state_of
from topup.trigger import Kept

_WALLETS = """
SELECT w.id, w.owner_id, w.currency, w.kept,
    coalesce(CASE w.kept WHEN 'elsewhere' THEN b.balance ELSE a.posted - a.held END, 0) AS balance,
    b.event_id, b.version, b.occurred_at, b.received_at,
    r.id AS rule_id, r.threshold, r.enabled, r.armed, r.locked_by IS NOT NULL AS locked,
    coalesce(r.cap_day_amount, r.cap_day_count, r.cap_month_amount, r.cap_month_count) IS NOT NULL AS capped,
    (SELECT now() - min(e.recorded_at) FROM balance_event e WHERE e.wallet_id = w.id AND NOT e.judged)
        AS unjudged_for,
    ended.outcome, ended.reason
FROM wallet w
LEFT JOIN account a ON a.wallet_id = w.id
LEFT JOIN balance_report b ON b.wallet_id = w.id
LEFT JOIN rule r ON r.wallet_id = w.id
LEFT JOIN LATERAL (
    SELECT t.outcome, t.reason FROM top_up t
    WHERE t.rule_id = r.id AND t.state = 'ended' ORDER BY t.id DESC LIMIT 1
) ended ON true
WHERE (CAST(:bound_to AS text) IS NULL OR w.owner_id = :bound_to)
"""
_ONE = text(_WALLETS + " AND w.id = :wallet_id")
_PAGE = text(
    _WALLETS + " AND (CAST(:owner_id AS text) IS NULL OR w.owner_id = :owner_id) "
    "AND (CAST(:after AS text) IS NULL OR w.id < :after) ORDER BY w.id DESC LIMIT :most"
)


class WalletUnknown(LookupError):
    """There is no such wallet, or none that the caller may know of."""


@dataclass(frozen=True, slots=True)
class LastReport:
    """The newest balance event that was accepted for a wallet kept elsewhere."""

    event_id: str
    version: int
    occurred_at: datetime
    received_at: datetime


@dataclass(frozen=True, slots=True)
class WalletRecord:
    """A wallet as it stands, with the alert its owner should see."""

    id: str
    owner_id: str
    balance: Money
    """What was reported last where the wallet is kept elsewhere; nothing before the first report."""
    rule_id: str | None
    alert: Alert | None
    kept: Kept = Kept.LEDGER
    last_report: LastReport | None = None


@dataclass(frozen=True, slots=True)
class WalletName:
    """Whose wallet it is, and of which asset."""

    id: str
    owner_id: str
    currency: str
    kept: Kept = Kept.LEDGER


def name_of(wallet: Wallet) -> WalletName:
    """The name of the wallet in this row."""
    return WalletName(wallet.id, wallet.owner_id, wallet.currency, Kept(wallet.kept))


async def open_wallet(
    session: AsyncSession,
    *,
    owner_id: str,
    currency: str,
    bound_to: str | None,
    kept: Kept = Kept.LEDGER,
) -> WalletRecord:
    """Open an empty wallet and its ledger account in the caller's commit. Raises OwnerUnknown.

    The account of a wallet kept elsewhere counts what has been handed over to it, and is not its balance.
    """
    await require_owner(session, owner_id, bound_to=bound_to)
    wallet = Wallet(id=new_id("wallet"), owner_id=owner_id, currency=currency, kept=kept.value)
    session.add(wallet)
    await session.flush()
    await open_account(session, kind="wallet", owner_id=owner_id, wallet_id=wallet.id, asset=currency)
    return WalletRecord(wallet.id, owner_id, Money.nothing(currency), None, None, kept)


async def name_wallet(session: AsyncSession, wallet_id: str, *, bound_to: str | None) -> WalletName:
    """Whose wallet it is, and of which asset. Raises WalletUnknown."""
    row = (await session.exec(select(Wallet).where(col(Wallet.id) == wallet_id))).first()
    if row is None or bound_to not in (None, row.owner_id):
        raise wallet_unknown(wallet_id)
    return name_of(row)


async def hold_wallet(session: AsyncSession, wallet_id: str, *, bound_to: str | None) -> WalletName:
    """The same, with the wallet's row locked until the caller's commit: the first lock of any that are taken."""
    statement = select(Wallet).where(col(Wallet.id) == wallet_id).with_for_update(key_share=True)
    row = (await session.exec(statement)).first()
    if row is None or bound_to not in (None, row.owner_id):
        raise wallet_unknown(wallet_id)
    return name_of(row)


async def read_wallet(session: AsyncSession, wallet_id: str, *, bound_to: str | None) -> WalletRecord:
    """The wallet as it stands. Raises WalletUnknown."""
    rows = (await run_sql(session, _ONE, wallet_id=wallet_id, bound_to=bound_to)).all()
    if not rows:
        raise wallet_unknown(wallet_id)
    (record,) = await _records(session, rows)
    return record


async def list_wallets(
    session: AsyncSession, *, bound_to: str | None, owner_id: str | None, after: str | None, most: int
) -> tuple[WalletRecord, ...]:
    """Wallets as they stand, of one owner if named, newest first, from behind the one named `after`."""
    wanted = {"bound_to": bound_to, "owner_id": owner_id, "after": after, "most": most}
    rows = (await run_sql(session, _PAGE, **wanted)).all()
    return await _records(session, rows)


def wallet_unknown(wallet_id: str) -> WalletUnknown:
    """The refusal that names the wallet."""
    return WalletUnknown(f"There is no wallet {wallet_id!r}; check the id.")


async def _records(session: AsyncSession, rows: Sequence[Row[Any]]) -> tuple[WalletRecord, ...]:
    currencies = {row.rule_id: row.currency for row in rows if row.rule_id and row.capped}
    rules = await session.exec(select(Rule).where(col(Rule.id).in_(currencies))) if currencies else ()
    capped = [(rule, currencies[rule.id]) for rule in rules]
    reached = await read_reached(session, capped)
    return tuple(_record(row, reached.get(row.id)) for row in rows)


def _record(row: Row[Any], cap: CapReached | None) -> WalletRecord:
    balance = Money(row.currency, int(row.balance))
    known = row.kept == Kept.LEDGER or row.event_id is not None
    alert = alert_for(_low(row, balance, cap)) if row.rule_id and known else None
    report = LastReport(row.event_id, row.version, row.occurred_at, row.received_at) if row.event_id else None
    return WalletRecord(row.id, row.owner_id, balance, row.rule_id, alert, Kept(row.kept), report)


def _low(row: Row[Any], balance: Money, cap: CapReached | None) -> Low:
    return Low(
        balance=balance,
        threshold=Money(row.currency, int(row.threshold)),
        state=state_of(enabled=row.enabled, armed=row.armed, locked=row.locked, capped=cap is not None),
        unjudged_for=row.unjudged_for,
        outcome=Outcome(row.outcome) if row.outcome else None,
        reason=Reason(row.reason) if row.reason else None,
        cap=cap if row.armed else None,
    )
