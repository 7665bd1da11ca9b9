"""Whether this program can serve: the database in reach and up to date, and Temporal in reach."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from adapters.postgres.database import Database
from adapters.postgres.revisions import current_revision, newest_revision
from api.given import Given

_PATIENCE_SECONDS = 3.0

Check = Callable[[], Awaitable[str]]


class NotReady(Exception):
    """Something this program needs is out of reach or out of date; `checks` says what."""

    def __init__(self, checks: Mapping[str, Mapping[str, object]]) -> None:
        """Keep every check, also those that are well."""
        failing = ", ".join(name for name, check in checks.items() if not check["ok"])
        super().__init__(f"Not ready: {failing}. Each check says what is wrong.")
        self.checks = checks


class RevisionOld(Exception):
    """The database is not at the newest revision."""


async def check_readiness(given: Given) -> Mapping[str, Mapping[str, object]]:
    """Every check with its finding, all made at once and each bounded. Raises NotReady."""
    checks: Mapping[str, Check] = {
        "database": lambda: _reach_database(given.database),
        "migrations": lambda: _compare_revisions(given.database),
        "temporal": lambda: _reach_temporal(given),
    }
    findings = await asyncio.gather(*(_find(check) for check in checks.values()))
    found = dict(zip(checks, findings, strict=True))
    if not all(finding["ok"] for finding in findings):
        raise NotReady(found)
    return found


async def _find(check: Check) -> Mapping[str, object]:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return {"ok": True, "detail": await check()}
    except TimeoutError:
        return {"ok": False, "detail": f"no answer within {_PATIENCE_SECONDS:g} seconds"}
    except RevisionOld as old:
        return {"ok": False, "detail": str(old)}
    except Exception as unreachable:  # noqa: BLE001 whatever a driver raises, it means out of reach
        return {"ok": False, "detail": f"out of reach ({type(unreachable).__name__})"}


async def _reach_database(database: Database) -> str:
    await current_revision(database)
    return "answers"


async def _compare_revisions(database: Database) -> str:
    current, newest = await current_revision(database), newest_revision()
    if current != newest:
        message = f"at {current or 'nothing'}, newest is {newest}: run `python -m adapters.postgres upgrade`"
        raise RevisionOld(message)
    return f"at {newest}"


async def _reach_temporal(given: Given) -> str:
    await given.reach_temporal()
    return "answers"
