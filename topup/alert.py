"""The low-balance alert: below the threshold with no top-up on its way, it says why and what to do (R25)."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from topup.caps import CapReached
from topup.money import Money
from topup.outcome import Outcome, Reason
from topup.rule import RuleState
from topup.words import why

JUDGING_PATIENCE = timedelta(seconds=5)
"""For how long a balance event may wait to be judged before its owner is told that it does."""


class AlertCode(StrEnum):
    """Why no top-up is on its way: a closed list."""

    RULE_OFF = "rule_off"
    LAST_TOP_UP_FAILED = "last_top_up_failed"
    LAST_TOP_UP_PARTIAL = "last_top_up_partial"
    CAP_REACHED = "cap_reached"
    WAITING = "waiting"
    NEXT_SPEND_FIRES = "next_spend_fires"
    BEING_JUDGED_LATE = "being_judged_late"


@dataclass(frozen=True, slots=True)
class Alert:
    """What the owner should see, in one code and words."""

    code: AlertCode
    message: str


@dataclass(frozen=True, slots=True)
class Low:
    """What the alert depends on: balance, rule and how the rule's last top-up ended, if it had one."""

    balance: Money
    threshold: Money
    state: RuleState
    unjudged_for: timedelta | None
    """How long the oldest balance event has waited to be judged; while one does, a top-up may be about to start."""
    outcome: Outcome | None
    reason: Reason | None
    cap: CapReached | None = None
    """The cap that alone keeps the rule from firing, if one does."""


def alert_for(low: Low) -> Alert | None:
    """The alert of a wallet with a rule; None unless the balance is below with nothing on its way (R25).

    An event that is about to be judged keeps it silent, but not for longer than that should take.
    """
    late = low.unjudged_for is not None and low.unjudged_for > JUDGING_PATIENCE
    if low.balance >= low.threshold or (low.unjudged_for is not None and not late):
        return None
    below = f"The balance of {low.balance} is below your threshold of {low.threshold}"
    match low.state:
        case RuleState.LOCKED:
            return None
        case RuleState.OFF:
            return Alert(
                AlertCode.RULE_OFF,
                f"{below}, and your rule is off. Turn it on to top up at once, or add funds by hand.",
            )
        case RuleState.ARMED if late:
            return Alert(
                AlertCode.BEING_JUDGED_LATE,
                f"{below}, and your last balance change is still waiting to be looked at, longer than it should, so "
                "no top-up has started. It is looked at by itself, later; to be sure now, add funds by hand.",
            )
        case RuleState.ARMED:
            return Alert(
                AlertCode.NEXT_SPEND_FIRES,
                f"{below}. Your next spend starts a top-up; to have it at once, save the rule again.",
            )
        case RuleState.WAITING:
            return _waiting(low, below)


def _waiting(low: Low, below: str) -> Alert:
    if low.cap is not None:
        return _capped(low.cap, below)
    what_to_do = "Add funds by hand, or adjust the rule: saving it starts a new top-up at once."
    if low.outcome is Outcome.FAILED and low.reason:
        code, cause = AlertCode.LAST_TOP_UP_FAILED, f"the last top-up failed. {why(low.reason)}"
    elif low.outcome is Outcome.PARTIAL and low.reason:
        code, cause = AlertCode.LAST_TOP_UP_PARTIAL, f"the last top-up was partial. {why(low.reason)}"
    else:
        code, cause = AlertCode.WAITING, "the rule has fired for this dip already."
    return Alert(code, f"{below}, and {cause} {what_to_do}")


def _capped(cap: CapReached, below: str) -> Alert:
    message = (
        f"{below}, and your rule has reached its cap for this {cap.period}. The next spend after "
        f"{cap.until:%Y-%m-%d %H:%M} UTC starts a top-up again. Until then add funds by hand, or raise the cap: saving "
        "the rule starts a top-up at once."
    )
    return Alert(AlertCode.CAP_REACHED, message)
