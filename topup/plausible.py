"""Which answers of an account can be true: what cannot is not believed, and looked up instead (R19, R21, R22)."""

from dataclasses import dataclass

from topup.money import Money
from topup.quote import Quote


@dataclass(frozen=True, slots=True)
class Given:
    """What a source is said to have given; `short` when it is said to have had less than it was asked for."""

    debited: Money
    credited: Money
    short: bool


def find_nonsense(given: Given, *, asked: Money, quote: Quote) -> str | None:
    """Why a draw that was asked to credit this much at this quote cannot have given that; None when it can.

    A source gives all that is asked, or what it has and says so. The debit is what the credit costs, no more and no
    less: one that is smaller does not cover the credit, one that is larger takes what nobody gets.
    """
    if (given.debited.asset, given.credited.asset) != (quote.asset, asked.asset):
        return f"it speaks of {given.debited.asset} for {given.credited.asset}, not of {quote.asset} for {asked.asset}"
    if not given.credited:
        return "it says that the source has given nothing, which is no giving"
    if given.credited > asked:
        return f"it credits {given.credited} where {asked} was asked"
    if given.short != (given.credited < asked):
        said = "short" if given.short else "in full"
        return f"it says {said} of {given.credited} where {asked} was asked"
    if given.debited != quote.cost(given.credited):
        return f"it debits {given.debited} for {given.credited}, which costs {quote.cost(given.credited)}"
    return None
