"""What a rule may say: every wrong field is named at once, and nothing else gets through (R1, R2)."""

import dataclasses

import pytest
from hypothesis import given

from tests.product.builders import terms, usdt
from tests.product.strategies import all_terms
from topup.money import Money
from topup.rule import AccountKind, Terms, TermsInvalid, read_terms


def fields_refused(
    *,
    currency: str = "USDT",
    threshold: str = "20",
    amount: str = "50",
    account: str = "funding",
    sources: tuple[str, ...] = ("USDT",),
) -> list[str]:
    """The fields that are named when these terms are read; none when they are taken."""
    try:
        read_terms(currency=currency, threshold=threshold, amount=amount, account=account, sources=sources)
    except TermsInvalid as refusal:
        return [problem.field for problem in refusal.problems]
    return []


@pytest.mark.rule("R1")
class TestThresholdAndAmount:
    def test_are_taken_when_both_are_more_than_zero(self) -> None:
        taken = read_terms(
            currency="EUR", threshold="20.00", amount="0.01", account="trading", sources=["USDT", "EUR"]
        )

        assert taken == Terms(Money("EUR", 2000), Money("EUR", 1), AccountKind.TRADING, ("USDT", "EUR"))
        assert taken.currency == "EUR"
        assert taken.ranked == ((1, "USDT"), (2, "EUR"))

    @pytest.mark.parametrize(
        "text", ["0", "0.00", "-5", "+5", "", "ten", "NaN", "1e2", "1.0000001", "9" * 14]
    )
    def test_are_refused_by_name_when_not_positive_unreadable_too_fine_or_absurd(self, text: str) -> None:
        assert fields_refused(threshold=text) == ["threshold"]
        assert fields_refused(amount=text) == ["amount"]

    def test_may_have_as_many_decimals_as_the_currency_and_no_more(self) -> None:
        assert fields_refused(currency="JPY", threshold="1", amount="1") == []
        assert fields_refused(currency="JPY", threshold="1.0", amount="1.5") == ["threshold", "amount"]
        assert fields_refused(currency="ETH", threshold="0.000000000000000001", amount="1") == []

    def test_must_be_in_one_currency(self) -> None:
        with pytest.raises(TermsInvalid, match="amount must be in the wallet's currency"):
            terms(usdt(50), "USDT", threshold=Money("EUR", 2000))

    def test_are_checked_however_terms_are_made(self) -> None:
        with pytest.raises(TermsInvalid, match="must be more than zero"):
            terms(Money.nothing("USDT"), "USDT")


@pytest.mark.rule("R2")
class TestSources:
    @pytest.mark.parametrize("sources", [("USDT",), ("BTC", "USDT"), ("SOL", "ETH", "BTC")])
    def test_are_one_to_three_distinct_assets(self, sources: tuple[str, ...]) -> None:
        assert fields_refused(sources=sources) == []

    @pytest.mark.parametrize(
        ("sources", "named"),
        [
            ((), ["sources"]),
            (("USDT", "USDC", "USDG", "BTC"), ["sources"]),
            (("USDT", "USDT"), ["sources/1"]),
            (("USDT", "BTC", "USDT"), ["sources/2"]),
            (("BTC", "USDT", "USDT"), ["sources/2"]),
            (("USDT", "USDT", "USDT"), ["sources/1", "sources/2"]),
            (("DOGE",), ["sources/0"]),
            (("USDT", "usdt", ""), ["sources/1", "sources/2"]),
        ],
    )
    def test_are_refused_at_their_place(self, sources: tuple[str, ...], named: list[str]) -> None:
        assert fields_refused(sources=sources) == named

    @pytest.mark.parametrize("account", ["", "Funding", "savings", "funding,trading"])
    def test_come_from_one_account_that_is_known(self, account: str) -> None:
        assert fields_refused(account=account) == ["account"]

    def test_are_ranked_in_the_order_they_are_named(self) -> None:
        ranked = terms(usdt(1), "SOL", "BTC", "EUR").ranked

        assert ranked == ((1, "SOL"), (2, "BTC"), (3, "EUR"))


@pytest.mark.rule("R1")
@pytest.mark.rule("R2")
class TestTermsAsAWhole:
    def test_name_every_wrong_field_at_once_in_the_order_of_the_form(self) -> None:
        named = fields_refused(threshold="0", amount="x", account="y", sources=("USDT", "Z"))

        assert named == ["threshold", "amount", "account", "sources/1"]

    def test_cannot_be_changed_once_made(self) -> None:
        made = terms(usdt(50), "USDT")

        with pytest.raises(dataclasses.FrozenInstanceError):
            made.amount = usdt(5)  # type: ignore[misc]

    @given(all_terms())
    def test_are_read_back_from_their_texts(self, made: Terms) -> None:
        again = read_terms(
            currency=made.currency,
            threshold=made.threshold.text,
            amount=made.amount.text,
            account=made.account.value,
            sources=made.sources,
        )

        assert again == made
