"""Balance events from outside: how wallets stand that are kept elsewhere, one at a time or in batches (R10)."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi import Body as FromBody
from pydantic import Discriminator, Field, Tag
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.responses import Response

from adapters.postgres.answers import Answer
from adapters.postgres.clock import read_clock
from adapters.postgres.reports import (
    EventIdReused,
    Receipt,
    Report,
    WalletKeptHere,
    hold_wallets_elsewhere,
    record_reports,
)
from adapters.postgres.wallets import WalletName, WalletUnknown
from api.authentication import EventsWriter
from api.once import OnceDep, answered
from api.pointers import SHAPE
from api.refusals import refusals
from api.wire import DECIMAL, WHOLE, Body, FieldsInvalid, GivenMoment, Id, View
from topup.money import AmountUnreadable, Money
from topup.rule import Problem

router = APIRouter(prefix="/v1/balance-events", tags=["balance events"])

EVENTS_MAX = 500
AHEAD_MAX = timedelta(minutes=5)
"""How far another clock may be ahead of ours; an event from later than that has not happened."""
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
VERSION_MAX = 2**53 - 1
"""Beyond this, JSON numbers are not exact in many languages."""

_ONE, _BATCH = SHAPE + "one", SHAPE + "batch"


class BalanceEventOrder(Body):
    """How a wallet that is kept elsewhere stands since something happened to it there."""

    event_id: Annotated[
        str,
        Field(
            pattern=r"^[\x21-\x7e]{1,200}$",
            description="The caller's own id of the event, one for each event of the wallet; it is taken once.",
        ),
    ]
    wallet_id: Id
    balance: Annotated[
        str,
        Field(
            min_length=1,
            max_length=60,
            description="What the wallet holds after the event: a plain decimal as a string, zero too.",
            json_schema_extra={"pattern": DECIMAL},
        ),
    ]
    version: Annotated[
        int,
        Field(
            ge=0,
            le=VERSION_MAX,
            description="Rises with each event of the wallet; one that is not above the last accepted one is stale.",
        ),
        WHOLE,
    ]
    occurred_at: GivenMoment


class BalanceEventBatch(Body):
    """Several events, of one wallet or of several, in the order in which they are to be taken."""

    events: Annotated[list[BalanceEventOrder], Field(min_length=1, max_length=EVENTS_MAX)]


class ReceiptView(View):
    """What became of an event. `duplicate`: it was taken before. `stale`: a newer one was; it moves nothing then."""

    accepted: Literal[True] = True
    duplicate: bool
    stale: bool


class ReceiptsView(View):
    """What became of each event, in their order."""

    data: list[ReceiptView]


def _shape_of(body: Any) -> str:
    return _BATCH if isinstance(body, dict) and "events" in body else _ONE


BalanceEvents = Annotated[
    Annotated[BalanceEventOrder, Tag(_ONE)] | Annotated[BalanceEventBatch, Tag(_BATCH)],
    Discriminator(_shape_of),
    FromBody(),
]


@router.post(
    "",
    status_code=202,
    operation_id="report_balance",
    response_model=ReceiptView | ReceiptsView,
    responses=refusals(WalletUnknown, WalletKeptHere, EventIdReused),
)
async def post_balance_events(order: BalanceEvents, writer: EventsWriter, once: OnceDep) -> Response:
    """Tell how a wallet kept elsewhere stands; a drop below its rule's threshold starts a top-up (R8).

    Events may be repeated and come in any order: each is taken once, and one that is older than what is known already
    is kept, and moves nothing. A batch is taken whole or not at all.
    """
    orders = order.events if isinstance(order, BalanceEventBatch) else (order,)
    place = "events/{}/" if isinstance(order, BalanceEventBatch) else ""

    async def take(session: AsyncSession) -> Answer:
        wallet_ids = [one.wallet_id for one in orders]
        wallets = await hold_wallets_elsewhere(session, wallet_ids, bound_to=writer.owner_id)
        receipts = await record_reports(
            session, _read(orders, wallets, now=await read_clock(session), place=place)
        )
        views = [_receipt_view(receipt) for receipt in receipts]
        view = ReceiptsView(data=views) if isinstance(order, BalanceEventBatch) else views[0]
        return answered(view, status=202)

    return await once.answer(take, body=order, wakes=True)


def _read(
    orders: Sequence[BalanceEventOrder], wallets: Mapping[str, WalletName], *, now: datetime, place: str
) -> list[Report]:
    """The reports in the wallets' currencies. Raises FieldsInvalid naming every field of every event that is wrong."""
    latest = now + AHEAD_MAX
    problems = [
        Problem(place.format(number) + field, message)
        for number, order in enumerate(orders)
        for field, message in _faults(order, wallets[order.wallet_id].currency, latest)
    ]
    if problems:
        raise FieldsInvalid(problems)
    return [
        Report(
            event_id=order.event_id,
            wallet_id=order.wallet_id,
            balance=Money.parse(order.balance, wallets[order.wallet_id].currency),
            version=order.version,
            occurred_at=order.occurred_at,
        )
        for order in orders
    ]


def _faults(order: BalanceEventOrder, currency: str, latest: datetime) -> Iterator[tuple[str, str]]:
    try:
        Money.parse(order.balance, currency)
    except AmountUnreadable as unreadable:
        yield "balance", str(unreadable)
    if order.occurred_at > latest:
        yield "occurred_at", "lies in the future: an event is told after it has happened"
    if order.occurred_at < EARLIEST:
        yield "occurred_at", f"lies before the year {EARLIEST:%Y}: check the clock"


def _receipt_view(receipt: Receipt) -> ReceiptView:
    return ReceiptView(duplicate=receipt.duplicate, stale=receipt.stale)
