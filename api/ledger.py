"""The embedded ledger: money from outside, payments, rates, and the development switch that makes draws fail."""

from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi import Body as FromBody
from pydantic import Discriminator, Field, Tag, WithJsonSchema
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.responses import Response

from adapters.postgres.answers import Answer
from adapters.postgres.faults import FaultSwitch, switch_fault
from adapters.postgres.owners import OwnerUnknown, require_owner
from adapters.postgres.payments import (
    BalanceInsufficient,
    WalletKeptElsewhere,
    deposit_to_account,
    deposit_to_wallet,
    pay_from_wallet,
)
from adapters.postgres.rates import RateRecord, list_rates, set_rate
from adapters.postgres.wallets import WalletUnknown, name_wallet
from api.authentication import Admin, AdminOfAll, KeyBound
from api.given import DatabaseDep
from api.once import KeyMissing, OnceRequired, answered
from api.pointers import SHAPE
from api.refusals import refusals, refused
from api.wire import DECIMAL, WHOLE, Amount, Asset, Body, FieldsInvalid, Id, View, read_amount
from topup.money import AmountUnreadable
from topup.quote import read_rate
from topup.rule import AccountKind, Problem

router = APIRouter(prefix="/v1/ledger", tags=["embedded ledger"])
development_router = APIRouter(prefix="/v1/ledger", tags=["development"])

_TO_WALLET, _TO_ACCOUNT = SHAPE + "wallet", SHAPE + "account"


class WalletDeposit(Body):
    """Money for a Pay wallet, in its currency: how an owner tops up by hand."""

    wallet_id: Id
    amount: Amount


class AccountDeposit(Body):
    """Money for one asset of an owner's exchange account."""

    owner_id: Id
    account: Literal["funding", "trading"]
    asset: Asset
    amount: Amount


class TransferView(View):
    """A deposit, and what the wallet or the asset holds after it."""

    id: str
    wallet_id: str | None
    owner_id: str
    account: AccountKind | None
    asset: str
    amount: str
    balance: str


class PaymentOrder(Body):
    """What is to be spent from a wallet."""

    wallet_id: Id
    amount: Amount


class PaymentView(View):
    """A payment, and what the wallet holds after it."""

    id: str
    wallet_id: str
    amount: str
    balance: str


class RateOrder(Body):
    """One unit of `asset` is worth `rate` of `currency`."""

    asset: Asset
    currency: Asset
    rate: Annotated[
        str,
        Field(min_length=1, max_length=40),
        WithJsonSchema({"type": "string", "maxLength": 40, "pattern": DECIMAL}),
    ]


class RateView(View):
    """One unit of `asset` is worth `rate` of `currency`."""

    asset: str
    currency: str
    rate: str


class RatesView(View):
    """All rates."""

    data: list[RateView]


class FaultOrder(Body):
    """How the next `times` draws from one source go wrong; null ends it."""

    owner_id: Id
    account: Literal["funding", "trading"]
    asset: Asset
    fault: Literal["reject", "hang", "answer_lost_after_moving", "answer_lost_before_moving"] | None
    times: Annotated[int, Field(ge=1, le=1000), WHOLE] = 1


class FaultView(View):
    """The switch as it stands."""

    owner_id: str
    account: AccountKind
    asset: str
    fault: str | None
    times: int


def _shape_of(body: Any) -> str:
    return _TO_WALLET if isinstance(body, dict) and "wallet_id" in body else _TO_ACCOUNT


Deposit = Annotated[
    Annotated[WalletDeposit, Tag(_TO_WALLET)] | Annotated[AccountDeposit, Tag(_TO_ACCOUNT)],
    Discriminator(_shape_of),
    FromBody(),
]


@router.post(
    "/deposits",
    status_code=201,
    operation_id="deposit",
    response_model=TransferView,
    responses=refusals(KeyMissing, OwnerUnknown, WalletUnknown, WalletKeptElsewhere),
)
async def post_deposit(order: Deposit, admin: Admin, once: OnceRequired) -> Response:
    """Bring in money from outside."""

    async def bring_in(session: AsyncSession) -> Answer:
        if isinstance(order, WalletDeposit):
            view = await _into_wallet(session, order, admin.owner_id)
        else:
            view = await _into_account(session, order, admin.owner_id)
        return answered(view, status=201)

    return await once.answer(bring_in, body=order, wakes=True)


