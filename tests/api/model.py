"""The rules told a second time, in plain Python after docs/rules.md: what API, watcher and deeds must do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import permutations
from math import ceil, floor
from typing import Any

from topup.money import ASSET_SCALES, Money

PIVOT = "USDT"
FIRST_RATES = {
    **{pair: Fraction(1) for pair in permutations(("USDT", "USDC", "USDG"), 2)},
    ("BTC", "USDT"): Fraction(60000),
    ("ETH", "USDT"): Fraction(3000),
    ("SOL", "USDT"): Fraction(150),
    ("EUR", "USDT"): Fraction("1.10"),
}
PATIENCE = timedelta(seconds=5)
"""How long a balance event may wait before the alert says that it does (R25)."""

Told = tuple[int, str | None]
"""How the API answers: the status, and the code of the problem if it is one."""
Rates = Mapping[tuple[str, str], Fraction]
Moments = tuple[datetime, datetime]
"""Something happened between these two."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a rule says, in smallest units; `caps` are (amount, count) by period, None where nothing bounds."""

    threshold: int
    amount: int
    account: str
    sources: tuple[str, ...]
    caps: Mapping[str, tuple[int | None, int | None]]

    @property
    def could_fire(self) -> bool:
        """Whether every cap leaves room for one top-up (R8)."""
        return all(amount is None or amount >= self.amount for amount, _ in self.caps.values())


@dataclass(slots=True)
class Event:
    """A balance event that waits to be judged."""

    change: str
    balance: int
    event_id: str | None = None
    stale: bool = False
    recorded: Moments | None = None


@dataclass(slots=True)
class Result:
    """What one source gave."""

    rank: int
    asset: str
    status: str = "not_reached"
    reason: str | None = None
    debited: int = 0
    credited: int = 0
    in_ledger: bool = False
    """The ledger was asked, so it can be seen before the top-up has ended, and by a sweep."""


@dataclass(frozen=True, slots=True)
class Share:
    """What the check plans for one source; `rate` is in smallest units, None where nobody quotes it."""

    rank: int
    asset: str
    debit: int
    credit: int
    rate: Fraction | None


@dataclass(slots=True)
class TopUp:
    """One execution; `shares` None until its check, empty when the check found that nothing is to be drawn."""

    rule: "Rule" = field(repr=False)
    terms: Terms
    version: int
    trigger: Event
    started_at: datetime
    id: str = ""
    shares: tuple[Share, ...] | None = None
    finding: str | None = None
    """Why the check found so."""
    results: list[Result] = field(default_factory=list)
    asked_next: int = 0
    """What a short source has left over for the next one (R17)."""
    outcome: str | None = None
    reason: str | None = None

    @property
    def credited(self) -> int:
        return sum(result.credited for result in self.results)

    @property
    def may_draw(self) -> bool:
        """Whether a source of the plan has not had its turn yet."""
        return len(self.results) < len(self.shares or ())

    @property
    def shown(self) -> list[Result]:
        """What each source gave, as far as it can be known: while the top-up runs, only what is in the ledger."""
        given = {result.rank: result for result in self.results if self.outcome or result.in_ledger}
        results = [given.get(rank, Result(rank, asset)) for rank, asset in enumerate(self.terms.sources, 1)]
        unsettled = self.outcome is None
        return [
            replace(result, reason=None) if unsettled and result.status == "confirmed_not_moved" else result
            for result in results
        ]


@dataclass(slots=True)
class Decision:
    """Why the rule fired at an event, or did not."""

    event: Event
    reason: str
    top_up: TopUp | None


@dataclass(slots=True)
class Rule:
    """A rule as it stands, and its whole past."""

    terms: Terms
    enabled: bool
    armed: bool
    version: int = 1
    id: str = ""
    holder: TopUp | None = None
    spent_meanwhile: bool = False
    decisions: list[Decision] = field(default_factory=list)
    revisions: list[str] = field(default_factory=lambda: ["created"])


@dataclass(frozen=True, slots=True)
class Report:
    """A balance event as an outside caller tells it."""

    event_id: str
    version: int
    balance: int


