"""Caps: what a rule may move in a day and a month, never passed, and said wherever they hold it back."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.product.builders import usdt, watch
from topup.alert import AlertCode, Low, alert_for
from topup.caps import (
    Cap,
    CapReached,
    Caps,
    Period,
    Usage,
    Used,
    cap_reached,
    read_terms_and_caps,
    write_caps,
)
from topup.money import Money
from topup.rule import RuleState, TermsInvalid, WaitingFor, state_of, waiting_for
from topup.trigger import Change, Decision, DecisionReason, judge

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
LINE = usdt(20)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
some_caps = st.none() | st.builds(
    Cap, st.none() | st.integers(10, 60).map(usdt), st.none() | st.integers(1, 6)
)


def used(day: int | str, times: int, month: int | str = 0, times_in_month: int = 0) -> Usage:
    """What has been used of a day and of its month, which never has less."""
    return {
        Period.DAY: Used(usdt(day), times),
        Period.MONTH: Used(max(usdt(day), usdt(month)), max(times, times_in_month)),
    }


def read(caps: Any, amount: str = "10") -> Caps | None:
    """Caps as they are read beside terms that are valid."""
    terms = {"threshold": "20", "amount": amount, "account": "funding", "sources": ["USDT"]}
    return read_terms_and_caps(caps, currency="USDT", **terms)[1]  # type: ignore[arg-type]


class TestThePeriods:
    @given(moments, zones, st.sampled_from(Period))
    def test_hold_their_moment_wherever_it_is_told(
        self, at: datetime, zone: timezone, period: Period
    ) -> None:
        assert period.start(at) <= at < period.end(at)
        assert period.start(at.astimezone(zone)) == period.start(at)

    @given(moments, st.sampled_from(Period))
    def test_follow_each_other_without_a_gap(self, at: datetime, period: Period) -> None:
        end = period.end(at)

        assert period.start(end) == end
        assert period.start(end - timedelta(microseconds=1)) == period.start(at)

    @pytest.mark.parametrize(
        ("at", "days"), [("2024-02-29", 29), ("2026-02-01", 28), ("2026-12-31", 31), ("2026-04-30", 30)]
    )
    def test_of_a_month_are_the_calendars(self, at: str, days: int) -> None:
        moment = datetime.fromisoformat(at).replace(tzinfo=UTC)

        assert Period.MONTH.end(moment) - Period.MONTH.start(moment) == timedelta(days=days)


@pytest.mark.rule("R8")
class TestACap:
    @pytest.mark.parametrize(
        ("caps", "usage", "reached"),
        [
            (None, used(1000, 1000), None),
            (Caps(Cap(usdt(30), None), None), used(20, 2), None),
            (Caps(Cap(usdt(30), None), None), used("20.000001", 2), Period.DAY),
            (Caps(Cap(None, 3), None), used(1000, 2), None),
            (Caps(Cap(None, 3), None), used(1, 3), Period.DAY),
            (Caps(None, Cap(usdt(100), 9)), used(50, 1, 90, 8), None),
            (Caps(None, Cap(usdt(100), 9)), used(50, 1, 90, 9), Period.MONTH),
            (Caps(Cap(None, 1), Cap(None, 1)), used(1, 1), Period.MONTH),
        ],
    )
    def test_is_reached_when_one_more_top_up_would_pass_it(
        self, caps: Caps | None, usage: Usage, reached: Period | None
    ) -> None:
        found = cap_reached(caps, usage, amount=usdt(10), at=NOON)

        assert (found and found.period) == reached
        assert found is None or found.until == found.period.end(NOON)

    @given(
        some_caps,
        some_caps,
        st.integers(1, 10).map(usdt),
        st.lists(st.tuples(st.integers(0, 40 * 24), st.integers(0, 10)), max_size=40),
    )
    def test_is_never_passed_by_top_ups_that_ask_it_and_holds_back_no_other(
        self, day: Cap | None, month: Cap | None, amount: Money, course: list[tuple[int, int]]
    ) -> None:
        caps, fired = Caps(day, month), list[tuple[datetime, Money]]()

        for hour, tenths in course:
            at = NOON + timedelta(hours=hour)
            usage = {period: _counted(period, at, fired) for period in Period}
            reached = cap_reached(caps, usage, amount=amount, at=at)
            fits = all(
                _within(caps.of(period), usage[period].amount + amount, usage[period].count + 1)
                for period in Period
            )
            assert (reached is None) == fits
            if reached is None and tenths:
                fired.append((at, Money("USDT", amount.units * tenths // 10)))

        for at, _ in fired:
            for period in Period:
                total = _counted(period, at, fired)
                assert _within(caps.of(period), total.amount, total.count)


def _counted(period: Period, at: datetime, fired: list[tuple[datetime, Money]]) -> Used:
    same = [amount for when, amount in fired if period.start(when) == period.start(at)]
    return Used(sum(same, usdt(0)), len(same))


def _within(cap: Cap | None, amount: Money, count: int) -> bool:
    if cap is None:
        return True
    return (cap.amount is None or amount <= cap.amount) and (cap.count is None or count <= cap.count)


class TestReadingCaps:
    @pytest.mark.parametrize(
        ("given_caps", "caps"),
        [
            (None, None),
            ({"day": {"amount": "30.5"}}, Caps(Cap(usdt("30.5"), None), None)),
            ({"day": None, "month": {"count": 5}}, Caps(None, Cap(None, 5))),
            (
                {"day": {"amount": "10", "count": 1}, "month": {"amount": None, "count": 2}},
                Caps(Cap(usdt(10), 1), Cap(None, 2)),
            ),
        ],
    )
    def test_takes_what_is_there(self, given_caps: Any, caps: Caps | None) -> None:
        assert read(given_caps) == caps
        assert read(write_caps(caps)) == caps

    @pytest.mark.parametrize(
        ("caps", "fields"),
        [
            ({}, ["caps"]),
            ({"day": None, "month": None}, ["caps"]),
            ({"day": {}}, ["caps/day"]),
            ({"day": {"amount": None, "count": None}}, ["caps/day"]),
            ({"day": {"amount": "0"}, "month": {"count": 0}}, ["caps/day/amount", "caps/month/count"]),
            ({"day": {"amount": "1e3"}}, ["caps/day/amount"]),
            ({"month": {"amount": "20.0000001"}}, ["caps/month/amount"]),
            ({"day": {"amount": "9.99"}, "month": {"amount": "9"}}, ["caps/day/amount", "caps/month/amount"]),
        ],
    )
    def test_names_every_field_that_is_wrong(self, caps: Any, fields: list[str]) -> None:
        with pytest.raises(TermsInvalid) as refused:
            read(caps)

        assert [problem.field for problem in refused.value.problems] == fields

    @pytest.mark.rule("R1")
    def test_names_wrong_caps_together_with_wrong_terms(self) -> None:
        with pytest.raises(TermsInvalid) as refused:
            read({"day": {"amount": "x"}}, amount="-1")

        assert [problem.field for problem in refused.value.problems] == ["amount", "caps/day/amount"]


class TestARuleAtItsCap:
    @pytest.mark.rule("R9")
    @pytest.mark.parametrize("change", [Change.SPENT, Change.SAVED, Change.RELEASED])
    def test_does_not_fire_and_stays_armed(self, change: Change) -> None:
        decision = judge(replace(watch(LINE), capped=True), balance=usdt(19), change=change)

        assert decision == Decision(fired=False, reason=DecisionReason.CAP_REACHED, armed=True)

    @pytest.mark.rule("R13")
    @pytest.mark.parametrize("balance", [usdt(19), usdt(20)])
    @pytest.mark.parametrize("change", Change)
    @pytest.mark.parametrize(
        "rule", [watch(LINE), watch(LINE, armed=False), watch(LINE, enabled=False), watch(LINE, locked=True)]
    )
    def test_gives_any_other_reason_first(self, rule: Any, change: Change, balance: Money) -> None:
        free = judge(rule, balance=balance, change=change)
        capped = judge(replace(rule, capped=True), balance=balance, change=change)

        if free.fired:
            assert capped.reason is DecisionReason.CAP_REACHED
        else:
            assert capped == free

    @pytest.mark.rule("R26")
    @pytest.mark.parametrize("armed", [True, False])
    def test_shows_what_it_waits_for(self, armed: bool) -> None:
        state = state_of(enabled=True, armed=armed, locked=False, capped=True)

        assert state is RuleState.WAITING
        expected = WaitingFor.CAP_PERIOD_END if armed else WaitingFor.BALANCE_AT_THRESHOLD
        assert waiting_for(state, armed=armed) is expected

    @pytest.mark.rule("R26")
    def test_that_is_off_or_locked_waits_for_no_cap(self) -> None:
        off = state_of(enabled=False, armed=True, locked=False, capped=True)
        locked = state_of(enabled=True, armed=False, locked=True, capped=True)

        assert (off, locked) == (RuleState.OFF, RuleState.LOCKED)
        assert waiting_for(off, armed=True) is None

    @pytest.mark.rule("R25")
    def test_says_so_below_its_line_and_until_when(self) -> None:
        low = Low(usdt(19), LINE, RuleState.WAITING, unjudged_for=None, outcome=None, reason=None)
        cap = CapReached(Period.DAY, datetime(2026, 11, 22, tzinfo=UTC))

        alert = alert_for(replace(low, cap=cap))

        assert alert is not None
        assert alert.code is AlertCode.CAP_REACHED
        assert "cap for this day" in alert.message
        assert "2026-11-22 00:00 UTC" in alert.message
