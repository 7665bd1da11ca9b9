"""Sessions of the pages: a browser is known by a random token, of which only the hash is kept."""

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.database import Database, run_sql
from adapters.postgres.ids import new_id
from adapters.postgres.tables import PageSession

LASTS = timedelta(days=14)
"""A session ends this long after its begin, however much it is used."""
IDLE_MAX = timedelta(days=3)
"""And this long after it was used last."""
RECOVERY_LASTS = timedelta(minutes=15)
"""How long a session lasts that was begun with a recovery code."""

_FIND = text(
    "WITH seen AS (UPDATE page_session SET last_seen_at = now() WHERE hash = :hash AND expires_at > now() "
    "AND last_seen_at > now() - :idle_max AND last_seen_at < now() - interval '1 minute') "
    "SELECT s.id, s.csrf, s.passkey_id, s.recovering, s.expires_at, p.id AS person_id, p.kind, p.owner_id, p.name "
    "FROM page_session s JOIN person p ON p.id = s.person_id "
    "WHERE s.hash = :hash AND s.expires_at > now() AND s.last_seen_at > now() - :idle_max"
)
_LASTS = text("SELECT EXISTS (SELECT FROM page_session WHERE id = :id AND expires_at > now())")
_END_THIS = text("DELETE FROM page_session WHERE hash = :hash")
_END = text("DELETE FROM page_session WHERE id = :id AND person_id = :person_id")
_END_ALL = text("DELETE FROM page_session WHERE person_id = :person_id RETURNING id")
_LIST = text(
    "SELECT id, browser, passkey_id, recovering, created_at, last_seen_at FROM page_session "
    "WHERE person_id = :person_id AND expires_at > now() AND last_seen_at > now() - :idle_max "
    "ORDER BY last_seen_at DESC, id DESC"
)
_FORGET = text("DELETE FROM page_session WHERE expires_at <= now() OR last_seen_at <= now() - :idle_max")


class PersonKind(StrEnum):
    """What somebody who signs in is here."""

    OWNER = "owner"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who has signed in with this browser."""

    session_id: str
    person_id: str
    kind: PersonKind
    owner_id: str | None
    """The only owner that exists for this person; None for an operator."""
    name: str
    csrf: str = field(repr=False)
    """What each of their forms must bring along."""
    recovering: bool
    """Signed in with a recovery code: good for registering a new passkey, and nothing else."""
    passkey_id: str | None
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A browser that a person is signed in with."""

    id: str
    browser: str
    """What kind of browser, in words."""
    passkey_id: str | None
    recovering: bool
    created_at: datetime
    last_seen_at: datetime


async def begin_session(
    session: AsyncSession,
    person_id: str,
    *,
    browser: str,
    passkey_id: str | None,
    now: datetime,
    recovering: bool = False,
) -> str:
    """Begin a session in the caller's commit; the token for the browser's cookie, told this once."""
    await run_sql(session, _FORGET, idle_max=IDLE_MAX)
    token = secrets.token_urlsafe(32)
    session.add(
        PageSession(
            hash=_hash_of(token),
            id=new_id("session"),
            person_id=person_id,
            csrf=secrets.token_urlsafe(24),
            passkey_id=passkey_id,
            recovering=recovering,
            browser=browser[:200],
            expires_at=now + (RECOVERY_LASTS if recovering else LASTS),
        )
    )
    await session.flush()
    return token


async def find_visitor(database: Database, token: str) -> Visitor | None:
    """Who this cookie belongs to; None when the session is unknown or has ended. Raises DatabaseOutOfReach."""
    async with database.call() as connection:
        found = await connection.execute(_FIND, {"hash": _hash_of(token), "idle_max": IDLE_MAX})
        row = found.one_or_none()
    if row is None:
        return None
    return Visitor(
        session_id=row.id,
        person_id=row.person_id,
        kind=PersonKind(row.kind),
        owner_id=row.owner_id,
        name=row.name,
        csrf=row.csrf,
        recovering=row.recovering,
        passkey_id=row.passkey_id,
        expires_at=row.expires_at,
    )


async def is_signed_in(session: AsyncSession, session_id: str) -> bool:
    """Whether the session goes on; for those who go on looking without asking anew."""
    return bool((await run_sql(session, _LASTS, id=session_id)).scalar_one())


async def list_sessions(session: AsyncSession, person_id: str) -> tuple[SessionRecord, ...]:
    """The browsers a person is signed in with, the one seen last first."""
    rows = await run_sql(session, _LIST, person_id=person_id, idle_max=IDLE_MAX)
    return tuple(
        SessionRecord(row.id, row.browser, row.passkey_id, row.recovering, row.created_at, row.last_seen_at)
        for row in rows
    )


async def end_session_of(session: AsyncSession, token: str) -> None:
    """End the session that a browser's cookie belongs to, so that nobody goes on with it after a new sign-in."""
    await run_sql(session, _END_THIS, hash=_hash_of(token))


async def end_session(session: AsyncSession, session_id: str, *, person_id: str) -> None:
    """Sign one browser out; one that is signed out already stays so."""
    await run_sql(session, _END, id=session_id, person_id=person_id)


async def end_all_sessions(session: AsyncSession, person_id: str) -> int:
    """Sign the person out everywhere; how many browsers that were."""
    return len((await run_sql(session, _END_ALL, person_id=person_id)).all())


def _hash_of(token: str) -> str:
    """What is kept of a token. It has 256 random bits, so a fast hash is enough."""
    return hashlib.sha256(token.encode()).hexdigest()
