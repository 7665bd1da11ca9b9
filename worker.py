"""The worker: wires adapters into activities, and activities and workflows into one Temporal worker."""

import asyncio
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Self

import structlog
from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion
from temporalio.worker import PollerBehaviorAutoscaling, Worker, WorkerDeploymentConfig

from activities.check import Check
from activities.draw import Draw
from activities.hold import Hold
from activities.notify import Notify
from activities.ports import Accounts, Runs, Sender
from activities.settle import Settle
from activities.sweep import Sweep
from adapters.notify.email import EmailSender
from adapters.notify.mail import contact_of
from adapters.notify.push_inbox import PushInboxSender
from adapters.notify.push_services import PushHosts
from adapters.notify.web_push import WebPushSender
from adapters.postgres.database import Database
from adapters.postgres.deliveries import Channel, DeliveryRecords
from adapters.postgres.faulty import FaultyAccounts
from adapters.postgres.ledger import LedgerAccounts
from adapters.postgres.push_list import OwnersBrowsers
from adapters.postgres.top_ups import TopUpRecords
from runtime.lifeline import watch_lifeline
from runtime.logs import configure_logs
from runtime.patience import patience_of
from runtime.points import ACCOUNTS, DELIVERIES, SENDER, TOP_UPS, points_of, stop_at
from runtime.rights import warn_of_rights
from runtime.settings import Settings, SettingsInvalid, read_settings
from runtime.temporal import TemporalSettingsInvalid, connect, ensure_search_attributes
from starter.runs import TemporalRuns
from starter.schedule import ensure_sweep
from workflows.ids import SEARCH_ATTRIBUTES, channel_queue
from workflows.sweep import SweepOpenTopUps
from workflows.telling import TellOwner
from workflows.top_up import TopUp

WORKFLOWS: Sequence[type] = (TopUp, TellOwner, SweepOpenTopUps)
_GRACE = timedelta(seconds=5)
_LOG = structlog.get_logger()


def main() -> int:
    """Run the worker until SIGTERM or SIGINT; draws under way are finished first. Returns the exit code."""
    try:
        settings = read_settings()
    except SettingsInvalid as invalid:
        sys.stderr.write(f"{invalid}\n")
        return 2
    configure_logs(log_format=settings.log_format, log_level=settings.log_level)
    watch_lifeline()
    try:
        asyncio.run(work(settings))
    except TemporalSettingsInvalid as invalid:
        sys.stderr.write(f"{invalid}\n")
        return 2
    return 0


async def work(settings: Settings) -> None:
    """Wire everything by plain arguments, see that Temporal knows our names, and work until told to stop."""
    stop = asyncio.Event()
    for ending in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(ending, stop.set)
    client = await connect(settings)
    await ensure_search_attributes(client, SEARCH_ATTRIBUTES)
    await ensure_sweep(client, task_queue=settings.task_queue, every=settings.sweep_interval)
    database = Database.open(settings.database_url, pool_size=settings.database_pool_size)
    await warn_of_rights(settings, database)
    runs = TemporalRuns(client, settings.task_queue)
    accounts = accounts_of(database, settings)
    activities = build_activities(
        database, settings, runs=runs, accounts=accounts, senders=senders_of(database, settings)
    )
    async with build_worker(client, settings, activities):
        _LOG.info("worker.started", task_queue=settings.task_queue)
        await stop.wait()
    await database.close()
    _LOG.info("worker.stopped")


class Workers:
    """Several Temporal workers that begin and end together."""

    def __init__(self, first: Worker, *others: Worker) -> None:
        """Each has its own queue; that of the first one is the top-ups'."""
        self.first = first
        self._workers = (first, *others)

    async def __aenter__(self) -> Self:
        """Begin; one that breaks breaks whatever runs within."""
        for worker in self._workers:
            await worker.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *ended: object) -> None:
        """Take up nothing more, and wait for what is under way, all at the same time."""
        await asyncio.gather(*[worker.__aexit__(kind, *ended) for worker in self._workers])


def build_worker(client: Client, settings: Settings, activities: Sequence[Callable[..., Any]]) -> Workers:
    """Workers for workflows and activities, patient enough at their end for the longest draw.

    What tells owners has a worker for each channel: a mail server that hangs for an hour must not take the hands that
    move money, nor those that push (R24). The first one delivers too, what older builds have left in its queue.
    """
    queues = [channel_queue(settings.task_queue, channel) for channel in Channel]
    return Workers(
        _build_one(client, settings, activities, task_queue=settings.task_queue, workflows=WORKFLOWS),
        *[_build_one(client, settings, activities, task_queue=queue, workflows=()) for queue in queues],
    )


def _build_one(
    client: Client,
    settings: Settings,
    activities: Sequence[Callable[..., Any]],
    *,
    task_queue: str,
    workflows: Sequence[type],
) -> Worker:
    return Worker(
        client,
        task_queue=task_queue,
        workflows=workflows,
        activities=activities,
        graceful_shutdown_timeout=settings.draw_timeout + _GRACE,
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=3),
        max_concurrent_activities=settings.database_pool_size,
        workflow_task_poller_behavior=PollerBehaviorAutoscaling(),
        activity_task_poller_behavior=PollerBehaviorAutoscaling(),
        deployment_config=WorkerDeploymentConfig(
            version=WorkerDeploymentVersion(deployment_name="tidemark", build_id=settings.worker_build_id),
            use_worker_versioning=False,
        ),
    )


def build_activities(
    database: Database, settings: Settings, *, runs: Runs, accounts: Accounts, senders: Mapping[str, Sender]
) -> list[Callable[..., Any]]:
    """Every deed over its adapters."""
    points = points_of(settings)
    accounts = stop_at(points, accounts, ACCOUNTS)
    top_ups = stop_at(points, TopUpRecords(database, patience_of(settings)), TOP_UPS)
    deliveries = stop_at(points, DeliveryRecords(database, settings.notify_give_up_after), DELIVERIES)
    draw = Draw(accounts, top_ups)
    notify = Notify(
        deliveries, {channel: stop_at(points, sender, SENDER) for channel, sender in senders.items()}
    )
    return [
        Hold(top_ups).hold_lock,
        Check(accounts, top_ups).check,
        draw.draw,
        draw.look_up,
        draw.note_checking,
        Settle(top_ups).settle,
        notify.notify,
        notify.give_up,
        Sweep(top_ups, accounts, deliveries, runs, settings.sweep_grace).sweep,
    ]


def accounts_of(database: Database, settings: Settings) -> Accounts:
    """The embedded ledger; with its fault switches only in development."""
    ledger = LedgerAccounts(database)
    return FaultyAccounts(ledger, database) if settings.environment == "development" else ledger


def senders_of(database: Database, settings: Settings) -> Mapping[str, Sender]:
    """One sender for each channel. Where there is an inbox for pushes it shows all of them, browsers or not."""
    password = settings.smtp_password.get_secret_value() if settings.smtp_password else None
    email = EmailSender(
        host=settings.smtp_host,
        port=settings.smtp_port,
        username=settings.smtp_username,
        password=password,
        security=settings.smtp_security,
        sender=settings.mail_from,
        public_url=settings.public_url,
    )
    browsers = WebPushSender(
        browsers=OwnersBrowsers(database),
        hosts=PushHosts.read(settings.push_hosts),
        contact=contact_of(settings.mail_from, public_url=settings.public_url),
        allow_private=settings.webhooks_allow_private,
    )
    inbox = settings.push_inbox_url
    return {"email": email, "push": PushInboxSender(inbox, browsers=browsers) if inbox else browsers}


if __name__ == "__main__":
    sys.exit(main())
