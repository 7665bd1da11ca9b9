"""The account of whoever is signed in: passkeys, recovery codes, and the browsers they are signed in with."""

from http import HTTPStatus
from typing import Any

import structlog
from fastapi import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from adapters.postgres.ceremonies import Purpose
from adapters.postgres.passkeys import (
    LastPasskey,
    PasskeyUnknown,
    add_passkey,
    list_passkeys,
    remove_passkey,
    rename_passkey,
)
from adapters.postgres.people import read_person
from adapters.postgres.recovery import count_codes_left, make_codes
from adapters.postgres.sessions import Visitor, end_session, list_sessions
from console.browsers import browser_of
from console.ceremony import (
    REFUSALS,
    CredentialField,
    NameField,
    ask_for_new_passkey,
    ask_for_passkey,
    begin_anew,
    name_for,
    remember,
    take,
    words_of,
)
from console.page import render
from console.passkeys import Fault, PasskeyRefused, read_credential, verify_assertion, verify_registration
from console.routes import NOT_FOUND, pages, render_trouble, sign_out_and_go
from console.visitors import KnownVisitor, OnlyRecovering, keep_signed_in
from console.wiring import Wiring, WiringDep

_log = structlog.get_logger(__name__)

router = pages()


@router.get("/account")
async def get_account(request: Request, visitor: KnownVisitor, wiring: WiringDep) -> Response:
    """Everything by which the person signs in. With a recovery code, only the way to a new passkey."""
    return await _page(request, visitor, wiring)


@router.post("/account/passkeys/options")
async def post_options(visitor: KnownVisitor, wiring: WiringDep) -> Response:
    """What a new passkey begins with: showing one that is there; after a recovery code, the new one at once."""
    if not visitor.recovering:
        return await ask_for_passkey(wiring, Purpose.ADD_PASSKEY, person_id=visitor.person_id)
    options, token = await _ask_for_another(wiring, visitor)
    answer = JSONResponse(options)
    remember(answer, token)
    return answer


@router.post("/account/passkeys/confirm")
async def post_confirm(
    request: Request, visitor: KnownVisitor, wiring: WiringDep, credential: CredentialField = ""
) -> Response:
    """Lead on to making another passkey, once one that is there was shown: a stolen session is not enough."""
    _refuse_recovering(visitor)
    try:
        await _prove(request, visitor, wiring, Purpose.ADD_PASSKEY, credential)
    except PasskeyRefused as refused:
        return await _page(request, visitor, wiring, refused=str(refused))
    options, token = await _ask_for_another(wiring, visitor)
    answer = render(request, "new_passkey.html", options=options, suggested=browser_of(request))
    remember(answer, token)
    return answer


@router.post("/account/passkeys")
async def post_passkey(
    request: Request,
    visitor: KnownVisitor,
    wiring: WiringDep,
    credential: CredentialField = "",
    name: NameField = "",
) -> Response:
    """Keep another passkey. After a recovery code the session is a whole one from now on, with a new token."""
    try:
        answered = read_credential(credential)
        ceremony = await take(request, wiring, Purpose.REGISTER)
        if ceremony.person_id != visitor.person_id or ceremony.link_hash is not None:
            raise PasskeyRefused(Fault.OVER)
        new = verify_registration(answered, challenge=ceremony.challenge, wiring=wiring)
        async with wiring.database.commit() as session:
            passkey_id = await add_passkey(
                session, visitor.person_id, new, name=name_for(name, browser_of(request))
            )
            token = None
            if visitor.recovering:
                token = await begin_anew(session, request, visitor.person_id, passkey_id=passkey_id)
    except REFUSALS as refused:
        return await _page(request, visitor, wiring, refused=words_of(refused))
    by = "recovery code" if visitor.recovering else "passkey"
    _log.info("passkey.added", person_id=visitor.person_id, passkey_id=passkey_id, by=by)
    answer = _back("passkey-added")
    if token is not None:
        keep_signed_in(answer, token)
    return answer


@router.post("/account/passkeys/{passkey_id}/rename")
async def post_rename(
    request: Request, passkey_id: str, visitor: KnownVisitor, wiring: WiringDep, name: NameField = ""
) -> Response:
    """Give a passkey the name its owner knows it by."""
    _refuse_recovering(visitor)
    try:
        async with wiring.database.commit() as session:
            await rename_passkey(
                session, passkey_id, person_id=visitor.person_id, name=name_for(name, "Passkey")
            )
    except PasskeyUnknown:
        return render_trouble(request, NOT_FOUND)
    return _back("passkey-renamed")


