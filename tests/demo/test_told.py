"""What is told and what is seen: any difference is shown with both, and decides the exit code."""

import io
from dataclasses import replace
from typing import Any

import pytest

from runtime.demo.api import AnsweredOtherwise, Api
from runtime.demo.household import Household
from runtime.demo.page import WIDTH, Claim, Page, from_to
from runtime.demo.play import Played, conclude, perform
from runtime.demo.scene import Given, Scene
from runtime.demo.stories import STORIES
from topup.outcome import DrawReason, DrawStatus

TOP_UP: dict[str, Any] = {
    "outcome": "partial",
    "reason": "source_failed",
    "amount": "100.00",
    "credited": "30.00",
    "draws": [
        {
            "rank": 1,
            "asset": "USDT",
            "status": "failed",
            "reason": "rejected",
            "debited": "0.00",
            "credited": "0.00",
        },
        {
            "rank": 2,
            "asset": "BTC",
            "status": "transferred",
            "reason": None,
            "debited": "0.0005",
            "credited": "30.00",
        },
    ],
}
REJECTED = Given("USDT", DrawStatus.FAILED, reason=DrawReason.REJECTED)
BTC = Given("BTC", debited="0.0005", worth="30.00")


class RefusingApi(Api):
    """An API that does nothing it is asked for."""

    def __init__(self) -> None: ...

    def send(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, version: int | None = None
    ) -> dict[str, Any]:
        """Refuse."""
        message = f"{method} {path} was answered 503: {body} {version}"
        raise AnsweredOtherwise(message)


@pytest.fixture
def sheet() -> io.StringIO:
    """What a page is written on."""
    return io.StringIO()


@pytest.fixture
def page(sheet: io.StringIO) -> Page:
    """A page without colors."""
    return Page(sheet, colors=False)


@pytest.fixture
def scene(page: Page) -> Scene:
    """A scene in which nothing is asked of the product."""
    home = Household(RefusingApi(), STORIES[0].opening, "owner_1", "wallet_1", "rule_1")
    return Scene(home, page)


def wrong(scene: Scene) -> list[str]:
    """What the claims that do not hold are about."""
    return [claim.about for claim in scene.claims if not claim.holds]


class TestAClaim:
    def test_holds_when_told_and_seen_are_the_same_to_the_letter(self) -> None:
        assert Claim("outcome", "completed: full", "completed: full").holds
        assert not Claim("Pay wallet", "135.00 USDT", "135.000001 USDT").holds

    def test_shows_both_when_they_differ(self, page: Page, sheet: io.StringIO) -> None:
        page.claim(Claim("Pay wallet", "135.00 USDT", "35.00 USDT"))

        shown = [line.split() for line in sheet.getvalue().splitlines()]
        assert shown == [
            ["NO", "Pay", "wallet", "told", "135.00", "USDT"],
            ["seen", "35.00", "USDT"],
        ]

    def test_shows_figures_below_each_other(self) -> None:
        figures = [from_to("60.00", "0.00"), from_to("0.00123456", "1000.00"), from_to("0.001", "0.00")]

        assert len({line.index(".") for line in figures}) == 1
        assert len({line.rindex(".") for line in figures}) == 1

    def test_fits_the_page_however_long_it_is(self, page: Page, sheet: io.StringIO) -> None:
        page.claim(Claim("source 1", "word " * 60, "x" * 300))

        assert max(map(len, sheet.getvalue().splitlines())) <= WIDTH


class TestAnEnding:
    def test_holds_when_told_truly(self, scene: Scene) -> None:
        scene.ends(TOP_UP, "partial: source_failed", "30.00", REJECTED, BTC)

        assert wrong(scene) == []

    def test_is_found_out_in_outcome_and_amount(self, scene: Scene) -> None:
        scene.ends(TOP_UP, "completed: full", "100.00", REJECTED, BTC)

        assert wrong(scene) == ["outcome", "arrived"]

    @pytest.mark.parametrize(
        "given",
        [
            Given("BTC"),
            replace(BTC, debited="0.00050001"),
            replace(BTC, status=DrawStatus.SHORT),
            replace(BTC, reason=DrawReason.INSUFFICIENT),
            replace(BTC, asset="ETH"),
        ],
    )
    def test_is_found_out_in_any_part_of_a_sources_result(self, scene: Scene, given: Given) -> None:
        scene.ends(TOP_UP, "partial: source_failed", "30.00", REJECTED, given)

        assert wrong(scene) == ["source 2"]

    @pytest.mark.parametrize("given", [(REJECTED,), (REJECTED, BTC, Given("EUR"))])
    def test_is_found_out_in_a_source_too_many_or_too_few(
        self, scene: Scene, given: tuple[Given, ...]
    ) -> None:
        scene.ends(TOP_UP, "partial: source_failed", "30.00", *given)

        assert len(wrong(scene)) == 1


class TestTheVerdict:
    TRUE = Played("True", (Claim("outcome", "completed", "completed"),), 1.0)
    WRONG = Played("Wrong", (*TRUE.claims, Claim("outcome", "completed", "partial")), 1.0)

    def test_is_zero_when_all_went_as_told(self, page: Page) -> None:
        assert conclude([self.TRUE, self.TRUE], page) == 0

    def test_is_one_when_a_single_claim_is_wrong(self, page: Page, sheet: io.StringIO) -> None:
        assert conclude([self.TRUE, self.WRONG], page) == 1
        assert "1 of 2 wrong" in sheet.getvalue()
        assert "1 of 2 stories ended as told." in sheet.getvalue()

    def test_is_one_when_nothing_was_claimed(self, page: Page) -> None:
        assert conclude([], page) == 1
        assert conclude([Played("Empty", (), 1.0)], page) == 1

    def test_is_one_when_a_story_breaks_off(self, page: Page, sheet: io.StringIO) -> None:
        played = perform(STORIES[0], 1, api=RefusingApi(), page=page)

        assert conclude([played], page) == 1
        assert "POST /v1/owners was answered 503" in " ".join(sheet.getvalue().split())
