"""Quotes: rounding never overdraws a source and never promises more than is there (R22)."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.product.strategies import amounts, assets, quotes, rates
from topup.money import AmountUnreadable, AssetsMixed, Money
from topup.quote import PIVOT, Quote, find_quote, quote_at, read_rate

UNREADABLE = ["", "0", "0.0", "-1", "+1", "1e5", "1/2", ".5", "1.", "NaN", "inf", " 1", "1\n", "\u0661"]


@pytest.mark.rule("R22")
class TestWorthAndCost:
    @given(st.data(), quotes())
    def test_cost_of_what_money_is_worth_is_never_more_than_the_money(
        self, data: st.DataObject, quote: Quote
    ) -> None:
        held = data.draw(amounts(quote.asset))

        assert quote.cost(quote.worth(held)) <= held

    @given(st.data(), quotes())
    def test_cost_is_the_least_that_is_worth_the_credit(self, data: st.DataObject, quote: Quote) -> None:
        credit = data.draw(amounts(quote.currency, least=1))

        cost = quote.cost(credit)

        assert quote.worth(cost) >= credit
        assert quote.worth(cost - Money(cost.asset, 1)) < credit

    @given(st.data(), quotes())
    def test_worth_is_rounded_down_by_less_than_one_unit(self, data: st.DataObject, quote: Quote) -> None:
        held = data.draw(amounts(quote.asset))
        exact = Fraction(held.units * quote.numerator, quote.denominator)

        assert 0 <= exact - quote.worth(held).units < 1

    @given(st.data(), quotes())
    def test_nothing_is_worth_nothing_and_costs_nothing(self, data: st.DataObject, quote: Quote) -> None:
        del data

        assert not quote.worth(Money.nothing(quote.asset))
        assert not quote.cost(Money.nothing(quote.currency))

    def test_bitcoin_pays_dollars_with_the_odd_unit_rounded_against_the_credit(self) -> None:
        quote = quote_at("BTC", "USDT", Fraction(60000))

        assert quote.worth(Money.parse("0.0005", "BTC")) == Money.parse("30", "USDT")
        assert quote.cost(Money.parse("30", "USDT")) == Money.parse("0.0005", "BTC")
        assert quote.cost(Money.parse("30.000001", "USDT")) == Money.parse("0.00050001", "BTC")

    def test_a_unit_too_small_to_be_worth_anything_is_worth_nothing(self) -> None:
        quote = quote_at("ETH", "EUR", Fraction(3000))

        assert not quote.worth(Money("ETH", 1))

    def test_speaks_of_its_own_two_assets_only(self) -> None:
        quote = quote_at("BTC", "USDT", Fraction(60000))

        with pytest.raises(AssetsMixed):
            quote.worth(Money("ETH", 1))
        with pytest.raises(AssetsMixed):
            quote.cost(Money("USDC", 1))


@pytest.mark.rule("R22")
class TestFindingAQuote:
    @given(assets)
    def test_an_asset_is_at_par_with_itself_whatever_the_rates_say(self, asset: str) -> None:
        assert find_quote(asset, asset, {(asset, asset): Fraction(2)}) == quote_at(asset, asset, Fraction(1))

    @given(assets, assets, rates, rates, rates)
    def test_a_direct_rate_comes_before_any_other_way(
        self, asset: str, currency: str, rate: Fraction, inverse: Fraction, pivot: Fraction
    ) -> None:
        known = {(PIVOT, currency): pivot, (asset, PIVOT): pivot, (currency, asset): inverse}
        known[asset, currency] = rate

        if asset != currency:
            assert find_quote(asset, currency, known) == quote_at(asset, currency, rate)

    @given(assets, assets, rates)
    def test_a_rate_the_other_way_round_is_inverted_exactly(
        self, asset: str, currency: str, rate: Fraction
    ) -> None:
        if asset != currency:
            assert find_quote(asset, currency, {(currency, asset): rate}) == quote_at(
                asset, currency, 1 / rate
            )

    @given(rates, rates)
    def test_two_assets_without_a_rate_meet_through_the_pivot(self, there: Fraction, back: Fraction) -> None:
        through = quote_at("BTC", "EUR", there / back)

        assert find_quote("BTC", "EUR", {("BTC", "USDT"): there, ("EUR", "USDT"): back}) == through
        assert find_quote("BTC", "EUR", {("BTC", "USDT"): there, ("USDT", "EUR"): 1 / back}) == through

    def test_an_asset_nobody_quotes_has_no_quote(self) -> None:
        assert find_quote("SOL", "EUR", {}) is None
        assert find_quote("SOL", "EUR", {("SOL", "USDT"): Fraction(150)}) is None
        assert find_quote("SOL", "EUR", {("EUR", "USDT"): Fraction(1)}) is None
        assert find_quote("SOL", "EUR", {("SOL", "BTC"): Fraction(1), ("BTC", "EUR"): Fraction(1)}) is None

    @given(assets, assets, rates)
    def test_a_quote_is_between_positive_whole_numbers(
        self, asset: str, currency: str, rate: Fraction
    ) -> None:
        quote = quote_at(asset, currency, rate)

        assert quote.numerator > 0
        assert quote.denominator > 0


@pytest.mark.rule("R22")
class TestReadingARate:
    @pytest.mark.parametrize(
        ("text", "rate"),
        [("1", Fraction(1)), ("1.10", Fraction(11, 10)), ("0.000000000000000001", Fraction(1, 10**18))],
    )
    def test_takes_a_positive_plain_decimal_exactly(self, text: str, rate: Fraction) -> None:
        assert read_rate(text) == rate

    @pytest.mark.parametrize(
        "text",
        [*UNREADABLE, "9" * 19, "0." + "0" * 18 + "1"],
    )
    def test_refuses_anything_else(self, text: str) -> None:
        with pytest.raises(AmountUnreadable):
            read_rate(text)
