"""Registering by a link: the first passkey, and the recovery codes, shown once."""

from http import HTTPStatus

import structlog
from fastapi import Request
from starlette.responses import JSONResponse, Response

from adapters.postgres.ceremonies import Purpose
from adapters.postgres.links import LinkOver, burn_link, find_link, hash_of
from adapters.postgres.passkeys import add_passkey
from adapters.postgres.people import PersonRecord, read_person
from adapters.postgres.recovery import make_codes
from adapters.postgres.sessions import find_visitor
from console.browsers import browser_of
from console.ceremony import (
    REFUSALS,
    CredentialField,
    NameField,
    ask_for_new_passkey,
    begin_anew,
    name_for,
    remember,
    take,
    words_of,
)
from console.page import render
from console.passkeys import Fault, PasskeyRefused, read_credential, verify_registration
from console.routes import Trouble, pages, render_trouble
from console.texts import mark
from console.visitors import AnyVisitor, keep_signed_in
from console.wiring import Wiring, WiringDep

_OVER = Trouble(
    HTTPStatus.GONE,
    mark("This link no longer works"),
    mark(
        "A link works once, for 24 hours, and only the newest one counts. If you have a passkey already, sign in with "
        "it; else ask whoever runs Tidemark for you for a new link."
    ),
)

_log = structlog.get_logger(__name__)

router = pages()


@router.get("/join/{token}")
async def get_join(request: Request, token: str, _visitor: AnyVisitor, wiring: WiringDep) -> Response:
    """Welcome whoever holds the link; looking at it uses nothing up."""
    return await _show(request, wiring, token)


@router.post("/join/{token}/options")
async def post_options(request: Request, token: str, _visitor: AnyVisitor, wiring: WiringDep) -> Response:
    """What the link's person makes a passkey with."""
    try:
        person = await _person(wiring, token)
    except LinkOver:
        return render_trouble(request, _OVER)
    options, ceremony = await ask_for_new_passkey(wiring, person, link_hash=hash_of(token))
    answer = JSONResponse(options)
    remember(answer, ceremony)
    return answer


@router.post("/join/{token}")
async def post_join(
    request: Request,
    token: str,
    _visitor: AnyVisitor,
    wiring: WiringDep,
    credential: CredentialField = "",
    name: NameField = "",
) -> Response:
    """Keep the passkey, use the link up, sign the person in and show their recovery codes, all of it or nothing."""
    try:
        session_token, codes = await _register(request, wiring, token, credential=credential, name=name)
    except LinkOver:
        return render_trouble(request, _OVER)
    except REFUSALS as refused:
        return await _show(request, wiring, token, refused=words_of(refused))
    request.state.visitor = await find_visitor(wiring.database, session_token)
    answer = render(request, "recovery_codes.html", codes=codes, first=True)
    keep_signed_in(answer, session_token)
    return answer


async def _register(
    request: Request, wiring: Wiring, token: str, *, credential: str, name: str
) -> tuple[str, tuple[str, ...]]:
    """The token of the new session, and the codes."""
    answered = read_credential(credential)
    ceremony = await take(request, wiring, Purpose.REGISTER)
    if ceremony.link_hash != hash_of(token):
        raise PasskeyRefused(Fault.OVER)
    new = verify_registration(answered, challenge=ceremony.challenge, wiring=wiring)
    async with wiring.database.commit() as session:
        person_id = await burn_link(session, hash_of(token))
        passkey_id = await add_passkey(session, person_id, new, name=name_for(name, browser_of(request)))
        codes = await make_codes(session, person_id)
        session_token = await begin_anew(session, request, person_id, passkey_id=passkey_id)
    _log.info("passkey.added", person_id=person_id, passkey_id=passkey_id, by="link")
    return session_token, codes


async def _person(wiring: Wiring, token: str) -> PersonRecord:
    person_id = await find_link(wiring.database, token)
    async with wiring.database.read() as session:
        return await read_person(session, person_id)


async def _show(request: Request, wiring: Wiring, token: str, *, refused: str | None = None) -> Response:
    try:
        person = await _person(wiring, token)
    except LinkOver:
        return render_trouble(request, _OVER)
    return render(
        request,
        "join.html",
        status=HTTPStatus.FORBIDDEN if refused else HTTPStatus.OK,
        person=person,
        token=token,
        suggested=browser_of(request),
        refused=refused,
    )
