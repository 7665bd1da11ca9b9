"""The course of a balance: amounts and moments people count in, a line that hides no low, marks where money came in."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from babel import Locale
from hypothesis import given
from hypothesis import strategies as st

from adapters.postgres.balance_history import BalanceAt, BalanceHistory, TopUpAt
from console.chart import PLOT_BOTTOM, PLOT_TOP, ROWS_MAX, Chart, draw_chart
from tests.product.builders import usdt
from topup.money import Money
from topup.outcome import Outcome

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ENGLISH = Locale("en", "US")


def course(*told: tuple[timedelta, int | str], top_ups: Sequence[TopUpAt] = ()) -> BalanceHistory:
    """A history of balances, each as long ago."""
    balances = tuple(BalanceAt(NOW - ago, usdt(amount)) for ago, amount in told)
    return BalanceHistory(NOW - timedelta(days=30), NOW, balances, tuple(top_ups))


def top_up(ago: timedelta, outcome: Outcome, credited: int) -> TopUpAt:
    return TopUpAt("topup_1", NOW - ago, outcome, usdt(100), usdt(credited))


def drawn(history: BalanceHistory, threshold: Money | None = None) -> Chart:
    chart = draw_chart(history, threshold=threshold, locale=ENGLISH)
    assert chart is not None
    return chart


class TestTheDrawing:
    def test_is_none_of_nothing(self) -> None:
        assert draw_chart(course(), threshold=usdt(50), locale=ENGLISH) is None

    def test_goes_in_steps_and_on_until_now(self) -> None:
        chart = drawn(course((timedelta(days=30), 100), (timedelta(days=15), 50)))

        assert chart.line == "M0 24L500 24L500 104L1000 104"

    @pytest.mark.parametrize(
        ("most", "words"),
        [
            (80, ["0", "20", "40", "60", "80"]),
            (85, ["0", "50", "100"]),
            ("0.000003", ["0", "0.000001", "0.000002", "0.000003"]),
            (1234, ["0", "500", "1,000", "1,500"]),
            (35_000, ["0", "10K", "20K", "30K", "40K"]),
            (0, ["0", "0.5", "1"]),
        ],
    )
    def test_counts_amounts_as_people_do(self, most: int | str, words: list[str]) -> None:
        chart = drawn(course((timedelta(days=3), most)))

        assert [tick.words for tick in chart.amounts][: len(words)] == words

    @pytest.mark.parametrize(
        ("ago", "words"),
        [
            (timedelta(days=30), ["Oct 24", "Oct 31", "Nov 7", "Nov 14", "now"]),
            (timedelta(days=3), ["Nov 18", "Nov 19", "Nov 20", "now"]),
            (timedelta(hours=3), ["3 h ago", "2 h ago", "1 h ago", "now"]),
            (timedelta(minutes=20), ["20 min ago", "15 min ago", "10 min ago", "5 min ago", "now"]),
        ],
    )
    def test_counts_moments_as_people_do(self, ago: timedelta, words: list[str]) -> None:
        chart = drawn(course((ago, 10)))

        assert [tick.words for tick in chart.moments] == words

    def test_holds_the_threshold_even_above_every_balance(self) -> None:
        chart = drawn(course((timedelta(days=3), 10)), usdt(500))

        assert PLOT_TOP <= float(chart.threshold_place) <= PLOT_BOTTOM

    def test_marks_each_top_up_where_the_line_is(self) -> None:
        day = timedelta(days=1)
        chart = drawn(
            course(
                (30 * day, 100),
                (15 * day, 50),
                (14 * day, 100),
                top_ups=[top_up(14 * day, Outcome.COMPLETED, 50), top_up(3 * day, Outcome.FAILED, 0)],
            )
        )

        assert [(mark.outcome, mark.y) for mark in chart.marks] == [("completed", "24"), ("failed", "24")]
        assert [mark.words for mark in chart.marks] == [
            "50.00 USDT arrived",
            "100.00 USDT failed, nothing was moved",
        ]

    @given(st.lists(st.tuples(st.integers(0, 43_200), st.integers(0, 10**15)), min_size=1, max_size=60))
    def test_stays_within_its_frame(self, told: list[tuple[int, int]]) -> None:
        ordered = sorted(told, reverse=True)
        history = course(*[(timedelta(minutes=ago), "0") for ago, _ in ordered])
        balances = tuple(
            BalanceAt(each.at, Money("USDT", units))
            for each, (_, units) in zip(history.balances, ordered, strict=True)
        )

        chart = drawn(BalanceHistory(history.since, history.until, balances, ()))

        corners = [tuple(map(float, corner.split())) for corner in chart.line[1:].split("L")]
        assert all(0 <= x <= 1000 and PLOT_TOP <= y <= PLOT_BOTTOM for x, y in corners)
        assert [x for x, _ in corners] == sorted(x for x, _ in corners)
        assert len(chart.amounts) <= 6


class TestTheTable:
    def test_tells_each_change_newest_first(self) -> None:
        day = timedelta(days=1)
        chart = drawn(
            course((3 * day, 80), (2 * day, 40), (day, 140), top_ups=[top_up(day, Outcome.COMPLETED, 100)])
        )

        told = [(row.last.text, row.top_ups) for row in chart.rows]
        assert told == [("140.00", ("100.00 USDT arrived",)), ("40.00", ()), ("80.00", ())]
        assert not chart.by_day

    def test_tells_of_days_when_there_are_many_changes(self) -> None:
        hour = timedelta(hours=1)
        chart = drawn(course(*[(hour * ago, ago) for ago in range(ROWS_MAX + 8, 0, -1)]))

        assert chart.by_day
        assert [(row.at.day, row.lowest.text, row.highest.text) for row in chart.rows] == [
            (21, "1.00", "13.00"),
            (20, "13.00", "37.00"),
            (19, "37.00", "48.00"),
        ]
