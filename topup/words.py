"""What people read: one sentence for each outcome, reason and draw, in one place."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from topup.caps import CapReached
from topup.money import Money
from topup.outcome import DrawReason, DrawResult, DrawStatus, Ending, Outcome, Reason
from topup.rule import AccountKind, RuleState, Terms
from topup.trigger import DecisionReason

BEING_CHECKED = "being checked, do not top up by hand yet"


class Notice(StrEnum):
    """What an owner is told: how a top-up ended (R23), that a draw stays unknown (R21), that a balance is low (R25)."""

    ENDED = "ended"
    BEING_CHECKED = "being_checked"
    LOW_BALANCE = "low_balance"


@dataclass(frozen=True, slots=True)
class Wording:
    """What an owner reads below the headline: why, what each source gave, and what to do next."""

    why: str
    lines: tuple[str, ...]
    next_step: str | None
    brief: str
    """The reason alone, for where there is little room."""


def headline(ending: Ending, amount: Money) -> str:
    """How a top-up of this amount ended, in one line fit for a subject."""
    match ending.outcome:
        case Outcome.COMPLETED:
            return f"Your Pay wallet was topped up with {ending.credited}"
        case Outcome.PARTIAL:
            return f"Your top-up came up short: {ending.credited.text} of {amount} arrived"
        case Outcome.FAILED:
            return f"Your top-up of {amount} failed: nothing was moved"
        case Outcome.NOT_NEEDED:
            return "No top-up was needed: nothing was moved"


def checking_headline(amount: Money) -> str:
    """The subject of the notice that a draw's outcome is not known yet (R21)."""
    return f"Your top-up of {amount} is {BEING_CHECKED}"


def tell_ending(
    ending: Ending, draws: Sequence[DrawResult], *, amount: Money, threshold: Money, account: AccountKind
) -> Wording:
    """The words for a top-up that has ended: amount, reason, each source's result, what to do next (R23)."""
    brief = why(ending.reason)
    if ending.outcome is Outcome.PARTIAL:
        brief = f"{brief} {amount - ending.credited} did not arrive."
    told = f"{_cause(amount, threshold, account)} {brief}"
    return Wording(told, draw_lines(draws), next_step(ending.outcome), brief)


def tell_checking(
    draws: Sequence[DrawResult], *, amount: Money, threshold: Money, account: AccountKind
) -> Wording:
    """The words for a top-up that waits for an answer: which source, and not to top up by hand yet (R21)."""
    asked = [draw.asset for draw in draws if draw.status is DrawStatus.BEING_CHECKED]
    silence = (
        f"The transfer from {' and '.join(asked) or 'one funding source'} has not been answered, so we do not know "
        "yet whether its money moved. We are looking it up, and go on until we know."
    )
    told = f"{_cause(amount, threshold, account)} {silence}"
    return Wording(told, draw_lines(draws), CHECKING_STEP, silence)


def low_balance_headline(threshold: Money) -> str:
    """The subject of the notice that a balance is low and nothing follows by itself; it does not say how low."""
    return f"Your Pay wallet is below {threshold}, and no top-up is on its way"


def tell_low_balance(reason: DecisionReason, *, threshold: Money, cap: CapReached | None) -> Wording:
    """The words for a low balance that no top-up follows, because the rule is off or has reached the cap (R25)."""
    below = f"A spend has left your Pay wallet below your threshold of {threshold}"
    if reason is DecisionReason.OFF:
        cause = "your rule is off, so it does not top up."
        step = "Turn your rule on to top up at once, or add funds to your Pay wallet by hand."
    else:
        period = f" for this {cap.period}" if cap else ""
        until = f"{cap.until:%Y-%m-%d %H:%M} UTC" if cap else "the cap's period has ended"
        cause = f"your rule has reached its cap{period}. The next spend after {until} starts a top-up again."
        step = (
            "Until then add funds to your Pay wallet by hand, or raise the cap: saving the rule starts a top-up at "
            "once."
        )
    return Wording(f"{below}, and {cause}", (), step, f"{cause[0].upper()}{cause[1:]}")


def why(reason: Reason) -> str:
    """The reason as a sentence an owner understands."""
    return _REASONS[reason]


