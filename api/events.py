"""The events of one owner as server-sent events: live, in order, and resumed where a reader left off."""

from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, ConfigDict, Field

from adapters.postgres.events import (
    EventKind,
    EventRecord,
    EventsGone,
    Following,
    Position,
    PositionUnreadable,
    find_position,
    moment_text,
)
from adapters.postgres.keys import KeyHolder
from adapters.postgres.owners import OwnerUnknown, require_owner
from api.authentication import WalletsReader
from api.examples import FIELDS
from api.given import GivenDep
from api.refusals import refusals
from api.rules import CapsView, SourceView
from api.scopes import Scope
from api.streams import Reader, StreamsTooMany
from api.top_ups import DrawView, TopUpView
from api.wire import ID_PATTERN, FieldsInvalid, Moment, View
from topup.rule import AccountKind, Problem, RuleState, WaitingFor

router = APIRouter(prefix="/v1/events", tags=["events"])

RETRY_MILLISECONDS = 2000
"""How long a reader waits before it comes back."""

PLACE = r"^[0-9a-f]{1,16}-[0-9a-f]{1,15}$"
"""How a place in the feed is described."""
PLACE_LENGTH_MAX = 32

READ_SCOPES: Mapping[EventKind, Scope] = MappingProxyType(
    {
        EventKind.TOP_UP_STARTED: Scope.RULES_READ,
        EventKind.DRAW_SETTLED: Scope.RULES_READ,
        EventKind.TOP_UP_ENDED: Scope.RULES_READ,
        EventKind.BALANCE_CHANGED: Scope.WALLETS_READ,
        EventKind.RULE_CHANGED: Scope.RULES_READ,
    }
)
"""What a key needs to be told of each kind: the scope by which it could read the same from the API."""


class BalanceChange(View):
    """A wallet's balance changed. Of two of a wallet, the one with the higher version is the newer."""

    wallet_id: str
    currency: str
    balance: str
    version: int
    change: Literal["spent", "added", "topped_up"]


class DrawSettled(DrawView):
    """What one source gave to a top-up; told once for each draw that was made."""

    top_up_id: str


class RuleChange(View):
    """A rule as it is after its owner changed it, or as it was when it was deleted."""

    change: Literal["created", "edited", "enabled", "disabled", "deleted"]
    rule_id: str
    wallet_id: str
    threshold: str
    amount: str
    account: AccountKind
    sources: list[SourceView]
    caps: CapsView | None
    enabled: bool
    state: RuleState
    waiting_for: WaitingFor | None
    locked_by: str | None
    version: int
    created_at: Moment
    updated_at: Moment


class _EventView(View):
    timestamp: Moment


class TopUpStartedEvent(_EventView):
    """A rule fired."""

    type: Literal["top_up.started"]
    data: TopUpView


class DrawSettledEvent(_EventView):
    """What one source gave is certain."""

    type: Literal["top_up.draw_settled"]
    data: DrawSettled


class TopUpEndedEvent(_EventView):
    """A top-up ended, and its rule is unlocked."""

    type: Literal["top_up.ended"]
    data: TopUpView


class BalanceChangedEvent(_EventView):
    """A wallet's balance changed."""

    type: Literal["wallet.balance_changed"]
    data: BalanceChange


class RuleChangedEvent(_EventView):
    """An owner changed a rule."""

    type: Literal["rule.changed"]
    data: RuleChange


EVENT_VIEWS: Mapping[EventKind, type[View]] = MappingProxyType(
    {
        EventKind.TOP_UP_STARTED: TopUpStartedEvent,
        EventKind.DRAW_SETTLED: DrawSettledEvent,
        EventKind.TOP_UP_ENDED: TopUpEndedEvent,
        EventKind.BALANCE_CHANGED: BalanceChangedEvent,
        EventKind.RULE_CHANGED: RuleChangedEvent,
    }
)
"""What is told of each kind; a webhook's body is exactly that, an event of a stream has its `id` besides."""


