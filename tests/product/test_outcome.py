"""How a top-up ends: one outcome, one reason, what is least certain named first (R14, R15, R18, R19)."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.product.builders import drawn, nothing_drawn, usdt
from topup.money import Money
from topup.outcome import DrawReason, DrawStatus, Outcome, Reason, conclude, failed, not_drawn, not_needed

EMPTY = (DrawStatus.SHORT, DrawStatus.FAILED, DrawStatus.NOT_REACHED, DrawStatus.CONFIRMED_NOT_MOVED)

ENDINGS = [
    # amounts drawn, statuses, stopped, outcome, reason
    ((50,), "transferred", False, "completed", "full"),
    ((20, 30), "short transferred", False, "completed", "full"),
    ((50, 0), "transferred not_reached", True, "completed", "full"),
    ((20, 0, 30), "short failed transferred", False, "completed", "full"),
    ((20, 0), "transferred failed", False, "partial", "source_failed"),
    ((20, 0), "short failed", False, "partial", "source_failed"),
    ((20, 0), "short short", False, "partial", "source_short"),
    ((20, 0), "transferred confirmed_not_moved", False, "partial", "not_confirmed"),
    ((20, 0, 0), "transferred failed confirmed_not_moved", False, "partial", "not_confirmed"),
    ((20, 0), "transferred not_reached", True, "partial", "ended_by_operator"),
    ((20, 0, 0), "transferred failed not_reached", True, "partial", "source_failed"),
    ((20, 0, 0), "transferred confirmed_not_moved not_reached", True, "partial", "not_confirmed"),
    ((0,), "failed", False, "failed", "system_error"),
    ((0, 0), "short failed", False, "failed", "system_error"),
    ((0, 0), "short short", False, "failed", "insufficient_balance"),
    ((0,), "confirmed_not_moved", False, "failed", "not_confirmed"),
    ((0, 0), "failed confirmed_not_moved", False, "failed", "not_confirmed"),
    ((0, 0), "not_reached not_reached", True, "failed", "ended_by_operator"),
    ((0, 0), "failed not_reached", True, "failed", "system_error"),
]  # fmt: skip


@pytest.mark.rule("R18")
class TestConclusion:
    @pytest.mark.parametrize(("gave", "statuses", "stopped", "outcome", "reason"), ENDINGS)
    def test_names_what_is_least_certain_first(
        self, gave: tuple[int, ...], statuses: str, stopped: bool, outcome: str, reason: str
    ) -> None:
        draws = [
            drawn(amount, DrawStatus(status), rank=rank)
            for rank, (amount, status) in enumerate(zip(gave, statuses.split(), strict=True), start=1)
        ]

        ending = conclude(usdt(50), draws, stopped=stopped)

        assert (ending.outcome, ending.reason) == (Outcome(outcome), Reason(reason))
        assert ending.credited == usdt(sum(gave))

    @pytest.mark.parametrize("statuses", list(product(EMPTY, repeat=3)))
    def test_fails_whenever_nothing_arrived(self, statuses: tuple[DrawStatus, ...]) -> None:
        ending = conclude(usdt(50), nothing_drawn(statuses))

        assert ending.outcome is Outcome.FAILED
        assert ending.credited == usdt(0)

    def test_fails_when_an_operator_stopped_it_before_any_draw(self) -> None:
        ending = conclude(usdt(50), [], stopped=True)

        assert (ending.outcome, ending.reason) == (Outcome.FAILED, Reason.ENDED_BY_OPERATOR)


@pytest.mark.rule("R19")
class TestWhatArrived:
    @given(
        st.integers(1, 100), st.lists(st.tuples(st.integers(0, 60), st.sampled_from(DrawStatus)), max_size=3)
    )
    def test_decides_between_completed_partial_and_failed(
        self, amount: int, gave: list[tuple[int, DrawStatus]]
    ) -> None:
        draws = [drawn(units, status, rank=rank) for rank, (units, status) in enumerate(gave, start=1)]
        arrived = sum(units for units, _ in gave)
        if arrived > amount:
            return

        ending = conclude(usdt(amount), draws)

        assert (ending.outcome is Outcome.COMPLETED) == (arrived == amount)
        assert (ending.outcome is Outcome.FAILED) == (arrived == 0)
        assert (ending.reason is Reason.FULL) == (ending.outcome is Outcome.COMPLETED)

    def test_can_never_be_more_than_the_amount(self) -> None:
        with pytest.raises(ArithmeticError, match="arrived for a top-up of"):
            conclude(usdt(50), [drawn(50), drawn("0.000001", rank=2)])

    def test_is_one_of_four_outcomes_with_one_of_eight_reasons(self) -> None:
        assert [outcome.value for outcome in Outcome] == ["completed", "partial", "failed", "not_needed"]
        assert {reason.value for reason in Reason} == {
            "full", "source_failed", "source_short", "not_confirmed", "insufficient_balance", "system_error",
            "ended_by_operator", "balance_recovered",
        }  # fmt: skip


@pytest.mark.rule("R14")
class TestATopUpThatWasNotNeeded:
    def test_says_that_the_balance_recovered_and_moved_nothing(self) -> None:
        ending = not_needed("USDT")

        assert (ending.outcome, ending.reason) == (Outcome.NOT_NEEDED, Reason.BALANCE_RECOVERED)
        assert ending.credited == Money.nothing("USDT")


@pytest.mark.rule("R15")
class TestATopUpThatEndsAtTheCheck:
    def test_fails_for_its_reason_and_moved_nothing(self) -> None:
        ending = failed(Reason.INSUFFICIENT_BALANCE, "EUR")

        assert (ending.outcome, ending.reason) == (Outcome.FAILED, Reason.INSUFFICIENT_BALANCE)
        assert ending.credited == Money.nothing("EUR")

    def test_lists_each_source_as_not_reached(self) -> None:
        result = not_drawn(2, "BTC", currency="EUR")

        assert (result.rank, result.status, result.reason) == (2, DrawStatus.NOT_REACHED, None)
        assert (result.debited, result.credited) == (Money.nothing("BTC"), Money.nothing("EUR"))


@pytest.mark.rule("R18")
class TestDrawReasons:
    def test_are_a_closed_list(self) -> None:
        assert {reason.value for reason in DrawReason} == {
            "insufficient", "rejected", "unavailable", "timed_out", "unknown_asset",
        }  # fmt: skip
