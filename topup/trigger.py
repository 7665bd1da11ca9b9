"""The trigger: whether a balance change fires a rule, and why or why not (R8 to R13)."""

from dataclasses import dataclass
from enum import StrEnum

from topup.money import Money
from topup.outcome import Outcome


class Change(StrEnum):
    """What brought a balance event about."""

    SPENT = "spent"
    ADDED = "added"
    TOPPED_UP = "topped_up"
    SAVED = "saved"
    """No money moved: the owner saved the rule or turned it on (R11)."""
    RELEASED = "released"
    """No money moved: a top-up ended, and spends made meanwhile are judged now (R12)."""

    @property
    def can_fire(self) -> bool:
        """A rise never fires, even one that ends below the threshold: only a spend or the owner does (R9)."""
        return self not in (Change.ADDED, Change.TOPPED_UP)


class Kept(StrEnum):
    """Where a wallet's balance is kept, and so what its balance events tell."""

    LEDGER = "ledger"
    ELSEWHERE = "elsewhere"
    """Only reports from there say what it holds: money handed over to it shows when a report shows it."""


class DecisionReason(StrEnum):
    """Why a rule fired, or why it did not: the closed list of R13."""

    BELOW_THRESHOLD = "below_threshold"
    NOT_BELOW = "not_below"
    BALANCE_ROSE = "balance_rose"
    DISARMED = "disarmed"
    LOCKED = "locked"
    OFF = "off"
    CAP_REACHED = "cap_reached"
    STALE_EVENT = "stale_event"


@dataclass(frozen=True, slots=True)
class Watch:
    """The part of a rule that judging needs and changes."""

    threshold: Money
    enabled: bool
    armed: bool
    locked: bool
    capped: bool = False
    """One more top-up now would pass a cap of its owner's."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One judgement: whether the rule fires, why, and whether it is armed afterwards."""

    fired: bool
    reason: DecisionReason
    armed: bool


def judge(watch: Watch, *, balance: Money, change: Change, stale: bool = False) -> Decision:
    """Judge one balance event against a rule as it is now (R8 to R13). Firing disarms (R9)."""
    reason = _reason(watch, balance, change, stale=stale)
    match reason:
        case DecisionReason.BELOW_THRESHOLD:
            return Decision(fired=True, reason=reason, armed=False)
        case DecisionReason.NOT_BELOW:
            return Decision(fired=False, reason=reason, armed=True)
        case _:
            return Decision(fired=False, reason=reason, armed=watch.armed)


def change_reported(balance: Money, *, before: Money | None) -> Change:
    """What a report from elsewhere tells of, from the balance reported `before` it.

    A first report counts as a spend: a wallet that is below when it is first heard of fires its rule.
    """
    return Change.SPENT if before is None or balance < before else Change.ADDED


def armed_after(outcome: Outcome, *, balance: Money, threshold: Money, kept: Kept = Kept.LEDGER) -> bool:
    """Whether a rule is armed once its top-up has ended with this balance in the wallet (R9).

    A completed top-up arms; so does one that was not needed, as its look saw the balance at the threshold, and nobody
    is told of it; so does a balance at or above the threshold, however it got there. The balance of a wallet kept
    elsewhere does not show yet what has just been handed over to it, so a completed top-up does not arm it: the next
    report, if it still tells of the old balance, must not fire a second one for the same dip (R10).
    """
    arming = {Outcome.NOT_NEEDED} if kept is Kept.ELSEWHERE else {Outcome.COMPLETED, Outcome.NOT_NEEDED}
    return outcome in arming or balance >= threshold


def _reason(watch: Watch, balance: Money, change: Change, *, stale: bool) -> DecisionReason:
    """The first of the reasons that holds, in the order an owner would ask for them."""
    below = balance < watch.threshold
    reasons = (
        (stale, DecisionReason.STALE_EVENT),
        (watch.locked, DecisionReason.LOCKED),
        (not watch.enabled, DecisionReason.OFF),
        (not below, DecisionReason.NOT_BELOW),
        (not watch.armed, DecisionReason.DISARMED),
        (not change.can_fire, DecisionReason.BALANCE_ROSE),
        (watch.capped, DecisionReason.CAP_REACHED),
    )
    return next((reason for holds, reason in reasons if holds), DecisionReason.BELOW_THRESHOLD)
