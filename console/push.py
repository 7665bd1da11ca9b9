"""Notifications: the browsers an owner's pushes go to, the low-balance notices, and what a browser needs for both."""

import hashlib
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Form, Request
from pydantic import AfterValidator, BaseModel, Field
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response

from adapters.notify.push_services import ENDPOINT_LENGTH_MAX, endpoint_fault, read_auth, read_point
from adapters.postgres.deliveries import (
    StopTokenUnknown,
    choose_low_balance_notices,
    stop_low_balance_notices,
    wants_low_balance_notices,
)
from adapters.postgres.push_list import push_key
from adapters.postgres.push_subscriptions import (
    SUBSCRIPTIONS_MAX,
    Browser,
    SubscriptionRecord,
    SubscriptionsTooMany,
    SubscriptionUnknown,
    forget_browser_of_others,
    list_subscriptions,
    subscribe,
    unsubscribe,
)
from console.page import STATIC, render
from console.routes import NOT_FOUND, pages, render_trouble
from console.texts import mark
from console.visitors import AnyVisitor, OwnerVisitor, owner_of
from console.wiring import DatabaseDep, WiringDep

router = pages()

_SERVICES = (
    ("fcm.googleapis.com", mark("Chrome, or a browser like it")),
    ("mozilla.com", mark("Firefox")),
    ("push.apple.com", mark("Safari, or an app on the Home Screen")),
    ("notify.windows.com", mark("Edge")),
)
_SOME_BROWSER = mark("A browser")
_MANIFEST: dict[str, Any] = {
    "name": "Tidemark",
    "short_name": "Tidemark",
    "id": "/",
    "start_url": "/",
    "scope": "/",
    "display": "standalone",
    "background_color": "#ffffff",
    "theme_color": "#ffffff",
    "icons": [
        {"src": "/static/icon.svg", "sizes": "any", "type": "image/svg+xml"},
        {"src": "/static/icon-192.png", "sizes": "192x192", "type": "image/png"},
        {"src": "/static/icon-512.png", "sizes": "512x512", "type": "image/png"},
    ],
}


class BrowserKeys(BaseModel):
    """The keys that `PushSubscription.toJSON()` gives."""

    p256dh: Annotated[str, Field(max_length=100), AfterValidator(read_point)]
    auth: Annotated[str, Field(max_length=40), AfterValidator(read_auth)]


class Subscription(BaseModel):
    """What `PushSubscription.toJSON()` gives; its end in milliseconds."""

    endpoint: Annotated[str, Field(max_length=ENDPOINT_LENGTH_MAX)]
    keys: BrowserKeys
    expirationTime: Annotated[float, Field(ge=0, le=4e12)] | None = None  # noqa: N815 the browsers' name

    def browser(self) -> Browser:
        """The same as it is kept."""
        end = self.expirationTime
        ends = None if end is None else datetime.fromtimestamp(end / 1000, UTC)
        return Browser(self.endpoint, self.keys.p256dh, self.keys.auth, ends)


@router.get("/push")
async def get_push(request: Request, visitor: OwnerVisitor, database: DatabaseDep) -> Response:
    """What is told where, and what can be chosen."""
    owner_id = owner_of(visitor)
    async with database.read() as session:
        known = await list_subscriptions(
            session, owner_id=owner_id, bound_to=owner_id, after=None, most=SUBSCRIPTIONS_MAX
        )
        wanted = await wants_low_balance_notices(session, owner_id)
    return render(request, "push.html", browsers=[_shown(record) for record in known], low_balance=wanted)


@router.get("/push/key")
async def get_key(visitor: AnyVisitor, database: DatabaseDep) -> Response:
    """The key that a browser subscribes with, and the token that its script needs to say so."""
    key = await push_key(database)
    return JSONResponse({"key": key.public_key, "csrf": visitor.csrf if visitor else None})


