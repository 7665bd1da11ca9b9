"""Links by which owners register a passkey for the pages."""

import base64
import hashlib
import hmac
import secrets
from dataclasses import replace
from functools import partial

from fastapi import APIRouter, Request
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.responses import Response

from adapters.postgres.answers import Answer
from adapters.postgres.clock import read_clock
from adapters.postgres.links import create_link
from adapters.postgres.owners import OwnerUnknown
from adapters.postgres.people import person_of_owner
from api.authentication import Admin, key_of
from api.once import OnceDep, answered
from api.refusals import refusals
from api.wire import Moment, PathId, View
from console.links import address_of
from console.wiring import WiringDep

_PURPOSE = b"tidemark/registration-link/v1\0"

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
