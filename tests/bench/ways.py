"""The two ways that are raced: a payment that becomes a top-up, and a bare workflow of the same shape.

Everything of ours runs in this one program: who pays, the watcher with its ear, and the worker. The bare way has its
starter and its worker here too. Both workers have the same settings, and neither way delivers its notices.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

from sqlmodel import col, select
from temporalio.client import Client
from temporalio.worker import Worker

from activities.ports import Letter
from adapters.postgres.database import WAKE_CHANNEL, Database
from adapters.postgres.ids import new_id
from adapters.postgres.ledger import LedgerAccounts, pay_from
from adapters.postgres.tables import TopUpRow
from adapters.postgres.wakes import Wakes
from runtime.patience import patience_of
from runtime.settings import Settings
from starter.runs import TemporalRuns
from starter.watcher import Watcher
from tests.bench.bare import Bare, BareDeeds
from tests.builders import Household, open_household
from topup.keys import workflow_id
from topup.money import Money
from worker import Workers, build_activities, build_worker

OUR_QUEUE, BARE_QUEUE = "bench-ours", "bench-bare"
CHANNELS = ("email", "push")
_THRESHOLD, _AMOUNT = "50", "100"
_BALANCE, _FUNDS = "140", "1000000"


class Way(ABC):
    """Something that can be gone many times at once; each time is called a run."""

    def __init__(self, client: Client) -> None:
        """Keep the moments of every run, by the clock of this machine."""
        self.client = client
        self.begun: dict[str, float] = {}
        self.told: dict[str, float] = {}

    @abstractmethod
    async def go(self) -> str:
        """Go once, until the owner was told on both channels; the run's name, which is its workflow's id."""

    @abstractmethod
    async def ended(self, runs: Sequence[str]) -> Mapping[str, float]:
        """The moment at which each run's settling was done."""

    async def see_out(self, runs: Sequence[str]) -> None:
        """Wait until these runs are over for the server too."""
        await asyncio.gather(*[self.client.get_workflow_handle(run).result() for run in runs])


class BareWay(Way):
    """Begins where a client calls for a start, is ended when its fourth activity runs, tells in the last two."""

    def __init__(self, client: Client, deeds: BareDeeds, task_queue: str) -> None:
        """Over the deeds that the worker does."""
        super().__init__(client)
        self._deeds = deeds
        self._task_queue = task_queue
        self._numbers = count(1)

    async def go(self) -> str:
        """Start one and wait for its notices."""
        run = f"{self._task_queue}/{next(self._numbers)}"
        told = self._deeds.told[run] = asyncio.Event()
        self.begun[run] = time.time()
        await self.client.start_workflow(Bare.run, run, id=run, task_queue=self._task_queue)
        await told.wait()
        self.told[run] = time.time()
        return run

    async def ended(self, runs: Sequence[str]) -> Mapping[str, float]:
        """As the deeds have kept it."""
        return {run: self._deeds.ended_at[run] for run in runs}


@dataclass(slots=True)
class Postbox:
    """Both channels' sender: counts the letters of each top-up, and delivers none."""

    letters: Counter[str] = field(default_factory=Counter)
    waiting: dict[str, asyncio.Future[str]] = field(default_factory=dict)

    def expect(self, name: str) -> asyncio.Future[str]:
        """The top-up about which this owner will have been told on every channel."""
        self.waiting[name] = asyncio.get_running_loop().create_future()
        return self.waiting[name]

    async def send(self, letter: Letter) -> None:
        """Count the letter."""
        self.letters[letter.about] += 1
        if self.letters[letter.about] == len(CHANNELS):
            self.waiting.pop(letter.to_name).set_result(letter.about)


