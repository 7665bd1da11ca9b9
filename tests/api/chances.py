"""What happens to rules by chance: amounts that often meet a line exactly, terms, rates, faults and reports."""

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from topup.money import Money

NOTCHES = {"USDT": 10_000_000, "USDC": 10_000_000, "EUR": 10_00, "BTC": 20_000, "JPY": 1_500}
"""About ten dollars of each asset: what is dealt in comes in few sizes, so that it often meets a line exactly."""
RATES = (
    ("USDC", "USDT", "0.97"), ("USDT", "USDC", "1.03"), ("BTC", "USDT", "57123.45"), ("BTC", "USDC", "61000"),
    ("EUR", "USDT", "1.0999"), ("USDT", "EUR", "0.91"), ("EUR", "BTC", "0.000017"), ("JPY", "USDT", "0.0066"),
    ("JPY", "EUR", "0.006"), ("EUR", "USDT", "3"), ("BTC", "USDT", "0.0000001"),
)  # fmt: skip
FAULTS = ("reject", "answer_lost_after_moving", "answer_lost_before_moving", None)


@dataclass(frozen=True, slots=True)
class Size:
    """An amount of any asset: notches, and now and then a smallest unit more or less."""

    notches: int
    crumbs: int = 0

    def of(self, asset: str, *, least: int = 1) -> int:
        """In smallest units."""
        return max(least, NOTCHES[asset] * self.notches + self.crumbs)

    def text(self, asset: str) -> str:
        return Money(asset, self.of(asset)).text


@dataclass(frozen=True, slots=True)
class Tale:
    """A report to be made up: of what kind, what it tells, and how far its version jumps."""

    kind: str
    size: Size
    jump: int


def sizes(least: int, most: int) -> st.SearchStrategy[Size]:
    return st.builds(Size, st.integers(least, most), st.sampled_from((0, 0, 0, 0, 1, -1)))


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


which = st.integers(0, 1)
rivals = st.sampled_from((None, 0, 1))
accounts = st.sampled_from(("funding", "funding", "funding", "trading"))
assets = st.sampled_from(sorted(NOTCHES))
currencies = st.sampled_from(("USDT", "USDT", "EUR", "USDC", "BTC", "JPY"))
versions = st.sampled_from(("good", "good", "good", "good", "stale", "absent"))
cap = st.fixed_dictionaries({"amount": maybe(sizes(1, 20)), "count": maybe(st.integers(1, 3))}).filter(
    lambda drafted: any(value is not None for value in drafted.values())
)
caps = st.none() | st.fixed_dictionaries({}, optional={"day": cap, "month": cap}).filter(bool)
a_term: dict[str, st.SearchStrategy[Any]] = {
    "threshold": sizes(1, 8),
    "amount": sizes(1, 4),
    "account": accounts,
    "sources": st.lists(assets, min_size=1, max_size=3, unique=True),
}
drafts = st.fixed_dictionaries(a_term, optional={"caps": caps})
changes = st.fixed_dictionaries({}, optional={**a_term, "caps": caps}).filter(bool)
gaps = st.builds(Size, st.sampled_from((0, 0, 1, 3)), st.sampled_from((0, 1, -1)))
tales = st.builds(
    Tale, st.sampled_from(("new", "new", "new", "late", "again", "reused")), sizes(0, 10), st.integers(1, 3)
)