@dataclass(slots=True)
class Wallet:
    """A Pay wallet, kept in the ledger or elsewhere; `balance` is the one its owner is shown."""

    currency: str
    elsewhere: bool
    id: str = ""
    balance: int = 0
    last: Report | None = None
    reports: dict[str, tuple[Report, bool]] = field(default_factory=dict)
    """Every report that was taken, and whether it was stale."""
    waiting: list[Event] = field(default_factory=list)
    rule: Rule | None = None
    past_rules: list[Rule] = field(default_factory=list)
    top_ups: list[TopUp] = field(default_factory=list)

    @property
    def known(self) -> bool:
        """Whether anybody knows the balance (R8)."""
        return self.last is not None if self.elsewhere else True

    @property
    def open_top_up(self) -> TopUp | None:
        return self.rule.holder if self.rule else None

    @property
    def in_hand(self) -> TopUp:
        """The top-up in progress, where there is one."""
        assert self.rule is not None
        assert self.rule.holder is not None
        return self.rule.holder

    @property
    def newest_rule(self) -> Rule | None:
        """The rule there is, else the one deleted last."""
        return self.rule or (self.past_rules[-1] if self.past_rules else None)

    def text(self, units: int) -> str:
        return Money(self.currency, units).text

    # ------------------------------------------------------------------------------------------- setting up

    def create_rule(self, terms: Terms, *, enabled: bool) -> Told:
        """R1, R11: one rule for a wallet; one that is on is judged at once."""
        if not terms.could_fire:
            return 422, "invalid"
        if self.rule is not None:
            return 409, "rule_exists"
        self.rule = Rule(terms, enabled=enabled, armed=enabled)
        self._save()
        return 201, None

    def edit(self, changes: Mapping[str, Any], version: int | None) -> Told:
        """R4, R9: a save arms a rule that is on, and has it judged."""
        refusal = self._refuse(version)
        if refusal is not None:
            return refusal
        assert self.rule is not None
        terms = replace(self.rule.terms, **changes)
        if not terms.could_fire:
            return 422, "invalid"
        self.rule.terms = terms
        self._change(self.rule, "edited")
        return 200, None

    def switch(self, *, on: bool, version: int | None) -> Told:
        """R5: turning on is a save; turning off what is off changes nothing."""
        refusal = self._refuse(version)
        if refusal is not None:
            return refusal
        assert self.rule is not None
        if on or self.rule.enabled:
            self.rule.enabled = on
            self._change(self.rule, "enabled" if on else "disabled")
        return 200, None

    def delete(self, version: int | None) -> Told:
        """R6: gone for good, its past kept."""
        refusal = self._refuse(version)
        if refusal is not None:
            return refusal
        assert self.rule is not None
        self.rule.revisions.append("deleted")
        self.past_rules.append(self.rule)
        self.rule = None
        return 204, None

    def _refuse(self, version: int | None) -> Told | None:
        if version is None:
            return 428, "version_required"
        if self.rule is None:
            return 404, "not_found"
        if self.rule.holder is not None:
            return 409, "rule_locked"
        return (412, "version_stale") if version != self.rule.version else None

    def _change(self, rule: Rule, kind: str) -> None:
        rule.version += 1
        rule.armed = rule.enabled
        rule.revisions.append(kind)
        self._save()

    def _save(self) -> None:
        if self.rule and self.rule.enabled and self.known:
            self.waiting.append(Event("saved", self.balance))

    # ---------------------------------------------------------------------------------------- money in and out

    def deposit(self, amount: int) -> Told:
        if self.elsewhere:
            return 409, "wallet_kept_elsewhere"
        self._move(amount, "added")
        return 201, None

    def pay(self, amount: int) -> Told:
        if self.elsewhere:
            return 409, "wallet_kept_elsewhere"
        if amount > self.balance:
            return 409, "insufficient_balance"
        self._move(-amount, "spent")
        return 201, None

    def arrive(self, amount: int) -> None:
        """What a draw credits; elsewhere it shows when a report shows it."""
        if amount and not self.elsewhere:
            self._move(amount, "topped_up")

    def _move(self, amount: int, change: str) -> None:
        self.balance += amount
        self.waiting.append(Event(change, self.balance))

    def take_reports(self, reports: Sequence[Report]) -> list[tuple[bool, bool]] | None:
        """R10: (duplicate, stale) of each; None where one says other than it did before: then none is taken."""
        known = dict(self.reports)
        for report in reports:
            if known.setdefault(report.event_id, (report, False))[0] != report:
                return None
        return [self._take(report) for report in reports]

    def _take(self, report: Report) -> tuple[bool, bool]:
        if report.event_id in self.reports:
            return True, self.reports[report.event_id][1]
        stale = self.last is not None and report.version <= self.last.version
        spent = self.last is None or report.balance < self.balance
        self.reports[report.event_id] = (report, stale)
        self.waiting.append(Event("spent" if spent else "added", report.balance, report.event_id, stale))
        if not stale:
            self.last, self.balance = report, report.balance
        return False, stale

    # --------------------------------------------------------------------------------------------------- firing

    def judge_all(self, at: datetime) -> int:
        """R8 to R13: judge what waits, in order; how many top-ups began (one at most, as it locks the rule)."""
        before = len(self.top_ups)
        waiting, self.waiting = self.waiting, []
        if self.rule is not None:
            for event in waiting:
                self._judge(self.rule, event, at)
        return len(self.top_ups) - before

    def _judge(self, rule: Rule, event: Event, at: datetime) -> None:
        reason = self._decide(rule, event, at)
        if reason == "below_threshold":
            top_up = TopUp(rule, rule.terms, rule.version, event, at)
            self.top_ups.append(top_up)
            rule.holder, rule.armed = top_up, False
        if reason == "not_below":
            rule.armed = True
        if reason == "locked" and event.change == "spent":
            rule.spent_meanwhile = True
        rule.decisions.append(Decision(event, reason, rule.holder))

    def _decide(self, rule: Rule, event: Event, at: datetime) -> str:  # noqa: PLR0911 the closed list of R13
        if event.stale:
            return "stale_event"
        if rule.holder is not None:
            return "locked"
        if not rule.enabled:
            return "off"
        if event.balance >= rule.terms.threshold:
            return "not_below"
        if not rule.armed:
            return "disarmed"
        if event.change in ("added", "topped_up"):
            return "balance_rose"
        return "cap_reached" if self.cap_end(at) else "below_threshold"

    def cap_end(self, at: datetime) -> datetime | None:
        """R8: when the longest period ends whose cap one more top-up at this moment would pass."""
        assert self.rule is not None
        passed = [end for period, end in _ends(at).items() if self._passes(period, at)]
        return max(passed, default=None)

    def _passes(self, period: str, at: datetime) -> bool:
        assert self.rule is not None
        amount_max, count_max = self.rule.terms.caps.get(period, (None, None))
        moved = [
            top_up.terms.amount if top_up.outcome is None else top_up.credited
            for top_up in self.top_ups
            if _ends(top_up.started_at)[period] == _ends(at)[period]
        ]
        too_much = amount_max is not None and sum(moved) + self.rule.terms.amount > amount_max
        return too_much or (count_max is not None and len([one for one in moved if one]) >= count_max)

    # ---------------------------------------------------------------------------------------------------- ending

    def end(self, outcome: str, reason: str, at: datetime) -> None:
        """R7, R9, R12: name the end, judge what waits as locked, open the lock, arm or not, judge what was spent."""
        rule = self.rule
        assert rule is not None
        assert rule.holder is not None
        ended = rule.holder
        ended.outcome, ended.reason = outcome, reason
        self.judge_all(at)
        arming = ["not_needed"] if self.elsewhere else ["completed", "not_needed"]
        rule.armed = outcome in arming or self.balance >= rule.terms.threshold
        rule.holder = None
        if rule.spent_meanwhile:
            self.waiting.append(Event("released", self.balance))
        rule.spent_meanwhile = False

    # --------------------------------------------------------------------------------------------------- telling

    def state(self, at: datetime) -> tuple[str, str | None, datetime | None]:
        """R26: the state, what it waits for, and until when."""
        rule = self.rule
        assert rule is not None
        if rule.holder is not None:
            return "locked", None, None
        if not rule.enabled:
            return "off", None, None
        if not rule.armed:
            return "waiting", "balance_at_threshold", None
        end = self.cap_end(at)
        return ("waiting", "cap_period_end", end) if end else ("armed", None, None)

    def alerts(self, read: Moments) -> set[str | None]:
        """R25: what the alert may say to someone who reads in this time; one thing unless an event just grew late."""
        if self.rule is None or not self.known or self.balance >= self.rule.terms.threshold:
            return {None}
        recorded = [event.recorded for event in self.waiting if event.recorded]
        if not recorded:
            return {self._low(read[0], late=False)}
        longest = read[1] - min(earliest for earliest, _ in recorded)
        shortest = read[0] - min(latest for _, latest in recorded)
        on_time: set[str | None] = {None} if shortest <= PATIENCE else set()
        late = {self._low(read[0], late=True)} if longest > PATIENCE else set()
        return on_time | late

    def _low(self, at: datetime, *, late: bool) -> str | None:
        """What is said below the threshold when a top-up cannot be about to start."""
        state, waiting_for, _ = self.state(at)
        ended = [top_up for top_up in self.top_ups if top_up.outcome and top_up.rule is self.rule]
        if state == "locked":
            return None
        if state == "off":
            return "rule_off"
        if state == "armed":
            return "being_judged_late" if late else "next_spend_fires"
        if waiting_for == "cap_period_end":
            return "cap_reached"
        last = ended[-1].outcome if ended else None
        return {"failed": "last_top_up_failed", "partial": "last_top_up_partial"}.get(last or "", "waiting")


