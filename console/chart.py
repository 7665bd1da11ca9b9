"""The balance of the last days as a drawing: places and words for an inline SVG, and the table behind it."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

from babel import Locale
from babel.dates import format_skeleton
from babel.numbers import format_compact_decimal, format_decimal

from adapters.postgres.balance_history import BalanceAt, BalanceHistory, TopUpAt
from topup.money import Money, scale_of
from topup.words import top_up_line

DAYS = timedelta(days=30)
HEIGHT = 216
PLOT_TOP, PLOT_BOTTOM = 24, 184
PLOT_WIDTH = 88
"""Per cent of the drawing; the rest is for the amounts beside it. Widths are shares, so that text keeps its size."""
BOX = 1000
"""Places along the line, which is stretched to the plot's width."""
ROWS_MAX = 40
"""With more changes than these the table tells of days."""

_TICKS_MOST = 4
_COMPACT_FROM = 10_000
_EDGE = 0.06
"""So near to the left edge words begin at their place, as their middle would push them out of the drawing."""
_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
_STEPS = (
    *(_MINUTE * minutes for minutes in (1, 2, 5, 10, 15, 30)),
    *(_HOUR * hours for hours in (1, 2, 4, 6, 12)),
    *(_DAY * days for days in (1, 2, 7)),
)


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on an axis, and what is written at it."""

    place: str
    words: str
    anchor: str = "middle"


@dataclass(frozen=True, slots=True)
class Mark:
    """A top-up on the line."""

    x: str
    y: str
    outcome: str
    top_up: TopUpAt
    words: str


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a change, or a day."""

    at: datetime
    lowest: Money
    highest: Money
    last: Money
    top_ups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """All that the drawing needs."""

    line: str
    area: str
    amounts: tuple[Tick, ...]
    moments: tuple[Tick, ...]
    threshold: Money | None
    threshold_place: str
    marks: tuple[Mark, ...]
    since: datetime
    lowest: Money
    highest: Money
    last: Money
    rows: tuple[Row, ...]
    by_day: bool


def draw_chart(history: BalanceHistory, *, threshold: Money | None, locale: Locale) -> Chart | None:
    """The balance as a line in steps, with the threshold and each top-up; None where nothing is known of it."""
    if not history.balances:
        return None
    balances = history.balances
    span = _Span(min(balances[0].at, history.until - _MINUTE), history.until)
    scale = _scale_for([each.balance for each in balances], threshold)
    corners = tuple(_corners(balances, span, scale))
    amounts = [each.balance for each in balances]
    return Chart(
        line=_path(corners),
        area=f"{_path(corners)}V{_number(PLOT_BOTTOM)}H{_number(corners[0][0])}Z",
        amounts=scale.ticks(locale),
        moments=span.ticks(locale),
        threshold=threshold,
        threshold_place=_number(scale.place(threshold)) if threshold else "",
        marks=tuple(_mark(top_up, balances, span, scale) for top_up in history.top_ups),
        since=span.since,
        lowest=min(amounts),
        highest=max(amounts),
        last=amounts[-1],
        rows=_rows(history),
        by_day=_by_day(history),
    )


@dataclass(frozen=True, slots=True)
class _Scale:
    """Amounts from nothing to `top`, in steps people count in."""

    asset: str
    step: int
    top: int

    def place(self, money: Money) -> float:
        """How far down."""
        return PLOT_BOTTOM - (PLOT_BOTTOM - PLOT_TOP) * money.units / self.top

    def ticks(self, locale: Locale) -> tuple[Tick, ...]:
        """Each step with its amount."""
        steps = [Money(self.asset, units) for units in range(0, self.top + 1, self.step)]
        return tuple(Tick(_number(self.place(money)), _short(money, locale)) for money in steps)


