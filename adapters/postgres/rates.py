"""The embedded ledger's rates: what one whole unit of an asset is worth in another."""

from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.tables import Rate


@dataclass(frozen=True, slots=True)
class RateRecord:
    """One whole unit of `asset` is worth `rate` whole units of `currency`."""

    asset: str
    currency: str
    rate: Decimal


async def set_rate(session: AsyncSession, rate: RateRecord) -> None:
    """Let the rate count from the next check on. Checks under way keep the quote they took."""
    values = {"asset": rate.asset, "currency": rate.currency, "rate": rate.rate}
    written = insert(Rate).values(values)
    await session.exec(
        written.on_conflict_do_update(index_elements=["asset", "currency"], set_={"rate": rate.rate})
    )


async def list_rates(session: AsyncSession) -> tuple[RateRecord, ...]:
    """All rates, by asset and currency."""
    rows = await session.exec(select(Rate).order_by(col(Rate.asset), col(Rate.currency)))
    return tuple(RateRecord(row.asset, row.currency, row.rate) for row in rows)
