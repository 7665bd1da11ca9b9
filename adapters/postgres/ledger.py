"""The embedded ledger as the owner's exchange account: look, draw once for a key, look up behind a fence."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.messages import CheckOrder, DrawName, DrawOrder, Moved, NotMoved, Refused
from activities.ports import Sight
from adapters.postgres.database import Database, DatabaseOutOfReach, run_sql
from adapters.postgres.reading import Asked, read_sight
from topup.money import Money
from topup.outcome import DrawReason

PATIENCE = timedelta(seconds=10)
"""How long a draw waits for the database to come within reach before anything has been sent."""

_DRAW = text(
    "SELECT status, reason, debited, credited FROM ledger_draw("
    ":key, :hash, :owner_id, :account, :asset, :wallet_id, "
    "CAST(:credit AS minor_units), CAST(:numerator AS numeric), CAST(:denominator AS numeric))"
)
_FENCE = text("SELECT id, status, reason, debited, credited FROM ledger_fence(:keys)")
_CROSS = text(
    "SELECT status, available FROM ledger_cross("
    ":key, :hash, :kind, CAST(:account_id AS bigint), CAST(:wallet_id AS text), CAST(:amount AS minor_units))"
)


@dataclass(frozen=True, slots=True)
class LedgerAccounts:
    """Fulfils the Accounts port with the ledger in our own database."""

    database: Database

    async def look(self, order: CheckOrder) -> Sight:
        """Read balance, holdings and quotes in one snapshot."""
        async with self.database.read() as session:
            terms = order.terms
            asked = Asked(order.wallet_id, order.owner_id, terms.account, terms.sources)
            return await read_sight(session, asked)

    async def draw(self, order: DrawOrder) -> Moved | Refused | NotMoved:
        """Debit the source and credit the wallet in one commit, once for the key (R10, R17, R19).

        A database out of reach before anything was sent is a certain no; any other exception leaves it unknown.
        """
        try:
            async with self.database.call(wait=PATIENCE) as connection:
                answer = _answer(await _only_row(connection, _DRAW, _draw_arguments(order)), order)
        except DatabaseOutOfReach:
            return Refused(reason=DrawReason.UNAVAILABLE)
        await self.database.wake_watchers()
        return answer

    async def look_up(self, name: DrawName) -> Moved | Refused | NotMoved:
        """Take the key so that the draw can never happen later, then say who had it first (R21)."""
        async with self.database.call() as connection:
            return _answer(await _only_row(connection, _FENCE, {"keys": [name.key]}), name)


async def fence_all(
    session: AsyncSession, names: Sequence[DrawName]
) -> tuple[tuple[DrawName, Moved | Refused | NotMoved], ...]:
    """Take every key that is still free, in the caller's commit, and say what became of each draw.

    This waits for draws under way, which hold their accounts by then: of ledger accounts the caller may have locked the
    wallet's, before this, and no other.
    """
    rows = {row.id: row for row in await run_sql(session, _FENCE, keys=[name.key for name in names])}
    return tuple((name, _answer(rows[name.key], name)) for name in names)


async def open_account(
    session: AsyncSession, *, kind: str, owner_id: str, wallet_id: str | None, asset: str
) -> int:
    """The id of the account, made now if there was none."""
    names = {"kind": kind, "owner_id": owner_id, "wallet_id": wallet_id, "asset": asset}
    made = text(
        "INSERT INTO account (kind, owner_id, wallet_id, asset) VALUES (:kind, :owner_id, :wallet_id, :asset) "
        "ON CONFLICT DO NOTHING"
    )
    await run_sql(session, made, **names)
    found = text(
        "SELECT id FROM account WHERE kind = :kind AND owner_id = :owner_id AND asset = :asset "
        "AND wallet_id IS NOT DISTINCT FROM :wallet_id"
    )
    return int((await run_sql(session, found, **names)).scalar_one())


@dataclass(frozen=True, slots=True)
class Crossing:
    """Money that was to come from outside or to go there: whether it did, and what the account holds after it."""

    moved: bool
    balance: Money


async def deposit(session: AsyncSession, *, key: str, account_id: int, amount: Money) -> Crossing:
    """Money from outside comes into the account, in the caller's commit."""
    return await _cross(session, key=key, kind="deposit", account_id=account_id, amount=amount)


async def deposit_to(session: AsyncSession, *, key: str, wallet_id: str, amount: Money) -> Crossing:
    """Money from outside comes into the wallet, in the caller's commit."""
    return await _cross(session, key=key, kind="deposit", wallet_id=wallet_id, amount=amount)


async def pay(session: AsyncSession, *, key: str, account_id: int, amount: Money) -> bool:
    """Money leaves the account, in the caller's commit; False when it lacks it, which the ledger remembers."""
    return (await _cross(session, key=key, kind="payment", account_id=account_id, amount=amount)).moved


async def pay_from(session: AsyncSession, *, key: str, wallet_id: str, amount: Money) -> Crossing:
    """Money leaves the wallet, in the caller's commit; a refusal is remembered by the ledger."""
    return await _cross(session, key=key, kind="payment", wallet_id=wallet_id, amount=amount)


async def _cross(
    session: AsyncSession,
    *,
    key: str,
    kind: str,
    amount: Money,
    account_id: int | None = None,
    wallet_id: str | None = None,
) -> Crossing:
    """One round trip: all that come after it in the commit keep every other payment of the asset waiting."""
    arguments = {
        "key": key,
        "hash": _request_hash((kind, wallet_id or account_id or "", str(amount))),
        "kind": kind,
        "account_id": account_id,
        "wallet_id": wallet_id,
        "amount": Decimal(amount.units),
    }
    row = (await run_sql(session, _CROSS, **arguments)).one()
    return Crossing(moved=row.status == "moved", balance=Money(amount.asset, int(row.available)))


async def _only_row(
    connection: AsyncConnection, statement: TextClause, arguments: dict[str, Any]
) -> Row[Any]:
    return (await connection.execute(statement, arguments)).one()


def _draw_arguments(order: DrawOrder) -> dict[str, Any]:
    """The request's hash covers what identifies it; the credit may differ only by a defect, which it then reveals."""
    quote = order.quote
    identity = (order.owner_id, order.account, order.asset, order.wallet_id, str(order.credit))
    return {
        "key": order.key,
        "hash": _request_hash((*identity, quote.numerator, quote.denominator)),
        "owner_id": order.owner_id,
        "account": order.account,
        "asset": order.asset,
        "wallet_id": order.wallet_id,
        "credit": Decimal(order.credit.units),
        "numerator": Decimal(quote.numerator),
        "denominator": Decimal(quote.denominator),
    }


def _request_hash(parts: Sequence[str | int]) -> str:
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()


def _answer(row: Row[Any], name: DrawName) -> Moved | Refused | NotMoved:
    match row.status:
        case "moved" | "short":
            return Moved(
                debited=Money(name.asset, int(row.debited)),
                credited=Money(name.currency, int(row.credited)),
                short=row.status == "short",
            )
        case "refused":
            return Refused(reason=DrawReason(row.reason))
        case _:
            return NotMoved()
