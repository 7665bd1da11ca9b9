"""Signing in with a passkey, and out again, here or everywhere."""

from http import HTTPStatus
from typing import Annotated

import structlog
from fastapi import Form, Query, Request
from starlette.responses import RedirectResponse, Response

from adapters.postgres.ceremonies import Purpose
from adapters.postgres.sessions import end_all_sessions, end_session
from console.ceremony import CredentialField, ask_for_passkey, begin_anew, take
from console.page import render
from console.passkeys import PasskeyRefused, read_credential, verify_assertion
from console.routes import pages, sign_out_and_go
from console.visitors import AnyVisitor, KnownVisitor, keep_signed_in, safe_path
from console.wiring import WiringDep

_log = structlog.get_logger(__name__)

router = pages()


@router.get("/sign-in")
async def get_sign_in(
    request: Request, visitor: AnyVisitor, way_back: Annotated[str | None, Query(alias="next")] = None
) -> Response:
    """Where a passkey opens what is behind `next`; who is signed in goes on at once."""
    if visitor is not None and not visitor.recovering:
        return RedirectResponse(safe_path(way_back), status_code=HTTPStatus.SEE_OTHER)
    return render(request, "sign_in.html", way_back=safe_path(way_back), refused=None)


@router.post("/sign-in/options")
async def post_options(_visitor: AnyVisitor, wiring: WiringDep) -> Response:
    """A challenge for any passkey that the person chooses."""
    return await ask_for_passkey(wiring, Purpose.SIGN_IN, person_id=None)


@router.post("/sign-in")
async def post_sign_in(
    request: Request,
    _visitor: AnyVisitor,
    wiring: WiringDep,
    credential: CredentialField = "",
    way_back: Annotated[str, Form(alias="next")] = "",
) -> Response:
    """Begin a session for the passkey's person; one that this browser had before ends."""
    try:
        answered = read_credential(credential)
        ceremony = await take(request, wiring, Purpose.SIGN_IN)
        assertion = await verify_assertion(
            answered, challenge=ceremony.challenge, wiring=wiring, person_id=None
        )
    except PasskeyRefused as refused:
        status = HTTPStatus.FORBIDDEN
        return render(
            request, "sign_in.html", status=status, way_back=safe_path(way_back), refused=str(refused)
        )
    async with wiring.database.commit() as session:
        token = await begin_anew(session, request, assertion.person_id, passkey_id=assertion.passkey_id)
    _log.info("person.signed_in", person_id=assertion.person_id, passkey_id=assertion.passkey_id)
    answer = RedirectResponse(safe_path(way_back), status_code=HTTPStatus.SEE_OTHER)
    keep_signed_in(answer, token)
    return answer


@router.post("/sign-out")
async def post_sign_out(visitor: AnyVisitor, wiring: WiringDep) -> Response:
    """End this browser's session."""
    if visitor is not None:
        async with wiring.database.commit() as session:
            await end_session(session, visitor.session_id, person_id=visitor.person_id)
    return sign_out_and_go("/sign-in?done=signed-out")


@router.post("/sign-out/everywhere")
async def post_sign_out_everywhere(visitor: KnownVisitor, wiring: WiringDep) -> Response:
    """End all sessions of the person, this one too."""
    async with wiring.database.commit() as session:
        await end_all_sessions(session, visitor.person_id)
    return sign_out_and_go("/sign-in?done=signed-out-everywhere")
