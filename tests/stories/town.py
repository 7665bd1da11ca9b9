"""A town of its own for each story: database, worker, watcher, task queue, and recording channels."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import uuid4

from temporalio.client import Client, WorkflowHandle

from activities.messages import Ended
from activities.ports import Accounts, Letter
from adapters.postgres.database import Database
from adapters.postgres.tables import TopUpRow
from runtime.patience import patience_of
from runtime.settings import Settings
from starter.runs import TemporalRuns
from starter.watcher import Watcher
from tests.builders import Household, open_household
from topup.keys import workflow_id
from worker import Workers, accounts_of, build_activities, build_worker
from workflows.top_up import TopUp


@dataclass(slots=True)
class Channel:
    """A recording channel: what was sent, and what to refuse with."""

    sent: list[Letter] = field(default_factory=list)
    refusal: Exception | None = None
    on_sent: Callable[[], None] = lambda: None
    on_refused: Callable[[], None] = lambda: None

    async def send(self, letter: Letter) -> None:
        """Keep the letter, or refuse it."""
        if self.refusal is not None:
            self.on_refused()
            raise self.refusal
        self.sent.append(letter)
        self.on_sent()


@dataclass(slots=True)
class Town:
    """Everything one story needs; the watcher takes a step only when the story says so."""

    database: Database
    client: Client
    settings: Settings
    watcher: Watcher
    runs: TemporalRuns
    accounts: Accounts
    channels: dict[str, Channel]

    async def open_household(self, *, balance: str, currency: str = "USDT") -> Household:
        """An owner with a wallet of this balance."""
        return await open_household(self.database, balance=balance, currency=currency)

    async def watch(self) -> None:
        """Judge what has happened and hand the claimed top-ups to Temporal."""
        await self.watcher.judge_all()
        await self.watcher.hand_over_all()

    async def handle(self, home: Household) -> WorkflowHandle[TopUp, Ended]:
        """The newest top-up's run."""
        top_up = (await home.top_ups())[-1]
        return self.client.get_workflow_handle_for(TopUp.run, workflow_id(top_up.id))

    async def see_through(self, home: Household) -> TopUpRow:
        """Watch, then wait for the newest top-up's run to end; the top-up as recorded."""
        await self.watch()
        await (await self.handle(home)).result()
        return (await home.top_ups())[-1]

    def worker(self) -> Workers:
        """A worker over this town's adapters, with its recording channels."""
        return build_worker(self.client, self.settings, self.activities())

    def activities(self) -> list[Callable[..., Any]]:
        """The deeds over this town's adapters."""
        return build_activities(
            self.database, self.settings, runs=self.runs, accounts=self.accounts, senders=self.channels
        )

    def with_settings(self, **changes: object) -> Settings:
        """This town's settings, changed."""
        return self.settings.model_copy(update=changes)


@asynccontextmanager
async def open_town(client: Client, database: Database, database_url: str) -> AsyncIterator[Town]:
    """A town whose worker is not running yet."""
    settings = Settings(
        environment="development",
        database_url=database_url,
        task_queue=f"stories-{uuid4().hex[:8]}",
        draw_timeout=timedelta(seconds=2),
        notify_patience=timedelta(seconds=2),
        sweep_grace=timedelta(milliseconds=1),
    )
    runs = TemporalRuns(client, settings.task_queue)
    watcher = Watcher(
        database=database, runs=runs, patience=patience_of(settings), poll_interval=settings.poll_interval
    )
    channels = {"email": Channel(), "push": Channel()}
    yield Town(database, client, settings, watcher, runs, accounts_of(database, settings), channels)
