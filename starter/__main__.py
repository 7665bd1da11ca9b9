"""The starter's commands: `watch` judges and sends webhooks for ever, `run RULE` starts one top-up, `audit` looks."""

import argparse
import asyncio
import signal
import sys

import structlog
from sqlalchemy.exc import SQLAlchemyError
from temporalio.client import Client

from adapters.notify.webhook import WebhookSender
from adapters.postgres.claims import Claims
from adapters.postgres.database import EVENT_CHANNEL, WAKE_CHANNEL, Database
from adapters.postgres.wakes import Wakes
from runtime.lifeline import watch_lifeline
from runtime.logs import configure_logs
from runtime.patience import patience_of
from runtime.points import CLAIMS, RUNS, points_of, stop_at
from runtime.rights import warn_of_rights
from runtime.settings import Settings, SettingsInvalid, read_settings
from runtime.temporal import TemporalSettingsInvalid, connect
from starter.audit import run_audit
from starter.by_hand import run_rule
from starter.courier import Courier, Persistence
from starter.runs import TemporalRuns
from starter.watcher import Watcher

_LOG = structlog.get_logger()


def main(arguments: list[str]) -> int:
    """Run one command. Returns the exit code."""
    wanted = _parser().parse_args(arguments)
    try:
        settings = read_settings()
    except SettingsInvalid as invalid:
        sys.stderr.write(f"{invalid}\n")
        return 2
    configure_logs(log_format=settings.log_format, log_level=settings.log_level)
    try:
        return _run(settings, wanted)
    except TemporalSettingsInvalid as invalid:
        sys.stderr.write(f"{invalid}\n")
        return 2


def _run(settings: Settings, wanted: argparse.Namespace) -> int:
    if wanted.command == "watch":
        watch_lifeline()
        asyncio.run(watch(settings))
        return 0
    if wanted.command == "audit":
        return asyncio.run(look_at_the_books(settings))
    rule_id: str = wanted.rule
    return asyncio.run(start_by_hand(settings, rule_id))


async def watch(settings: Settings) -> None:
    """Wire the watcher and the courier, and let both run until SIGTERM or SIGINT, also while Temporal is away."""
    stop = asyncio.Event()
    for ending in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(ending, stop.set)
    database = Database.open(settings.database_url, pool_size=settings.database_pool_size)
    watcher, _ = build_watcher(settings, database, await connect(settings, lazy=True))
    courier = build_courier(settings, database)
    ears = {
        WAKE_CHANNEL: (watcher.events_waiting, watcher.top_ups_waiting),
        EVENT_CHANNEL: (courier.events_waiting,),
    }
    wakes = Wakes(settings.database_url, ears)
    listening = asyncio.create_task(wakes.listen())
    warning = asyncio.create_task(warn_of_rights(settings, database))
    _LOG.info("watcher.started", poll_interval=str(settings.poll_interval))
    await asyncio.gather(watcher.watch(stop), courier.carry(stop))
    listening.cancel()
    warning.cancel()
    await database.close()
    _LOG.info("watcher.stopped")


async def start_by_hand(settings: Settings, rule_id: str) -> int:
    """Have one rule judged now, and follow its top-up to the end. Returns the exit code."""
    database = Database.open(settings.database_url, pool_size=settings.database_pool_size)
    try:
        watcher, runs = build_watcher(settings, database, await connect(settings))
        sentence, code = await run_rule(watcher, runs, rule_id)
    finally:
        await database.close()
    (sys.stdout if code == 0 else sys.stderr).write(f"{sentence}\n")
    return code


async def look_at_the_books(settings: Settings) -> int:
    """Audit the database, also a live one. Returns 0 when all holds, 1 on a breach, 2 when it could not look."""
    database = Database.open(settings.database_url, pool_size=1)
    try:
        sentences, code = await run_audit(database)
    except (SQLAlchemyError, OSError) as out_of_reach:
        _LOG.debug("audit.refused", error=str(out_of_reach))
        sys.stderr.write(
            "Nothing was looked at: the database cannot be reached or is not up to date. Check TIDEMARK_DATABASE_URL, "
            "then run `python -m adapters.postgres upgrade`.\n"
        )
        return 2
    finally:
        await database.close()
    sys.stdout.write(f"{sentences}\n")
    return code


def build_watcher(settings: Settings, database: Database, client: Client) -> tuple[Watcher, TemporalRuns]:
    """A watcher, and the runs it starts."""
    runs = TemporalRuns(client, settings.task_queue)
    points = points_of(settings)
    return Watcher(
        database=database,
        runs=stop_at(points, runs, RUNS),
        patience=patience_of(settings),
        poll_interval=settings.poll_interval,
        claims=stop_at(points, Claims(database), CLAIMS, lambda judged: " ".join(judged.claimed)),
    ), runs


def build_courier(settings: Settings, database: Database) -> Courier:
    """A courier for the webhooks."""
    return Courier(
        database=database,
        sender=WebhookSender(allow_private=settings.webhooks_allow_private),
        poll_interval=settings.poll_interval,
        kept_for=settings.events_kept_for,
        persistence=Persistence(
            give_up_after=settings.webhook_give_up_after,
            switch_off_after=settings.webhook_switch_off_after,
        ),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m starter", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("watch", help="judge balance events, start top-ups and send webhooks, until stopped")
    run = commands.add_parser("run", help="judge one rule now, as if its owner had just saved it")
    run.add_argument("rule", help="the rule's id, rule_…")
    commands.add_parser(
        "audit", help="look whether the books agree, at any time; exits with 1 if they do not"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
