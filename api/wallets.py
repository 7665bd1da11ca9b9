"""Pay wallets: opening them, and how they stand, with the low-balance alert (R25)."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.responses import Response

from adapters.postgres.answers import Answer
from adapters.postgres.owners import OwnerUnknown
from adapters.postgres.wallets import WalletRecord, WalletUnknown, list_wallets, open_wallet, read_wallet
from api.authentication import Admin, WalletsReader
from api.given import DatabaseDep
from api.lists import Page, PageQuery, page_of
from api.once import OnceDep, answered
from api.refusals import refusals
from api.wire import Asset, Body, Id, Moment, PathId, View
from topup.alert import AlertCode
from topup.trigger import Kept

router = APIRouter(prefix="/v1/wallets", tags=["wallets"])


class WalletOrder(Body):
    """Whose wallet is to be opened, of which asset, and where its balance is kept.

    `ledger`: in Tidemark's own ledger, where deposits and payments are booked. `elsewhere`: wherever money comes and
    goes, and told to `/v1/balance-events`; a top-up hands money over to it.
    """

    owner_id: Id
    currency: Asset
    kept: Literal["ledger", "elsewhere"] = "ledger"


class AlertView(View):
    """The low-balance banner: why no top-up is on its way, and what to do."""

    code: AlertCode
    message: str


class LastReportView(View):
    """The newest balance event that was accepted for a wallet kept elsewhere."""

    event_id: str
    version: int
    occurred_at: Moment
    received_at: Moment


class WalletView(View):
    """A Pay wallet.

    The balance of one kept elsewhere is the one reported last, zero before the first report.
    """

    id: str
    owner_id: str
    currency: str
    kept: Kept
    balance: str
    last_report: LastReportView | None
    rule_id: str | None
    alert: AlertView | None


class WalletQuery(PageQuery):
    """Whose wallets are asked for."""

    owner_id: Id | None = None


@router.post(
    "",
    status_code=201,
    operation_id="open_wallet",
    response_model=WalletView,
    responses=refusals(OwnerUnknown),
)
async def post_wallet(order: WalletOrder, admin: Admin, once: OnceDep) -> Response:
    """Open an empty wallet."""

    async def open_it(session: AsyncSession) -> Answer:
        wallet = await open_wallet(
            session,
            owner_id=order.owner_id,
            currency=order.currency,
            bound_to=admin.owner_id,
            kept=Kept(order.kept),
        )
        return answered(_wallet_view(wallet), status=201)

    return await once.answer(open_it, body=order)


@router.get("", operation_id="list_wallets", responses=refusals())
async def get_wallets(
    asked: Annotated[WalletQuery, Query()], reader: WalletsReader, database: DatabaseDep
) -> Page[WalletView]:
    """Wallets, newest first."""
    async with database.read() as session:
        found = await list_wallets(
            session,
            bound_to=reader.owner_id,
            owner_id=asked.owner_id,
            after=asked.position(),
            most=asked.most,
        )
    return page_of(found, asked, view=_wallet_view, position=lambda record: record.id)


@router.get("/{wallet_id}", operation_id="get_wallet", responses=refusals(WalletUnknown))
async def get_wallet(wallet_id: PathId, reader: WalletsReader, database: DatabaseDep) -> WalletView:
    """One wallet as it stands."""
    async with database.read() as session:
        return _wallet_view(await read_wallet(session, wallet_id, bound_to=reader.owner_id))


def _wallet_view(record: WalletRecord) -> WalletView:
    alert, report = record.alert, record.last_report
    return WalletView(
        id=record.id,
        owner_id=record.owner_id,
        currency=record.balance.asset,
        kept=record.kept,
        balance=record.balance.text,
        last_report=LastReportView.model_validate(report, from_attributes=True) if report else None,
        rule_id=record.rule_id,
        alert=AlertView(code=alert.code, message=alert.message) if alert else None,
    )