@dataclass(slots=True)
class World:
    """One owner with an exchange account and wallets, under rates of the world's."""

    wallets: list[Wallet]
    held: dict[tuple[str, str], int] = field(default_factory=dict)
    """What the exchange account holds, by kind and asset."""
    rates: dict[tuple[str, str], Fraction] = field(default_factory=lambda: dict(FIRST_RATES))
    faults: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)
    """How the next draws from a source go wrong, and how many of them."""

    def record(self, moments: Moments) -> None:
        """Whatever is new was recorded in this time."""
        for wallet in self.wallets:
            for event in wallet.waiting:
                event.recorded = event.recorded or moments

    def neglect(self, time: timedelta) -> None:
        """What waits has waited for so much longer."""
        for wallet in self.wallets:
            for event in wallet.waiting:
                if event.recorded:
                    event.recorded = (event.recorded[0] - time, event.recorded[1] - time)

    def set_rate(self, asset: str, currency: str, rate: str) -> None:
        self.rates[asset, currency] = Fraction(rate)

    def fund(self, account: str, asset: str, amount: int) -> None:
        self.held[account, asset] = self.held.get((account, asset), 0) + amount

    def take(self, account: str, asset: str, amount: int) -> None:
        """The owner's other business; it gets nothing where there is not enough."""
        if self.held.get((account, asset), 0) >= amount:
            self.held[account, asset] -= amount

    def plan(self, wallet: Wallet, terms: Terms) -> tuple[tuple[Share, ...], int]:
        """R15, R16, R22: each source's share, and what is missing."""
        shares, owed = [], terms.amount
        for rank, asset in enumerate(terms.sources, 1):
            rate = self._rate(asset, wallet.currency)
            worth = floor(self.held.get((terms.account, asset), 0) * rate) if rate else 0
            credit = min(worth, owed)
            shares.append(Share(rank, asset, ceil(credit / rate) if rate else 0, credit, rate))
            owed -= credit
        return tuple(shares), owed

    def warnings(self, wallet: Wallet, at: datetime) -> list[str]:
        """R1: what the owner is warned of."""
        assert wallet.rule is not None
        terms = wallet.rule.terms
        _, missing = self.plan(wallet, terms)
        too_little = wallet.known and wallet.balance + terms.amount < terms.threshold
        gap = ["amount_below_gap"] if too_little else []
        sources = [self._source_warning(wallet, terms.account, asset) for asset in terms.sources]
        return [
            *gap,
            *filter(None, sources),
            *(["sources_insufficient"] if missing else []),
            *(["cap_reached"] if wallet.cap_end(at) else []),
        ]

    def _source_warning(self, wallet: Wallet, account: str, asset: str) -> str | None:
        rate = self._rate(asset, wallet.currency)
        if rate is None:
            return "source_not_quoted"
        return None if floor(self.held.get((account, asset), 0) * rate) else "source_empty"

    def check(self, wallet: Wallet) -> None:
        """R14, R15: look, then plan; nothing is drawn when there is nothing to do or not enough."""
        top_up = wallet.in_hand
        shares, missing = self.plan(wallet, top_up.terms)
        recovered = wallet.balance >= top_up.terms.threshold
        top_up.shares = () if recovered or missing else shares
        if not top_up.shares:
            top_up.finding = "balance_recovered" if recovered else "insufficient_balance"

    def draw_next(self, wallet: Wallet) -> None:
        """R16 to R18: the next source's turn."""
        top_up = wallet.in_hand
        assert top_up.shares
        share = top_up.shares[len(top_up.results)]
        asked = share.credit + top_up.asked_next
        result = self._draw(top_up, share, asked)
        top_up.results.append(result)
        flows_on = result.status == "short" or share.rate is None
        top_up.asked_next = asked - result.credited if flows_on else 0
        wallet.arrive(result.credited)

    def _draw(self, top_up: TopUp, share: Share, asked: int) -> Result:
        assert top_up.shares
        if share.rate is None:
            return Result(share.rank, share.asset, "not_reached", "unknown_asset")
        if not asked:
            needed_later = any(later.credit for later in top_up.shares[share.rank :])
            status, reason = ("short", "insufficient") if needed_later else ("not_reached", None)
            return Result(share.rank, share.asset, status, reason)
        source = (top_up.terms.account, share.asset)
        match self._next_fault(source):
            case "reject":
                return Result(share.rank, share.asset, "failed", "rejected")
            case "answer_lost_before_moving":
                return Result(share.rank, share.asset, "confirmed_not_moved", "unavailable", in_ledger=True)
            case _:
                return self._give(source, share, share.rate, asked)

    def _give(self, source: tuple[str, str], share: Share, rate: Fraction, asked: int) -> Result:
        credited = min(asked, floor(self.held.get(source, 0) * rate))
        debited = ceil(credited / rate)
        if debited:
            self.held[source] -= debited
        status, reason = ("short", "insufficient") if credited < asked else ("transferred", None)
        return Result(share.rank, share.asset, status, reason, debited, credited, in_ledger=True)

    def faults_left(self, wallet: Wallet) -> bool:
        """Whether any draw of the wallet's top-up may go wrong."""
        terms = wallet.in_hand.terms
        return any(self.faults.get((terms.account, asset), ("", 0))[1] for asset in terms.sources)

    def _next_fault(self, source: tuple[str, str]) -> str | None:
        fault, times = self.faults.get(source, ("", 0))
        if not times:
            return None
        self.faults[source] = (fault, times - 1)
        return fault

    def settle(self, wallet: Wallet, at: datetime) -> None:
        """R14, R15, R18: the end of a top-up whose run has come to its end."""
        top_up = wallet.in_hand
        if top_up.finding is None:
            wallet.end(*_conclude(top_up), at)
        else:
            outcome = "not_needed" if top_up.finding == "balance_recovered" else "failed"
            wallet.end(outcome, top_up.finding, at)

    def sweep(self, wallet: Wallet, at: datetime) -> None:
        """The end of a top-up whose run is gone: what the ledger knows, and nothing more."""
        top_up = wallet.in_hand
        known = ("transferred", "short")
        top_up.results = [
            result if result.status in known else Result(result.rank, result.asset) for result in top_up.shown
        ]
        if top_up.credited == top_up.terms.amount:
            wallet.end("completed", "full", at)
        else:
            wallet.end("partial" if top_up.credited else "failed", "ended_by_operator", at)

    def _rate(self, asset: str, currency: str) -> Fraction | None:
        """R22: in smallest units; at par, direct, inverse, or through the pivot."""
        whole = Fraction(1) if asset == currency else self._between(asset, currency)
        if whole is None:
            there, back = self._between(asset, PIVOT), self._between(PIVOT, currency)
            whole = there * back if there and back else None
        return whole and whole * 10 ** ASSET_SCALES[currency] / 10 ** ASSET_SCALES[asset]

    def _between(self, asset: str, currency: str) -> Fraction | None:
        if (asset, currency) in self.rates:
            return self.rates[asset, currency]
        inverse = self.rates.get((currency, asset))
        return inverse and 1 / inverse


def _conclude(top_up: TopUp) -> tuple[str, str]:
    """R18: what is least certain is named first."""
    statuses = {result.status for result in top_up.results}
    if top_up.credited == top_up.terms.amount:
        return "completed", "full"
    some = top_up.credited > 0
    if "confirmed_not_moved" in statuses:
        return ("partial" if some else "failed"), "not_confirmed"
    if "failed" in statuses:
        return ("partial", "source_failed") if some else ("failed", "system_error")
    return ("partial", "source_short") if some else ("failed", "insufficient_balance")


def _ends(at: datetime) -> dict[str, datetime]:
    """When the day and the month of this moment end, in UTC."""
    year, month = divmod(at.year * 12 + at.month, 12)
    return {
        "day": datetime(at.year, at.month, at.day, tzinfo=UTC) + timedelta(days=1),
        "month": datetime(year, month + 1, 1, tzinfo=UTC),
    }
