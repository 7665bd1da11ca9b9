"""How a top-up ends: the result of each draw and, from them, one outcome with one reason (R18, R19)."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from topup.money import Money


class Outcome(StrEnum):
    """The closed list of ways a top-up ends."""

    COMPLETED = "completed"
    PARTIAL = "partial"
    FAILED = "failed"
    NOT_NEEDED = "not_needed"


class Reason(StrEnum):
    """Why a top-up ended as it did: a closed list, each with its sentence in `topup.words`."""

    FULL = "full"
    SOURCE_FAILED = "source_failed"
    SOURCE_SHORT = "source_short"
    NOT_CONFIRMED = "not_confirmed"
    INSUFFICIENT_BALANCE = "insufficient_balance"
    SYSTEM_ERROR = "system_error"
    ENDED_BY_OPERATOR = "ended_by_operator"
    BALANCE_RECOVERED = "balance_recovered"


class DrawStatus(StrEnum):
    """What became of one source in one top-up."""

    TRANSFERRED = "transferred"
    SHORT = "short"
    """Gave less than asked, having no more (R17)."""
    FAILED = "failed"
    NOT_REACHED = "not_reached"
    BEING_CHECKED = "being_checked"
    """Nobody knows yet whether the money moved (R21)."""
    CONFIRMED_NOT_MOVED = "confirmed_not_moved"
    """No answer came; looked up and fenced: it did not happen and cannot happen later (R21)."""


class DrawReason(StrEnum):
    """Why a draw gave less than it was asked for."""

    INSUFFICIENT = "insufficient"
    REJECTED = "rejected"
    UNAVAILABLE = "unavailable"
    TIMED_OUT = "timed_out"
    UNKNOWN_ASSET = "unknown_asset"


@dataclass(frozen=True, slots=True)
class DrawResult:
    """What one source gave: debited in its own asset, credited in the wallet's currency."""

    rank: int
    asset: str
    status: DrawStatus
    reason: DrawReason | None
    debited: Money
    credited: Money


@dataclass(frozen=True, slots=True)
class Ending:
    """How a top-up ended, and how much arrived in the wallet."""

    outcome: Outcome
    reason: Reason
    credited: Money


def not_drawn(
    rank: int,
    asset: str,
    *,
    currency: str,
    status: DrawStatus = DrawStatus.NOT_REACHED,
    reason: DrawReason | None = None,
) -> DrawResult:
    """The result of a source that gave nothing."""
    return DrawResult(rank, asset, status, reason, Money.nothing(asset), Money.nothing(currency))


def conclude(amount: Money, draws: Sequence[DrawResult], *, stopped: bool = False) -> Ending:
    """Name the outcome of a top-up whose draws are all known (R18). `stopped`: an operator ended it early.

    What is least certain is named first: a draw that had to be confirmed, then one that failed, then the operator's
    hand, then a source that had less than it showed.
    """
    credited = sum((draw.credited for draw in draws), Money.nothing(amount.asset))
    if credited > amount:
        message = f"{credited} arrived for a top-up of {amount}"
        raise ArithmeticError(message)
    if credited == amount:
        return Ending(Outcome.COMPLETED, Reason.FULL, credited)
    statuses = {draw.status for draw in draws}
    if credited:
        return Ending(Outcome.PARTIAL, _partial_reason(statuses, stopped=stopped), credited)
    return Ending(Outcome.FAILED, _failed_reason(statuses, stopped=stopped), credited)


def not_needed(currency: str) -> Ending:
    """The wallet was no longer below its threshold at the first look (R14)."""
    return Ending(Outcome.NOT_NEEDED, Reason.BALANCE_RECOVERED, Money.nothing(currency))


def failed(reason: Reason, currency: str) -> Ending:
    """The top-up ended before any draw, and nothing moved (R15)."""
    return Ending(Outcome.FAILED, reason, Money.nothing(currency))


def _partial_reason(statuses: set[DrawStatus], *, stopped: bool) -> Reason:
    if DrawStatus.CONFIRMED_NOT_MOVED in statuses:
        return Reason.NOT_CONFIRMED
    if DrawStatus.FAILED in statuses:
        return Reason.SOURCE_FAILED
    return Reason.ENDED_BY_OPERATOR if stopped else Reason.SOURCE_SHORT


def _failed_reason(statuses: set[DrawStatus], *, stopped: bool) -> Reason:
    if DrawStatus.CONFIRMED_NOT_MOVED in statuses:
        return Reason.NOT_CONFIRMED
    if DrawStatus.FAILED in statuses:
        return Reason.SYSTEM_ERROR
    return Reason.ENDED_BY_OPERATOR if stopped else Reason.INSUFFICIENT_BALANCE
