"""Owners: registering them, what their exchange accounts hold, and what they were told."""

from fastapi import APIRouter
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.responses import Response

from adapters.postgres.answers import Answer
from adapters.postgres.history import DeliveryRecord, list_deliveries
from adapters.postgres.owners import OwnerUnknown, list_holdings, register_owner, require_owner
from api.authentication import AdminOfAll, KeyBound, WalletsReader
from api.given import DatabaseDep
from api.lists import Page, PageAsked, page_of
from api.once import OnceDep, answered
from api.refusals import refusals
from api.wire import Body, Email, Moment, PathId, Text, View
from topup.rule import AccountKind
from topup.words import Notice

router = APIRouter(prefix="/v1/owners", tags=["owners"])


class OwnerOrder(Body):
    """Who is to be registered; mails about top-ups go to the address."""

    name: Text
    email: Email


class OwnerView(View):
    """An owner."""

    id: str
    name: str
    email: str
    created_at: Moment


class BalanceView(View):
    """What one asset of an account has available."""

    asset: str
    available: str


class AccountView(View):
    """One of the two kinds of exchange account."""

    kind: AccountKind
    balances: list[BalanceView]


class AccountsView(View):
    """Both exchange accounts of an owner."""

    data: list[AccountView]


class DeliveryView(View):
    """One notification on one channel."""

    id: str
    kind: Notice
    top_up_id: str | None
    channel: str
    status: str
    attempts: int
    subject: str
    sent_at: Moment | None


@router.post(
    "", status_code=201, operation_id="register_owner", response_model=OwnerView, responses=refusals(KeyBound)
)
async def post_owner(order: OwnerOrder, _admin: AdminOfAll, once: OnceDep) -> Response:
    """Register an owner."""

    async def register(session: AsyncSession) -> Answer:
        owner = await register_owner(session, name=order.name, email=order.email)
        view = OwnerView(id=owner.id, name=owner.name, email=owner.email, created_at=owner.created_at)
        return answered(view, status=201)

    return await once.answer(register, body=order)


@router.get("/{owner_id}/accounts", operation_id="get_accounts", responses=refusals(OwnerUnknown))
async def get_accounts(owner_id: PathId, reader: WalletsReader, database: DatabaseDep) -> AccountsView:
    """What the owner's exchange accounts hold; an asset that was never funded is not listed."""
    async with database.read() as session:
        await require_owner(session, owner_id, bound_to=reader.owner_id)
        holdings = await list_holdings(session, owner_id)
    return AccountsView(
        data=[
            AccountView(
                kind=kind,
                balances=[BalanceView(asset=money.asset, available=money.text) for money in held],
            )
            for kind, held in holdings.items()
        ]
    )


@router.get("/{owner_id}/notifications", operation_id="list_notifications", responses=refusals(OwnerUnknown))
async def get_notifications(
    owner_id: PathId, asked: PageAsked, reader: WalletsReader, database: DatabaseDep
) -> Page[DeliveryView]:
    """What the owner was told, or is still to be told, on which channel, newest first."""
    async with database.read() as session:
        await require_owner(session, owner_id, bound_to=reader.owner_id)
        found = await list_deliveries(session, owner_id, after=asked.position(), most=asked.most)
    return page_of(found, asked, view=_delivery_view, position=lambda record: record.id)


def _delivery_view(record: DeliveryRecord) -> DeliveryView:
    return DeliveryView(
        id=record.id,
        kind=Notice(record.kind),
        top_up_id=record.top_up_id,
        channel=record.channel,
        status=record.status,
        attempts=record.attempts,
        subject=record.subject,
        sent_at=record.sent_at,
    )