def draw_line(draw: DrawResult) -> str:
    """What one source gave, with its rank: "2. BTC: gave 0.0005 BTC, worth 30.00 USDT."."""
    return f"{draw.rank}. {draw.asset}: {_draw_words(draw)}."


def draw_lines(draws: Sequence[DrawResult]) -> tuple[str, ...]:
    """What each source gave, in rank order."""
    return tuple(draw_line(draw) for draw in sorted(draws, key=lambda draw: draw.rank))


def draw_sentence(draw: DrawResult) -> str:
    """The same where rank and asset stand beside it: "Gave 0.0005 BTC, worth 30.00 USDT."."""
    words = _draw_words(draw)
    return f"{words[0].upper()}{words[1:]}."


def shortfall_words(ending: Ending, draws: Sequence[DrawResult], *, amount: Money) -> str | None:
    """What did not arrive, and because of which sources; None unless something did and something did not (R18)."""
    if ending.outcome is not Outcome.PARTIAL:
        return None
    ranked = sorted(draws, key=lambda draw: draw.rank)
    causes = [_shortfall_cause(draw) for draw in ranked if draw.status in _TO_BLAME.get(ending.reason, ())]
    because = " and ".join(causes) or "an operator ended the top-up before it was through"
    return f"{amount - ending.credited} did not arrive, because {because}."


def next_step(outcome: Outcome) -> str | None:
    """What the owner can do now; None when there is nothing to do (R23)."""
    if outcome in (Outcome.COMPLETED, Outcome.NOT_NEEDED):
        return None
    return (
        "Tidemark does not try again by itself. You have two options: add funds to your Pay wallet by hand, or adjust "
        "the funding sources or the top-up amount of your rule. Saving the rule while the balance is below its "
        "threshold starts a new top-up at once."
    )


CHECKING_STEP = (
    "Please do not top up by hand yet: the money may have moved already, and you would pay twice. There is nothing "
    "you need to do. A second message tells you how it ended; until then your rule cannot be changed."
)
"""What an owner can do while a draw is being checked (R21): nothing, and why."""


def state_name(state: RuleState) -> str:
    """A rule's state in a word or two; only one that would fire on the next drop is called on (R26)."""
    return _STATES[state]


def state_words(state: RuleState, terms: Terms, cap: CapReached | None = None) -> str:
    """What a rule does, or what it waits for, as a sentence (R26). `cap`: the one that alone keeps it from firing."""
    match state:
        case RuleState.ARMED:
            return (
                f"When a payment leaves less than {terms.threshold}, {terms.amount} come in from your {terms.account} "
                f"account: from {listed(terms.sources, last='then')}."
            )
        case RuleState.WAITING if cap is not None:
            return (
                f"It has reached its cap for this {cap.period} and waits for the next one, which begins at "
                f"{cap.until:%Y-%m-%d %H:%M} UTC. Raising the cap ends the wait too."
            )
        case RuleState.WAITING:
            return (
                f"It has fired for this dip already, and waits for a balance of {terms.threshold} or more. Saving it "
                "again ends the wait too."
            )
        case RuleState.LOCKED:
            return "A top-up is in progress. Until it has ended the rule cannot be changed; then it can, at once."
        case RuleState.OFF:
            return "It keeps its settings, and moves nothing until you turn it on again."


def listed(words: Sequence[str], *, last: str = "and") -> str:
    """Several words as people list them: "USDT, USDC and BTC"."""
    *others, final = words
    return f"{', '.join(others)} {last} {final}" if others else final


def top_up_line(outcome: Outcome | None, *, amount: Money, credited: Money) -> str:
    """A top-up in a list: how it ended in a few words; without an outcome it is still in progress."""
    match outcome:
        case None:
            return f"{amount} on their way"
        case Outcome.COMPLETED:
            return f"{credited} arrived"
        case Outcome.PARTIAL:
            return f"{credited} of {amount} arrived"
        case Outcome.FAILED:
            return f"{amount} failed, nothing was moved"
        case Outcome.NOT_NEEDED:
            return "Not needed, nothing was moved"


def decision_words(reason: DecisionReason) -> str:
    """Why a rule fired or did not, as a sentence (R13)."""
    return _DECISIONS[reason]


def _cause(amount: Money, threshold: Money, account: AccountKind) -> str:
    return (
        f"Your Pay wallet was below your threshold of {threshold}, so your rule started a top-up of {amount} from your "
        f"{account} account."
    )


