"""Quotes: what one asset is worth in another, as an exact ratio of minor units (R22)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from topup.money import AmountUnreadable, AssetsMixed, Money, scale_of

PIVOT = "USDT"
"""Assets without a rate between them are valued through this one."""

_RATE = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,18})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Quote:
    """`denominator` minor units of `asset` are worth `numerator` minor units of `currency`; both positive."""

    asset: str
    currency: str
    numerator: int
    denominator: int

    def worth(self, money: Money) -> Money:
        """What the money is worth in the currency, rounded down: never promises more than it is (R22)."""
        self._refuse_other(money, self.asset)
        return Money(self.currency, money.units * self.numerator // self.denominator)

    def cost(self, credit: Money) -> Money:
        """The least of the asset that is worth the credit, rounded up to a whole unit (R22)."""
        self._refuse_other(credit, self.currency)
        return Money(self.asset, -(-credit.units * self.denominator // self.numerator))

    @staticmethod
    def _refuse_other(money: Money, asset: str) -> None:
        if money.asset != asset:
            message = f"this quote is about {asset}, not {money.asset}"
            raise AssetsMixed(message)


def read_rate(text: str) -> Fraction:
    """Read a rate, a positive plain decimal of at most 18 digits on each side. Raises AmountUnreadable."""
    if _RATE.fullmatch(text) is None or not Fraction(text):
        message = 'must be a positive plain decimal such as "1.10"'
        raise AmountUnreadable(message)
    return Fraction(text)


def quote_at(asset: str, currency: str, rate: Fraction) -> Quote:
    """The quote at which one whole unit of `asset` is worth `rate` whole units of `currency`."""
    ratio = rate * Fraction(10) ** (scale_of(currency) - scale_of(asset))
    return Quote(asset, currency, ratio.numerator, ratio.denominator)


def find_quote(asset: str, currency: str, rates: Mapping[tuple[str, str], Fraction]) -> Quote | None:
    """Value `asset` in `currency`: at par with itself, at its rate, at the inverse one, or through the pivot.

    None when the rates say nothing about the two.
    """
    rate = Fraction(1) if asset == currency else _rate_between(asset, currency, rates)
    if rate is None:
        there, back = _rate_between(asset, PIVOT, rates), _rate_between(PIVOT, currency, rates)
        rate = there * back if there and back else None
    return None if rate is None else quote_at(asset, currency, rate)


def _rate_between(asset: str, currency: str, rates: Mapping[tuple[str, str], Fraction]) -> Fraction | None:
    if (asset, currency) in rates:
        return rates[asset, currency]
    if (currency, asset) in rates:
        return 1 / rates[currency, asset]
    return None
