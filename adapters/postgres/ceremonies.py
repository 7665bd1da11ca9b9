"""Ceremonies with passkeys: a challenge given to one browser for one purpose, answered in time and once, or never."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from sqlalchemy import text

from adapters.postgres.database import Database

LASTS = timedelta(minutes=5)

_BEGIN = text(
    "WITH over AS (DELETE FROM ceremony WHERE expires_at <= now()) "
    "INSERT INTO ceremony (hash, purpose, challenge, person_id, link_hash, expires_at) "
    "VALUES (:hash, :purpose, :challenge, :person_id, :link_hash, now() + :lasts)"
)
_TAKE = text(
    "DELETE FROM ceremony WHERE hash = :hash "
    "RETURNING purpose, challenge, person_id, link_hash, expires_at > now() AS in_time"
)


class Purpose(StrEnum):
    """What a challenge is answered for; an answer for one is none for another."""

    SIGN_IN = "sign_in"
    REGISTER = "register"
    ADD_PASSKEY = "add_passkey"
    RECOVERY_CODES = "recovery_codes"


@dataclass(frozen=True, slots=True)
class Ceremony:
    """What was asked, of whom; used up by being read."""

    challenge: bytes
    person_id: str | None
    link_hash: str | None
    """The link by which the person registers."""


async def begin_ceremony(
    database: Database,
    purpose: Purpose,
    *,
    challenge: bytes,
    person_id: str | None = None,
    link_hash: str | None = None,
) -> str:
    """Keep a challenge for five minutes; the token for the browser's cookie. Raises DatabaseOutOfReach."""
    token = secrets.token_urlsafe(32)
    given = {"purpose": purpose.value, "challenge": challenge, "person_id": person_id, "link_hash": link_hash}
    async with database.call() as connection:
        await connection.execute(_BEGIN, {**given, "hash": _hash_of(token), "lasts": LASTS})
    return token


async def take_ceremony(database: Database, token: str, purpose: Purpose) -> Ceremony | None:
    """Use the ceremony up, at once and for good; None where it was used, is over, or is for something else.

    Raises DatabaseOutOfReach.
    """
    async with database.call() as connection:
        row = (await connection.execute(_TAKE, {"hash": _hash_of(token)})).one_or_none()
    if row is None or not row.in_time or row.purpose != purpose.value:
        return None
    return Ceremony(bytes(row.challenge), row.person_id, row.link_hash)


def _hash_of(token: str) -> str:
    """What is kept of a token. It has 256 random bits, so a fast hash is enough."""
    return hashlib.sha256(token.encode()).hexdigest()
