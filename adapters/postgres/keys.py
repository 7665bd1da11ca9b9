"""API keys: only their hashes are kept, so a lost key cannot be shown again."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.database import Database
from adapters.postgres.ids import new_id
from adapters.postgres.owners import require_owner
from adapters.postgres.tables import ApiKey

PREFIX = "tm_"

_FIND = text(
    "SELECT id, name, scopes, owner_id FROM api_key "
    "WHERE hash = :hash AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())"
)


class KeyUnknown(LookupError):
    """There is no such key."""


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """Who a valid key belongs to, and what it may do."""

    id: str
    name: str
    scopes: frozenset[str]
    owner_id: str | None
    """The only owner that exists for the key; None for all."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key as listed: everything but the key."""

    id: str
    name: str
    scopes: tuple[str, ...]
    owner_id: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


async def create_key(
    session: AsyncSession,
    *,
    name: str,
    scopes: Sequence[str],
    owner_id: str | None = None,
    expires_at: datetime | None = None,
) -> tuple[str, str]:
    """Make a key in the caller's commit; its id and the key itself, told this once. Raises OwnerUnknown."""
    if owner_id is not None:
        await require_owner(session, owner_id, bound_to=None)
    key = PREFIX + secrets.token_urlsafe(32)
    row = ApiKey(
        id=new_id("key"),
        name=name,
        hash=hash_of(key),
        scopes=list(scopes),
        owner_id=owner_id,
        expires_at=expires_at,
    )
    session.add(row)
    await session.flush()
    return row.id, key


async def find_holder(database: Database, key: str) -> KeyHolder | None:
    """Who the key belongs to; None when it is unknown, expired or revoked. Revoking counts at once.

    Raises DatabaseOutOfReach.
    """
    async with database.call() as connection:
        row = (await connection.execute(_FIND, {"hash": hash_of(key)})).one_or_none()
    return None if row is None else KeyHolder(row.id, row.name, frozenset(row.scopes), row.owner_id)


async def list_keys(session: AsyncSession) -> tuple[KeyRecord, ...]:
    """All keys, oldest first, the revoked ones too."""
    return tuple(
        KeyRecord(
            row.id, row.name, tuple(row.scopes), row.owner_id, row.created_at, row.expires_at, row.revoked_at
        )
        for row in await session.exec(select(ApiKey).order_by(col(ApiKey.id)))
    )


async def revoke_key(session: AsyncSession, key_id: str, *, at: datetime) -> None:
    """Make the key worthless from now on; repeating it changes nothing. Raises KeyUnknown."""
    row = (await session.exec(select(ApiKey).where(col(ApiKey.id) == key_id).with_for_update())).first()
    if row is None:
        message = f"There is no key {key_id!r}; `keys list` shows all."
        raise KeyUnknown(message)
    row.revoked_at = row.revoked_at or at


def hash_of(key: str) -> str:
    """What is kept of a key. It has 256 random bits, so a fast hash is enough."""
    return hashlib.sha256(key.encode()).hexdigest()