@router.post("/account/passkeys/{passkey_id}/remove")
async def post_remove(
    request: Request, passkey_id: str, visitor: KnownVisitor, wiring: WiringDep
) -> Response:
    """Forget a passkey, and sign out the other browsers it was used with."""
    _refuse_recovering(visitor)
    try:
        async with wiring.database.commit() as session:
            await remove_passkey(
                session, passkey_id, person_id=visitor.person_id, this_session=visitor.session_id
            )
    except PasskeyUnknown:
        return render_trouble(request, NOT_FOUND)
    except LastPasskey as last:
        return await _page(request, visitor, wiring, refused=words_of(last))
    _log.info("passkey.removed", person_id=visitor.person_id, passkey_id=passkey_id)
    return _back("passkey-removed")


@router.post("/account/recovery-codes/options")
async def post_code_options(visitor: KnownVisitor, wiring: WiringDep) -> Response:
    """What new codes begin with: showing a passkey."""
    _refuse_recovering(visitor)
    return await ask_for_passkey(wiring, Purpose.RECOVERY_CODES, person_id=visitor.person_id)


@router.post("/account/recovery-codes")
async def post_codes(
    request: Request, visitor: KnownVisitor, wiring: WiringDep, credential: CredentialField = ""
) -> Response:
    """Make ten new codes, shown this once; those before them end."""
    _refuse_recovering(visitor)
    try:
        await _prove(request, visitor, wiring, Purpose.RECOVERY_CODES, credential)
    except PasskeyRefused as refused:
        return await _page(request, visitor, wiring, refused=str(refused))
    async with wiring.database.commit() as session:
        codes = await make_codes(session, visitor.person_id)
    _log.info("recovery_codes.made", person_id=visitor.person_id)
    return render(request, "recovery_codes.html", codes=codes, first=False)


@router.post("/account/sessions/{session_id}/end")
async def post_end(session_id: str, visitor: KnownVisitor, wiring: WiringDep) -> Response:
    """Sign one browser out; where it is this one, go back to the sign-in."""
    _refuse_recovering(visitor)
    async with wiring.database.commit() as session:
        await end_session(session, session_id, person_id=visitor.person_id)
    if session_id == visitor.session_id:
        return sign_out_and_go("/sign-in?done=signed-out")
    return _back("session-ended")


async def _prove(
    request: Request, visitor: Visitor, wiring: Wiring, purpose: Purpose, credential: str
) -> None:
    """Have a passkey of the visitor's shown for this purpose, just now. Raises PasskeyRefused."""
    answered = read_credential(credential)
    ceremony = await take(request, wiring, purpose)
    if ceremony.person_id != visitor.person_id:
        raise PasskeyRefused(Fault.OVER)
    await verify_assertion(
        answered,
        challenge=ceremony.challenge,
        wiring=wiring,
        person_id=visitor.person_id,
    )


async def _page(
    request: Request, visitor: Visitor, wiring: Wiring, *, refused: str | None = None
) -> Response:
    status = HTTPStatus.FORBIDDEN if refused else HTTPStatus.OK
    if visitor.recovering:
        return render(
            request, "recovering.html", status=status, refused=refused, suggested=browser_of(request)
        )
    async with wiring.database.read() as session:
        passkeys = await list_passkeys(session, visitor.person_id)
        sessions = await list_sessions(session, visitor.person_id)
        codes_left = await count_codes_left(session, visitor.person_id)
    return render(
        request,
        "account.html",
        status=status,
        refused=refused,
        passkeys=passkeys,
        usable=[passkey for passkey in passkeys if passkey.usable],
        sessions=sessions,
        codes_left=codes_left,
    )


async def _ask_for_another(wiring: Wiring, visitor: Visitor) -> tuple[dict[str, Any], str]:
    """The options with which the visitor's browser makes another passkey, and the ceremony's token."""
    async with wiring.database.read() as session:
        person = await read_person(session, visitor.person_id)
    return await ask_for_new_passkey(wiring, person)


def _refuse_recovering(visitor: Visitor) -> None:
    if visitor.recovering:
        raise OnlyRecovering


def _back(done: str) -> Response:
    return RedirectResponse(f"/account?done={done}", status_code=HTTPStatus.SEE_OTHER)
