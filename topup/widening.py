"""Widening: what lets a rule move more, sooner or from elsewhere than its owner has agreed to (R5)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from topup.caps import Cap, Caps, Period
from topup.rule import Terms


class Widening(StrEnum):
    """One way in which new terms go beyond the old ones: a closed list."""

    THRESHOLD_RAISED = "threshold_raised"
    AMOUNT_RAISED = "amount_raised"
    ACCOUNT_CHANGED = "account_changed"
    SOURCES_CHANGED = "sources_changed"
    """One was added, or the order is another; leaving sources out is none."""
    CAP_RAISED = "cap_raised"
    """One was raised or taken off."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """All that an owner agrees to with a rule."""

    terms: Terms
    caps: Caps | None


def widens(before: Agreement, after: Agreement) -> bool:
    """Whether going from one to the other needs its owner's passkey, for a rule that is on (R5)."""
    return bool(widenings(before, after))


def widenings(before: Agreement, after: Agreement) -> tuple[Widening, ...]:
    """Every way in which the second goes beyond the first; none when it only narrows it, or is the same."""
    return tuple(_widenings(before, after))


def _widenings(before: Agreement, after: Agreement) -> Iterator[Widening]:
    if after.terms.threshold > before.terms.threshold:
        yield Widening.THRESHOLD_RAISED
    if after.terms.amount > before.terms.amount:
        yield Widening.AMOUNT_RAISED
    if after.terms.account is not before.terms.account:
        yield Widening.ACCOUNT_CHANGED
    if not _only_leaves_out(before.terms.sources, after.terms.sources):
        yield Widening.SOURCES_CHANGED
    if any(_cap_raised(_cap_of(before, period), _cap_of(after, period)) for period in Period):
        yield Widening.CAP_RAISED


def _only_leaves_out(before: Sequence[str], after: Sequence[str]) -> bool:
    """Whether what is left stands in the order it had."""
    kept = [asset for asset in before if asset in after]
    return kept == list(after)


def _cap_of(agreement: Agreement, period: Period) -> Cap:
    cap = agreement.caps.of(period) if agreement.caps else None
    return cap or Cap(None, None)


def _cap_raised(before: Cap, after: Cap) -> bool:
    more = before.amount is not None and (after.amount is None or after.amount > before.amount)
    return more or (before.count is not None and (after.count is None or after.count > before.count))
