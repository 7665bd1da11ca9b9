"""The audit: every invariant asked of one moment of a live database, without changing or holding up anything."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, text
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.database import Database, run_sql
from adapters.postgres.invariants import COUNTS, INVARIANTS, Invariant

EXAMPLES_MAX = 10
STATEMENT_PATIENCE = timedelta(hours=1)
"""How long one question may take: a large ledger is read as a whole."""

# A plan that reads everything is not worth compiling for small databases, and sorts better with some memory.
_UNHURRIED = (
    "jit = off",
    "work_mem = '64MB'",
    f"statement_timeout = '{STATEMENT_PATIENCE.total_seconds():.0f}s'",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one invariant found: how many things it looked at, and how many breach it, the first ones described."""

    invariant: Invariant
    looked_at: int
    breaches: int
    examples: tuple[str, ...]


async def audit(database: Database, *, examples_max: int = EXAMPLES_MAX) -> tuple[Finding, ...]:
    """Ask every invariant of one snapshot. It takes no lock that anybody waits for."""
    async with database.read() as session:
        for bound in _UNHURRIED:
            await run_sql(session, text(f"SET LOCAL {bound}"))
        counts = await _count(session)
        return tuple([await _ask(session, invariant, counts, examples_max) for invariant in INVARIANTS])


async def _count(session: AsyncSession) -> Mapping[str, int]:
    counted = ", ".join(f"({query})" for query in COUNTS.values())
    row = (await run_sql(session, text(f"SELECT {counted}"))).one()
    return dict(zip(COUNTS, row, strict=True))


async def _ask(
    session: AsyncSession, invariant: Invariant, counts: Mapping[str, int], examples_max: int
) -> Finding:
    some = text(f"SELECT *, count(*) OVER () FROM ({invariant.breaches}) AS breach LIMIT :most")  # noqa: S608 - our own
    rows = (await run_sql(session, some, most=examples_max)).all()
    breaches = int(rows[0][-1]) if rows else 0
    return Finding(invariant, counts[invariant.looks_at], breaches, tuple(map(_described, rows)))


def _described(row: Row[Any]) -> str:
    """The id, then what else is known: ids, amounts in smallest units, and states; nothing of a person."""
    first, *rest = list(zip(row._fields, row, strict=True))[:-1]
    known = " ".join(f"{name}={value}" for name, value in rest if value is not None)
    return f"{first[1]} {known}".strip()
