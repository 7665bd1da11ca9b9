"""Passkeys: who may sign in with which, what each has counted, and which may have been copied."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Row, func, text
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.database import Database, run_sql
from adapters.postgres.ids import new_id
from adapters.postgres.tables import PasskeyRow

PASSKEYS_MAX = 20
"""So many passkeys one person may have."""
NAME_LENGTH_MAX = 60

_FIND = text(
    "SELECT k.*, p.handle FROM passkey k JOIN person p ON p.id = k.person_id "
    "WHERE k.credential_id = :credential_id"
)
_LIST = text(
    "SELECT k.*, p.handle FROM passkey k JOIN person p ON p.id = k.person_id "
    "WHERE k.person_id = :person_id ORDER BY k.id"
)
_COUNT_ON = text(
    "UPDATE passkey SET sign_count = CAST(:count AS bigint), last_used_at = now(), backed_up = :backed_up "
    "WHERE id = :id AND suspect_at IS NULL "
    "AND (sign_count < CAST(:count AS bigint) OR (sign_count = 0 AND CAST(:count AS bigint) = 0)) RETURNING id"
)
_SUSPECT = text(
    "WITH marked AS (UPDATE passkey SET suspect_at = COALESCE(suspect_at, now()) WHERE id = :id RETURNING id) "
    "DELETE FROM page_session WHERE passkey_id IN (SELECT id FROM marked)"
)
_LOCK_PERSON = text("SELECT id FROM person WHERE id = :person_id FOR UPDATE")
_RENAME = text("UPDATE passkey SET name = :name WHERE id = :id AND person_id = :person_id RETURNING id")
_END_ITS_SESSIONS = text("DELETE FROM page_session WHERE passkey_id = :id AND id <> :but")


class PasskeyUnknown(LookupError):
    """The person has no such passkey."""


class PasskeyTaken(Exception):
    """This passkey is registered already, by this person or another."""


class PasskeysTooMany(Exception):
    """The person has as many passkeys as one may have."""


class LastPasskey(Exception):
    """Without this passkey the person could not sign in any more."""


@dataclass(frozen=True, slots=True)
class NewPasskey:
    """A passkey as a browser has just made it."""

    credential_id: bytes
    public_key: bytes = field(repr=False)
    sign_count: int
    transports: Sequence[str]
    backed_up: bool


@dataclass(frozen=True, slots=True)
class PasskeyRecord:
    """A passkey as it is kept."""

    id: str
    person_id: str
    handle: bytes = field(repr=False)
    """What the authenticator knows the person by."""
    name: str
    credential_id: bytes
    public_key: bytes = field(repr=False)
    transports: tuple[str, ...]
    backed_up: bool
    """Whether its keeper copies it to the person's other devices."""
    created_at: datetime
    last_used_at: datetime | None
    suspect_at: datetime | None
    """When its counter went backwards, as a copy's would: it opens nothing any more."""

    @property
    def usable(self) -> bool:
        """Whether it opens anything."""
        return self.suspect_at is None


async def find_passkey(database: Database, credential_id: bytes) -> PasskeyRecord | None:
    """The passkey that authenticators call so, whosever it is. Raises DatabaseOutOfReach."""
    async with database.call() as connection:
        row = (await connection.execute(_FIND, {"credential_id": credential_id})).one_or_none()
    return None if row is None else _record(row)


async def list_passkeys(session: AsyncSession, person_id: str) -> tuple[PasskeyRecord, ...]:
    """All passkeys of a person, oldest first, those that are suspect too."""
    return tuple(_record(row) for row in await run_sql(session, _LIST, person_id=person_id))


async def add_passkey(session: AsyncSession, person_id: str, new: NewPasskey, *, name: str) -> str:
    """Keep a new passkey in the caller's commit; its id. Raises PasskeyTaken and PasskeysTooMany."""
    await run_sql(session, _LOCK_PERSON, person_id=person_id)
    if len(await list_passkeys(session, person_id)) >= PASSKEYS_MAX:
        message = f"There are {PASSKEYS_MAX} passkeys already: remove one first."
        raise PasskeysTooMany(message)
    made = insert(PasskeyRow).values(
        id=new_id("passkey"),
        person_id=person_id,
        name=name,
        credential_id=new.credential_id,
        public_key=new.public_key,
        sign_count=new.sign_count,
        transports=list(new.transports),
        backed_up=new.backed_up,
        last_used_at=func.now(),
    )
    once = made.on_conflict_do_nothing(index_elements=["credential_id"]).returning(col(PasskeyRow.id))
    passkey_id: str | None = (await (await session.connection()).execute(once)).scalar_one_or_none()
    if passkey_id is None:
        message = "This passkey is registered already."
        raise PasskeyTaken(message)
    return passkey_id


async def count_on(database: Database, passkey_id: str, *, sign_count: int, backed_up: bool) -> bool:
    """Note that the passkey was used, unless its counter does not go forward: then it may be a copy.

    A passkey that may be a copy is marked so, for good, and every browser it was signed in with is signed out.
    Those that are kept by several devices at once do not count: they say 0 always, which is accepted.
    """
    async with database.call() as connection:
        given = {"id": passkey_id, "count": sign_count, "backed_up": backed_up}
        counted = (await connection.execute(_COUNT_ON, given)).one_or_none()
        if counted is None:
            await connection.execute(_SUSPECT, {"id": passkey_id})
    return counted is not None


async def rename_passkey(session: AsyncSession, passkey_id: str, *, person_id: str, name: str) -> None:
    """Give the person's own passkey another name. Raises PasskeyUnknown."""
    renamed = await run_sql(session, _RENAME, id=passkey_id, person_id=person_id, name=name)
    if renamed.one_or_none() is None:
        raise _unknown()


async def remove_passkey(
    session: AsyncSession, passkey_id: str, *, person_id: str, this_session: str
) -> None:
    """Forget a passkey, and sign out the browsers it was used with, but not this one.

    Raises PasskeyUnknown, and LastPasskey where none would be left that opens anything.
    """
    await run_sql(session, _LOCK_PERSON, person_id=person_id)
    passkeys = await list_passkeys(session, person_id)
    if passkey_id not in {passkey.id for passkey in passkeys}:
        raise _unknown()
    if not any(passkey.usable and passkey.id != passkey_id for passkey in passkeys):
        message = "Without this passkey you could not sign in any more. Add another one first."
        raise LastPasskey(message)
    row = (await session.exec(select(PasskeyRow).where(col(PasskeyRow.id) == passkey_id))).one()
    await session.delete(row)
    await run_sql(session, _END_ITS_SESSIONS, id=passkey_id, but=this_session)


def _record(row: Row[tuple[object, ...]]) -> PasskeyRecord:
    return PasskeyRecord(
        id=row.id,
        person_id=row.person_id,
        handle=bytes(row.handle),
        name=row.name,
        credential_id=bytes(row.credential_id),
        public_key=bytes(row.public_key),
        transports=tuple(row.transports),
        backed_up=row.backed_up,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
        suspect_at=row.suspect_at,
    )


def _unknown() -> PasskeyUnknown:
    return PasskeyUnknown("You have no such passkey.")