def _draw_words(draw: DrawResult) -> str:
    match draw.status:
        case DrawStatus.TRANSFERRED:
            return f"gave {_given(draw)}"
        case DrawStatus.SHORT:
            return f"gave {_given(draw)}, and had no more" if draw.credited else "was empty and gave nothing"
        case DrawStatus.FAILED:
            return f"gave nothing, because {_DRAW_REASONS[draw.reason]}" if draw.reason else "gave nothing"
        case DrawStatus.NOT_REACHED:
            return (
                f"was not drawn from, because {_DRAW_REASONS[draw.reason]}"
                if draw.reason
                else "was not drawn from"
            )
        case DrawStatus.BEING_CHECKED:
            return "has not answered yet, and is being checked"
        case DrawStatus.CONFIRMED_NOT_MOVED:
            return "gave no answer; we looked it up: nothing was moved, and nothing will be"


def _shortfall_cause(draw: DrawResult) -> str:
    match draw.status:
        case DrawStatus.CONFIRMED_NOT_MOVED:
            return f"{draw.asset} gave no answer and moved nothing"
        case DrawStatus.SHORT:
            return f"{draw.asset} held less than at the check"
        case _:
            return f"{draw.asset} gave nothing" + (
                f", as {_DRAW_REASONS[draw.reason]}" if draw.reason else ""
            )


def _given(draw: DrawResult) -> str:
    if draw.debited.asset == draw.credited.asset:
        return str(draw.credited)
    return f"{draw.debited}, worth {draw.credited}"


_REASONS = {
    Reason.FULL: "The full amount arrived.",
    Reason.SOURCE_FAILED: "At least one funding source failed, and its share was not taken from another one.",
    Reason.SOURCE_SHORT: "The funding sources held less at the transfer than at the check just before it.",
    Reason.NOT_CONFIRMED: (
        "A transfer gave no answer. We looked it up: it did not happen, and it cannot happen any more."
    ),
    Reason.INSUFFICIENT_BALANCE: "The funding sources together do not hold enough to cover the amount.",
    Reason.SYSTEM_ERROR: "An unexpected error stopped the transfer.",
    Reason.ENDED_BY_OPERATOR: "An operator ended the top-up before it was through.",
    Reason.BALANCE_RECOVERED: "The wallet was no longer below its threshold.",
}

_STATES = {
    RuleState.ARMED: "On",
    RuleState.WAITING: "Waiting",
    RuleState.LOCKED: "Topping up",
    RuleState.OFF: "Off",
}

_TO_BLAME = {
    Reason.SOURCE_FAILED: (DrawStatus.FAILED,),
    Reason.SOURCE_SHORT: (DrawStatus.SHORT,),
    Reason.NOT_CONFIRMED: (DrawStatus.CONFIRMED_NOT_MOVED, DrawStatus.FAILED),
}
"""The draws because of which a top-up was partial, by its reason."""

_DRAW_REASONS = {
    DrawReason.INSUFFICIENT: "it does not hold enough",
    DrawReason.REJECTED: "the exchange refused the transfer",
    DrawReason.UNAVAILABLE: "the exchange account could not be reached",
    DrawReason.TIMED_OUT: "it did not answer in time",
    DrawReason.UNKNOWN_ASSET: "nobody quotes this asset in the wallet's currency",
}

_DECISIONS = {
    DecisionReason.BELOW_THRESHOLD: "The balance is below the threshold and the rule was armed, so it fired.",
    DecisionReason.NOT_BELOW: "The balance is at or above the threshold.",
    DecisionReason.BALANCE_ROSE: "The balance is below the threshold, but it rose; the next spend fires the rule.",
    DecisionReason.DISARMED: (
        "The rule has fired for this dip already; it waits for a balance at the threshold or for its owner."
    ),
    DecisionReason.LOCKED: "A top-up was in progress; spends made meanwhile are judged once when it ends.",
    DecisionReason.OFF: "The rule was off.",
    DecisionReason.CAP_REACHED: (
        "One more top-up would pass a cap of the rule; it may fire again when the cap's period ends, or when its owner "
        "raises the cap."
    ),
    DecisionReason.STALE_EVENT: "The event told of an older balance than one already seen.",
}
