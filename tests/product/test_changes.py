"""Changes of a rule in words: what was, and what is instead."""

from typing import Any

from topup.changes import Difference, differences, read_agreement

KEPT: dict[str, Any] = {
    "currency": "USDT",
    "threshold": "50.00",
    "amount": "100.00",
    "account": "funding",
    "sources": ["USDT", "USDC"],
    "caps": None,
}


def changed(**terms: Any) -> tuple[Difference, ...]:
    return differences(read_agreement(KEPT), read_agreement({**KEPT, **terms}))


class TestAChange:
    def test_names_what_was_and_what_is(self) -> None:
        assert changed(threshold="80.00") == (Difference("Threshold", "50.00 USDT", "80.00 USDT"),)

    def test_names_everything_that_is_another(self) -> None:
        found = changed(account="trading", sources=["USDC", "USDT", "BTC"])

        assert found == (
            Difference("Account", "funding", "trading"),
            Difference("Funding sources", "USDT then USDC", "USDC, USDT then BTC"),
        )

    def test_names_caps_by_their_period(self) -> None:
        caps = {"day": {"amount": "300.00", "count": 3}, "month": {"amount": None, "count": 1}}

        assert changed(caps=caps) == (
            Difference("Cap for a day", "none", "300.00 USDT and 3 top-ups"),
            Difference("Cap for a month", "none", "1 top-up"),
        )

    def test_is_none_when_the_terms_stay(self) -> None:
        assert changed() == ()


class TestANewRule:
    def test_is_told_whole_but_for_caps_it_does_not_have(self) -> None:
        found = differences(None, read_agreement(KEPT))

        assert [difference.what for difference in found] == [
            "Threshold",
            "Top-up amount",
            "Account",
            "Funding sources",
        ]
        assert {difference.before for difference in found} == {None}

    def test_of_a_time_before_caps_is_read_as_having_none(self) -> None:
        kept = {name: value for name, value in KEPT.items() if name != "caps"}

        assert read_agreement(kept) == read_agreement(KEPT)
