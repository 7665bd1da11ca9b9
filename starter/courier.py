"""The courier: hands events out to webhook endpoints, and sends each until it is taken, over days if need be."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from random import SystemRandom

import structlog

from adapters.notify.webhook import Message, NotTaken, Taken, WebhookSender
from adapters.postgres.clock import tell_time
from adapters.postgres.database import OUTAGES, Database
from adapters.postgres.events import drop_old_events, mend_events
from adapters.postgres.webhooks import (
    Attempted,
    DeliveryStatus,
    Parcel,
    claim_parcels,
    forget_deliveries,
    give_up_paused,
    hand_out,
    record_attempt,
)

_TIDY_EVERY = timedelta(hours=1)
_PAUSE_WHEN_BROKEN = timedelta(seconds=5)
_LOG = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Persistence:
    """How long, and how often, a message that was not taken is tried again."""

    give_up_after: timedelta = timedelta(days=3)
    switch_off_after: timedelta = timedelta(days=5)
    """An endpoint at which every attempt has failed for this long is turned off."""
    first_pause: timedelta = timedelta(seconds=5)
    growth: float = 1.5
    """Each pause is as long as the first one and this many times the message's age."""
    pause_max: timedelta = timedelta(hours=12)
    jitter: float = 0.2

    def after_failure(self, parcel: Parcel, answer: NotTaken, *, now: datetime, chance: float) -> Attempted:
        """What becomes of a message that was not taken; `chance`, from 0 to 1, spreads the pauses."""
        deadline = parcel.queued_at + self.give_up_after
        over = answer.gone or now >= deadline
        return Attempted(
            status=DeliveryStatus.FAILED if over else DeliveryStatus.PENDING,
            http_status=answer.status,
            failure=answer.failure,
            next_attempt_at=now if over else min(deadline, now + self._pause(parcel, answer, now, chance)),
            switch_off=self._switch_off(parcel, answer, now),
        )

    def _pause(self, parcel: Parcel, answer: NotTaken, now: datetime, chance: float) -> timedelta:
        """At least as long as the receiver asked for, but nobody may ask for more than the longest pause."""
        age = max(timedelta(), now - parcel.queued_at)
        spread = 1 + self.jitter * (2 * chance - 1)
        pause = (self.first_pause + age * self.growth) * spread
        return min(self.pause_max, max(pause, answer.retry_after or timedelta()))

    def _switch_off(self, parcel: Parcel, answer: NotTaken, now: datetime) -> str | None:
        if answer.gone:
            return "the endpoint answered 410: it wants no more messages"
        if parcel.failing_since is None or now - parcel.failing_since < self.switch_off_after:
            return None
        return f"every attempt has failed since {parcel.failing_since:%Y-%m-%d %H:%M} UTC: {answer.failure}"


@dataclass(slots=True)
class Courier:
    """Any number may run at once; a delivery whose courier is killed is sent by another one after its lease."""

    database: Database
    sender: WebhookSender
    poll_interval: timedelta
    kept_for: timedelta
    persistence: Persistence = field(default_factory=Persistence)
    at_once: int = 32
    """How many messages are on their way at most."""
    clock: Callable[[], datetime] | None = None
    """Only tests have one: what is due is due by the database's, on which couriers agree."""
    chance: Callable[[], float] = field(default_factory=lambda: SystemRandom().random)
    events_waiting: asyncio.Event = field(default_factory=asyncio.Event)
    _under_way: dict[asyncio.Task[None], str] = field(default_factory=dict)
    """Each attempt, and the endpoint it is for."""

    async def carry(self, stop: asyncio.Event) -> None:
        """Hand out, send and tidy up until told to stop; the attempts under way are finished first."""
        await asyncio.gather(self._deliver(stop), self._tidy(stop))

    async def deliver_due(self) -> None:
        """Hand out what is new, send everything that is due, and wait until all of it has been tried once."""
        await hand_out(self.database, now=await self._now())
        while await self._send_due():
            await asyncio.wait(list(self._under_way))

    async def tidy_up(self) -> None:
        """Put a restored feed right, give up what waits for nothing, and drop what is older than it is kept."""
        now = await self._now()
        if await mend_events(self.database):
            _LOG.warning("events.mended")
        await give_up_paused(self.database, before=now - self.persistence.give_up_after)
        forgotten = await forget_deliveries(self.database, before=now - self.kept_for)
        dropped = await drop_old_events(self.database, now=now, kept_for=self.kept_for)
        _LOG.info("events.dropped", events=dropped, deliveries=forgotten)

    async def _deliver(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self.events_waiting.clear()
            well = await self._try(self._round)
            pause = self.poll_interval if well else _PAUSE_WHEN_BROKEN
            await _first_of(self.events_waiting, stop, within=pause)
        if self._under_way:
            await asyncio.wait(list(self._under_way))

    async def _tidy(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            well = await self._try(self.tidy_up)
            await _first_of(stop, within=_TIDY_EVERY if well else _PAUSE_WHEN_BROKEN)

    async def _round(self) -> None:
        await hand_out(self.database, now=await self._now())
        await self._send_due()

    async def _send_due(self) -> int:
        """Start an attempt at each delivery that is due, as far as there is room; how many were started."""
        room = self.at_once - len(self._under_way)
        if room <= 0:
            return 0
        busy = sorted(set(self._under_way.values()))
        parcels = await claim_parcels(self.database, now=await self._now(), most=room, busy=busy)
        for parcel in parcels:
            attempt = asyncio.create_task(self._attempt(parcel))
            self._under_way[attempt] = parcel.endpoint_id
            attempt.add_done_callback(self._back)
        return len(parcels)

    def _back(self, attempt: asyncio.Task[None]) -> None:
        """There is room again, and perhaps more for the same endpoint."""
        del self._under_way[attempt]
        self.events_waiting.set()

    async def _attempt(self, parcel: Parcel) -> None:
        """Send and write down how it went. What cannot be written down is sent again when its lease is over."""
        await self._try(partial(self._send, parcel))

    async def _send(self, parcel: Parcel) -> None:
        message = Message(id=parcel.id, url=parcel.url, body=parcel.body, secrets=parcel.secrets)
        answer = await self.sender.send(message, now=await self._now())
        now = await self._now()
        attempted = self._judge(parcel, answer, now)
        await record_attempt(self.database, parcel, attempted, now=now)
        which = {"delivery_id": parcel.id, "endpoint_id": parcel.endpoint_id}
        _LOG.info("webhook.attempted", status=attempted.status.value, failure=attempted.failure, **which)
        if attempted.switch_off is not None:
            _LOG.warning("webhook.endpoint_off", reason=attempted.switch_off, **which)

    async def _now(self) -> datetime:
        return self.clock() if self.clock else await tell_time(self.database)

    def _judge(self, parcel: Parcel, answer: Taken | NotTaken, now: datetime) -> Attempted:
        match answer:
            case Taken(status=status):
                return Attempted(DeliveryStatus.DELIVERED, status, None, now)
            case NotTaken():
                return self.persistence.after_failure(parcel, answer, now=now, chance=self.chance())

    async def _try(self, step: Callable[[], Awaitable[None]]) -> bool:
        """Take the step; whether it went well."""
        try:
            await step()
        except OUTAGES as unreachable:
            _LOG.warning("courier.out_of_reach", cause=type(unreachable).__name__)
            return False
        except Exception:  # noqa: BLE001 a defect here must not stop the watcher beside it
            _LOG.exception("courier.step_failed")
            return False
        return True


async def _first_of(*events: asyncio.Event, within: timedelta) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=within.total_seconds(), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