class EventsQuery(BaseModel):
    """Whose events are asked for, and from where on; unknown parameters are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    owner_id: str | None = Field(
        default=None,
        max_length=100,
        pattern=ID_PATTERN,
        description="Whose events. Required, but for a key that is bound to one owner.",
    )
    after: str | None = Field(
        default=None,
        max_length=PLACE_LENGTH_MAX,
        description="The id behind which to go on, as Last-Event-ID says it, which goes before; "
        "without either, with what happens from now on.",
        examples=[FIELDS["last_event_id"]],
        json_schema_extra={"pattern": PLACE},
    )


LastEventId = Annotated[
    str | None,
    Header(
        max_length=PLACE_LENGTH_MAX,
        description="The id of the last event that was received.",
        json_schema_extra={"pattern": PLACE},
    ),
]


def readable_kinds(holder: KeyHolder) -> tuple[EventKind, ...]:
    """The kinds of events that this key may be told of."""
    return tuple(kind for kind, scope in READ_SCOPES.items() if scope.value in holder.scopes)


async def _reader(
    asked: Annotated[EventsQuery, Query()],
    holder: WalletsReader,
    given: GivenDep,
    last_event_id: LastEventId = None,
) -> AsyncIterator[Reader]:
    """Everything that can be refused is refused here, before the stream begins."""
    owner_id = asked.owner_id or holder.owner_id
    if owner_id is None:
        raise FieldsInvalid(
            [Problem("query/owner_id", "is required for a key that is not bound to one owner")]
        )
    async with given.database.read() as session:
        await require_owner(session, owner_id, bound_to=holder.owner_id)
    position = await find_position(given.database, _wanted(asked, last_event_id))
    following = Following(owner_id, readable_kinds(holder), holder.id)
    async with given.streams.open(following, position) as reader:
        yield reader


@router.get(
    "",
    operation_id="stream_events",
    response_class=EventSourceResponse,
    responses=refusals(OwnerUnknown, EventsGone, StreamsTooMany),
)
async def get_events(reader: Annotated[Reader, Depends(_reader)]) -> AsyncIterator[ServerSentEvent]:
    """What happens to one owner, live: each event with its type as name, and `{id, type, timestamp, data}` as data.

    A key is told what it could read: of wallets with `wallets:read`, of top-ups and rules with `rules:read` besides.
    The ids of the stream are places in it: whoever comes back with the last one in `Last-Event-ID` misses nothing
    that is still kept. Events may be told twice around a reconnect; their own `id` tells. The order is that in which
    changes began; where it matters, versions say which is the newer.
    """
    yield ServerSentEvent(id=str(reader.position), retry=RETRY_MILLISECONDS)
    async for event in reader.follow():
        yield ServerSentEvent(comment="still here") if event is None else _told(event)


def _told(event: EventRecord) -> ServerSentEvent:
    told: dict[str, Any] = {
        "id": event.id,
        "type": event.kind,
        "timestamp": moment_text(event.at),
        "data": event.payload,
    }
    return ServerSentEvent(id=str(event.position), event=event.kind, data=told)


def _wanted(asked: EventsQuery, last_event_id: str | None) -> Position | None:
    """A reader that comes back by itself asks as at first, with its newer place in the header.

    Raises FieldsInvalid naming each that cannot be read, also beside one that can.
    """
    problems: list[Problem] = []
    places = [
        _read_place(field, token, problems)
        for field, token in (("header/last-event-id", last_event_id), ("query/after", asked.after))
    ]
    if problems:
        raise FieldsInvalid(problems)
    return next((place for place in places if place is not None), None)


def _read_place(field: str, token: str | None, problems: list[Problem]) -> Position | None:
    if token is None:
        return None
    try:
        return Position.parse(token)
    except PositionUnreadable as unreadable:
        problems.append(Problem(field, str(unreadable)))
        return None
