"""The commands for API keys: `python -m api keys create | list | revoke`."""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from adapters.postgres.clock import read_clock
from adapters.postgres.database import Database
from adapters.postgres.keys import KeyRecord, KeyUnknown, create_key, list_keys, revoke_key
from adapters.postgres.owners import OwnerUnknown
from api.scopes import Scope

NAME_LENGTH_MAX = 100
DAYS_MAX = 36_500


def add_key_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the commands and their arguments."""
    create = commands.add_parser("create", help="make a key; it is the last line printed, this once")
    create.add_argument("--name", required=True, type=_name, help="what the key is for")
    create.add_argument(
        "--scopes", required=True, type=_scopes, help=f"with commas between, of: {', '.join(Scope)}"
    )
    create.add_argument("--owner", help="the only owner that exists for the key")
    create.add_argument(
        "--expires-in-days", type=_days, help="after how many days it ends; never, if left out"
    )
    commands.add_parser("list", help="show all keys, but not the keys themselves")
    commands.add_parser("revoke", help="make a key worthless at once").add_argument("id")


async def run_key_command(arguments: argparse.Namespace, database: Database) -> int:
    """Run one of the commands. Returns the exit code."""
    try:
        match arguments.command:
            case "create":
                await _create(arguments, database)
            case "list":
                await _list(database)
            case _:
                await _revoke(arguments.id, database)
    except (OwnerUnknown, KeyUnknown) as unknown:
        sys.stderr.write(f"{unknown}\n")
        return 1
    return 0


async def _create(arguments: argparse.Namespace, database: Database) -> None:
    days: int | None = arguments.expires_in_days
    async with database.commit() as session:
        expires_at = await read_clock(session) + timedelta(days=days) if days else None
        key_id, key = await create_key(
            session,
            name=arguments.name,
            scopes=arguments.scopes,
            owner_id=arguments.owner,
            expires_at=expires_at,
        )
    until = f", until {expires_at:%Y-%m-%d %H:%M} UTC" if expires_at else ""
    sys.stdout.write(f"{key_id} may {', '.join(arguments.scopes)}{until}. The key, shown this once:\n{key}\n")


async def _list(database: Database) -> None:
    async with database.read() as session:
        keys = await list_keys(session)
        now = await read_clock(session)
    for key in keys:
        owner = f" owner={key.owner_id}" if key.owner_id else ""
        until = f" until={key.expires_at.astimezone(UTC):%Y-%m-%dT%H:%MZ}" if key.expires_at else ""
        scopes = ",".join(key.scopes)
        sys.stdout.write(f"{key.id} {_standing(key, now)} {scopes}{owner}{until} {key.name}\n")


async def _revoke(key_id: str, database: Database) -> None:
    async with database.commit() as session:
        await revoke_key(session, key_id, at=await read_clock(session))
    sys.stdout.write(f"{key_id} is revoked\n")


def _standing(key: KeyRecord, now: datetime) -> str:
    if key.revoked_at:
        return "revoked"
    return "expired" if key.expires_at and key.expires_at <= now else "valid"


def _name(text: str) -> str:
    if not text.strip() or len(text) > NAME_LENGTH_MAX or not text.isprintable():
        message = f"a name is 1 to {NAME_LENGTH_MAX} printable characters"
        raise argparse.ArgumentTypeError(message)
    return text.strip()


def _scopes(text: str) -> Sequence[str]:
    named = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [part for part in named if part not in tuple(Scope)]
    if unknown or not named:
        what = f"{', '.join(unknown)} is no scope" if unknown else "at least one scope is needed"
        message = f"{what}; known are {', '.join(Scope)}"
        raise argparse.ArgumentTypeError(message)
    return sorted(set(named))


def _days(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= DAYS_MAX:
        message = f"a number of days, from 1 to {DAYS_MAX}"
        raise argparse.ArgumentTypeError(message)
    return int(text)
