"""Money is exact: what is written is what was read, and what cannot be held exactly is refused (R1, R19)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.product.builders import usdt
from tests.product.strategies import amounts, assets, monies
from topup.money import (
    ASSET_SCALES,
    SCALE_MAX,
    WHOLE_UNITS_MAX,
    AmountUnreadable,
    AssetsMixed,
    AssetUnknown,
    Money,
    MoneyNegative,
    scale_of,
)

UNREADABLE = [
    "",
    " ",
    "1 ",
    " 1",
    "1\n",
    ".5",
    "1.",
    "1,5",
    "1_000",
    "1 000",
    "-1",
    "+1",
    "-0",
    "1e3",
    "1E3",
    "0x10",
    "NaN",
    "nan",
    "sNaN",
    "inf",
    "Infinity",
    "-Infinity",
    "1/2",
    "1.2.3",
    "USDT",
    "50 USDT",
    "\u0661\u0662",  # Arabic-Indic digits
    "\uff11",  # a full-width digit
    "1\u00b2",  # a superscript digit
    "9" * 41,
    "0." + "0" * 41,
]


@pytest.mark.rule("R1")
class TestReadingAnAmount:
    @pytest.mark.parametrize(
        ("text", "asset", "units"),
        [
            ("0", "JPY", 0),
            ("1500", "JPY", 1500),
            ("0.01", "EUR", 1),
            ("50.00", "USDT", 50_000_000),
            ("50", "USDT", 50_000_000),
            ("0.000001", "USDT", 1),
            ("007", "USDT", 7_000_000),
            ("0.00000001", "BTC", 1),
            ("0.000000001", "SOL", 1),
            ("0.000000000000000001", "ETH", 1),
            ("1000000000000", "ETH", 10**30),
        ],
    )
    def test_counts_the_smallest_units_of_the_asset(self, text: str, asset: str, units: int) -> None:
        assert Money.parse(text, asset) == Money(asset, units)

    @pytest.mark.parametrize("text", UNREADABLE)
    @pytest.mark.parametrize("asset", ["JPY", "USDT", "BTC", "ETH"])
    def test_refuses_everything_but_a_plain_decimal(self, text: str, asset: str) -> None:
        with pytest.raises(AmountUnreadable):
            Money.parse(text, asset)

    @pytest.mark.parametrize("asset", sorted(ASSET_SCALES))
    def test_refuses_one_decimal_more_than_the_asset_has_and_says_how_many_it_has(self, asset: str) -> None:
        scale = scale_of(asset)

        with pytest.raises(AmountUnreadable, match=f"has {scale + 1} decimals, {asset} has at most {scale}"):
            Money.parse("1." + "0" * scale + "1", asset)

    @pytest.mark.parametrize("asset", sorted(ASSET_SCALES))
    def test_refuses_decimals_beyond_the_scale_even_when_they_are_zeros(self, asset: str) -> None:
        with pytest.raises(AmountUnreadable):
            Money.parse("1." + "0" * (scale_of(asset) + 1), asset)

    @pytest.mark.parametrize("asset", sorted(ASSET_SCALES))
    def test_refuses_more_than_a_trillion_whole_units_and_takes_exactly_that(self, asset: str) -> None:
        assert Money.parse(str(WHOLE_UNITS_MAX), asset).units == WHOLE_UNITS_MAX * 10 ** scale_of(asset)

        with pytest.raises(AmountUnreadable, match="is larger than"):
            Money.parse(str(WHOLE_UNITS_MAX + 1), asset)

    @pytest.mark.parametrize("asset", ["", "usdt", "DOGE", "USDT ", "\u20ac"])
    def test_refuses_an_asset_that_is_not_in_the_registry(self, asset: str) -> None:
        with pytest.raises(AssetUnknown, match="known are USDT"):
            Money.parse("1", asset)

    @given(st.text(max_size=30), assets)
    def test_never_ends_otherwise_than_in_money_or_a_refusal(self, text: str, asset: str) -> None:
        try:
            money = Money.parse(text, asset)
        except AmountUnreadable:
            return

        assert Money.parse(money.text, asset) == money


@pytest.mark.rule("R19")
class TestWritingAnAmount:
    @given(monies)
    def test_is_read_back_as_the_same_amount(self, money: Money) -> None:
        assert Money.parse(money.text, money.asset) == money
        assert Money.read(str(money)) == money

    @given(st.integers(0, 10**40), assets)
    def test_is_read_back_from_the_inner_wire_however_large_it_is(self, units: int, asset: str) -> None:
        money = Money(asset, units)

        if len(money.text.partition(".")[0]) <= 40:
            assert Money.read(str(money)) == money

    @pytest.mark.parametrize(
        ("units", "asset", "text"),
        [
            (0, "JPY", "0"),
            (0, "USDT", "0.00"),
            (50_000_000, "USDT", "50.00"),
            (1, "USDT", "0.000001"),
            (1_500_000, "USDT", "1.50"),
            (1_234_500, "USDT", "1.2345"),
            (7, "EUR", "0.07"),
            (1, "ETH", "0.000000000000000001"),
            (50_000, "BTC", "0.0005"),
            (1500, "JPY", "1500"),
        ],
    )
    def test_shows_two_decimals_at_least_and_no_needless_zeros(
        self, units: int, asset: str, text: str
    ) -> None:
        assert Money(asset, units).text == text
        assert str(Money(asset, units)) == f"{text} {asset}"

    @given(monies)
    def test_never_uses_an_exponent_or_a_sign(self, money: Money) -> None:
        assert set(money.text) <= set("0123456789.")


@pytest.mark.rule("R19")
class TestReckoning:
    @given(st.data(), assets)
    def test_loses_and_makes_nothing(self, data: st.DataObject, asset: str) -> None:
        one, other = data.draw(amounts(asset)), data.draw(amounts(asset))

        assert (one + other) - other == one
        assert (one + other).units == one.units + other.units
        assert (one < other) == (one.units < other.units)
        assert min(one, other) + max(one, other) == one + other

    def test_refuses_to_leave_less_than_nothing(self) -> None:
        with pytest.raises(MoneyNegative):
            usdt(1) - usdt(2)
        with pytest.raises(MoneyNegative):
            Money("USDT", -1)

    def test_refuses_to_mix_assets_even_where_the_amount_is_zero(self) -> None:
        for reckon in (
            lambda: usdt(1) + Money.nothing("USDC"),
            lambda: usdt(1) - Money.nothing("USDC"),
            lambda: usdt(1) < Money("USDC", 1),
            lambda: usdt(1) >= Money("USDC", 1),
        ):
            with pytest.raises(AssetsMixed):
                reckon()

    def test_never_finds_amounts_of_two_assets_equal(self) -> None:
        assert Money("USDT", 1) != Money("USDC", 1)

    @pytest.mark.parametrize("units", [1.0, True, "1", None])
    def test_counts_in_whole_numbers_only(self, units: object) -> None:
        with pytest.raises(TypeError):
            Money("USDT", units)  # type: ignore[arg-type]

    def test_knows_whether_there_is_any(self) -> None:
        assert Money("USDT", 1)
        assert not Money.nothing("USDT")


@pytest.mark.rule("R1")
class TestTheAssetRegistry:
    def test_holds_the_assets_of_the_first_version_at_their_scales(self) -> None:
        assert dict(ASSET_SCALES) | {
            "USDT": 6, "USDC": 6, "USDG": 6, "BTC": 8, "ETH": 18, "SOL": 9, "EUR": 2
        } == dict(ASSET_SCALES)  # fmt: skip

    def test_has_scales_from_none_to_eighteen_decimals(self) -> None:
        assert all(0 <= scale <= SCALE_MAX for scale in ASSET_SCALES.values())
        assert {0, SCALE_MAX} <= set(ASSET_SCALES.values())

    def test_cannot_be_changed(self) -> None:
        with pytest.raises(TypeError):
            ASSET_SCALES["USDT"] = 2  # type: ignore[index]
