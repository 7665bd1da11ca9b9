"""The routes of the pages: whatever goes wrong in one becomes a page that says what to do next."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import structlog
from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response

from adapters.postgres.confirmations import ConfirmationUnknown
from adapters.postgres.database import OUTAGES
from adapters.postgres.history import TopUpUnknown
from adapters.postgres.rules import RuleExists, RuleLocked, RuleUnknown, VersionStale
from adapters.postgres.wallets import WalletUnknown
from console.page import HEADERS, render
from console.passkeys import PasskeyRefused
from console.texts import mark
from console.visitors import (
    FormNotOurs,
    NotForYou,
    OnlyRecovering,
    OtherAddress,
    SignInNeeded,
    forget_signed_in,
    safe_path,
)

_log = structlog.get_logger(__name__)
_RETRY_SECONDS = {HTTPStatus.SERVICE_UNAVAILABLE: 5, HTTPStatus.TOO_MANY_REQUESTS: 60}

_Answering = Callable[[Request], Coroutine[Any, Any, Response]]


@dataclass(frozen=True, slots=True)
class Trouble:
    """What a page of trouble says."""

    status: HTTPStatus
    title: str
    message: str
    """What happened, and what to do next."""


class PageRoute(APIRoute):
    """A route whose every refusal is a page."""

    def get_route_handler(self) -> _Answering:
        """Wrap the route's own answering."""
        answering = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                answered = (
                    await answering(request) if _readable(request) else render_trouble(request, NOT_FOUND)
                )
            except SignInNeeded as needed:
                answered = _lead_to_sign_in(request, needed)
            except OnlyRecovering:
                answered = RedirectResponse("/account", status_code=HTTPStatus.SEE_OTHER)
            except OtherAddress as other:
                answered = RedirectResponse(other.location, status_code=HTTPStatus.TEMPORARY_REDIRECT)
            except Exception as error:  # noqa: BLE001 nobody is to meet a page that is none
                trouble = trouble_of(error)
                if trouble is None:
                    _log.exception("page.broken", path=request.url.path)
                    trouble = _BROKEN
                answered = render_trouble(request, trouble)
            for name, value in HEADERS.items():
                answered.headers.setdefault(name, value)
            return answered

        return answer


def pages() -> APIRouter:
    """A router for pages; none of them is part of the API's description."""
    return APIRouter(route_class=PageRoute, include_in_schema=False)


def _readable(request: Request) -> bool:
    """Whether the address can be of anything here: no id has letters that cannot be written."""
    return str(request.scope["path"]).isprintable()


def _lead_to_sign_in(request: Request, needed: SignInNeeded) -> Response:
    """A part that a page's script asked for would be put into the page: then the whole page is to go."""
    if wants_words(request):
        return render_trouble(request, _SIGN_IN)
    if "HX-Request" not in request.headers:
        return RedirectResponse(needed.location, status_code=HTTPStatus.SEE_OTHER)
    page = urlsplit(request.headers.get("HX-Current-URL", "")).path
    return Response(headers={"HX-Redirect": SignInNeeded(safe_path(page)).location})


def render_trouble(request: Request, trouble: Trouble) -> Response:
    """The page of a refusal; to a script of ours, its words alone."""
    answer: Response
    if wants_words(request):
        answer = JSONResponse({"title": trouble.title, "message": trouble.message}, trouble.status)
    else:
        answer = render(request, "trouble.html", status=trouble.status, trouble=trouble)
    if seconds := _RETRY_SECONDS.get(trouble.status):
        answer.headers["Retry-After"] = str(seconds)
    return answer


def wants_words(request: Request) -> bool:
    """Whether a script of ours asks, which shows what it is told on the page that is open."""
    return request.headers.get("accept", "") == "application/json"