class OurWay(Way):
    """Begins with a payment's commit, is ended when the record says so, tells on both channels."""

    def __init__(self, client: Client, payer: Database, postbox: Postbox) -> None:
        """Over households that `settle_in` brings."""
        super().__init__(client)
        self._payer = payer
        self._postbox = postbox
        self._idle: asyncio.Queue[tuple[str, Household]] = asyncio.Queue()

    async def settle_in(self, households: int) -> None:
        """Let households live here whose every payment leaves too little, and whose first source covers it all."""
        for number in range(households):
            home = await open_household(self._payer, balance=_BALANCE, name=f"Ada{number}")
            await home.fund(_FUNDS, "USDT")
            await home.draw_up_rule(threshold=_THRESHOLD, amount=_AMOUNT, sources=("USDT", "USDC"))
            self._idle.put_nowait((f"Ada{number}", home))

    async def go(self) -> str:
        """Pay from a wallet that has no top-up on its way, and wait until its owner has been told."""
        name, home = await self._idle.get()
        told = self._postbox.expect(name)
        paid_at = await self._pay(home)
        run = workflow_id(await told)
        self.begun[run], self.told[run] = paid_at, time.time()
        self._idle.put_nowait((name, home))
        return run

    async def ended(self, runs: Sequence[str]) -> Mapping[str, float]:
        """As the database has recorded it, in the commit that ended each."""
        async with self._payer.read() as session:
            rows = (await session.exec(select(TopUpRow).where(col(TopUpRow.state) == "ended"))).all()
        recorded = {workflow_id(row.id): row.ended_at for row in rows if row.ended_at is not None}
        return {run: recorded[run].timestamp() for run in runs}

    async def _pay(self, home: Household) -> float:
        """Pay as the API does; the moment of the commit."""
        async with self._payer.commit() as session:
            amount = Money.parse(_AMOUNT, home.currency)
            paid = await pay_from(session, key=new_id("payment"), wallet_id=home.wallet_id, amount=amount)
        moment = time.time()
        if not paid.moved:
            message = f"{home.wallet_id} lacks the money to pay"
            raise RuntimeError(message)
        await self._payer.wake_watchers()
        return moment


@asynccontextmanager
async def both_ways(
    client: Client, database_url: str, *, households: int
) -> AsyncIterator[tuple[OurWay, BareWay]]:
    """Both workers, a watcher that listens, and households that pay; each of ours has connections of its own."""
    settings = Settings(environment="production", database_url=database_url, task_queue=OUR_QUEUE)
    databases = [Database.open(database_url, pool_size=settings.database_pool_size) for _ in range(3)]
    payer, for_worker, for_watcher = databases
    postbox, deeds = Postbox(), BareDeeds()
    ours, bare = OurWay(client, payer, postbox), BareWay(client, deeds, BARE_QUEUE)
    await ours.settle_in(households)
    worker = _worker(client, settings, for_worker, postbox)
    async with worker, _bare_worker(worker, deeds), _watcher(client, settings, for_watcher):
        yield ours, bare
    for database in databases:
        await database.close()


def _worker(client: Client, settings: Settings, database: Database, postbox: Postbox) -> Workers:
    activities = build_activities(
        database,
        settings,
        runs=TemporalRuns(client, settings.task_queue),
        accounts=LedgerAccounts(database),
        senders=dict.fromkeys(CHANNELS, postbox),
    )
    return build_worker(client, settings, activities)


def _bare_worker(ours: Workers, deeds: BareDeeds) -> Worker:
    """Ours in every setting, for other work."""
    config = ours.first.config()
    config["task_queue"] = BARE_QUEUE
    config["workflows"] = [Bare]
    config["activities"] = [deeds.step, deeds.notice]
    return Worker(**config)


@asynccontextmanager
async def _watcher(client: Client, settings: Settings, database: Database) -> AsyncIterator[None]:
    """A watcher woken by PostgreSQL's notifications, as `python -m starter watch` wires it."""
    watcher = Watcher(
        database=database,
        runs=TemporalRuns(client, settings.task_queue),
        patience=patience_of(settings),
        poll_interval=settings.poll_interval,
    )
    wakes = Wakes(settings.database_url, {WAKE_CHANNEL: (watcher.events_waiting, watcher.top_ups_waiting)})
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        listening = group.create_task(wakes.listen())
        group.create_task(watcher.watch(stop))
        await wakes.connected.wait()
        try:
            yield
        finally:
            stop.set()
            watcher.events_waiting.set()
            watcher.top_ups_waiting.set()
            listening.cancel()
