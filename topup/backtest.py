"""The dry run over the past: what a rule would have done with a wallet's real history, by the same rules as live."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from topup.caps import Caps, Period, Used, cap_reached
from topup.money import Money
from topup.outcome import DrawResult, DrawStatus, Ending, Outcome, Reason, conclude, failed
from topup.quote import Quote
from topup.rule import Terms
from topup.trigger import Change, DecisionReason, Kept, Watch, armed_after, change_reported, judge
from topup.waterfall import Holding, Shortfall, plan_draws


@dataclass(frozen=True, slots=True)
class Told:
    """One balance event of the past: what brought it about, and what the wallet held after it."""

    at: datetime
    change: Change
    balance: Money
    handed_over: Money | None = None
    """What the real top-up that it triggered credited."""


@dataclass(frozen=True, slots=True)
class Step:
    """Money that left the wallet or came into it at a moment of the past, its real top-ups left out."""

    at: datetime
    change: Change
    """Only ever spent or added."""
    amount: Money


@dataclass(frozen=True, slots=True)
class Agreement:
    """What is tried out: the terms, the caps, and where the wallet's balance is kept."""

    terms: Terms
    caps: Caps | None
    kept: Kept


@dataclass(slots=True)
class Assets:
    """What the sources are supposed to hold, and their quotes of today, in the order of the terms."""

    available: dict[str, Money]
    quotes: Mapping[str, Quote | None]


@dataclass(frozen=True, slots=True)
class PastTopUp:
    """A top-up that would have happened."""

    at: datetime
    balance_before: Money
    balance_after: Money
    outcome: Outcome
    reason: Reason


@dataclass(slots=True)
class Course:
    """The course things would have taken; `lowest` is None where nothing is known of the wallet at all."""

    balance: Money
    lowest: Money | None
    events: int = 0
    top_ups: list[PastTopUp] = field(default_factory=list)
    insufficient: int = 0
    capped: int = 0
    """How often a cap alone kept the rule from firing."""
    unpaid: int = 0
    """Spends the wallet would have lacked the money for; nothing leaves it then."""


def steps_of(history: Iterable[Told], *, before: Told | None, kept: Kept) -> Iterator[Step]:
    """What happened to the wallet apart from its top-ups, after what was told `before`; None where nothing was.

    The ledger names what its top-ups credited. Reports from elsewhere do not: there what was handed over is taken to
    have arrived with the first rise reported after it.
    """
    balance, arriving = (before.balance, before.handed_over) if before else (None, None)
    for told in history:
        nothing = Money.nothing(told.balance.asset)
        rose, moved = _difference(balance or nothing, told.balance)
        if told.change in (Change.SPENT, Change.ADDED):
            if rose and moved and arriving and kept is Kept.ELSEWHERE:
                (rose, moved), arriving = _difference(arriving, moved), None
            yield Step(told.at, Change.ADDED if rose else Change.SPENT, moved)
        balance = told.balance
        if told.handed_over:
            arriving = (arriving or nothing) + told.handed_over


def replay(
    agreement: Agreement, steps: Iterable[Step], *, before: Money | None, assets: Assets | None = None
) -> Course:
    """Take the steps again under these terms, with a rule that is on and armed, from a balance `before` on.

    A top-up is at its end as soon as it begins. `assets` None: the first source always covers it.
    """
    balance = Money.nothing(agreement.terms.currency) if before is None else before
    held = None if assets is None else Assets(dict(assets.available), assets.quotes)
    return _Replay(agreement, held, Course(balance, lowest=before), seen=before).run(steps)


