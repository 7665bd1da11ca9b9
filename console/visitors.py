"""Who is looking at a page, and whether they may: the session's cookie, its forms' token, and the kinds of people."""

import hmac
from typing import Annotated
from urllib.parse import quote, urlsplit

from fastapi import Depends, Request
from starlette.responses import Response

from adapters.postgres.sessions import LASTS, PersonKind, Visitor, find_visitor
from console.wiring import Wiring, WiringDep

COOKIE = "__Host-tidemark"
"""Browsers keep a cookie of this prefix to this very host, and to encrypted connections (and localhost)."""
CSRF_FIELD = "csrf"
CSRF_HEADER = "X-CSRF-Token"
HOME = "/"

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class SignInNeeded(Exception):
    """Nobody is signed in with this browser; `back` is where to go afterwards."""

    def __init__(self, back: str) -> None:
        """Remember the way back."""
        super().__init__("sign in first")
        self.back = back

    @property
    def location(self) -> str:
        """The sign-in page that leads back."""
        return "/sign-in" if self.back == HOME else f"/sign-in?next={quote(self.back, safe='')}"


class OnlyRecovering(Exception):
    """Signed in with a recovery code: first a new passkey is to be registered."""


class OtherAddress(Exception):
    """The page was asked for by another name than the one passkeys are bound to."""

    def __init__(self, location: str) -> None:
        """Say where the page is."""
        super().__init__(f"the page is at {location}")
        self.location = location


class NotForYou(Exception):
    """The page is there, and is for another kind of people."""


class FormNotOurs(Exception):
    """A form came without the session's own token, or from another site."""


async def _visitor(request: Request, wiring: WiringDep) -> Visitor | None:
    """Who it is, counted; a change must come from our own page."""
    visitor = await _find(request, wiring)
    if request.method in _SAFE:
        _lead_to_public_address(request, wiring)
    else:
        refuse_foreign_origin(request, wiring)
        if visitor is not None:
            await _refuse_without_token(request, visitor)
    request.state.visitor = visitor
    return visitor


async def _find(request: Request, wiring: Wiring) -> Visitor | None:
    token = request.cookies.get(COOKIE)
    visitor = await find_visitor(wiring.database, token) if token else None
    if visitor is None:
        address = request.client.host if request.client else None
        wiring.limits.admit_stranger(address)
        return None
    wiring.limits.admit_key(visitor.session_id)
    return visitor


AnyVisitor = Annotated[Visitor | None, Depends(_visitor)]
"""Whoever it is; None for nobody known."""


async def _known(request: Request, visitor: AnyVisitor) -> Visitor:
    if visitor is None:
        asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        raise SignInNeeded(asked if request.method in _SAFE else HOME)
    return visitor


KnownVisitor = Annotated[Visitor, Depends(_known)]
"""Somebody signed in, were it with a recovery code."""


async def _owner(visitor: KnownVisitor) -> Visitor:
    if visitor.kind is not PersonKind.OWNER or visitor.owner_id is None:
        message = "This page belongs to an owner, and you are signed in as an operator."
        raise NotForYou(message)
    return _with_passkey(visitor)


async def _operator(visitor: KnownVisitor) -> Visitor:
    if visitor.kind is not PersonKind.OPERATOR:
        message = "This page is for operators."
        raise NotForYou(message)
    return _with_passkey(visitor)


OwnerVisitor = Annotated[Visitor, Depends(_owner)]
"""An owner signed in with a passkey; their `owner_id` is the only owner that exists for them."""
OperatorVisitor = Annotated[Visitor, Depends(_operator)]
"""An operator signed in with a passkey."""


def owner_of(visitor: Visitor) -> str:
    """The owner a visitor is. Raises NotForYou for an operator."""
    if visitor.owner_id is None:
        message = "This page belongs to an owner."
        raise NotForYou(message)
    return visitor.owner_id


def refuse_foreign_origin(request: Request, wiring: Wiring) -> None:
    """Refuse a change that another site's page asks for. Raises FormNotOurs.

    Browsers name the origin with every POST; whoever does not send one at all is no browser, and holds no cookie that
    was not stolen already.
    """
    origin = request.headers.get("origin")
    if origin is not None and origin != wiring.origin:
        raise FormNotOurs
    if request.headers.get("sec-fetch-site") not in (None, "same-origin", "none"):
        raise FormNotOurs


def keep_signed_in(answer: Response, token: str) -> None:
    """Put the session's token into the browser."""
    answer.set_cookie(
        COOKIE,
        token,
        max_age=int(LASTS.total_seconds()),
        path="/",
        secure=True,
        httponly=True,
        samesite="lax",
    )


def forget_signed_in(answer: Response) -> None:
    """Take the token out of the browser."""
    answer.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="lax")


def safe_path(wanted: str | None) -> str:
    """A way back that stays on this site; anything else becomes the start page."""
    if (
        not wanted
        or not wanted.startswith("/")
        or wanted.startswith(("//", "/\\"))
        or not wanted.isprintable()
    ):
        return HOME
    return wanted


def _lead_to_public_address(request: Request, wiring: Wiring) -> None:
    """Passkeys are bound to a name: whoever comes by a number, or another name, could do nothing with theirs."""
    asked = request.headers.get("x-forwarded-host") or request.headers.get("host", "")
    if _host_alone(asked.partition(",")[0]) != _host_alone(urlsplit(wiring.origin).netloc):
        query = f"?{request.url.query}" if request.url.query else ""
        there = f"{wiring.origin}{request.url.path}{query}"
        raise OtherAddress(there)


def _host_alone(netloc: str) -> str:
    """The host, and its port unless that is the one that goes without saying."""
    return netloc.strip().lower().removesuffix(":443").removesuffix(":80")


def _with_passkey(visitor: Visitor) -> Visitor:
    if visitor.recovering:
        raise OnlyRecovering
    return visitor


async def _refuse_without_token(request: Request, visitor: Visitor) -> None:
    sent = request.headers.get(CSRF_HEADER)
    if sent is None:
        found = (await request.form()).get(CSRF_FIELD)
        sent = found if isinstance(found, str) else ""
    if not hmac.compare_digest(sent.encode(), visitor.csrf.encode()):
        raise FormNotOurs
