"""A ceremony at a page: its challenge is remembered by a cookie of this browser, and can be answered once."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any

from fastapi import Form, Request
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.responses import JSONResponse, Response

from adapters.postgres.ceremonies import LASTS, Ceremony, Purpose, begin_ceremony, take_ceremony
from adapters.postgres.clock import read_clock
from adapters.postgres.passkeys import (
    NAME_LENGTH_MAX,
    LastPasskey,
    PasskeyRecord,
    PasskeysTooMany,
    PasskeyTaken,
    list_passkeys,
)
from adapters.postgres.people import PersonRecord
from adapters.postgres.sessions import begin_session, end_session_of
from console.browsers import browser_of
from console.passkeys import (
    CREDENTIAL_LENGTH_MAX,
    Fault,
    PasskeyRefused,
    creation_options,
    new_challenge,
    request_options,
)
from console.texts import mark
from console.visitors import COOKIE as SESSION_COOKIE
from console.wiring import Wiring

COOKIE = "__Host-tidemark-ceremony"

CredentialField = Annotated[str, Form(alias="credential", max_length=CREDENTIAL_LENGTH_MAX)]
"""The browser's answer, which a script has put into the form."""
NameField = Annotated[str, Form(alias="name", max_length=200)]


REFUSALS = (PasskeyRefused, PasskeyTaken, PasskeysTooMany, LastPasskey)
"""What a person who looks after their passkeys is told on the page they are at."""
_WORDS: Mapping[type[Exception], str] = MappingProxyType(
    {
        PasskeyTaken: mark(
            "This passkey is registered already, and nothing was changed. Sign in with it, or make one on another "
            "device."
        ),
        PasskeysTooMany: mark(
            "You have twenty passkeys, and nothing was changed. Remove one before you add another."
        ),
        LastPasskey: mark(
            "Without this passkey you could not sign in any more, and nothing was changed. Add another one first."
        ),
    }
)


def words_of(refused: Exception) -> str:
    """What a refusal says to a person: what happened, and what to do next."""
    return _WORDS.get(type(refused), str(refused))


async def ask_for_passkey(wiring: Wiring, purpose: Purpose, *, person_id: str | None) -> Response:
    """The options with which a browser asks for a passkey: one of the person's, or any where nobody is known yet."""
    challenge = new_challenge()
    passkeys: tuple[PasskeyRecord, ...] = ()
    if person_id is not None:
        async with wiring.database.read() as session:
            passkeys = await list_passkeys(session, person_id)
    token = await begin_ceremony(wiring.database, purpose, challenge=challenge, person_id=person_id)
    answer = JSONResponse(request_options(wiring, challenge=challenge, passkeys=passkeys))
    remember(answer, token)
    return answer


async def ask_for_new_passkey(
    wiring: Wiring, person: PersonRecord, *, link_hash: str | None = None
) -> tuple[dict[str, Any], str]:
    """The options with which a browser makes a passkey for this person, and the ceremony's token."""
    challenge = new_challenge()
    async with wiring.database.read() as session:
        passkeys = await list_passkeys(session, person.id)
    options = creation_options(
        wiring, challenge=challenge, name=person.name, handle=person.handle, passkeys=passkeys
    )
    token = await begin_ceremony(
        wiring.database, Purpose.REGISTER, challenge=challenge, person_id=person.id, link_hash=link_hash
    )
    return options, token


async def take(request: Request, wiring: Wiring, purpose: Purpose) -> Ceremony:
    """What this browser was asked; it cannot be answered again. Raises PasskeyRefused."""
    token = request.cookies.get(COOKIE)
    ceremony = await take_ceremony(wiring.database, token, purpose) if token else None
    if ceremony is None:
        raise PasskeyRefused(Fault.OVER)
    return ceremony


async def begin_anew(
    session: AsyncSession,
    request: Request,
    person_id: str,
    *,
    passkey_id: str | None,
    recovering: bool = False,
) -> str:
    """Begin a session with a new token in the caller's commit, and end the one this browser had; the token."""
    if before := request.cookies.get(SESSION_COOKIE):
        await end_session_of(session, before)
    return await begin_session(
        session,
        person_id,
        browser=browser_of(request),
        passkey_id=passkey_id,
        now=await read_clock(session),
        recovering=recovering,
    )


def remember(answer: Response, token: str) -> None:
    """Put the ceremony's token into the browser."""
    answer.set_cookie(
        COOKIE,
        token,
        max_age=int(LASTS.total_seconds()),
        path="/",
        secure=True,
        httponly=True,
        samesite="strict",
    )


def name_for(given: str, otherwise: str) -> str:
    """A name for a passkey, in one line and of a bounded length; never an empty one."""
    shown = " ".join("".join(sign if sign.isprintable() else " " for sign in given).split())
    return shown[:NAME_LENGTH_MAX].strip() or otherwise