@dataclass(slots=True)
class _Replay:
    """A replay under way; `seen` is the balance that was told last, which elsewhere may not be what there is."""

    agreement: Agreement
    assets: Assets | None
    course: Course
    seen: Money | None
    armed: bool = True
    used: dict[tuple[Period, datetime], Used] = field(default_factory=dict)

    def run(self, steps: Iterable[Step]) -> Course:
        for step in steps:
            self.course.events += 1
            if self._move(step):
                self._judge(step)
        return self.course

    def _move(self, step: Step) -> bool:
        """Whether there is something to judge: a payment that the ledger refuses leaves no balance event."""
        if step.change is Change.ADDED:
            self.course.balance += step.amount
        elif step.amount <= self.course.balance:
            self.course.balance -= step.amount
        else:
            self.course.unpaid += 1
            return self.agreement.kept is Kept.ELSEWHERE
        lowest = self.course.lowest
        self.course.lowest = self.course.balance if lowest is None else min(lowest, self.course.balance)
        return True

    def _judge(self, step: Step) -> None:
        change = step.change
        if self.agreement.kept is Kept.ELSEWHERE:
            change = change_reported(self.course.balance, before=self.seen)
        self.seen = self.course.balance
        decision = judge(self._watch(step.at), balance=self.seen, change=change)
        self.armed = decision.armed
        self.course.capped += decision.reason is DecisionReason.CAP_REACHED
        if decision.fired:
            self.armed = self._top_up(step.at, seen=self.seen)

    def _watch(self, at: datetime) -> Watch:
        terms = self.agreement.terms
        usage = {period: self._used(period, at) for period in Period}
        cap = cap_reached(self.agreement.caps, usage, amount=terms.amount, at=at)
        return Watch(terms.threshold, enabled=True, armed=self.armed, locked=False, capped=cap is not None)

    def _top_up(self, at: datetime, *, seen: Money) -> bool:
        """Run one; whether the rule is armed after it. Elsewhere nobody has seen its money arrive by then."""
        before, terms = self.course.balance, self.agreement.terms
        ending = self._draw(terms)
        self.course.balance += ending.credited
        self.course.insufficient += ending.reason is Reason.INSUFFICIENT_BALANCE
        self.course.top_ups.append(PastTopUp(at, before, self.course.balance, ending.outcome, ending.reason))
        self._count(at, ending)
        kept = self.agreement.kept
        balance = self.course.balance if kept is Kept.LEDGER else seen
        return armed_after(ending.outcome, balance=balance, threshold=terms.threshold, kept=kept)

    def _draw(self, terms: Terms) -> Ending:
        """Plan and draw as live, from what the sources are supposed to hold, each giving what was planned."""
        if self.assets is None:
            return conclude(terms.amount, [_drawn(1, terms.sources[0], terms.amount, terms.amount)])
        plan = plan_draws(terms, self._holdings(terms, self.assets))
        if isinstance(plan, Shortfall):
            return failed(Reason.INSUFFICIENT_BALANCE, terms.currency)
        for draw in plan.draws:
            self.assets.available[draw.asset] -= draw.debit
        draws = [_drawn(draw.rank, draw.asset, draw.debit, draw.credit) for draw in plan.draws]
        return conclude(terms.amount, draws)

    def _holdings(self, terms: Terms, assets: Assets) -> list[Holding]:
        for asset in terms.sources:
            assets.available.setdefault(asset, Money.nothing(asset))
        return [Holding(assets.available[asset], assets.quotes[asset]) for asset in terms.sources]

    def _count(self, at: datetime, ending: Ending) -> None:
        if ending.credited:
            for period in Period:
                used = self._used(period, at)
                counted = Used(used.amount + ending.credited, used.count + 1)
                self.used[period, period.start(at)] = counted

    def _used(self, period: Period, at: datetime) -> Used:
        nothing = Used(Money.nothing(self.agreement.terms.currency), 0)
        return self.used.get((period, period.start(at)), nothing)


def _drawn(rank: int, asset: str, debited: Money, credited: Money) -> DrawResult:
    return DrawResult(rank, asset, DrawStatus.TRANSFERRED, None, debited, credited)


def _difference(before: Money, after: Money) -> tuple[bool, Money]:
    """Whether it rose or stayed, and by how much it changed."""
    return (True, after - before) if after >= before else (False, before - after)
