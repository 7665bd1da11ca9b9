"""People who sign in: an owner's one person, made when first needed, and operators, known by their names."""

import secrets
from dataclasses import dataclass

from sqlalchemy import Row, text
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.database import run_sql
from adapters.postgres.ids import new_id
from adapters.postgres.owners import require_owner
from adapters.postgres.sessions import PersonKind
from adapters.postgres.tables import Owner, Person

_HANDLE_BYTES = 64
"""As many as authenticators take; random, so that nothing of the person stands in them."""
_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtextextended('operator ' || :name, 0))")
_FIND = text(
    "SELECT p.id, p.kind, p.owner_id, p.name, p.handle, "
    "EXISTS (SELECT FROM passkey k WHERE k.person_id = p.id AND k.suspect_at IS NULL) AS registered "
    "FROM person p WHERE p.id = :id"
)


@dataclass(frozen=True, slots=True)
class PersonRecord:
    """Somebody who signs in, or who is to."""

    id: str
    kind: PersonKind
    owner_id: str | None
    name: str
    handle: bytes
    """What authenticators know the person by."""
    registered: bool
    """Whether there is a passkey to sign in with."""


async def person_of_owner(
    session: AsyncSession, owner_id: str, *, bound_to: str | None = None
) -> PersonRecord:
    """The person who signs in as this owner, made in the caller's commit where there is none. Raises OwnerUnknown."""
    await require_owner(session, owner_id, bound_to=bound_to)
    name = (await session.exec(select(Owner.name).where(col(Owner.id) == owner_id))).one()
    made = insert(Person).values(
        id=new_id("user"), kind=PersonKind.OWNER.value, owner_id=owner_id, name=name, handle=_new_handle()
    )
    await (await session.connection()).execute(made.on_conflict_do_nothing(index_elements=["owner_id"]))
    found = (await session.exec(select(Person.id).where(col(Person.owner_id) == owner_id))).one()
    return await read_person(session, found)


async def operator_named(session: AsyncSession, name: str) -> PersonRecord:
    """The operator of this name, made in the caller's commit where there is none."""
    await run_sql(session, _ONE_AT_A_TIME, name=name)
    known = select(Person.id).where(col(Person.kind) == PersonKind.OPERATOR.value, col(Person.name) == name)
    found = (await session.exec(known.order_by(col(Person.id)))).first()
    if found is None:
        found = new_id("user")
        session.add(Person(id=found, kind=PersonKind.OPERATOR.value, name=name, handle=_new_handle()))
        await session.flush()
    return await read_person(session, found)


async def read_person(session: AsyncSession, person_id: str) -> PersonRecord:
    """A person who is there."""
    return _record((await run_sql(session, _FIND, id=person_id)).one())


def _record(row: Row[tuple[object, ...]]) -> PersonRecord:
    return PersonRecord(
        id=row.id,
        kind=PersonKind(row.kind),
        owner_id=row.owner_id,
        name=row.name,
        handle=bytes(row.handle),
        registered=row.registered,
    )


def _new_handle() -> bytes:
    return secrets.token_bytes(_HANDLE_BYTES)
