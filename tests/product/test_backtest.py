"""The dry run over the past: the real top-ups taken out, the tried ones put in, by the rules that hold live."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.product.builders import at_par, terms, usdt
from topup.backtest import Agreement, Assets, Course, Step, Told, replay, steps_of
from topup.caps import Cap, Caps
from topup.money import Money
from topup.outcome import Outcome, Reason
from topup.trigger import Change, Kept

DAWN = datetime(2026, 11, 21, tzinfo=UTC)
spends = st.integers(1, 60).map(lambda amount: -amount)
moves = st.lists(st.one_of(spends, st.integers(0, 60)), max_size=40)


def moment(hour: float) -> datetime:
    """So many hours after dawn."""
    return DAWN + timedelta(hours=hour)


def told(change: Change, balance: int | str, hour: float = 0) -> Told:
    """A balance event of the past."""
    return Told(moment(hour), change, usdt(balance))


def moved(*amounts: int) -> list[Step]:
    """One step an hour: spends are negative."""
    return [
        Step(moment(hour), Change.SPENT if amount < 0 else Change.ADDED, usdt(abs(amount)))
        for hour, amount in enumerate(amounts)
    ]


def course_of(
    *amounts: int,
    before: int | None = 100,
    amount: int = 50,
    threshold: int = 50,
    caps: Caps | None = None,
    kept: Kept = Kept.LEDGER,
    assets: Assets | None = None,
    sources: Sequence[str] = ("USDT",),
) -> Course:
    """What a rule would have made of these moves."""
    agreement = Agreement(terms(usdt(amount), *sources, threshold=usdt(threshold)), caps, kept)
    balance = None if before is None else usdt(before)
    return replay(agreement, moved(*amounts), before=balance, assets=assets)


class TestTheStepsOfAHistory:
    def test_leave_out_what_real_top_ups_credited_and_what_moved_nothing(self) -> None:
        history = [
            told(Change.SAVED, 80),
            told(Change.SPENT, 40, 1),
            told(Change.TOPPED_UP, 90, 2),
            told(Change.TOPPED_UP, 140, 2),
            told(Change.RELEASED, 140, 3),
            told(Change.SPENT, 120, 4),
            told(Change.ADDED, 125, 5),
        ]

        steps = list(steps_of(history, before=told(Change.SAVED, 80), kept=Kept.LEDGER))

        assert [(step.change, step.amount) for step in steps] == [
            (Change.SPENT, usdt(40)),
            (Change.SPENT, usdt(20)),
            (Change.ADDED, usdt(5)),
        ]

    def test_begin_with_what_came_first_where_nothing_was_before(self) -> None:
        steps = list(steps_of([told(Change.ADDED, 80)], before=None, kept=Kept.LEDGER))

        assert steps == [Step(DAWN, Change.ADDED, usdt(80))]

    @pytest.mark.parametrize(
        ("reported", "step"),
        [
            ((100, 135), (Change.ADDED, usdt(0))),
            ((100, 130), (Change.SPENT, usdt(5))),
            ((100, 140), (Change.ADDED, usdt(5))),
        ],
    )
    def test_of_reports_leave_out_what_was_handed_over_at_the_next_rise(
        self, reported: tuple[int, int], step: tuple[Change, Money]
    ) -> None:
        amount, balance = reported
        history = [
            Told(moment(1), Change.SPENT, usdt(35), handed_over=usdt(amount)),
            told(Change.SPENT, 34, 2),
            told(Change.ADDED, balance - 1, 4),
            told(Change.SPENT, balance - 11, 5),
        ]

        steps = list(steps_of(history, before=told(Change.ADDED, 80), kept=Kept.ELSEWHERE))

        assert (steps[2].change, steps[2].amount) == step
        assert (steps[3].change, steps[3].amount) == (Change.SPENT, usdt(10))

    @given(moves, st.integers(0, 100))
    def test_lead_to_the_same_balances_again_when_no_rule_fires(
        self, amounts: list[int], before: int
    ) -> None:
        balance, history = usdt(before), list[Told]()
        for hour, amount in enumerate(amounts):
            change = Change.SPENT if amount < 0 else Change.ADDED
            balance = balance - min(balance, usdt(-amount)) if amount < 0 else balance + usdt(amount)
            history.append(Told(moment(hour), change, balance))
        steps = steps_of(history, before=told(Change.SAVED, before), kept=Kept.LEDGER)
        idle = Agreement(
            terms(usdt(1), "USDT", threshold=Money("USDT", 1)), Caps(Cap(None, 0), None), Kept.LEDGER
        )

        course = replay(idle, steps, before=usdt(before))

        assert course.balance == balance
        assert (course.top_ups, course.unpaid) == ([], 0)
        assert course.lowest == min([usdt(before), *[event.balance for event in history]])


class TestTheCourse:
    @pytest.mark.rule("R9")
    def test_fires_once_for_a_dip_and_again_at_the_next_spend_below(self) -> None:
        course = course_of(-51, -1, -49, -1)

        assert [(top_up.at, top_up.balance_before, top_up.balance_after) for top_up in course.top_ups] == [
            (moment(0), usdt(49), usdt(99)),
            (moment(2), usdt(49), usdt(99)),
        ]
        assert (course.events, course.balance, course.lowest) == (4, usdt(98), usdt(49))
        assert {(top_up.outcome, top_up.reason) for top_up in course.top_ups} == {
            (Outcome.COMPLETED, Reason.FULL)
        }

    @pytest.mark.rule("R15")
    def test_fails_when_the_sources_run_dry_and_waits_then_for_the_line(self) -> None:
        holds = Assets({"USDT": usdt(70)}, {"USDT": at_par()})

        course = course_of(-60, -50, -1, 60, -50, assets=holds)

        assert [(top_up.outcome, top_up.reason) for top_up in course.top_ups] == [
            (Outcome.COMPLETED, Reason.FULL),
            (Outcome.FAILED, Reason.INSUFFICIENT_BALANCE),
            (Outcome.FAILED, Reason.INSUFFICIENT_BALANCE),
        ]
        assert [top_up.at for top_up in course.top_ups] == [moment(0), moment(1), moment(4)]
        assert course.insufficient == 2
        assert holds.available == {"USDT": usdt(70)}

    @pytest.mark.rule("R16")
    def test_empties_each_source_before_the_next(self) -> None:
        holds = Assets(
            {"USDT": usdt(30), "USDC": Money.parse("30", "USDC")},
            {"USDT": at_par(), "USDC": at_par("USDC")},
        )

        course = course_of(-60, -50, sources=("USDT", "USDC"), assets=holds)

        assert [top_up.outcome for top_up in course.top_ups] == [Outcome.COMPLETED, Outcome.FAILED]

    def test_keeps_to_the_caps_of_each_day(self) -> None:
        course = course_of(*[-3] * 30, before=100, amount=3, threshold=99, caps=Caps(Cap(None, 2), None))

        assert [top_up.at.day for top_up in course.top_ups] == [21, 21, 22, 22]
        assert course.capped > 0

    def test_refuses_a_spend_that_the_wallet_has_no_money_for(self) -> None:
        course = course_of(-120, -30, caps=Caps(Cap(None, 0), None))

        assert (course.unpaid, course.balance, course.lowest) == (1, usdt(70), usdt(70))

    def test_of_nothing_known_says_nothing(self) -> None:
        assert course_of(before=None).lowest is None

    @pytest.mark.rule("R10")
    def test_elsewhere_fires_no_second_time_before_the_money_is_seen(self) -> None:
        course = course_of(-60, -10, -30, -20, before=100, amount=10, kept=Kept.ELSEWHERE)

        assert [top_up.at for top_up in course.top_ups] == [moment(0)]

    @pytest.mark.rule("R9")
    def test_elsewhere_arms_again_when_a_report_shows_the_line(self) -> None:
        course = course_of(-60, -10, -40, before=100, amount=50, kept=Kept.ELSEWHERE)

        assert [top_up.at for top_up in course.top_ups] == [moment(0), moment(2)]

    def test_elsewhere_begins_with_a_first_report_that_may_fire(self) -> None:
        assert len(course_of(30, before=None, kept=Kept.ELSEWHERE).top_ups) == 1
        assert course_of(30, before=0, kept=Kept.ELSEWHERE).top_ups == []
        assert course_of(30, before=None, kept=Kept.LEDGER).top_ups == []

    @pytest.mark.rule("R19")
    @given(moves, st.integers(0, 100), st.integers(1, 60), st.integers(1, 80), st.sampled_from(Kept))
    def test_conserves_every_unit(
        self, amounts: list[int], before: int, amount: int, threshold: int, kept: Kept
    ) -> None:
        course = course_of(*amounts, before=before, amount=amount, threshold=threshold, kept=kept)

        arrived = usdt(amount * len(course.top_ups))
        added = usdt(sum(step for step in amounts if step > 0))
        spent = usdt(before) + added + arrived - course.balance
        assert spent <= usdt(-sum(step for step in amounts if step < 0))
        assert course.lowest is not None
        assert course.lowest <= course.balance
        assert all(top_up.balance_before < usdt(threshold) for top_up in course.top_ups)
