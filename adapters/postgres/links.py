"""Links by which a person registers a passkey: random, used once, within a day, and only the newest one counts."""

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.database import Database, run_sql
from adapters.postgres.tables import RegistrationLink

LASTS = timedelta(hours=24)

_LOCK_PERSON = text("SELECT id FROM person WHERE id = :person_id FOR UPDATE")
_END_OLDER = text(
    "UPDATE registration_link SET expires_at = LEAST(expires_at, :now) "
    "WHERE person_id = :person_id AND used_at IS NULL"
)
_FIND = text(
    "SELECT person_id FROM registration_link WHERE hash = :hash AND used_at IS NULL AND expires_at > now()"
)
_BURN = text(
    "UPDATE registration_link SET used_at = now() "
    "WHERE hash = :hash AND used_at IS NULL AND expires_at > now() RETURNING person_id"
)


class LinkOver(Exception):
    """The link was used, is too old, was followed by a newer one, or never was one."""


@dataclass(frozen=True, slots=True)
class NewLink:
    """A link as it is told once."""

    token: str = field(repr=False)
    expires_at: datetime


def new_token() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)


async def create_link(
    session: AsyncSession, person_id: str, *, made_by: str, now: datetime, token: str | None = None
) -> NewLink:
    """Make a link in the caller's commit; those before it end. `token`: one of as many random bits, made elsewhere."""
    await run_sql(session, _LOCK_PERSON, person_id=person_id)
    await run_sql(session, _END_OLDER, person_id=person_id, now=now)
    link = NewLink(token or new_token(), now + LASTS)
    session.add(
        RegistrationLink(
            hash=hash_of(link.token),
            person_id=person_id,
            made_by=made_by,
            created_at=now,
            expires_at=link.expires_at,
        )
    )
    await session.flush()
    return link


async def find_link(database: Database, token: str) -> str:
    """The id of the person who may register by this link. Raises LinkOver, and DatabaseOutOfReach."""
    async with database.call() as connection:
        person_id: str | None = (
            await connection.execute(_FIND, {"hash": hash_of(token)})
        ).scalar_one_or_none()
    if person_id is None:
        raise LinkOver
    return person_id


async def burn_link(session: AsyncSession, link_hash: str) -> str:
    """Use the link up in the caller's commit; the id of its person. Raises LinkOver: of two at once, for one."""
    person_id: str | None = (await run_sql(session, _BURN, hash=link_hash)).scalar_one_or_none()
    if person_id is None:
        raise LinkOver
    return person_id


def hash_of(token: str) -> str:
    """What is kept of a link. It has 256 random bits, so a fast hash is enough."""
    return hashlib.sha256(token.encode()).hexdigest()
