"""The command for registration links: `python -m api links create`."""

import argparse
import sys

from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.clock import read_clock
from adapters.postgres.database import Database
from adapters.postgres.links import create_link
from adapters.postgres.owners import OwnerUnknown
from adapters.postgres.people import PersonRecord, operator_named, person_of_owner
from console.links import address_of

OPERATOR_LENGTH_MAX = 100
_BY_COMMAND = "a command"


def add_link_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the command and its arguments."""
    create = commands.add_parser(
        "create", help="make a link, printed this once, for an owner, an operator or both"
    )
    create.add_argument("--owner", help="the id of the owner who is to register")
    create.add_argument("--operator", type=_name, help="the name of the operator who is to, new or known")
    create.add_argument(
        "--unless-registered", action="store_true", help="make none for somebody who has a passkey"
    )


async def run_link_command(arguments: argparse.Namespace, database: Database, *, public_url: str) -> int:
    """Make the links, and print them. Returns the exit code."""
    if arguments.owner is None and arguments.operator is None:
        sys.stderr.write("Say whose link it is to be: --owner with an id, or --operator with a name.\n")
        return 2
    try:
        async with database.commit() as session:
            told = [
                await _create(session, person, arguments, public_url)
                for person in await _people(session, arguments)
            ]
    except OwnerUnknown as unknown:
        sys.stderr.write(f"{unknown}\n")
        return 1
    sys.stdout.write("".join(told))
    return 0


async def _people(session: AsyncSession, arguments: argparse.Namespace) -> list[PersonRecord]:
    owner = [await person_of_owner(session, arguments.owner)] if arguments.owner else []
    operator = [await operator_named(session, arguments.operator)] if arguments.operator else []
    return owner + operator


async def _create(
    session: AsyncSession, person: PersonRecord, arguments: argparse.Namespace, public_url: str
) -> str:
    if arguments.unless_registered and person.registered:
        return f"{person.name} has a passkey already: no link was made.\n"
    link = await create_link(session, person.id, made_by=_BY_COMMAND, now=await read_clock(session))
    told = (
        f"By this link {person.name} registers a passkey, once, until {link.expires_at:%Y-%m-%d %H:%M} UTC:"
    )
    return f"{told}\n{address_of(public_url, link.token)}\n"


def _name(text: str) -> str:
    if not text.strip() or len(text) > OPERATOR_LENGTH_MAX or not text.isprintable():
        message = f"a name is 1 to {OPERATOR_LENGTH_MAX} printable characters"
        raise argparse.ArgumentTypeError(message)
    return text.strip()
