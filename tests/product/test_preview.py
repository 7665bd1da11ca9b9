"""R11: what would happen is said beforehand, in the words of the one who has to agree to it."""

from datetime import UTC, datetime
from fractions import Fraction

import pytest

from tests.product.builders import holding, holdings, terms, usdt
from topup.caps import CapReached, Period
from topup.money import Money
from topup.preview import at_once_words, if_it_fired
from topup.quote import quote_at
from topup.waterfall import Holding

TWO = terms(usdt(100), "USDT", "BTC", threshold=usdt(50))
BITCOIN = Holding(Money.parse("0.01", "BTC"), quote_at("BTC", "USDT", Fraction(60_000)))
MIDNIGHT = datetime(2026, 11, 22, tzinfo=UTC)


class TestWhatWouldHappen:
    def test_names_what_each_source_would_give_and_what_that_is_worth(self) -> None:
        said = if_it_fired(TWO, [*holdings(40), BITCOIN])

        assert said == "If it fired now: 40.00 USDT from USDT and 0.001 BTC from BTC (worth 60.00 USDT)."

    def test_leaves_out_a_source_that_would_give_nothing(self) -> None:
        assert if_it_fired(TWO, [*holdings(100), BITCOIN]) == "If it fired now: 100.00 USDT from USDT."

    def test_says_that_it_would_fail_and_by_how_much(self) -> None:
        said = if_it_fired(TWO, [holding(usdt(40)), Holding(Money.nothing("BTC"), None)])

        assert said == (
            "If it fired now, it would fail and move nothing: the sources hold 40.00 USDT, 60.00 USDT less than the "
            "top-up amount."
        )


@pytest.mark.rule("R11")
class TestWhatHappensAtOnce:
    def test_is_a_top_up_below_the_threshold(self) -> None:
        said = at_once_words(TWO, balance=usdt("49.99"), holdings=[*holdings(100), BITCOIN])

        assert said == (
            "Your balance of 49.99 USDT is below the threshold of 50.00 USDT, so this tops up 100.00 USDT at once: "
            "100.00 USDT from USDT."
        )

    def test_is_a_top_up_that_fails_where_the_sources_fall_short(self) -> None:
        said = at_once_words(terms(usdt(100), "USDT"), balance=usdt(1), holdings=holdings(40))

        assert said is not None
        assert "which would fail and move nothing, as the sources hold 40.00 USDT, 60.00 USDT less" in said

    def test_is_nothing_at_the_threshold(self) -> None:
        assert at_once_words(TWO, balance=usdt(50), holdings=[*holdings(100), BITCOIN]) is None

    def test_is_nothing_where_a_cap_is_reached(self) -> None:
        cap = CapReached(Period.DAY, MIDNIGHT)

        assert at_once_words(TWO, balance=usdt(1), holdings=[*holdings(100), BITCOIN], cap=cap) is None
