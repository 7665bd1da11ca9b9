"""Webhook endpoints: where an owner's events are sent, and what became of each."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.responses import Response

from adapters.notify.addresses import URL_LENGTH_MAX, url_fault
from adapters.postgres.answers import Answer
from adapters.postgres.clock import read_clock
from adapters.postgres.events import EventKind
from adapters.postgres.keys import KeyHolder
from adapters.postgres.owners import OwnerUnknown
from adapters.postgres.webhooks import (
    DeliveryRecord,
    DeliveryStatus,
    EndpointOff,
    EndpointRecord,
    EndpointsTooMany,
    EndpointUnknown,
    MessageUnknown,
    create_endpoint,
    delete_endpoint,
    enable_endpoint,
    list_endpoints,
    list_messages,
    read_endpoint,
    resend,
    rotate_secret,
)
from api.authentication import RulesReader, RulesWriter, ScopeMissing
from api.events import READ_SCOPES, readable_kinds
from api.given import DatabaseDep, GivenDep
from api.lists import Page, PageQuery, page_of
from api.once import OnceDep, answered
from api.refusals import refusals
from api.scopes import Scope
from api.wire import ID_PATTERN, Body, FieldsInvalid, Id, Moment, PathId, Text, View
from topup.rule import Problem

router = APIRouter(prefix="/v1/webhook-endpoints", tags=["webhook endpoints"])

Kind = Literal[
    "top_up.started", "top_up.draw_settled", "top_up.ended", "wallet.balance_changed", "rule.changed"
]
Kinds = Annotated[
    list[Kind],
    Field(min_length=1, max_length=20, description="Which events; left out, all that the key may read."),
]


URL = (
    r"^https://([A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?"
    r"([/?][!\x22$-\[\]-~]*)?$"
)
"""How a URL is described; what reads it knows besides which hosts and ports may be written to."""


class EndpointOrder(Body):
    """Where events of one owner are to be sent, and which. A public https URL, without user name and fragment."""

    owner_id: Id
    url: Annotated[
        str,
        Field(
            min_length=1,
            max_length=URL_LENGTH_MAX,
            examples=["https://example.com/tidemark"],
            json_schema_extra={"pattern": URL},
        ),
    ]
    events: Kinds | None = None
    description: Text | None = None


class EndpointsQuery(PageQuery):
    """Whose endpoints are asked for."""

    owner_id: Annotated[str, Field(max_length=100, pattern=ID_PATTERN)] | None = None


class MessagesQuery(PageQuery):
    """Which deliveries are asked for."""

    status: DeliveryStatus | None = None


class WebhookEndpointView(View):
    """A webhook endpoint. `failing_since`: every attempt since then has failed.

    One that is turned off, by itself or because it answered 410, says why in `disabled_reason`, and waits for being
    enabled. Until `previous_secret_until` the secret before this one signs too.
    """

    id: str
    owner_id: str
    url: str
    events: list[EventKind]
    description: str | None
    enabled: bool
    disabled_reason: str | None
    failing_since: Moment | None
    previous_secret_until: Moment | None
    created_at: Moment


class NewWebhookEndpointView(WebhookEndpointView):
    """A webhook endpoint with the secret that signs what is sent to it; the secret is never shown again."""

    secret: str


class WebhookDeliveryView(View):
    """One event for one endpoint. Its id is the `webhook-id` of the message, the same at every attempt.

    `last_status` is what the endpoint answered last, `last_failure` why that, or the lack of an answer, was no success.
    """

    id: str
    endpoint_id: str
    event_id: str
    type: EventKind
    status: DeliveryStatus
    attempts: int
    last_status: int | None
    last_failure: str | None
    last_attempt_at: Moment | None
    next_attempt_at: Moment | None
    delivered_at: Moment | None
    created_at: Moment


@router.post(
    "",
    status_code=201,
    operation_id="create_webhook_endpoint",
    response_model=NewWebhookEndpointView,
    responses=refusals(OwnerUnknown, EndpointsTooMany),
)
async def post_endpoint(
    order: EndpointOrder, writer: RulesWriter, once: OnceDep, given: GivenDep
) -> Response:
    """Have events of one owner sent to a URL, those that happen from now on.

    The answer holds the secret by which they are signed, shown this once. The key needs the scopes by which it could
    read what is sent: `wallets:read` for balances, `rules:read` for top-ups and rules.
    """
    kinds = _wanted_kinds(order, writer)
    if fault := url_fault(order.url, allow_private=given.webhooks_allow_private):
        raise FieldsInvalid([Problem("url", fault)])

    async def create(session: AsyncSession) -> Answer:
        endpoint, secret = await create_endpoint(
            session,
            owner_id=order.owner_id,
            url=order.url,
            events=kinds,
            description=order.description,
            bound_to=writer.owner_id,
        )
        return answered(_with_secret(endpoint, secret), status=201)

    return await once.answer(create, body=order)


@router.get("", operation_id="list_webhook_endpoints", responses=refusals())
async def get_endpoints(
    asked: Annotated[EndpointsQuery, Query()], reader: RulesReader, database: DatabaseDep
) -> Page[WebhookEndpointView]:
    """Webhook endpoints, newest first."""
    if reader.owner_id is not None and asked.owner_id not in (None, reader.owner_id):
        return page_of((), asked, view=_view, position=lambda record: record.id)
    async with database.read() as session:
        found = await list_endpoints(
            session,
            owner_id=asked.owner_id or reader.owner_id,
            after=asked.position(),
            most=asked.most,
        )
    return page_of(found, asked, view=_view, position=lambda record: record.id)


@router.get("/{endpoint_id}", operation_id="get_webhook_endpoint", responses=refusals(EndpointUnknown))
async def get_endpoint(
    endpoint_id: PathId, reader: RulesReader, database: DatabaseDep
) -> WebhookEndpointView:
    """One webhook endpoint as it stands."""
    async with database.read() as session:
        return _view(await read_endpoint(session, endpoint_id, bound_to=reader.owner_id))


@router.delete(
    "/{endpoint_id}",
    status_code=204,
    operation_id="delete_webhook_endpoint",
    responses=refusals(EndpointUnknown),
)
async def remove_endpoint(endpoint_id: PathId, writer: RulesWriter, database: DatabaseDep) -> None:
    """Send nothing there any more, and forget what was sent."""
    async with database.commit() as session:
        await delete_endpoint(session, endpoint_id, bound_to=writer.owner_id)


@router.post(
    "/{endpoint_id}/rotate-secret",
    operation_id="rotate_webhook_secret",
    response_model=NewWebhookEndpointView,
    responses=refusals(EndpointUnknown),
)
async def post_rotation(endpoint_id: PathId, writer: RulesWriter, once: OnceDep) -> Response:
    """Give the endpoint a new secret, shown this once. For 24 hours the one before signs everything too.

    Rotating again within that time drops the oldest at once.
    """

    async def rotate(session: AsyncSession) -> Answer:
        now = await read_clock(session)
        endpoint, secret = await rotate_secret(session, endpoint_id, now=now, bound_to=writer.owner_id)
        return answered(_with_secret(endpoint, secret))

    return await once.answer(rotate)


@router.post(
    "/{endpoint_id}/enable",
    operation_id="enable_webhook_endpoint",
    response_model=WebhookEndpointView,
    responses=refusals(EndpointUnknown),
)
async def post_enable_endpoint(endpoint_id: PathId, writer: RulesWriter, once: OnceDep) -> Response:
    """Turn the endpoint on again: what waits is sent, what happened meanwhile is not."""

    async def enable(session: AsyncSession) -> Answer:
        return answered(_view(await enable_endpoint(session, endpoint_id, bound_to=writer.owner_id)))

    return await once.answer(enable, wakes=True)


@router.get(
    "/{endpoint_id}/deliveries",
    operation_id="list_webhook_deliveries",
    responses=refusals(EndpointUnknown),
)
async def get_deliveries(
    endpoint_id: PathId,
    asked: Annotated[MessagesQuery, Query()],
    reader: RulesReader,
    database: DatabaseDep,
) -> Page[WebhookDeliveryView]:
    """What was sent to the endpoint or is still to be, and what became of it, newest first."""
    async with database.read() as session:
        await read_endpoint(session, endpoint_id, bound_to=reader.owner_id)
        found = await list_messages(
            session, endpoint_id, status=asked.status, after=asked.position(), most=asked.most
        )
    return page_of(found, asked, view=_delivery_view, position=lambda record: record.id)


@router.post(
    "/{endpoint_id}/deliveries/{delivery_id}/resend",
    operation_id="resend_webhook_delivery",
    response_model=WebhookDeliveryView,
    responses=refusals(EndpointUnknown, MessageUnknown, EndpointOff),
)
async def post_resend(
    endpoint_id: PathId, delivery_id: PathId, writer: RulesWriter, once: OnceDep
) -> Response:
    """Send it again, now, whatever became of it: the same message under the same id, tried as long as a new one."""

    async def send_again(session: AsyncSession) -> Answer:
        now = await read_clock(session)
        return answered(
            _delivery_view(await resend(session, endpoint_id, delivery_id, now=now, bound_to=writer.owner_id))
        )

    return await once.answer(send_again, wakes=True)


def _wanted_kinds(order: EndpointOrder, writer: KeyHolder) -> tuple[EventKind, ...]:
    """The kinds asked for, or all the key may read. Raises ScopeMissing: nobody is sent what they could not read."""
    readable = readable_kinds(writer)
    wanted = readable if order.events is None else tuple(dict.fromkeys(map(EventKind, order.events)))
    if not wanted:
        raise ScopeMissing(Scope.RULES_READ)
    for kind in wanted:
        if kind not in readable:
            raise ScopeMissing(READ_SCOPES[kind])
    return wanted


def _view(record: EndpointRecord) -> WebhookEndpointView:
    return WebhookEndpointView(
        id=record.id,
        owner_id=record.owner_id,
        url=record.url,
        events=list(record.events),
        description=record.description,
        enabled=record.enabled,
        disabled_reason=record.disabled_reason,
        failing_since=record.failing_since,
        previous_secret_until=record.previous_secret_until,
        created_at=record.created_at,
    )


def _with_secret(record: EndpointRecord, secret: str) -> NewWebhookEndpointView:
    return NewWebhookEndpointView(**_view(record).model_dump(), secret=secret)


def _delivery_view(record: DeliveryRecord) -> WebhookDeliveryView:
    return WebhookDeliveryView(
        id=record.id,
        endpoint_id=record.endpoint_id,
        event_id=record.event_id,
        type=record.kind,
        status=record.status,
        attempts=record.attempts,
        last_status=record.last_status,
        last_failure=record.last_failure,
        last_attempt_at=record.last_attempt_at,
        next_attempt_at=record.next_attempt_at,
        delivered_at=record.delivered_at,
        created_at=record.created_at,
    )
