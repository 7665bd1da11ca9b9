"""Push subscriptions: which browsers an owner's push notifications go to."""

from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Query
from pydantic import AfterValidator, Field
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.responses import Response

from adapters.notify.push_services import (
    AUTH,
    ENDPOINT,
    ENDPOINT_LENGTH_MAX,
    POINT,
    PushHosts,
    endpoint_fault,
    read_auth,
    read_point,
)
from adapters.postgres.answers import Answer
from adapters.postgres.owners import OwnerUnknown
from adapters.postgres.push_subscriptions import (
    Browser,
    SubscriptionRecord,
    SubscriptionsTooMany,
    SubscriptionUnknown,
    list_subscriptions,
    subscribe,
    unsubscribe,
)
from api.authentication import RulesReader, RulesWriter
from api.given import DatabaseDep, GivenDep
from api.lists import Page, PageQuery, page_of
from api.once import OnceDep, answered
from api.refusals import refusals
from api.wire import Body, FieldsInvalid, GivenMoment, Id, Moment, PathId, View
from topup.rule import Problem

router = APIRouter(prefix="/v1/push-subscriptions", tags=["push subscriptions"])


class BrowserKeys(Body):
    """The browser's keys, as `PushSubscription.toJSON()` gives them: base64url."""

    p256dh: Annotated[
        str,
        Field(
            max_length=100,
            description="The public key: an uncompressed point of P-256.",
            json_schema_extra={"pattern": POINT},
        ),
        AfterValidator(read_point),
    ]
    auth: Annotated[
        str,
        Field(
            max_length=40,
            description="The authentication secret: 16 bytes.",
            json_schema_extra={"pattern": AUTH},
        ),
        AfterValidator(read_auth),
    ]


class SubscriptionOrder(Body):
    """A browser that an owner's push notifications are to go to."""

    owner_id: Id
    endpoint: Annotated[
        str,
        Field(
            max_length=ENDPOINT_LENGTH_MAX,
            description="The address at the browser's push service; https alone.",
            json_schema_extra={"pattern": ENDPOINT},
        ),
    ]
    keys: BrowserKeys
    expires_at: GivenMoment | None = None


class SubscriptionView(View):
    """A browser; neither its address nor its keys are told again, since they allow to write to it."""

    id: str
    owner_id: str
    host: str
    created_at: Moment
    expires_at: Moment | None


class SubscriptionQuery(PageQuery):
    """Whose subscriptions are asked for."""

    owner_id: Id | None = None


@router.post(
    "",
    status_code=201,
    operation_id="subscribe_browser",
    response_model=SubscriptionView,
    responses={
        200: {"model": SubscriptionView, "description": "The browser was known already: its subscription."},
        **refusals(OwnerUnknown, SubscriptionsTooMany),
    },
)
async def post_subscription(
    order: SubscriptionOrder, writer: RulesWriter, once: OnceDep, given: GivenDep
) -> Response:
    """Have an owner's push notifications go to a browser. The same one again keeps its id and renews the rest."""
    browser = Browser(order.endpoint, order.keys.p256dh, order.keys.auth, order.expires_at)

    async def remember(session: AsyncSession) -> Answer:
        _refuse_faults(order, given.push_hosts)
        subscription, new = await subscribe(
            session, owner_id=order.owner_id, browser=browser, bound_to=writer.owner_id
        )
        return answered(_subscription_view(subscription), status=201 if new else 200)

    return await once.answer(remember, body=order)


@router.get("", operation_id="list_browsers", responses=refusals())
async def get_subscriptions(
    asked: Annotated[SubscriptionQuery, Query()], reader: RulesReader, database: DatabaseDep
) -> Page[SubscriptionView]:
    """Browsers that are told, newest first; those whose time has passed are not listed."""
    async with database.read() as session:
        found = await list_subscriptions(
            session,
            owner_id=asked.owner_id,
            bound_to=reader.owner_id,
            after=asked.position(),
            most=asked.most,
        )
    return page_of(found, asked, view=_subscription_view, position=lambda record: record.id)


@router.delete(
    "/{subscription_id}",
    status_code=204,
    operation_id="unsubscribe_browser",
    responses=refusals(SubscriptionUnknown),
)
async def delete_subscription(subscription_id: PathId, writer: RulesWriter, database: DatabaseDep) -> None:
    """Tell a browser no more."""
    async with database.commit() as session:
        await unsubscribe(session, subscription_id, bound_to=writer.owner_id)


def _refuse_faults(order: SubscriptionOrder, hosts: PushHosts) -> None:
    faults = []
    if fault := endpoint_fault(order.endpoint, hosts):
        faults.append(Problem("endpoint", fault))
    if order.expires_at is not None and order.expires_at <= datetime.now(UTC):
        faults.append(Problem("expires_at", "has passed: a subscription that ended cannot be written to"))
    if faults:
        raise FieldsInvalid(faults)


def _subscription_view(record: SubscriptionRecord) -> SubscriptionView:
    return SubscriptionView(
        id=record.id,
        owner_id=record.owner_id,
        host=urlsplit(record.endpoint).hostname or "",
        created_at=record.created_at,
        expires_at=record.expires_at,
    )
