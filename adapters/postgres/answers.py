"""Answers kept for an Idempotency-Key, each written in the same commit as the effect it tells of."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from psycopg.errors import LockNotAvailable
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.database import Database, run_sql

KEPT_FOR = timedelta(days=7)

_CLAIM = text(
    "INSERT INTO kept_answer AS kept (api_key_id, route, key, request_hash) "
    "VALUES (:api_key_id, :route, :key, :request_hash) "
    "ON CONFLICT (api_key_id, route, key) DO UPDATE "
    "SET request_hash = excluded.request_hash, status = NULL, headers = NULL, body = NULL, at = now() "
    "WHERE kept.at < now() - CAST(:kept_for AS interval) RETURNING true"
)
_FIND = text(
    "SELECT request_hash, status, headers, body FROM kept_answer "
    "WHERE api_key_id = :api_key_id AND route = :route AND key = :key"
)
_KEEP = text(
    "UPDATE kept_answer SET status = :status, headers = CAST(:headers AS jsonb), body = :body "
    "WHERE api_key_id = :api_key_id AND route = :route AND key = :key"
)
_FORGET = text(
    "WITH gone AS (DELETE FROM kept_answer WHERE at < now() - CAST(:kept_for AS interval) RETURNING true) "
    "SELECT count(*) FROM gone"
)


class KeyReused(ValueError):
    """The Idempotency-Key belongs to another request."""


class FirstStillRunning(Exception):
    """The first request with this Idempotency-Key has not ended yet."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request under one key: who asked what on which route."""

    api_key_id: str
    route: str
    """Method and path, as asked."""
    key: str
    request_hash: str


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it goes out, and as it is kept."""

    status: int
    body: str
    headers: Mapping[str, str]


async def claim_key(session: AsyncSession, asked: Asked) -> Answer | None:
    """Take the key for this request, or give the answer it got before. Waits for a twin that is under way.

    None means: carry on, and keep the answer in this same commit. Raises KeyReused and FirstStillRunning.
    """
    claim = {**_name(asked), "request_hash": asked.request_hash, "kept_for": KEPT_FOR}
    try:
        claimed = (await run_sql(session, _CLAIM, **claim)).one_or_none()
    except OperationalError as waited:
        if isinstance(waited.orig, LockNotAvailable):
            message = "The first request with this Idempotency-Key is still running; ask again shortly."
            raise FirstStillRunning(message) from waited
        raise
    return None if claimed else await _first_answer(session, asked)


async def keep_answer(session: AsyncSession, asked: Asked, answer: Answer) -> None:
    """Keep the answer under the key that this commit has claimed."""
    headers = json.dumps(dict(answer.headers))
    await run_sql(session, _KEEP, **_name(asked), status=answer.status, headers=headers, body=answer.body)


async def forget_old_answers(database: Database) -> int:
    """Drop the answers that are older than they are kept for; how many they were."""
    async with database.commit() as session:
        return int((await run_sql(session, _FORGET, kept_for=KEPT_FOR)).scalar_one())


async def _first_answer(session: AsyncSession, asked: Asked) -> Answer:
    row = (await run_sql(session, _FIND, **_name(asked))).one()
    if row.request_hash != asked.request_hash:
        message = (
            "This Idempotency-Key was used for another request. "
            "Use a new key for a new request, or send the first one's body again."
        )
        raise KeyReused(message)
    return Answer(row.status, row.body, row.headers)


def _name(asked: Asked) -> dict[str, str]:
    return {"api_key_id": asked.api_key_id, "route": asked.route, "key": asked.key}
