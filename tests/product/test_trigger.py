"""The trigger: when a rule fires, once for each dip, and why not otherwise (R8 to R13)."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.product.builders import usdt, watch
from topup.money import Money
from topup.outcome import Outcome
from topup.trigger import Change, Decision, DecisionReason, Watch, armed_after, judge

LINE = usdt(20)
SMALLEST = Money("USDT", 1)
BELOW, AT, ABOVE = LINE - SMALLEST, LINE, LINE + SMALLEST
MOVES_THAT_FIRE = (Change.SPENT, Change.SAVED, Change.RELEASED)
RISES = (Change.ADDED, Change.TOPPED_UP)


def all_watches() -> Iterator[Watch]:
    """A rule in every state it can be in."""
    for enabled, armed, locked in product([True, False], repeat=3):
        yield watch(LINE, enabled=enabled, armed=armed, locked=locked)


ALL_CASES = list(product(all_watches(), (BELOW, AT, ABOVE), Change, (True, False)))


@pytest.mark.rule("R8")
class TestTheLine:
    @pytest.mark.parametrize("change", MOVES_THAT_FIRE)
    def test_fires_an_armed_rule_one_unit_below_it(self, change: Change) -> None:
        decision = judge(watch(LINE), balance=BELOW, change=change)

        assert decision == Decision(fired=True, reason=DecisionReason.BELOW_THRESHOLD, armed=False)

    @pytest.mark.parametrize("balance", [AT, ABOVE])
    @pytest.mark.parametrize("change", Change)
    def test_fires_nothing_at_it_or_above_it(self, balance: Money, change: Change) -> None:
        decision = judge(watch(LINE), balance=balance, change=change)

        assert decision == Decision(fired=False, reason=DecisionReason.NOT_BELOW, armed=True)

    def test_is_that_of_the_rule_as_it_is_at_the_moment_of_judging(self) -> None:
        raised, lowered = watch(usdt(30)), watch(usdt(10))

        assert judge(raised, balance=usdt(25), change=Change.SPENT).fired
        assert not judge(lowered, balance=usdt(15), change=Change.SPENT).fired

    @given(st.integers(0, 10**9), st.integers(1, 10**9))
    def test_is_crossed_by_whatever_is_strictly_less(self, balance: int, threshold: int) -> None:
        decision = judge(watch(Money("USDT", threshold)), balance=Money("USDT", balance), change=Change.SPENT)

        assert decision.fired == (balance < threshold)


@pytest.mark.rule("R9")
class TestArming:
    @pytest.mark.parametrize("change", RISES)
    def test_a_rise_that_ends_below_the_line_never_fires_and_leaves_the_rule_armed(
        self, change: Change
    ) -> None:
        decision = judge(watch(LINE), balance=BELOW, change=change)

        assert decision == Decision(fired=False, reason=DecisionReason.BALANCE_ROSE, armed=True)

    def test_firing_disarms(self) -> None:
        assert not judge(watch(LINE), balance=BELOW, change=Change.SPENT).armed

    @pytest.mark.parametrize("balance", [AT, ABOVE])
    def test_a_balance_at_or_above_the_line_arms_again(self, balance: Money) -> None:
        assert judge(watch(LINE, armed=False), balance=balance, change=Change.ADDED).armed

    @pytest.mark.parametrize("change", Change)
    def test_a_disarmed_rule_stays_so_below_the_line(self, change: Change) -> None:
        decision = judge(watch(LINE, armed=False), balance=BELOW, change=change)

        assert decision == Decision(fired=False, reason=DecisionReason.DISARMED, armed=False)

    @pytest.mark.parametrize("balance", [BELOW, AT, ABOVE])
    def test_a_completed_top_up_arms_even_when_the_wallet_is_still_below(self, balance: Money) -> None:
        assert armed_after(Outcome.COMPLETED, balance=balance, threshold=LINE)

    @pytest.mark.parametrize("balance", [BELOW, AT, ABOVE])
    def test_a_top_up_that_was_not_needed_arms_since_its_look_saw_the_balance_at_the_line(
        self, balance: Money
    ) -> None:
        assert armed_after(Outcome.NOT_NEEDED, balance=balance, threshold=LINE)

    @pytest.mark.parametrize("outcome", [Outcome.PARTIAL, Outcome.FAILED])
    @pytest.mark.parametrize(("balance", "armed"), [(BELOW, False), (AT, True), (ABOVE, True)])
    def test_a_partial_or_failed_one_arms_only_when_the_balance_is_back_at_the_line(
        self, outcome: Outcome, balance: Money, armed: bool
    ) -> None:
        assert armed_after(outcome, balance=balance, threshold=LINE) is armed


@pytest.mark.rule("R13")
class TestTheReasonGiven:
    @pytest.mark.parametrize(
        ("rule", "balance", "change", "stale", "reason"),
        [
            (watch(LINE, enabled=False, armed=False, locked=True), ABOVE, Change.ADDED, True, "stale_event"),
            (watch(LINE, enabled=False, armed=False, locked=True), ABOVE, Change.ADDED, False, "locked"),
            (watch(LINE, enabled=False, armed=False), ABOVE, Change.ADDED, False, "off"),
            (watch(LINE, armed=False), ABOVE, Change.ADDED, False, "not_below"),
            (watch(LINE, armed=False), BELOW, Change.ADDED, False, "disarmed"),
            (watch(LINE), BELOW, Change.ADDED, False, "balance_rose"),
            (watch(LINE), BELOW, Change.SPENT, False, "below_threshold"),
        ],
    )
    def test_is_the_first_an_owner_would_ask_for(
        self, rule: Watch, balance: Money, change: Change, stale: bool, reason: str
    ) -> None:
        assert judge(rule, balance=balance, change=change, stale=stale).reason == DecisionReason(reason)

    @pytest.mark.parametrize(("rule", "balance", "change", "stale"), ALL_CASES)
    def test_is_true(self, rule: Watch, balance: Money, change: Change, stale: bool) -> None:
        decision = judge(rule, balance=balance, change=change, stale=stale)

        holds = {
            DecisionReason.STALE_EVENT: stale,
            DecisionReason.LOCKED: rule.locked,
            DecisionReason.OFF: not rule.enabled,
            DecisionReason.NOT_BELOW: balance >= LINE,
            DecisionReason.DISARMED: not rule.armed,
            DecisionReason.BALANCE_ROSE: change in RISES,
            DecisionReason.BELOW_THRESHOLD: decision.fired,
        }
        assert holds[decision.reason]
        assert decision.fired == (
            not any(true for reason, true in holds.items() if reason != "below_threshold")
        )

    @pytest.mark.parametrize(("rule", "balance", "change", "stale"), ALL_CASES)
    def test_changes_the_arming_only_by_firing_or_by_a_balance_back_at_the_line(
        self, rule: Watch, balance: Money, change: Change, stale: bool
    ) -> None:
        decision = judge(rule, balance=balance, change=change, stale=stale)

        expected = {DecisionReason.BELOW_THRESHOLD: False, DecisionReason.NOT_BELOW: True}
        assert decision.armed == expected.get(decision.reason, rule.armed)

    def test_is_one_of_a_closed_list(self) -> None:
        assert {reason.value for reason in DecisionReason} == {
            "below_threshold", "not_below", "balance_rose", "disarmed", "locked", "off", "stale_event",
            "cap_reached",
        }  # fmt: skip


@pytest.mark.rule("R11")
class TestSavingARule:
    def test_fires_at_once_when_the_balance_is_already_below(self) -> None:
        assert judge(watch(LINE), balance=BELOW, change=Change.SAVED).fired

    def test_fires_nothing_when_the_balance_is_at_the_line(self) -> None:
        assert not judge(watch(LINE), balance=AT, change=Change.SAVED).fired

    def test_that_is_off_fires_nothing(self) -> None:
        decision = judge(watch(LINE, enabled=False), balance=BELOW, change=Change.SAVED)

        assert (decision.fired, decision.reason) == (False, DecisionReason.OFF)


@pytest.mark.rule("R12")
class TestSpendsWhileLocked:
    def test_are_not_judged_then(self) -> None:
        decision = judge(watch(LINE, locked=True), balance=BELOW, change=Change.SPENT)

        assert (decision.fired, decision.reason) == (False, DecisionReason.LOCKED)

    def test_fire_once_when_a_completed_top_up_ends_still_below(self) -> None:
        armed = armed_after(Outcome.COMPLETED, balance=BELOW, threshold=LINE)

        assert judge(watch(LINE, armed=armed), balance=BELOW, change=Change.RELEASED).fired

    def test_fire_when_the_top_up_was_not_needed_and_the_wallet_fell_again_before_it_ended(self) -> None:
        armed = armed_after(Outcome.NOT_NEEDED, balance=BELOW, threshold=LINE)

        assert judge(watch(LINE, armed=armed), balance=BELOW, change=Change.RELEASED).fired

    def test_fire_nothing_when_a_failed_top_up_ends_still_below(self) -> None:
        armed = armed_after(Outcome.FAILED, balance=BELOW, threshold=LINE)

        assert not judge(watch(LINE, armed=armed), balance=BELOW, change=Change.RELEASED).fired


@dataclass
class Wallet:
    """A wallet with its rule, judged as a watcher would, counting what fired and what allowed it to."""

    balance: Money
    rule: Watch = field(default_factory=lambda: watch(LINE))
    fired: int = 0
    chances: int = 1
    spent_while_locked: bool = False

    def tell(self, change: Change, *, stale: bool = False) -> None:
        """Judge one event; a balance back at the line is a new chance to fire."""
        if self.balance >= LINE and not self.rule.armed:
            self.chances += 1
        decision = judge(self.rule, balance=self.balance, change=change, stale=stale)
        self.spent_while_locked |= self.rule.locked and change is Change.SPENT
        self.fired += decision.fired
        self.rule = replace(self.rule, armed=decision.armed, locked=self.rule.locked or decision.fired)

    def spend(self, amount: Money) -> None:
        self.balance -= min(amount, self.balance)
        self.tell(Change.SPENT)

    def add(self, amount: Money) -> None:
        self.balance += amount
        self.tell(Change.ADDED)

    def end(self, outcome: Outcome, credit: Money) -> None:
        """The top-up ends, if there is one: arm or not, unlock, and judge the spends made meanwhile once."""
        if not self.rule.locked:
            return
        self.balance += credit
        self.tell(Change.TOPPED_UP)
        armed = armed_after(outcome, balance=self.balance, threshold=LINE)
        self.chances += armed
        self.rule = replace(self.rule, locked=False, armed=armed)
        if self.spent_while_locked:
            self.spent_while_locked = False
            self.tell(Change.RELEASED)

    def save(self) -> None:
        """Its owner saves the rule, unless a top-up holds it."""
        if not self.rule.locked:
            self.chances += 1
            self.rule = replace(self.rule, armed=True, enabled=True)
            self.tell(Change.SAVED)

    def turn_off(self) -> None:
        if not self.rule.locked:
            self.rule = replace(self.rule, enabled=False)


small_amounts = st.integers(0, 40).map(usdt)
moves = st.one_of(
    st.tuples(st.just("spend"), small_amounts),
    st.tuples(st.just("add"), small_amounts),
    st.tuples(st.just("end"), st.sampled_from(Outcome), small_amounts),
    st.tuples(st.just("tell"), st.sampled_from(Change)),
    st.tuples(st.sampled_from(["save", "turn_off"])),
)


@pytest.mark.rule("R10")
class TestAnyCourseOfEvents:
    @given(small_amounts, st.lists(moves, max_size=40))
    def test_fires_at_most_once_for_each_time_the_rule_was_armed(
        self, balance: Money, course: list[tuple[str, *tuple[object, ...]]]
    ) -> None:
        wallet = Wallet(balance)

        for name, *arguments in course:
            getattr(wallet, name)(*arguments)

        assert wallet.fired <= wallet.chances

    @given(small_amounts, st.lists(moves, max_size=20), st.integers(2, 5))
    def test_fires_once_for_one_dip_however_often_its_event_is_told(
        self, balance: Money, course: list[tuple[str, *tuple[object, ...]]], times: int
    ) -> None:
        wallet = Wallet(balance)
        for name, *arguments in course:
            getattr(wallet, name)(*arguments)
        before = wallet.fired

        for _ in range(times):
            wallet.tell(Change.SPENT)

        assert wallet.fired - before <= 1

    def test_fires_once_for_a_hundred_spends_in_a_row(self) -> None:
        wallet = Wallet(usdt(100))

        for _ in range(100):
            wallet.spend(usdt(1))

        assert wallet.fired == 1

    @given(st.permutations([usdt(1), usdt(2), usdt(3), usdt(30)]))
    def test_fires_once_in_whatever_order_the_spends_come(self, spends: list[Money]) -> None:
        wallet = Wallet(usdt(40))

        for amount in spends:
            wallet.spend(amount)

        assert wallet.fired == 1

    @given(small_amounts, st.sampled_from(Change))
    def test_never_acts_on_a_stale_event(self, balance: Money, change: Change) -> None:
        wallet = Wallet(balance)

        wallet.tell(change, stale=True)

        assert wallet.fired == 0
        assert wallet.rule == watch(LINE)

    def test_loses_no_dip_after_the_balance_has_been_back(self) -> None:
        wallet = Wallet(usdt(25))

        wallet.spend(usdt(10))
        wallet.end(Outcome.FAILED, usdt(0))
        wallet.spend(usdt(1))
        wallet.add(usdt(10))
        wallet.spend(usdt(10))

        assert wallet.fired == 2

    def test_goes_on_after_a_top_up_too_small_to_reach_the_line(self) -> None:
        wallet = Wallet(usdt(25))

        wallet.spend(usdt(20))
        wallet.end(Outcome.COMPLETED, usdt(1))
        assert wallet.fired == 1
        wallet.spend(usdt(1))

        assert wallet.fired == 2
