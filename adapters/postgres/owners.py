"""Owners, and what they hold on their exchange account."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.clock import read_clock
from adapters.postgres.ids import new_id
from adapters.postgres.tables import Account, Owner
from topup.money import ASSET_SCALES, Money
from topup.rule import AccountKind


class OwnerUnknown(LookupError):
    """There is no such owner, or none that the caller may know of."""


@dataclass(frozen=True, slots=True)
class OwnerRecord:
    """An owner as registered."""

    id: str
    name: str
    email: str
    created_at: datetime


async def register_owner(session: AsyncSession, *, name: str, email: str) -> OwnerRecord:
    """Add an owner in the caller's commit; two owners may share a name or an address."""
    row = Owner(id=new_id("owner"), name=name, email=email, created_at=await read_clock(session))
    session.add(row)
    await session.flush()
    return OwnerRecord(row.id, row.name, row.email, row.created_at)


async def require_owner(session: AsyncSession, owner_id: str, *, bound_to: str | None) -> None:
    """Raise OwnerUnknown unless the owner exists and is the one the caller is bound to, if to any."""
    known = (
        bound_to in (None, owner_id)
        and (await session.exec(select(Owner.id).where(col(Owner.id) == owner_id))).first()
    )
    if not known:
        message = f"There is no owner {owner_id!r}; check the id."
        raise OwnerUnknown(message)


async def list_holdings(session: AsyncSession, owner_id: str) -> Mapping[AccountKind, tuple[Money, ...]]:
    """What the owner's accounts have available, each account's assets in the registry's order."""
    kinds = [kind.value for kind in AccountKind]
    rows = (
        await session.exec(
            select(Account).where(
                col(Account.owner_id) == owner_id,
                col(Account.wallet_id).is_(None),
                col(Account.kind).in_(kinds),
            )
        )
    ).all()
    found = {(row.kind, row.asset): Money(row.asset, row.posted - row.held) for row in rows}
    return {
        kind: tuple(found[kind.value, asset] for asset in ASSET_SCALES if (kind.value, asset) in found)
        for kind in AccountKind
    }
