"""The low-balance notice: once for each dip, an owner is told that a spend left the balance low and nothing follows."""

from topup.money import Money
from topup.trigger import Change, Decision, DecisionReason

_UNFOLLOWED = frozenset({DecisionReason.OFF, DecisionReason.CAP_REACHED})
"""Not `disarmed`: whoever's top-up for this dip came up short was told of that, and what to do."""
_SPENDS = frozenset({Change.SPENT, Change.RELEASED})


def begins_low_balance(decision: Decision, *, balance: Money, threshold: Money, change: Change) -> bool:
    """Whether a spend has left the balance below the threshold with no top-up to follow it."""
    return decision.reason in _UNFOLLOWED and change in _SPENDS and balance < threshold


def ends_dip(decision: Decision, *, balance: Money, threshold: Money) -> bool:
    """Whether the dip is over: the balance is at the threshold or above, or a top-up is on its way."""
    if decision.reason is DecisionReason.STALE_EVENT:
        return False
    return decision.fired or balance >= threshold
