"""What the push sender needs of the store: an owner's browsers, which of them has had what, and the key to sign by."""

import base64
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.ports import PushBrowser, PushList
from adapters.postgres.database import Database, run_sql
from adapters.postgres.tables import PushKey, PushReceipt, PushSubscriptionRow

_PRIVATE_BYTES = 32
_FORGET = text("DELETE FROM push_subscription WHERE id = :id AND p256dh = :p256dh AND auth = :auth")


@dataclass(frozen=True, slots=True)
class OwnersBrowsers:
    """Fulfils the Browsers port."""

    database: Database

    async def list_for(self, delivery_id: str, *, owner_id: str) -> PushList:
        """The owner's browsers whose subscription has not ended, without those that have had the delivery."""
        async with self.database.read() as session:
            return await _list_for(session, delivery_id, owner_id)

    async def signing_key(self) -> str:
        """The private key, in base64url."""
        return (await push_key(self.database)).private_key

    async def record_reached(self, delivery_id: str, browser: PushBrowser) -> None:
        """Its push service has taken the delivery; a repeat changes nothing."""
        receipt = insert(PushReceipt).values(delivery_id=delivery_id, subscription_id=browser.id)
        async with self.database.commit() as session:
            await session.exec(receipt.on_conflict_do_nothing())

    async def forget(self, browser: PushBrowser) -> None:
        """Delete its subscription; one that was renewed meanwhile, with keys of its own, stays."""
        wanted = {"id": browser.id, "p256dh": browser.p256dh, "auth": browser.auth}
        async with self.database.commit() as session:
            await run_sql(session, _FORGET, **wanted)


async def push_key(database: Database) -> PushKey:
    """The key pair by which push services know us; whoever asks first makes it, and everybody gets that one."""
    async with database.read() as session:
        known = await _known_key(session)
    if known is not None:
        return known
    async with database.commit() as session:
        await session.exec(insert(PushKey).values(**_new_pair()).on_conflict_do_nothing())
    async with database.read() as session:
        return (await session.exec(select(PushKey))).one()


async def _known_key(session: AsyncSession) -> PushKey | None:
    return (await session.exec(select(PushKey))).first()


async def _list_for(session: AsyncSession, delivery_id: str, owner_id: str) -> PushList:
    reached = select(PushReceipt.subscription_id).where(col(PushReceipt.delivery_id) == delivery_id)
    count = (await session.exec(select(func.count()).select_from(reached.subquery()))).one()
    ends = col(PushSubscriptionRow.expires_at)
    statement = (
        select(PushSubscriptionRow)
        .where(col(PushSubscriptionRow.owner_id) == owner_id, ends.is_(None) | (ends > func.now()))
        .where(col(PushSubscriptionRow.id).not_in(reached))
        .order_by(col(PushSubscriptionRow.id))
    )
    rows = await session.exec(statement)
    browsers = tuple(PushBrowser(row.id, row.endpoint, row.p256dh, row.auth) for row in rows)
    return PushList(browsers, count)


def _new_pair() -> dict[str, int | str]:
    """A fresh pair on the curve P-256 (RFC 8292)."""
    key = ec.generate_private_key(ec.SECP256R1())
    number = key.private_numbers().private_value.to_bytes(_PRIVATE_BYTES)
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return {"id": 1, "private_key": _base64url(number), "public_key": _base64url(point)}


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
