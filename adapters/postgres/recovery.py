"""Recovery codes: ten ways in for somebody who has lost their passkeys, each usable once; only hashes are kept."""

import hashlib
import secrets

from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.database import run_sql
from adapters.postgres.tables import RecoveryCode

CODES = 10
_GROUPS = 4
_GROUP_LENGTH = 5
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's 32 signs, none of which looks like another: twenty of them are 100 bits."""
_MISREAD = str.maketrans({"O": "0", "I": "1", "L": "1"})

_LOCK_PERSON = text("SELECT id FROM person WHERE id = :person_id FOR UPDATE")
_END_ALL = text("DELETE FROM recovery_code WHERE person_id = :person_id")
_USE = text(
    "UPDATE recovery_code SET used_at = now() WHERE hash = :hash AND used_at IS NULL RETURNING person_id"
)
_LEFT = text("SELECT count(*) FROM recovery_code WHERE person_id = :person_id AND used_at IS NULL")


class CodeUnknown(LookupError):
    """There is no such recovery code, or it was used."""


async def make_codes(session: AsyncSession, person_id: str) -> tuple[str, ...]:
    """Make new codes in the caller's commit, told this once; all earlier ones end."""
    await run_sql(session, _LOCK_PERSON, person_id=person_id)
    await run_sql(session, _END_ALL, person_id=person_id)
    codes = tuple(_new_code() for _ in range(CODES))
    session.add_all(RecoveryCode(hash=_hash_of(code), person_id=person_id) for code in codes)
    await session.flush()
    return codes


async def use_code(session: AsyncSession, code: str) -> str:
    """Use a code up in the caller's commit, however it is spelled; the id of its person. Raises CodeUnknown."""
    person_id: str | None = (await run_sql(session, _USE, hash=_hash_of(code))).scalar_one_or_none()
    if person_id is None:
        message = "There is no such recovery code, or it was used already."
        raise CodeUnknown(message)
    return person_id


async def count_codes_left(session: AsyncSession, person_id: str) -> int:
    """How many codes the person has that were not used."""
    return int((await run_sql(session, _LEFT, person_id=person_id)).scalar_one())


def _new_code() -> str:
    groups = ("".join(secrets.choice(_ALPHABET) for _ in range(_GROUP_LENGTH)) for _ in range(_GROUPS))
    return "-".join(groups)


def _hash_of(code: str) -> str:
    """What is kept of a code, whatever stands between its signs. It has 100 random bits: a fast hash is enough."""
    signs = "".join(sign for sign in code.upper() if sign.isalnum()).translate(_MISREAD)
    return hashlib.sha256(signs.encode()).hexdigest()
