"""Balance details: what a wallet holds, what its rule does or waits for, how the balance went, and what to do."""

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, Any

from babel import Locale
from fastapi import Form, Path, Request
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from adapters.postgres.balance_history import BalanceHistory, read_balance_history
from adapters.postgres.clock import read_clock
from adapters.postgres.database import Database
from adapters.postgres.history import Which, list_top_ups
from adapters.postgres.ids import new_id
from adapters.postgres.payments import (
    BalanceInsufficient,
    PaymentDiffers,
    WalletKeptElsewhere,
    deposit_to_wallet,
    pay_from_wallet,
)
from adapters.postgres.rules import RuleRecord, find_rule
from adapters.postgres.stories import read_story
from adapters.postgres.wallets import WalletRecord, name_wallet, read_wallet
from console.chart import DAYS, draw_chart
from console.page import amount_text, locale_of, render
from console.routes import pages
from console.visitors import OwnerVisitor, owner_of
from console.wiring import WiringDep
from topup.alert import AlertCode
from topup.money import AmountUnreadable, Money
from topup.steps import Step, Story, tell_steps
from topup.trigger import Kept
from topup.words import state_name, state_words, top_up_line

TOP_UPS_SHOWN = 5
ID_LENGTH_MAX = 80

WalletId = Annotated[str, Path(max_length=ID_LENGTH_MAX)]

router = pages()


@router.get("/wallets/{wallet_id}")
async def balance(
    request: Request, wallet_id: WalletId, visitor: OwnerVisitor, wiring: WiringDep
) -> Response:
    """What the wallet holds, large and first, and all that belongs to it."""
    return await _page(request, wallet_id, owner_of(visitor), wiring.database, development=wiring.development)


@router.post("/wallets/{wallet_id}/pay")
async def pay(
    request: Request,
    wallet_id: WalletId,
    visitor: OwnerVisitor,
    wiring: WiringDep,
    amount: Annotated[str, Form(max_length=100)] = "",
    once: Annotated[str, Form(max_length=100)] = "",
    do: Annotated[str, Form(max_length=10)] = "pay",
) -> Response:
    """Spend from the wallet, or add to it by hand; in development only. The same form sent twice pays once."""
    owner_id = owner_of(visitor)
    if not wiring.development:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    refused = await _move(
        wiring.database,
        wallet_id,
        owner_id,
        amount.strip(),
        once=f"{visitor.person_id} {once}",
        adds=do == "add",
    )
    if refused is not None:
        given = {"amount": amount, "error": refused}
        return await _page(request, wallet_id, owner_id, wiring.database, development=True, given=given)
    await wiring.database.wake_watchers()
    done = "funds-added" if do == "add" else "paid"
    return RedirectResponse(f"/wallets/{wallet_id}?done={done}", status_code=HTTPStatus.SEE_OTHER)


@dataclass(frozen=True, slots=True)
class Running:
    """The top-up in progress, step by step."""

    id: str
    story: Story
    steps: tuple[Step, ...]


async def wallet_now(
    session: AsyncSession, wallet_id: str, owner_id: str, *, locale: Locale, development: bool
) -> dict[str, Any]:
    """What `parts/wallet_now.html` says of the wallet at this moment. Raises WalletUnknown."""
    wallet = await read_wallet(session, wallet_id, bound_to=owner_id)
    rule = await find_rule(session, wallet_id, bound_to=owner_id)
    top_ups = await list_top_ups(session, Which(bound_to=owner_id, wallet_id=wallet_id), most=TOP_UPS_SHOWN)
    threshold = rule.terms.threshold if rule else None
    return {
        "wallet": wallet,
        "known": is_known(wallet),
        "rule": rule,
        "state_name": state_name(rule.state) if rule else None,
        "state_words": _state_words(rule) if rule else None,
        "way_out": way_out(wallet, rule),
        "running": await _running(session, rule, owner_id),
        "chart": draw_chart(await _history(session, wallet), threshold=threshold, locale=locale),
        "top_ups": top_ups,
        "top_up_line": top_up_line,
        "may_pay": development and wallet.kept is Kept.LEDGER,
    }


def is_known(wallet: WalletRecord) -> bool:
    """Whether anybody has said what the wallet holds."""
    return wallet.kept is Kept.LEDGER or wallet.last_report is not None


def way_out(wallet: WalletRecord, rule: RuleRecord | None) -> str | None:
    """What a low balance is best answered with: `turn_on` or `adjust`; None where nothing is the matter (R25)."""
    if wallet.alert is None or rule is None:
        return None
    return "turn_on" if wallet.alert.code is AlertCode.RULE_OFF else "adjust"


async def _running(session: AsyncSession, rule: RuleRecord | None, owner_id: str) -> Running | None:
    if rule is None or rule.locked_by is None:
        return None
    found = await read_story(session, rule.locked_by, bound_to=owner_id)
    return Running(found.id, found.story, tell_steps(found.story))


async def _history(session: AsyncSession, wallet: WalletRecord) -> BalanceHistory:
    """The last days until the end of this minute, so that what is drawn does not change with every second."""
    now = await read_clock(session)
    until = now.replace(second=0, microsecond=0) + timedelta(minutes=1)
    asset = wallet.balance.asset
    return await read_balance_history(session, wallet.id, currency=asset, since=until - DAYS, until=until)


def _state_words(rule: RuleRecord) -> str:
    return state_words(rule.state, rule.terms, rule.cap if rule.armed else None)


async def _page(
    request: Request,
    wallet_id: str,
    owner_id: str,
    database: Database,
    *,
    development: bool,
    given: dict[str, str] | None = None,
) -> Response:
    locale = locale_of(request)
    async with database.read() as session:
        words = await wallet_now(session, wallet_id, owner_id, locale=locale, development=development)
    return render(
        request,
        "wallet.html",
        status=HTTPStatus.UNPROCESSABLE_ENTITY if given else HTTPStatus.OK,
        **words,
        title_balance=amount_text(words["wallet"].balance, locale),
        given=given or {"amount": "", "error": None},
        once=new_id("once"),
    )


async def _move(
    database: Database, wallet_id: str, owner_id: str, amount: str, *, once: str, adds: bool
) -> str | None:
    """Pay, or add; what to say where it was refused."""
    move = deposit_to_wallet if adds else pay_from_wallet
    name = f"payment_{hashlib.sha256(once.encode()).hexdigest()[:32]}"
    try:
        async with database.commit() as session:
            wallet = await name_wallet(session, wallet_id, bound_to=owner_id)
            money = Money.parse(amount, wallet.currency)
            if not money:
                return "The amount must be more than zero."
            moved = await move(session, wallet, money, payment_id=name)
    except AmountUnreadable as unreadable:
        return f"The amount {unreadable}."
    except WalletKeptElsewhere:
        return "The balance of this wallet is kept elsewhere: move the money there."
    except PaymentDiffers:
        return "This form was used already, for another amount. Nothing was moved this time: send it again."
    if isinstance(moved, BalanceInsufficient):
        return (
            f"Insufficient balance: the wallet holds {moved.balance}, less than {money}. Nothing was paid. "
            "Pay less, or add funds first."
        )
    return None
