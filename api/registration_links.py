"""Links by which owners and operators register a passkey for the pages: over HTTP, and by command."""

import argparse
import base64
import hashlib
import hmac
import secrets
import sys
from dataclasses import replace
from functools import partial

from fastapi import APIRouter, Request
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.responses import Response

from adapters.postgres.answers import Answer
from adapters.postgres.clock import read_clock
from adapters.postgres.database import Database
from adapters.postgres.links import create_link
from adapters.postgres.owners import OwnerUnknown
from adapters.postgres.people import PersonRecord, operator_named, person_of_owner
from api.authentication import Admin, key_of
from api.once import OnceDep, answered
from api.refusals import refusals
from api.wire import Moment, PathId, View
from console.join import address_of
from console.wiring import WiringDep

OPERATOR_LENGTH_MAX = 100
_PURPOSE = b"tidemark/registration-link/v1\0"
_BY_COMMAND = "a command"

router = APIRouter(prefix="/v1/owners", tags=["owners"])


class RegistrationLinkView(View):
    """A link that an owner opens in a browser to register a passkey. It works once."""

    url: str
    expires_at: Moment


@router.post(
    "/{owner_id}/registration-links",
    status_code=201,
    operation_id="create_registration_link",
    response_model=RegistrationLinkView,
    responses=refusals(OwnerUnknown),
)
async def post_registration_link(
    request: Request, owner_id: PathId, admin: Admin, once: OnceDep, wiring: WiringDep
) -> Response:
    """Make a link by which the owner registers a passkey, and give it to nobody else: it opens their wallets.

    It works once, for 24 hours. Those that were made for the owner before, and not used, end. An owner who has passkeys
    keeps them; with the link they add another one, and get new recovery codes.
    """
    key = key_of(request)

    async def create(session: AsyncSession) -> Answer:
        person = await person_of_owner(session, owner_id, bound_to=admin.owner_id)
        seed = secrets.token_urlsafe(32)
        made = await create_link(
            session,
            person.id,
            made_by=f"{admin.name} ({admin.id})",
            now=await read_clock(session),
            token=_grow(seed, key),
        )
        return answered(
            RegistrationLinkView(url=address_of(wiring.public_url, seed), expires_at=made.expires_at),
            status=201,
        )

    return await once.answer(create, reveal=partial(_reveal, key=key))


def _reveal(kept: Answer, *, key: str) -> Answer:
    """The answer with the link in it. What is kept for repeats holds a seed instead, of no use without the API key."""
    view = RegistrationLinkView.model_validate_json(kept.body)
    place, _, seed = view.url.rpartition("/")
    url = f"{place}/{_grow(seed, key)}"
    return replace(kept, body=view.model_copy(update={"url": url}).model_dump_json())


def _grow(seed: str, key: str) -> str:
    """The token that this seed and this API key make: as random as both, and the same at every repeat."""
    grown = hmac.digest(key.encode(), _PURPOSE + seed.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(grown).rstrip(b"=").decode()


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
