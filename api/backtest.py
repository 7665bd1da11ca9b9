"""The dry run over the past: what a rule would have done with its wallet's real history; moves nothing."""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response

from adapters.postgres.backtest import Past, read_past, read_quotes
from adapters.postgres.rules import RuleRecord, RuleUnknown, read_rule
from adapters.postgres.wallets import name_wallet
from api.authentication import RulesReader
from api.given import DatabaseDep
from api.once import OnceDep, answered
from api.refusals import refusals
from api.rules import Account, CapsOrder, Sources
from api.wire import Amount, Asset, Body, FieldsInvalid, GivenMoment, Holding, Moment, PathId, View
from topup.backtest import Agreement, Assets, Course, PastTopUp, replay, steps_of
from topup.caps import read_terms_and_caps, write_caps
from topup.money import AmountUnreadable, Money
from topup.outcome import Outcome, Reason
from topup.rule import Problem

router = APIRouter(prefix="/v1/rules", tags=["rules"])

SHOWN_MAX = 500
"""So many top-ups are listed, the newest; all of them are counted."""

_TERMS = ("threshold", "amount", "account", "sources")


class BacktestOrder(Body):
    """What to try out. What is left out or null is as the rule has it; `caps` null tries it without any."""

    threshold: Amount | None = None
    amount: Amount | None = None
    account: Account | None = None
    sources: Sources | None = None
    caps: CapsOrder | None = None
    since: Annotated[
        GivenMoment | None, Field(alias="from", description="Only what happened from this moment on.")
    ] = None
    until: Annotated[GivenMoment | None, Field(description="Only what happened before this moment.")] = None
    assume_available: Annotated[
        dict[Asset, Holding] | None,
        Field(
            max_length=20,
            description="What the sources hold at the beginning, and nothing of what is not named; they are valued at "
            "today's rates. Left out: the first source always covers the amount.",
            examples=[{"USDT": "500.00"}],
        ),
    ] = None


class PastTopUpView(View):
    """A top-up that would have happened."""

    at: Moment
    balance_before: str
    balance_after: str
    outcome: Outcome
    reason: Reason


class BacktestView(View):
    """What would have happened.

    `events` counts the spends and deposits replayed; the wallet's real top-ups are left out of its history.
    `truncated`: there were more than can be replayed at once, and the newest count. `top_ups` lists the newest,
    oldest first, and `count` all of them; `insufficient` those that the sources could not cover. `capped` counts the
    events at which a cap alone kept the rule from firing, `unpaid` the spends that the wallet would have lacked the
    money for. The balances are null where nothing is known of the wallet.
    """

    events: int
    first_event_at: Moment | None
    last_event_at: Moment | None
    truncated: bool
    top_ups: list[PastTopUpView]
    count: int
    insufficient: int
    capped: int
    unpaid: int
    lowest_balance: str | None
    final_balance: str | None


@dataclass(frozen=True, slots=True)
class _Trial:
    """Everything a dry run needs."""

    agreement: Agreement
    past: Past
    assets: Assets | None


@router.post(
    "/{rule_id}/backtest",
    operation_id="backtest_rule",
    response_model=BacktestView,
    responses=refusals(RuleUnknown),
)
async def post_backtest(
    rule_id: PathId,
    reader: RulesReader,
    database: DatabaseDep,
    once: OnceDep,
    order: BacktestOrder | None = None,
) -> Response:
    """Replay the wallet's history with this rule, or with other terms, by the same rules as live; moves nothing.

    The rule begins on and armed, and each top-up is at its end as soon as it begins.
    """
    asked = order or BacktestOrder()
    async with database.read() as session:
        rule = await read_rule(session, rule_id, bound_to=reader.owner_id)
        wallet = await name_wallet(session, rule.wallet_id, bound_to=reader.owner_id)
        terms, caps = read_terms_and_caps(**_draft(rule, asked))
        available = _read_available(asked, terms.sources)
        _refuse_backwards(asked)
        past = await read_past(session, wallet, since=asked.since, until=asked.until)
        quotes = await read_quotes(session, terms.sources, terms.currency)
    assets = None if available is None else Assets(available, quotes)
    trial = _Trial(Agreement(terms, caps, wallet.kept), past, assets)
    view = await asyncio.to_thread(_try, trial)
    return await once.remember(answered(view), body=order)


def _draft(rule: RuleRecord, order: BacktestOrder) -> dict[str, Any]:
    """The rule's own terms as their owner would write them, with those that are to be tried."""
    own: dict[str, Any] = {
        "threshold": rule.terms.threshold.text,
        "amount": rule.terms.amount.text,
        "account": rule.terms.account.value,
        "sources": rule.terms.sources,
        "caps": write_caps(rule.caps),
    }
    given = order.model_dump(exclude_unset=True)
    tried = {name: given[name] for name in _TERMS if given.get(name) is not None}
    caps = {"caps": given["caps"]} if "caps" in given else {}
    return {**own, **tried, **caps, "currency": rule.terms.currency}


def _read_available(order: BacktestOrder, sources: tuple[str, ...]) -> dict[str, Money] | None:
    """What the sources are to hold. Raises FieldsInvalid."""
    if order.assume_available is None:
        return None
    problems = [
        Problem(f"assume_available/{asset}", fault)
        for asset, amount in order.assume_available.items()
        if (fault := _fault(asset, amount, sources))
    ]
    if problems:
        raise FieldsInvalid(problems)
    return {asset: Money.parse(amount, asset) for asset, amount in order.assume_available.items()}


def _fault(asset: str, amount: str, sources: tuple[str, ...]) -> str | None:
    if asset not in sources:
        return f"is not one of the sources, which are {', '.join(sources)}"
    try:
        Money.parse(amount, asset)
    except AmountUnreadable as unreadable:
        return str(unreadable)
    return None


def _refuse_backwards(order: BacktestOrder) -> None:
    if order.since and order.until and order.since >= order.until:
        raise FieldsInvalid([Problem("until", "must be later than `from`")])


def _try(trial: _Trial) -> BacktestView:
    past, agreement = trial.past, trial.agreement
    steps = steps_of(past.history, before=past.before, kept=agreement.kept)
    before = past.before.balance if past.before else None
    course = replay(agreement, steps, before=before, assets=trial.assets)
    return _view(course, past)


def _view(course: Course, past: Past) -> BacktestView:
    lowest, history = course.lowest, past.history
    return BacktestView(
        events=course.events,
        first_event_at=history[0].at if history else None,
        last_event_at=history[-1].at if history else None,
        truncated=past.truncated,
        top_ups=[_top_up_view(top_up) for top_up in course.top_ups[-SHOWN_MAX:]],
        count=len(course.top_ups),
        insufficient=course.insufficient,
        capped=course.capped,
        unpaid=course.unpaid,
        lowest_balance=lowest.text if lowest is not None else None,
        final_balance=course.balance.text if lowest is not None else None,
    )


def _top_up_view(top_up: PastTopUp) -> PastTopUpView:
    return PastTopUpView(
        at=top_up.at,
        balance_before=top_up.balance_before.text,
        balance_after=top_up.balance_after.text,
        outcome=top_up.outcome,
        reason=top_up.reason,
    )
