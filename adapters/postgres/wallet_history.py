"""What has happened around one wallet: every decision and every change of its rules, deleted ones too (R6, R13)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.database import run_sql
from topup.money import Money
from topup.trigger import Change, DecisionReason

_RULES = (
    "SELECT id AS rule_id FROM rule WHERE wallet_id = :wallet_id "
    "UNION SELECT rule_id FROM rule_revision WHERE wallet_id = :wallet_id"
)
_DECISIONS = text(
    f"SELECT d.*, e.change FROM ({_RULES}) r CROSS JOIN LATERAL ("  # noqa: S608 no word of a caller's is in it
    "SELECT * FROM decision WHERE rule_id = r.rule_id AND (CAST(:after AS bigint) IS NULL OR seq < :after) "
    "ORDER BY seq DESC LIMIT :most) d LEFT JOIN balance_event e ON e.id = d.event_id "
    "ORDER BY d.seq DESC LIMIT :most"
)
_CHANGES = text(
    "SELECT r.rule_id, r.version, r.change, r.terms, r.enabled, r.by, r.proof, r.at, before.terms AS terms_before, "
    "before.enabled AS enabled_before FROM rule_revision r LEFT JOIN LATERAL ("
    "SELECT terms, enabled FROM rule_revision b WHERE b.rule_id = r.rule_id AND b.version < r.version "
    "ORDER BY b.version DESC LIMIT 1) before ON true "
    "WHERE r.wallet_id = :wallet_id AND (CAST(:rule_id AS text) IS NULL "
    "OR (r.rule_id, r.version) < (:rule_id, CAST(:version AS bigint))) "
    "ORDER BY r.rule_id DESC, r.version DESC LIMIT :most"
)
"""Ids sort by their time, and a wallet has one rule at a time: so these are the newest first."""


@dataclass(frozen=True, slots=True)
class DecisionMade:
    """Why a rule fired or did not, and what brought the balance there (R13)."""

    seq: int
    at: datetime
    balance: Money
    threshold: Money
    change: Change | None
    """None where the balance event is no longer known."""
    fired: bool
    reason: DecisionReason
    top_up_id: str | None


@dataclass(frozen=True, slots=True)
class ChangeMade:
    """One change of a rule, with the terms before it; none before the first."""

    rule_id: str
    version: int
    change: str
    terms: Mapping[str, Any]
    enabled: bool
    terms_before: Mapping[str, Any] | None
    enabled_before: bool | None
    by: str
    proof: Mapping[str, Any] | None
    at: datetime

    @property
    def place(self) -> "ChangePlace":
        """Where it stands among the wallet's changes."""
        return ChangePlace(self.rule_id, self.version)


@dataclass(frozen=True, slots=True)
class ChangePlace:
    """A place among the changes of a wallet's rules."""

    rule_id: str
    version: int


async def list_decisions_made(
    session: AsyncSession, wallet_id: str, *, after: int | None, most: int
) -> tuple[DecisionMade, ...]:
    """The decisions of all rules the wallet has had, newest first, from behind the one numbered `after`."""
    rows = await run_sql(session, _DECISIONS, wallet_id=wallet_id, after=after, most=most)
    return tuple(
        DecisionMade(
            seq=row.seq,
            at=row.at,
            balance=Money(row.currency, int(row.balance)),
            threshold=Money(row.currency, int(row.threshold)),
            change=Change(row.change) if row.change else None,
            fired=row.fired,
            reason=DecisionReason(row.reason),
            top_up_id=row.top_up_id,
        )
        for row in rows
    )


async def list_changes_made(
    session: AsyncSession, wallet_id: str, *, after: ChangePlace | None, most: int
) -> tuple[ChangeMade, ...]:
    """The changes of all rules the wallet has had, newest first, from behind that place."""
    rule_id, version = (after.rule_id, after.version) if after else (None, None)
    rows = await run_sql(session, _CHANGES, wallet_id=wallet_id, rule_id=rule_id, version=version, most=most)
    return tuple(ChangeMade(**row) for row in rows.mappings())