@dataclass(frozen=True, slots=True)
class _Span:
    """The time that is shown."""

    since: datetime
    until: datetime

    @property
    def long(self) -> timedelta:
        """How long it is."""
        return self.until - self.since

    def share(self, at: datetime) -> float:
        """How far along, from 0 to 1."""
        return min(max((at - self.since) / self.long, 0.0), 1.0)

    def ticks(self, locale: Locale) -> tuple[Tick, ...]:
        """Now, and a few moments before it: dates, or how long ago where it is less than some days."""
        step = next((step for step in _STEPS if self.long / step <= _TICKS_MOST + 0.5), _STEPS[-1])
        earlier = [self.until - step * count for count in range(int(self.long / step), 0, -1)]
        shown = tuple(
            self._tick(at, step, locale) for at in earlier if self.share(at) < 1 - 0.5 / _TICKS_MOST
        )
        return (*shown, Tick(_percent(1), "now", "end"))

    def _tick(self, at: datetime, step: timedelta, locale: Locale) -> Tick:
        share = self.share(at)
        words = (
            format_skeleton("MMMd", at.astimezone(UTC), locale=locale)
            if step >= _DAY
            else _ago(self.until - at)
        )
        return Tick(_percent(share), words, "start" if share < _EDGE else "middle")


def _scale_for(amounts: Sequence[Money], threshold: Money | None) -> _Scale:
    highest = max([*amounts, *([threshold] if threshold else [])])
    most = highest.units or 10 ** scale_of(highest.asset)
    least = -(-most // _TICKS_MOST)
    step = next(step for step in _round_steps() if step >= least)
    return _Scale(highest.asset, step, step * -(-most // step))


def _round_steps() -> Iterator[int]:
    """1, 2, 5, 10, 20, 50 and so on."""
    power = 1
    while True:
        yield from (power, 2 * power, 5 * power)
        power *= 10


def _corners(balances: Sequence[BalanceAt], span: _Span, scale: _Scale) -> Iterator[tuple[float, float]]:
    """The line's corners: along to each change, then up or down to what it left."""
    before: float | None = None
    for each in balances:
        x, y = span.share(each.at) * BOX, scale.place(each.balance)
        if before is not None:
            yield x, before
        yield x, y
        before = y
    if before is not None:
        yield BOX, before


def _path(corners: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in corners)


def _mark(top_up: TopUpAt, balances: Sequence[BalanceAt], span: _Span, scale: _Scale) -> Mark:
    return Mark(
        x=_percent(span.share(top_up.at)),
        y=_number(scale.place(_held_at(balances, top_up.at))),
        outcome=top_up.outcome.value,
        top_up=top_up,
        words=_told(top_up),
    )


def _held_at(balances: Sequence[BalanceAt], at: datetime) -> Money:
    place = bisect_right(balances, at, key=lambda each: each.at)
    return balances[max(place - 1, 0)].balance


def _told(top_up: TopUpAt) -> str:
    return top_up_line(top_up.outcome, amount=top_up.amount, credited=top_up.credited)


def _by_day(history: BalanceHistory) -> bool:
    return len(history.balances) > ROWS_MAX


def _rows(history: BalanceHistory) -> tuple[Row, ...]:
    """The same as a table, newest first."""
    rows = _day_rows(history) if _by_day(history) else _change_rows(history)
    return tuple(reversed(tuple(rows)))


def _change_rows(history: BalanceHistory) -> Iterator[Row]:
    """A row for each change; a top-up stands with the last one before its end."""
    ends = [*(each.at for each in history.balances[1:]), history.until + _MINUTE]
    for each, end in zip(history.balances, ends, strict=True):
        told = tuple(_told(top_up) for top_up in history.top_ups if each.at <= top_up.at < end)
        yield Row(each.at, each.balance, each.balance, each.balance, told)


def _day_rows(history: BalanceHistory) -> Iterator[Row]:
    """A row for each day on which something changed, in UTC."""
    days: dict[datetime, list[Money]] = {}
    for before, each in pairwise((history.balances[0], *history.balances)):
        held = days.setdefault(_day_of(each.at), [before.balance])
        held.append(each.balance)
    for day, held in days.items():
        told = tuple(_told(top_up) for top_up in history.top_ups if _day_of(top_up.at) == day)
        yield Row(day, min(held), max(held), held[-1], told)


def _day_of(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _ago(before: timedelta) -> str:
    minutes = round(before / _MINUTE)
    return f"{minutes // 60} h ago" if minutes % 60 == 0 else f"{minutes} min ago"


def _short(money: Money, locale: Locale) -> str:
    """An amount beside an axis, without its asset: "1,000" or "25K"."""
    number = Decimal(money.text)
    if number >= _COMPACT_FROM:
        return str(format_compact_decimal(number, locale=locale, fraction_digits=1))
    return str(format_decimal(number.normalize(), locale=locale, decimal_quantization=False))


def _percent(share: float) -> str:
    return f"{_number(share * PLOT_WIDTH)}%"


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
