"""Caps: how much, and how often, a rule may move in one day and one month; none unless its owner sets them (R8)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from topup.money import AmountUnreadable, Money
from topup.rule import Problem, Terms, TermsInvalid, read_terms

CapsGiven = Mapping[str, Mapping[str, Any] | None]
"""Caps as an owner writes them: `amount` as text and `count`, under `day` and `month`; each may be missing or None."""


class Period(StrEnum):
    """What a cap counts over: a day or a month of the calendar, in UTC."""

    DAY = "day"
    MONTH = "month"

    def start(self, at: datetime) -> datetime:
        """When the period that holds this moment began."""
        midnight = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight if self is Period.DAY else midnight.replace(day=1)

    def end(self, at: datetime) -> datetime:
        """When the next period begins."""
        longest = timedelta(days=1) if self is Period.DAY else timedelta(days=31)
        return self.start(self.start(at) + longest)


@dataclass(frozen=True, slots=True)
class Cap:
    """At most this much, and at most this many top-ups, in one period; None does not bound."""

    amount: Money | None
    count: int | None


@dataclass(frozen=True, slots=True)
class Caps:
    """A rule's caps; None does not bound."""

    day: Cap | None
    month: Cap | None

    def of(self, period: Period) -> Cap | None:
        """The cap of one period."""
        return self.day if period is Period.DAY else self.month


@dataclass(frozen=True, slots=True)
class Used:
    """What top-ups that started in one period have moved, or may still move while they run, and how many."""

    amount: Money
    count: int


Usage = Mapping[Period, Used]
"""What has been used of each period."""


@dataclass(frozen=True, slots=True)
class CapReached:
    """One more top-up would pass the cap of this period, which ends at `until`."""

    period: Period
    until: datetime


def cap_reached(caps: Caps | None, usage: Usage, *, amount: Money, at: datetime) -> CapReached | None:
    """The cap that a top-up of this amount would pass if it started now; of several, the one that lasts longest."""
    if caps is None:
        return None
    passed = (period for period in reversed(Period) if _passes(caps.of(period), usage[period], amount))
    return next((CapReached(period, period.end(at)) for period in passed), None)


def read_terms_and_caps(
    caps: CapsGiven | None,
    *,
    currency: str,
    threshold: str,
    amount: str,
    account: str,
    sources: Sequence[str],
) -> tuple[Terms, Caps | None]:
    """Read what an owner wrote, from texts. Raises TermsInvalid naming every field that is wrong, not only the first.

    Caps that one top-up alone would pass are refused: the rule would be on, and could never fire.
    """
    problems: list[Problem] = []
    terms = None
    try:
        terms = read_terms(
            currency=currency, threshold=threshold, amount=amount, account=account, sources=sources
        )
    except TermsInvalid as invalid:
        problems.extend(invalid.problems)
    read = _read_caps(caps, currency, problems)
    if terms is None or problems or (problems := _too_small(read, terms.amount)):
        raise TermsInvalid(problems)
    return terms, read


def write_caps(caps: Caps | None) -> dict[str, dict[str, Any] | None] | None:
    """Caps as their owner would write them."""
    return None if caps is None else {period.value: _write_cap(caps.of(period)) for period in Period}


def _read_caps(given: CapsGiven | None, currency: str, problems: list[Problem]) -> Caps | None:
    if given is None:
        return None
    if all(value is None for value in given.values()):
        problems.append(Problem("caps", "must cap a day, a month or both; null takes all caps off"))
    return Caps(*(_read_cap(period, given.get(period), currency, problems) for period in Period))


def _too_small(caps: Caps | None, amount: Money) -> list[Problem]:
    message = f"is less than the amount of one top-up, {amount}, so the rule could never fire"
    return [
        Problem(f"caps/{period}/amount", message)
        for period in Period
        if caps and (cap := caps.of(period)) and cap.amount is not None and cap.amount < amount
    ]


def _passes(cap: Cap | None, used: Used, amount: Money) -> bool:
    if cap is None:
        return False
    too_much = cap.amount is not None and used.amount + amount > cap.amount
    return too_much or (cap.count is not None and used.count >= cap.count)


def _read_cap(
    period: Period, given: Mapping[str, Any] | None, currency: str, problems: list[Problem]
) -> Cap | None:
    if given is None:
        return None
    amount, count = given.get("amount"), given.get("count")
    if amount is None and count is None:
        problems.append(Problem(f"caps/{period}", "must set amount, count or both"))
    if count is not None and count < 1:
        problems.append(Problem(f"caps/{period}/count", "must be at least 1"))
    return Cap(_read_amount(f"caps/{period}/amount", amount, currency, problems), count)


def _read_amount(field: str, text: str | None, currency: str, problems: list[Problem]) -> Money | None:
    if text is None:
        return None
    try:
        money = Money.parse(text, currency)
    except AmountUnreadable as unreadable:
        problems.append(Problem(field, str(unreadable)))
        return None
    if not money:
        problems.append(Problem(field, "must be more than zero"))
    return money


def _write_cap(cap: Cap | None) -> dict[str, Any] | None:
    return None if cap is None else {"amount": cap.amount.text if cap.amount else None, "count": cap.count}
