"""The API's commands: `python -m api` serves, `... keys` and `... links` look after who may come, `... describe`."""

import argparse
import asyncio
import sys

import structlog
from sqlalchemy.exc import SQLAlchemyError

from adapters.postgres.database import Database
from api.keys import add_key_commands, run_key_command
from api.link_commands import add_link_commands, run_link_command
from runtime.lifeline import watch_lifeline
from runtime.logs import configure_logs
from runtime.settings import Settings, SettingsInvalid, read_settings

_COMMAND_POOL_SIZE = 1

_log = structlog.get_logger(__name__)


def main(arguments: list[str]) -> int:
    """Run the command. Returns the exit code."""
    asked = _parser().parse_args(arguments)
    if asked.room == "describe":
        from api.serving import describe  # noqa: PLC0415

        sys.stdout.write(asyncio.run(describe()))
        return 0
    try:
        settings = read_settings()
    except SettingsInvalid as invalid:
        sys.stderr.write(f"{invalid}\n")
        return 2
    configure_logs(log_format=settings.log_format, log_level=settings.log_level)
    if asked.room in ("keys", "links"):
        return asyncio.run(_look_after(asked, settings))
    watch_lifeline()
    from api.serving import serve  # noqa: PLC0415 reading the whole server takes longer than a command does

    return asyncio.run(serve(settings))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m api", description="Serve the HTTP API.")
    rooms = parser.add_subparsers(dest="room")
    rooms.add_parser("describe", help="print the description of the API, OpenAPI 3.1; it needs no settings")
    keys = rooms.add_parser("keys", help="look after the API keys")
    add_key_commands(keys.add_subparsers(dest="command", required=True))
    links = rooms.add_parser("links", help="make links by which people register for the pages")
    add_link_commands(links.add_subparsers(dest="command", required=True))
    return parser


async def _look_after(asked: argparse.Namespace, settings: Settings) -> int:
    database = Database.open(settings.database_url, pool_size=_COMMAND_POOL_SIZE)
    try:
        if asked.room == "links":
            return await run_link_command(asked, database, public_url=settings.public_url)
        return await run_key_command(asked, database)
    except SQLAlchemyError as out_of_reach:
        _log.debug("command.refused", error=str(out_of_reach))
        sys.stderr.write(
            "The database cannot be reached or is not up to date: check TIDEMARK_DATABASE_URL, then run "
            "`python -m adapters.postgres upgrade`.\n"
        )
        return 1
    finally:
        await database.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