@router.post("/push/subscriptions")
async def post_subscription(subscription: Subscription, visitor: OwnerVisitor, wiring: WiringDep) -> Response:
    """Have the owner's pushes go to a browser, and no longer those of whoever used it before."""
    if fault := endpoint_fault(subscription.endpoint, wiring.push_hosts):
        return _refused(
            HTTPStatus.UNPROCESSABLE_ENTITY, f"The address of your browser's push service {fault}."
        )
    owner_id, browser = owner_of(visitor), subscription.browser()
    try:
        async with wiring.database.commit() as session:
            record, new = await subscribe(session, owner_id=owner_id, browser=browser, bound_to=owner_id)
            await forget_browser_of_others(session, owner_id=owner_id, browser=browser)
    except SubscriptionsTooMany:
        return _refused(
            HTTPStatus.CONFLICT,
            f"You have {SUBSCRIPTIONS_MAX} browsers already. Remove one that you do not use any more.",
        )
    return JSONResponse({"id": record.id}, HTTPStatus.CREATED if new else HTTPStatus.OK)


@router.post("/push/subscriptions/{subscription_id}/remove")
async def post_removal(subscription_id: str, visitor: OwnerVisitor, database: DatabaseDep) -> Response:
    """Write to a browser no more; one that is gone already is no trouble."""
    try:
        async with database.commit() as session:
            await unsubscribe(session, subscription_id, bound_to=owner_of(visitor))
    except SubscriptionUnknown:
        return _go("/push")
    return _go("/push?done=push-off")


@router.post("/push/low-balance")
async def post_low_balance(
    visitor: OwnerVisitor, database: DatabaseDep, wanted: Annotated[bool, Form()]
) -> Response:
    """Tell of a low balance, or no more."""
    async with database.commit() as session:
        await choose_low_balance_notices(session, owner_of(visitor), wanted=wanted)
    return _go(f"/push?done=low-balance-{'on' if wanted else 'off'}")


@router.get("/unsubscribe/{token}")
async def get_unsubscribe(request: Request, token: str, visitor: AnyVisitor) -> Response:
    """Ask before anything is changed: programs follow the links of mails by themselves."""
    del visitor  # Asked for, as the frame around the page is theirs.
    return render(request, "unsubscribe.html", token=token, stopped=False)


@router.post("/unsubscribe/{token}")
async def post_unsubscribe(
    request: Request, token: str, visitor: AnyVisitor, database: DatabaseDep
) -> Response:
    """Turn low-balance notices off, with what their mail holds; in one click, as RFC 8058 has it."""
    del visitor
    try:
        async with database.commit() as session:
            await stop_low_balance_notices(session, token)
    except StopTokenUnknown:
        return render_trouble(request, NOT_FOUND)
    return render(request, "unsubscribe.html", token=token, stopped=True)


@router.get("/service-worker.js")
async def get_worker() -> Response:
    """The script that shows pushes while no page is open; at the top, since that is where its reach begins."""
    return FileResponse(
        STATIC / "service-worker.js", media_type="text/javascript", headers={"Cache-Control": "no-cache"}
    )


@router.get("/manifest.webmanifest")
async def get_manifest() -> Response:
    """What makes the pages an app on a Home Screen, without which some phones show no pushes."""
    headers = {"Cache-Control": "public, max-age=3600"}
    return JSONResponse(_MANIFEST, headers=headers, media_type="application/manifest+json")


def _shown(record: SubscriptionRecord) -> dict[str, Any]:
    """A browser without its address; `mark` is what the browser itself finds its own entry by."""
    host = urlsplit(record.endpoint).hostname or ""
    name = next((name for domain, name in _SERVICES if host.endswith(domain)), _SOME_BROWSER)
    digest = hashlib.sha256(record.endpoint.encode()).hexdigest()
    return {"id": record.id, "name": name, "host": host, "since": record.created_at, "mark": digest}


def _refused(status: HTTPStatus, message: str) -> Response:
    return JSONResponse({"title": "That did not go through", "message": message}, status)


def _go(location: str) -> Response:
    return RedirectResponse(location, status_code=HTTPStatus.SEE_OTHER)
