"""Money: whole minor units of one asset, never negative, never mixed, never a float."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import total_ordering
from types import MappingProxyType

SCALE_MAX = 18
WHOLE_UNITS_MAX = 10**12
"""No single amount may exceed this many whole units of its asset (a trillion): more is a typing error."""

_PLAIN_DECIMAL = re.compile(r"(?P<whole>[0-9]{1,40})(?:\.(?P<fraction>[0-9]{1,40}))?", re.ASCII)


class AssetUnknown(ValueError):
    """The asset is not in the registry."""


class AmountUnreadable(ValueError):
    """The text is not a plain decimal amount the asset can hold; the message says why."""


class AssetsMixed(TypeError):
    """Two amounts of different assets were added, subtracted or compared."""


class MoneyNegative(ArithmeticError):
    """A subtraction would have left less than nothing."""


ASSET_SCALES: Mapping[str, int] = MappingProxyType(
    {"USDT": 6, "USDC": 6, "USDG": 6, "BTC": 8, "ETH": 18, "SOL": 9, "EUR": 2, "USD": 2, "JPY": 0}
)
"""The asset registry: decimals of each asset's minor unit. Never change a scale once money of it exists."""


def scale_of(asset: str) -> int:
    """Decimals of the asset's minor unit, 0 to 18. Raises AssetUnknown."""
    try:
        return ASSET_SCALES[asset]
    except KeyError:
        known = ", ".join(ASSET_SCALES)
        message = f"{asset!r} is not an asset known here; known are {known}"
        raise AssetUnknown(message) from None


@total_ordering
@dataclass(frozen=True, slots=True)
class Money:
    """An exact amount: `units` counts the asset's smallest unit (1_000_000 units of USDT are 1 USDT)."""

    asset: str
    units: int

    def __post_init__(self) -> None:
        """Refuse what is not money: unknown assets, fractions of a unit, negative amounts."""
        scale_of(self.asset)
        if type(self.units) is not int:
            message = f"minor units are whole numbers, not {type(self.units).__name__}"
            raise TypeError(message)
        if self.units < 0:
            message = f"{self.units} units of {self.asset} would be less than nothing"
            raise MoneyNegative(message)

    @classmethod
    def parse(cls, text: str, asset: str) -> "Money":
        """Read "50.00" as money. Refuses signs, exponents and digits the asset has no place for; never rounds.

        Raises AmountUnreadable or AssetUnknown.
        """
        scale = scale_of(asset)
        match = _PLAIN_DECIMAL.fullmatch(text)
        if match is None:
            message = 'must be a plain decimal such as "50.00"'
            raise AmountUnreadable(message)
        fraction = match["fraction"] or ""
        if len(fraction) > scale:
            message = f"has {len(fraction)} decimals, {asset} has at most {scale}"
            raise AmountUnreadable(message)
        units = int(match["whole"] + fraction.ljust(scale, "0"))
        if units > WHOLE_UNITS_MAX * 10**scale:
            message = f"is larger than {WHOLE_UNITS_MAX} {asset}"
            raise AmountUnreadable(message)
        return cls(asset, units)

    @classmethod
    def read(cls, text: str) -> "Money":
        """Read what `str` wrote: "50.00 USDT". Raises AmountUnreadable or AssetUnknown."""
        amount, _, asset = text.partition(" ")
        scale = scale_of(asset)
        match = _PLAIN_DECIMAL.fullmatch(amount)
        if match is None or len(match["fraction"] or "") > scale:
            message = f"{text!r} is not an amount of {asset}"
            raise AmountUnreadable(message)
        return cls(asset, int(match["whole"] + (match["fraction"] or "").ljust(scale, "0")))

    @classmethod
    def nothing(cls, asset: str) -> "Money":
        """Zero of the asset."""
        return cls(asset, 0)

    @property
    def text(self) -> str:
        """Plain decimal text for every wire: at least two decimals where the asset has them, no needless zeros."""
        scale = scale_of(self.asset)
        if scale == 0:
            return str(self.units)
        digits = str(self.units).rjust(scale + 1, "0")
        whole, fraction = digits[:-scale], digits[-scale:].rstrip("0")
        return f"{whole}.{fraction.ljust(min(2, scale), '0')}"

    def __str__(self) -> str:
        """The amount with its asset: "50.00 USDT"."""
        return f"{self.text} {self.asset}"

    def __bool__(self) -> bool:
        """Whether there is any of it."""
        return self.units > 0

    def __add__(self, other: "Money") -> "Money":
        """Both together. Raises AssetsMixed."""
        return Money(self.asset, self.units + self._units_of(other))

    def __sub__(self, other: "Money") -> "Money":
        """What is left. Raises AssetsMixed, and MoneyNegative when the other is larger."""
        return Money(self.asset, self.units - self._units_of(other))

    def __lt__(self, other: "Money") -> bool:
        """Strictly less. Raises AssetsMixed."""
        return self.units < self._units_of(other)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _ask: object) -> dict[str, object]:
        """Travel as text ("50.00 USDT") wherever pydantic carries money; it takes plain dicts, nothing is imported."""
        return {
            "type": "function-plain",
            "function": {"type": "no-info", "function": cls._from_wire},
            "serialization": {"type": "function-plain", "function": str, "return_schema": {"type": "str"}},
        }

    @classmethod
    def _from_wire(cls, value: "Money | str") -> "Money":
        return value if isinstance(value, Money) else cls.read(value)

    def _units_of(self, other: "Money") -> int:
        if other.asset != self.asset:
            message = f"{self.asset} and {other.asset} cannot be reckoned together"
            raise AssetsMixed(message)
        return other.units
