"""Amounts and dates by the customs of each locale: exact to the last digit, and never a float."""

from datetime import UTC, datetime

import pytest
from babel import Locale
from babel.numbers import get_decimal_symbol, get_group_symbol
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from console.page import FORMATS, _environment, amount_text, locale_of, render_part
from topup.money import ASSET_SCALES, WHOLE_UNITS_MAX, Money

locales = st.sampled_from([Locale.parse(name) for name in FORMATS])
amounts = st.sampled_from(sorted(ASSET_SCALES)).flatmap(
    lambda asset: st.integers(0, WHOLE_UNITS_MAX * 10 ** ASSET_SCALES[asset]).map(
        lambda units: Money(asset, units)
    )
)


def read_back(text: str, locale: Locale) -> Money:
    """The amount a reader of this locale takes from the text."""
    number, _, asset = text.rpartition(" ")
    plain = number.replace(get_group_symbol(locale), "").replace(get_decimal_symbol(locale), ".")
    return Money.parse(plain, asset)


def asking(languages: str) -> Request:
    headers = [(b"accept-language", languages.encode())] if languages else []
    return Request({"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": headers})


class TestAnAmount:
    @given(money=amounts, locale=locales)
    def test_says_every_digit_it_has_and_no_other(self, money: Money, locale: Locale) -> None:
        assert read_back(amount_text(money, locale), locale) == money

    @given(money=amounts, locale=locales)
    def test_shows_as_many_decimals_as_the_amount_does_everywhere_else(
        self, money: Money, locale: Locale
    ) -> None:
        decimals = amount_text(money, locale).rpartition(" ")[0].partition(get_decimal_symbol(locale))[2]

        assert len(decimals) == len(money.text.partition(".")[2])

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("en_US", "1,234,567.000000000000000001 ETH"),
            ("de_DE", "1.234.567,000000000000000001 ETH"),
            ("fr_FR", "1\u202f234\u202f567,000000000000000001 ETH"),
        ],
    )
    def test_keeps_eighteen_decimals(self, name: str, text: str) -> None:
        money = Money.parse("1234567.000000000000000001", "ETH")

        assert amount_text(money, Locale.parse(name)) == text


class TestTheLocale:
    @pytest.mark.parametrize(
        ("languages", "locale"),
        [
            ("", "en_US"),
            ("en-GB,en;q=0.9", "en_GB"),
            ("en-AU", "en_US"),
            ("de-DE,de;q=0.9", "en_US"),
            ("de;q=0.9,en-GB;q=0.8", "en_GB"),
            ("en-US;q=0.5,en-GB", "en_GB"),
            ("en-GB;q=0,en", "en_US"),
            ("*", "en_US"),
            ("en-GB;q=nonsense, ;;;,1", "en_US"),
        ],
    )
    def test_is_the_first_wanted_one_that_the_pages_speak(self, languages: str, locale: str) -> None:
        assert str(locale_of(asking(languages))) == locale

    def test_is_said_to_machines(self) -> None:
        page = render_part(asking("en-GB"), "wallets.html", wallets=(), below="")

        assert '<html lang="en-GB">' in page


class TestADate:
    def test_is_written_by_the_customs_and_in_an_element_for_machines(self) -> None:
        at = datetime(2027, 3, 4, 15, 6, 7, tzinfo=UTC)
        template = _environment("en").from_string("{{ at | moment }}|{{ at | day }}|{{ at | clock }}")

        british = template.render(at=at, locale=Locale.parse("en_GB"))

        assert british == (
            '<time datetime="2027-03-04T15:06:07+00:00" data-moment>4 Mar 2027, 15:06:07 UTC</time>|4 Mar 2027|'
            '<time datetime="2027-03-04T15:06:07+00:00" data-clock>15:06:07 UTC</time>'
        )