@router.post(
    "/payments",
    status_code=201,
    operation_id="pay",
    response_model=PaymentView,
    responses=refusals(KeyMissing, WalletUnknown, WalletKeptElsewhere, BalanceInsufficient),
)
async def post_payment(order: PaymentOrder, admin: Admin, once: OnceRequired, request: Request) -> Response:
    """Spend from a wallet; a spend that leaves less than the rule's threshold starts a top-up (R8)."""

    async def spend(session: AsyncSession) -> Answer:
        wallet = await name_wallet(session, order.wallet_id, bound_to=admin.owner_id)
        amount = read_amount("amount", order.amount, wallet.currency)
        paid = await pay_from_wallet(session, wallet, amount)
        if isinstance(paid, BalanceInsufficient):
            return refused(paid, request)
        view = PaymentView(
            id=paid.id, wallet_id=wallet.id, amount=paid.amount.text, balance=paid.balance.text
        )
        return answered(view, status=201)

    return await once.answer(spend, body=order, wakes=True)


@router.get("/rates", operation_id="list_rates", responses=refusals())
async def get_rates(_admin: Admin, database: DatabaseDep) -> RatesView:
    """All rates. What stands in none of them is valued by the inverse one, or through USDT."""
    async with database.read() as session:
        return RatesView(data=[_rate_view(record) for record in await list_rates(session)])


@router.put("/rates", operation_id="set_rate", responses=refusals(KeyBound))
async def put_rate(order: RateOrder, _admin: AdminOfAll, database: DatabaseDep) -> RateView:
    """Set a rate; it counts from the next check on."""
    record = _read_rate(order)
    async with database.commit() as session:
        await set_rate(session, record)
    return _rate_view(record)


@development_router.put("/faults", operation_id="switch_fault", responses=refusals(OwnerUnknown))
async def put_fault(order: FaultOrder, admin: Admin, database: DatabaseDep) -> FaultView:
    """Make the next draws from one source go wrong; exists in development only."""
    switch = FaultSwitch(order.owner_id, order.account, order.asset, order.fault, order.times)
    async with database.commit() as session:
        await require_owner(session, order.owner_id, bound_to=admin.owner_id)
        await switch_fault(session, switch)
    return FaultView(
        owner_id=switch.owner_id,
        account=AccountKind(switch.account),
        asset=switch.asset,
        fault=switch.fault,
        times=switch.times if switch.fault else 0,
    )


async def _into_wallet(session: AsyncSession, order: WalletDeposit, bound_to: str | None) -> TransferView:
    wallet = await name_wallet(session, order.wallet_id, bound_to=bound_to)
    amount = read_amount("amount", order.amount, wallet.currency)
    posted = await deposit_to_wallet(session, wallet, amount)
    return TransferView(
        id=posted.id,
        wallet_id=wallet.id,
        owner_id=wallet.owner_id,
        account=None,
        asset=wallet.currency,
        amount=posted.amount.text,
        balance=posted.balance.text,
    )


async def _into_account(session: AsyncSession, order: AccountDeposit, bound_to: str | None) -> TransferView:
    await require_owner(session, order.owner_id, bound_to=bound_to)
    amount = read_amount("amount", order.amount, order.asset)
    kind = AccountKind(order.account)
    posted = await deposit_to_account(session, owner_id=order.owner_id, kind=kind, amount=amount)
    return TransferView(
        id=posted.id,
        wallet_id=None,
        owner_id=order.owner_id,
        account=kind,
        asset=order.asset,
        amount=posted.amount.text,
        balance=posted.balance.text,
    )


def _read_rate(order: RateOrder) -> RateRecord:
    if order.asset == order.currency:
        raise FieldsInvalid([Problem("currency", "must be another asset: each is worth itself")])
    try:
        read_rate(order.rate)
    except AmountUnreadable as unreadable:
        raise FieldsInvalid([Problem("rate", str(unreadable))]) from None
    return RateRecord(order.asset, order.currency, Decimal(order.rate))


def _rate_view(record: RateRecord) -> RateView:
    text = f"{record.rate:f}"
    plain = text.rstrip("0").rstrip(".") if "." in text else text
    return RateView(asset=record.asset, currency=record.currency, rate=plain)
