"""The preview: how a top-up of a rule would end if it ran now, by the same reckoning as the live check."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from topup.caps import CapReached
from topup.money import Money
from topup.outcome import Outcome, Reason
from topup.rule import RuleState, Terms
from topup.waterfall import Holding, Plan, PlannedDraw, Shortfall, plan_draws
from topup.words import listed


class WarningCode(StrEnum):
    """What an owner should know before trusting a rule: a closed list."""

    AMOUNT_BELOW_GAP = "amount_below_gap"
    SOURCE_EMPTY = "source_empty"
    SOURCE_NOT_QUOTED = "source_not_quoted"
    SOURCES_INSUFFICIENT = "sources_insufficient"
    CAP_REACHED = "cap_reached"


@dataclass(frozen=True, slots=True)
class Caution:
    """One thing to know, in one code and words."""

    code: WarningCode
    message: str


@dataclass(frozen=True, slots=True)
class Preview:
    """What would happen now. `draws` is empty where the check would refuse: then nothing moves (R15)."""

    would_fire: bool
    outcome: Outcome
    reason: Reason
    draws: tuple[PlannedDraw, ...]
    warnings: tuple[Caution, ...]


def preview_rule(
    terms: Terms,
    state: RuleState,
    *,
    balance: Money | None,
    holdings: Sequence[Holding],
    cap: CapReached | None = None,
) -> Preview:
    """Reckon without moving anything. `cap`: the one that a top-up would pass now.

    `balance` None: nobody knows it yet, so that nothing can be said of it (R8).

    `would_fire`: the rule is armed and the balance is below its threshold already, so that the next spend fires it.
    The rest supposes that the balance had just dropped below, whatever it is now.
    """
    plan = plan_draws(terms, holdings)
    would_fire = state is RuleState.ARMED and balance is not None and balance < terms.threshold
    warnings = warn(terms, balance=balance, holdings=holdings, cap=cap)
    if isinstance(plan, Plan):
        return Preview(would_fire, Outcome.COMPLETED, Reason.FULL, plan.draws, warnings)
    return Preview(would_fire, Outcome.FAILED, Reason.INSUFFICIENT_BALANCE, (), warnings)


def planned_words(draws: Sequence[PlannedDraw]) -> str:
    """What each source would give: "60.00 USDT from USDT and 0.0005 BTC from BTC, worth 40.00 USDT"."""
    return listed([_share_words(draw) for draw in draws if draw.credit])


def if_it_fired(terms: Terms, holdings: Sequence[Holding]) -> str:
    """How a top-up would end if the rule fired now, as a sentence."""
    plan = plan_draws(terms, holdings)
    if isinstance(plan, Plan):
        return f"If it fired now: {planned_words(plan.draws)}."
    return (
        f"If it fired now, it would fail and move nothing: the sources hold {plan.available}, {plan.missing} less than "
        "the top-up amount."
    )


def at_once_words(
    terms: Terms, *, balance: Money, holdings: Sequence[Holding], cap: CapReached | None = None
) -> str | None:
    """What saving a rule that is on, or turning it on, starts at once (R11), as a sentence; None when nothing.

    `cap`: the one that a top-up would pass now, which is among the warnings.
    """
    if balance >= terms.threshold or cap is not None:
        return None
    below = f"Your balance of {balance} is below the threshold of {terms.threshold}"
    plan = plan_draws(terms, holdings)
    if isinstance(plan, Plan):
        return f"{below}, so this tops up {terms.amount} at once: {planned_words(plan.draws)}."
    return (
        f"{below}, so this starts a top-up at once, which would fail and move nothing, as the sources hold "
        f"{plan.available}, {plan.missing} less than the top-up amount."
    )


def warn(
    terms: Terms, *, balance: Money | None, holdings: Sequence[Holding], cap: CapReached | None
) -> tuple[Caution, ...]:
    """What an owner should know before trusting the rule, as things stand."""
    return tuple(_warnings(terms, balance, holdings, cap))


def _warnings(
    terms: Terms, balance: Money | None, holdings: Sequence[Holding], cap: CapReached | None
) -> Iterator[Caution]:
    after = None if balance is None else balance + terms.amount
    if after is not None and after < terms.threshold:
        yield Caution(
            WarningCode.AMOUNT_BELOW_GAP,
            f"The amount would lift the balance to {after} only, below the threshold of {terms.threshold}.",
        )
    yield from _source_warnings(terms, holdings)
    plan = plan_draws(terms, holdings)
    if isinstance(plan, Shortfall):
        yield Caution(
            WarningCode.SOURCES_INSUFFICIENT,
            f"The sources together are worth {plan.available}, {plan.missing} short of the amount.",
        )
    if cap is not None:
        yield Caution(
            WarningCode.CAP_REACHED,
            f"One more top-up would pass the rule's cap for this {cap.period}, so it does not fire before "
            f"{cap.until:%Y-%m-%d %H:%M} UTC, unless the cap is raised.",
        )


def _source_warnings(terms: Terms, holdings: Sequence[Holding]) -> Iterator[Caution]:
    for (rank, asset), holding in zip(terms.ranked, holdings, strict=True):
        if holding.quote is None:
            message = f"Source {rank}, {asset}, has no rate in {terms.currency}, so it can give nothing."
            yield Caution(WarningCode.SOURCE_NOT_QUOTED, message)
        elif not holding.worth(terms.currency):
            message = f"Source {rank}, {asset}, is worth nothing in the {terms.account.value} account now."
            yield Caution(WarningCode.SOURCE_EMPTY, message)


def _share_words(draw: PlannedDraw) -> str:
    if draw.debit.asset == draw.credit.asset:
        return f"{draw.credit} from {draw.asset}"
    return f"{draw.debit} from {draw.asset} (worth {draw.credit})"