def trouble_of(error: Exception) -> Trouble | None:
    """What a refusal says to a person; None for what no table knows."""
    if isinstance(error, HTTPException):
        status = HTTPStatus(error.status_code)
        return NOT_FOUND if status is HTTPStatus.NOT_FOUND else Trouble(status, status.phrase, _TRY_AGAIN)
    if isinstance(error, NotForYou):
        return Trouble(
            HTTPStatus.FORBIDDEN, "Not for this sign-in", f"{error} Sign in as somebody else to see it."
        )
    if isinstance(error, PasskeyRefused):
        return Trouble(HTTPStatus.FORBIDDEN, mark("That passkey did not work"), str(error))
    if type(error).__name__ in _TOO_MANY_NAMES:
        return _TOO_MANY
    return next((trouble for kinds, trouble in _TROUBLES if isinstance(error, kinds)), None)


NOT_FOUND = Trouble(
    HTTPStatus.NOT_FOUND,
    mark("There is no such page"),
    mark(
        "What you are looking for is not here, or is not yours. Go back to your wallets and look from there."
    ),
)
_SIGN_IN = Trouble(
    HTTPStatus.UNAUTHORIZED,
    mark("You are signed out"),
    mark("You have been signed out meanwhile, and nothing was changed. Load this page again, and sign in."),
)
_TRY_AGAIN = mark("Nothing was changed. Go back, and try again.")
_TOO_MANY = Trouble(
    HTTPStatus.TOO_MANY_REQUESTS,
    mark("One moment"),
    mark(
        "Too many requests came from here in a short time. Nothing was changed. Wait a minute, and try again."
    ),
)
_TOO_MANY_NAMES = {"TooMany", "StreamsTooMany"}
"""They are the API's own, which stands above the pages."""
_BROKEN = Trouble(
    HTTPStatus.INTERNAL_SERVER_ERROR,
    mark("That went wrong on our side"),
    mark(
        "It has been written down for us. Load the page again; if it goes on, ask whoever runs Tidemark for you."
    ),
)
_NOT_THROUGH = mark("That did not go through")
_TROUBLES: tuple[tuple[tuple[type[Exception], ...], Trouble], ...] = (
    ((WalletUnknown, TopUpUnknown, RuleUnknown, ConfirmationUnknown), NOT_FOUND),
    (
        (RuleLocked,),
        Trouble(
            HTTPStatus.CONFLICT,
            _NOT_THROUGH,
            mark(
                "A top-up is in progress, and the rule cannot be changed until it has ended. Nothing was changed. As "
                "soon as it has ended, every change works again."
            ),
        ),
    ),
    (
        (RuleExists,),
        Trouble(
            HTTPStatus.CONFLICT,
            _NOT_THROUGH,
            mark("This wallet has a rule already, which was made meanwhile. Go back, and change that one."),
        ),
    ),
    (
        (VersionStale,),
        Trouble(
            HTTPStatus.CONFLICT,
            _NOT_THROUGH,
            mark(
                "The rule has been changed meanwhile, somewhere else. Nothing was changed here. Go back, and look at "
                "it anew."
            ),
        ),
    ),
    (
        (FormNotOurs,),
        Trouble(
            HTTPStatus.FORBIDDEN,
            mark("This form has expired"),
            mark(
                "Nothing was changed. You may have signed in again since you opened it: go back, load the page anew, "
                "and try once more."
            ),
        ),
    ),
    (
        (RequestValidationError,),
        Trouble(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            mark("Something is missing"),
            mark("The form did not come in whole, and nothing was changed. Go back, and send it again."),
        ),
    ),
    (
        OUTAGES,
        Trouble(
            HTTPStatus.SERVICE_UNAVAILABLE,
            mark("Tidemark cannot be reached just now"),
            mark(
                "Nothing was changed, and no money was moved by this page. Your rule goes on by itself as soon as we "
                "are back. Try again in a moment."
            ),
        ),
    ),
)


def sign_out_and_go(location: str) -> RedirectResponse:
    """Forget who was signed in, and go there."""
    answer = RedirectResponse(location, status_code=HTTPStatus.SEE_OTHER)
    forget_signed_in(answer)
    return answer
