"""What people read: a sentence for every ending, draw and decision, and what to do next (R13, R21, R23)."""

from itertools import product

import pytest

from tests.product.builders import drawn, usdt
from topup.money import Money
from topup.outcome import DrawReason, DrawResult, DrawStatus, Ending, Outcome, Reason, conclude
from topup.rule import AccountKind
from topup.trigger import DecisionReason
from topup.words import (
    BEING_CHECKED,
    checking_headline,
    decision_words,
    draw_line,
    draw_lines,
    headline,
    next_step,
    tell_checking,
    tell_ending,
    why,
)


@pytest.mark.rule("R23")
class TestWhatAnOwnerIsTold:
    @pytest.mark.parametrize(
        ("outcome", "credited", "line"),
        [
            (Outcome.COMPLETED, 50, "Your Pay wallet was topped up with 50.00 USDT"),
            (Outcome.PARTIAL, 20, "Your top-up came up short: 20.00 of 50.00 USDT arrived"),
            (Outcome.FAILED, 0, "Your top-up of 50.00 USDT failed: nothing was moved"),
            (Outcome.NOT_NEEDED, 0, "No top-up was needed: nothing was moved"),
        ],
    )
    def test_begins_with_the_amount_that_arrived(self, outcome: Outcome, credited: int, line: str) -> None:
        ending = Ending(outcome, Reason.FULL, usdt(credited))

        assert headline(ending, usdt(50)) == line

    @pytest.mark.parametrize("reason", Reason)
    def test_gives_every_reason_as_a_sentence(self, reason: Reason) -> None:
        assert why(reason).endswith(".")
        assert "_" not in why(reason)

    @pytest.mark.parametrize("outcome", [Outcome.PARTIAL, Outcome.FAILED])
    def test_says_what_to_do_after_a_shortfall(self, outcome: Outcome) -> None:
        step = next_step(outcome)

        assert step
        assert "by hand" in step
        assert "adjust" in step
        assert "does not try again" in step

    @pytest.mark.parametrize("outcome", [Outcome.COMPLETED, Outcome.NOT_NEEDED])
    def test_asks_nothing_of_an_owner_when_all_is_well(self, outcome: Outcome) -> None:
        assert next_step(outcome) is None

    def test_lists_each_source_in_rank_order(self) -> None:
        bitcoin = DrawResult(
            2, "BTC", DrawStatus.TRANSFERRED, None, Money.parse("0.0005", "BTC"), Money.parse("30", "USDT")
        )

        lines = draw_lines([bitcoin, drawn(20, DrawStatus.SHORT, DrawReason.INSUFFICIENT)])

        assert lines == (
            "1. USDT: gave 20.00 USDT, and had no more.",
            "2. BTC: gave 0.0005 BTC, worth 30.00 USDT.",
        )

    @pytest.mark.parametrize(("status", "reason"), list(product(DrawStatus, [None, *DrawReason])))
    def test_has_words_for_every_result_of_a_source(
        self, status: DrawStatus, reason: DrawReason | None
    ) -> None:
        line = draw_line(drawn(0, status, reason))

        assert line.startswith("1. USDT: ")
        assert line.endswith(".")
        assert "_" not in line

    def test_tells_a_source_that_was_empty_from_one_that_gave_its_last(self) -> None:
        assert draw_line(drawn(0, DrawStatus.SHORT)) == "1. USDT: was empty and gave nothing."


@pytest.mark.rule("R23")
class TestTheMessageAboutAnEnding:
    def test_tells_amount_reason_each_source_and_the_next_step(self) -> None:
        draws = [drawn(20), drawn(0, DrawStatus.FAILED, DrawReason.REJECTED, rank=2)]

        wording = tell_ending(
            conclude(usdt(50), draws), draws, amount=usdt(50), threshold=usdt(10), account=AccountKind.FUNDING
        )

        assert "50.00 USDT" in wording.why
        assert why(Reason.SOURCE_FAILED) in wording.why
        assert "30.00 USDT did not arrive" in wording.why
        assert wording.lines == draw_lines(draws)
        assert wording.next_step == next_step(Outcome.PARTIAL)


@pytest.mark.rule("R21")
class TestADrawBeingChecked:
    def test_asks_the_owner_not_to_top_up_by_hand_yet(self) -> None:
        draws = [drawn(0, DrawStatus.BEING_CHECKED)]

        wording = tell_checking(draws, amount=usdt(50), threshold=usdt(10), account=AccountKind.FUNDING)

        assert BEING_CHECKED == "being checked, do not top up by hand yet"
        assert BEING_CHECKED in checking_headline(usdt(50))
        assert "USDT has not been answered" in wording.why
        assert wording.next_step
        assert "do not top up by hand yet" in wording.next_step

    def test_is_said_not_to_have_moved_and_not_to_move_later_once_it_is_known(self) -> None:
        line = draw_line(drawn(0, DrawStatus.CONFIRMED_NOT_MOVED))

        assert "nothing was moved, and nothing will be" in line


@pytest.mark.rule("R13")
class TestWhyARuleFiredOrDidNot:
    @pytest.mark.parametrize("reason", DecisionReason)
    def test_is_a_sentence(self, reason: DecisionReason) -> None:
        assert decision_words(reason).endswith(".")
