"""A recovery code opens a short session, good for making a new passkey and nothing else."""

from http import HTTPStatus
from typing import Annotated

import structlog
from fastapi import Form, Request
from starlette.responses import RedirectResponse, Response

from adapters.postgres.recovery import CodeUnknown, use_code
from console.ceremony import begin_anew
from console.page import render
from console.routes import pages
from console.visitors import AnyVisitor, keep_signed_in
from console.wiring import WiringDep

CODE_LENGTH_MAX = 100

_log = structlog.get_logger(__name__)

router = pages()


@router.get("/recover")
async def get_recover(request: Request, _visitor: AnyVisitor) -> Response:
    """Where a code is typed in."""
    return render(request, "recover.html", refused=False)


@router.post("/recover")
async def post_recover(
    request: Request,
    visitor: AnyVisitor,
    wiring: WiringDep,
    code: Annotated[str, Form(max_length=CODE_LENGTH_MAX)] = "",
) -> Response:
    """Use the code up, and go on to where a passkey is made. Every try counts against the address it comes from."""
    if visitor is not None:  # Whoever is nobody known was counted by the address already.
        wiring.limits.admit_stranger(request.client.host if request.client else None)
    try:
        async with wiring.database.commit() as session:
            person_id = await use_code(session, code)
            token = await begin_anew(session, request, person_id, passkey_id=None, recovering=True)
    except CodeUnknown:
        _log.warning("recovery_code.refused")
        return render(request, "recover.html", status=HTTPStatus.FORBIDDEN, refused=True)
    _log.warning("recovery_code.used", person_id=person_id)
    answer = RedirectResponse("/account", status_code=HTTPStatus.SEE_OTHER)
    keep_signed_in(answer, token)
    return answer
