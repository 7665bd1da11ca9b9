"""Play a batch of cases in a lane: bring all to their points, strike, and judge what became of each."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from adapters.postgres.database import run_sql
from runtime.inbox_store import InboxStore
from tests.chaos.cases import Batch, Case, in_order
from tests.chaos.household import Subject, open_subject, problems_of
from tests.chaos.lane import Lane
from tests.chaos.strikes import strike
from tests.outages.invariants import assert_invariants
from tests.outages.product import until

_ARRIVAL_SECONDS = 60.0
_REST_SECONDS = 240.0
_PAUSE_SECONDS = 0.1
_OPEN = text(
    "SELECT (SELECT count(*) FROM top_up WHERE state = 'in_progress') "
    "+ (SELECT count(*) FROM balance_event WHERE NOT judged) "
    "+ (SELECT count(*) FROM delivery WHERE status = 'pending')"
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a case; `struck`: it was at its point when that happened, else it has to be played again."""

    case: Case
    struck: bool
    problems: tuple[str, ...]


_numbers = count(1)


async def play(lane: Lane, batch: Batch, *, bringing: asyncio.Semaphore) -> tuple[Verdict, ...]:
    """Play all cases of the batch with one strike; `bringing` spares the machine for who has to be quick."""
    subjects = [
        await open_subject(lane.database, case, next(_numbers), draw_seconds=lane.draw_seconds)
        for case in batch.cases
    ]
    async with asyncio.TaskGroup() as paying:
        async with bringing:
            for cases in in_order(batch.cases):
                chosen = [subject for subject in subjects if subject.case in cases]
                await _bring(lane, chosen, paying)
            await _note_who_stands(lane, subjects)
        await strike(lane, batch.struck, batch.manner)
    return await _judge(lane, subjects)


async def _bring(lane: Lane, subjects: Sequence[Subject], paying: asyncio.TaskGroup) -> None:
    """Have them pay, and wait until each stands at its point; who does not come in time is left alone."""
    for subject in subjects:
        lane.tower.arm(subject.stand)
        paying.create_task(_pay(lane, subject))
    arrivals = [asyncio.ensure_future(subject.stand.reached.wait()) for subject in subjects]
    if arrivals:
        _, late = await asyncio.wait(arrivals, timeout=_ARRIVAL_SECONDS)
        for arrival in late:
            arrival.cancel()


async def _pay(lane: Lane, subject: Subject) -> None:
    """Until it has worked, as a person's application would."""
    async with asyncio.timeout(_REST_SECONDS):
        while not subject.paid:
            await subject.pay(lane.client)
            if not subject.paid:
                await asyncio.sleep(_PAUSE_SECONDS)


async def _note_who_stands(lane: Lane, subjects: Iterable[Subject]) -> None:
    for subject in subjects:
        await subject.note_moved(lane.database)
    for subject in subjects:
        subject.stood = subject.stand.stands()


async def _judge(lane: Lane, subjects: Sequence[Subject]) -> tuple[Verdict, ...]:
    """When all has come to rest by itself."""
    rest = await _come_to_rest(lane)
    inbox = await asyncio.to_thread(lambda: InboxStore(lane.home / "inbox").newest_first())
    books = await _problems_of_books(lane)
    verdicts = []
    for subject in subjects:
        problems = [*rest, *books, *await problems_of(subject, inbox)]
        verdicts.append(Verdict(subject.case, subject.stood, tuple(problems)))
    return tuple(verdicts)


async def _come_to_rest(lane: Lane) -> list[str]:
    try:
        await until(lambda: _reached(lambda: _is_at_rest(lane)), within=_REST_SECONDS)
    except TimeoutError:
        return [f"lane {lane.number} did not come to rest by itself within {_REST_SECONDS:.0f} seconds"]
    return []


async def _is_at_rest(lane: Lane) -> bool:
    async with lane.database.read() as session:
        return int((await run_sql(session, _OPEN)).scalar_one()) == 0


async def _reached(look: Callable[[], Awaitable[bool]]) -> bool:
    """What is seen; nothing is while the database is away."""
    try:
        return await look()
    except (SQLAlchemyError, OSError):
        return False


async def _problems_of_books(lane: Lane) -> list[str]:
    try:
        await assert_invariants(lane.database)
    except AssertionError as breach:
        return [f"the books: {breach}"]
    return []
