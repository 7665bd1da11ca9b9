"""The waterfall: each source exhausted before the next gives anything (R15 to R18, R22)."""

from collections.abc import Sequence
from dataclasses import dataclass

from topup.money import Money
from topup.outcome import DrawReason, DrawResult, DrawStatus, not_drawn
from topup.quote import Quote
from topup.rule import Terms


@dataclass(frozen=True, slots=True)
class Holding:
    """What a source holds at the check and what it is worth; `quote` is None where nobody quotes it."""

    available: Money
    quote: Quote | None

    def worth(self, currency: str) -> Money:
        """Its value in the wallet's currency, rounded down; nothing where it has no quote."""
        return self.quote.worth(self.available) if self.quote else Money.nothing(currency)


@dataclass(frozen=True, slots=True)
class PlannedDraw:
    """One source's share at the check: `debit` in its asset, `credit` in the wallet's currency; may be nothing."""

    rank: int
    asset: str
    debit: Money
    credit: Money
    quote: Quote | None


@dataclass(frozen=True, slots=True)
class Plan:
    """The shares of all sources, in rank order, together exactly the top-up amount."""

    draws: tuple[PlannedDraw, ...]


@dataclass(frozen=True, slots=True)
class Shortfall:
    """The sources together cannot cover the amount: what they hold is worth `available`, `missing` is the rest."""

    available: Money
    missing: Money


def plan_draws(terms: Terms, holdings: Sequence[Holding]) -> Plan | Shortfall:
    """Split the top-up amount over the sources in rank order, or say what is missing (R15, R16).

    `holdings` stand in the order of `terms.sources`.
    """
    owed = terms.amount
    draws: list[PlannedDraw] = []
    for (rank, asset), holding in zip(terms.ranked, holdings, strict=True):
        share = min(holding.worth(terms.currency), owed)
        debit = holding.quote.cost(share) if holding.quote and share else Money.nothing(asset)
        draws.append(PlannedDraw(rank, asset, debit, share, holding.quote))
        owed -= share
    return Shortfall(terms.amount - owed, owed) if owed else Plan(tuple(draws))


def carried_over(asked: Money, result: DrawResult) -> Money:
    """What flows on to the next source: the rest of a short draw (R17), nothing of any other kind (R18)."""
    if result.status is DrawStatus.SHORT:
        return asked - result.credited
    return Money.nothing(asked.asset)


def passed_over(draw: PlannedDraw, *, still_owed: bool) -> DrawResult:
    """The result of a source that was asked for nothing: unneeded, empty at its turn, or without a quote."""
    currency = draw.credit.asset
    if draw.quote is None:
        return not_drawn(draw.rank, draw.asset, currency=currency, reason=DrawReason.UNKNOWN_ASSET)
    if still_owed:
        short, empty = DrawStatus.SHORT, DrawReason.INSUFFICIENT
        return not_drawn(draw.rank, draw.asset, currency=currency, status=short, reason=empty)
    return not_drawn(draw.rank, draw.asset, currency=currency)
