"""The balance watcher: judges balance events as they come, and hands every claimed top-up to Temporal."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from sqlalchemy.exc import InternalError
from temporalio.service import RPCError

from activities.messages import Order, Patience, Telling
from activities.ports import Runs
from adapters.postgres.claims import Claims, Judged, record_hand_over, unstarted
from adapters.postgres.database import OUTAGES, Database

_OUT_OF_REACH = (*OUTAGES, RPCError)
_PAUSE_MAX = timedelta(seconds=5)
_STARTS_AT_ONCE = 16
_LOG = structlog.get_logger()


@dataclass(slots=True)
class Watcher:
    """Any number may run at once. It holds nothing that a restart would lose.

    `events_waiting` and `top_ups_waiting` are set by whoever knows of work; the watcher looks every
    `poll_interval` besides.
    """

    database: Database
    runs: Runs
    patience: Patience
    poll_interval: timedelta
    claims: Claims | None = None
    """What judges; made over the database where none is given."""
    events_waiting: asyncio.Event = field(default_factory=asyncio.Event)
    top_ups_waiting: asyncio.Event = field(default_factory=asyncio.Event)
    _to_tell: list[Telling] = field(default_factory=list)
    """Low balances whose owners nobody tells yet. What is lost of them, the sweep finds."""

    async def watch(self, stop: asyncio.Event) -> None:
        """Judge and hand over until told to stop; the round under way is finished first."""
        await asyncio.gather(
            self._repeat(self.judge_all, self.events_waiting, stop),
            self._repeat(self.hand_over_all, self.top_ups_waiting, stop),
        )

    async def judge_all(self) -> None:
        """Judge until nothing is left that another watcher is not at."""
        claims = self.claims or Claims(self.database)
        while True:
            judged = await self._judge_round(claims)
            if judged.claimed:
                _LOG.info("top_up.claimed", top_up_ids=judged.claimed)
                self.top_ups_waiting.set()
                await self.database.wake_followers()
            if judged.low:
                _LOG.info("low_balance.found", event_ids=[low.event_id for low in judged.low])
                self._to_tell += [low.telling(self.patience) for low in judged.low]
                self.top_ups_waiting.set()
            if not judged.events:
                return

    async def _judge_round(self, claims: Claims) -> Judged:
        """Judge many wallets in one commit; if one of them cannot be judged, each by itself, holding up no other.

        A database that fails inside may do so on one wallet's rows alone.
        """
        try:
            return await claims.judge_waiting()
        except Exception as failure:
            if isinstance(failure, _OUT_OF_REACH) and not isinstance(failure, InternalError):
                raise
            _LOG.exception("watcher.round.failed")
            return await claims.judge_one_by_one()

    async def hand_over_all(self) -> None:
        """Start the workflow of every top-up Temporal may not have; repeated until each start has worked.

        Then have owners told of low balances that no top-up follows.
        """
        while orders := await unstarted(self.database, patience=self.patience):
            started = await self._start_all(orders)
            if started:
                await record_hand_over(self.database, started)
            if len(started) < len(orders):
                message = "not every top-up could be started"
                raise ConnectionError(message)
        await self._tell_all()

    async def _tell_all(self) -> None:
        """Each once: a telling that cannot be started is left to the sweep."""
        tellings, self._to_tell = self._to_tell, []
        results = await asyncio.gather(*map(self.runs.tell, tellings), return_exceptions=True)
        for telling, result in zip(tellings, results, strict=True):
            if isinstance(result, Exception):
                _LOG.warning(
                    "low_balance.left_to_the_sweep", event_id=telling.event_id, cause=type(result).__name__
                )

    async def _start_all(self, orders: Sequence[Order]) -> list[str]:
        gate = asyncio.Semaphore(_STARTS_AT_ONCE)

        async def start(order: Order) -> str:
            async with gate:
                await self.runs.start(order)
            return order.top_up_id

        results = await asyncio.gather(*map(start, orders), return_exceptions=True)
        for order, result in zip(orders, results, strict=True):
            if isinstance(result, Exception) and not isinstance(result, _OUT_OF_REACH):
                _LOG.error("top_up.start.failed", top_up_id=order.top_up_id, exc_info=result)
        return [result for result in results if isinstance(result, str)]

    async def _repeat(
        self, step: Callable[[], Awaitable[None]], ear: asyncio.Event, stop: asyncio.Event
    ) -> None:
        """Take the step at each call and at least every poll interval, backing off while the world is out of reach."""
        pause = self.poll_interval
        while not stop.is_set():
            ear.clear()
            try:
                await step()
                pause = self.poll_interval
            except _OUT_OF_REACH as unreachable:
                pause = min(pause * 2, _PAUSE_MAX)
                _LOG.warning("watcher.out_of_reach", step=step.__name__, cause=type(unreachable).__name__)
                ear.clear()
            await _first_of(ear, stop, within=pause)


async def _first_of(*events: asyncio.Event, within: timedelta) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=within.total_seconds(), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
