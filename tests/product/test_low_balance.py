"""When an owner is told that a balance is low and nothing follows, and in which words."""

from datetime import UTC, datetime

import pytest

from topup.caps import CapReached, Period
from topup.low_balance import begins_low_balance, ends_dip
from topup.money import Money
from topup.trigger import Change, Decision, DecisionReason, Watch, judge
from topup.words import tell_low_balance

pytestmark = pytest.mark.rule("R25")

LINE = Money.parse("50", "USDT")
BELOW = Money.parse("49.99", "USDT")
UNFOLLOWED = {DecisionReason.OFF, DecisionReason.CAP_REACHED}


def decided(reason: DecisionReason) -> Decision:
    return Decision(fired=reason is DecisionReason.BELOW_THRESHOLD, reason=reason, armed=False)


class TestALowBalance:
    @pytest.mark.parametrize("reason", DecisionReason)
    def test_begins_where_nothing_but_the_owner_can_help(self, reason: DecisionReason) -> None:
        begins = begins_low_balance(decided(reason), balance=BELOW, threshold=LINE, change=Change.SPENT)

        assert begins is (reason in UNFOLLOWED)

    @pytest.mark.parametrize("change", Change)
    def test_begins_with_a_spend_alone(self, change: Change) -> None:
        begins = begins_low_balance(decided(DecisionReason.OFF), balance=BELOW, threshold=LINE, change=change)

        assert begins is (change in (Change.SPENT, Change.RELEASED))

    def test_is_none_at_the_threshold(self) -> None:
        off = decided(DecisionReason.OFF)

        assert not begins_low_balance(off, balance=LINE, threshold=LINE, change=Change.SPENT)


class TestADip:
    @pytest.mark.parametrize("locked", [True, False])
    @pytest.mark.parametrize("enabled", [True, False])
    def test_ends_at_the_threshold_whatever_the_rule_is_doing(self, *, locked: bool, enabled: bool) -> None:
        watch = Watch(threshold=LINE, enabled=enabled, armed=False, locked=locked)
        decision = judge(watch, balance=LINE, change=Change.ADDED)

        assert ends_dip(decision, balance=LINE, threshold=LINE)

    def test_ends_when_the_rule_fires(self) -> None:
        assert ends_dip(decided(DecisionReason.BELOW_THRESHOLD), balance=BELOW, threshold=LINE)

    def test_does_not_end_by_old_news(self) -> None:
        assert not ends_dip(decided(DecisionReason.STALE_EVENT), balance=LINE, threshold=LINE)

    def test_does_not_end_below(self) -> None:
        assert not ends_dip(decided(DecisionReason.BALANCE_ROSE), balance=BELOW, threshold=LINE)


class TestTheWords:
    def test_of_a_cap_say_until_when(self) -> None:
        cap = CapReached(Period.MONTH, datetime(2027, 1, 1, tzinfo=UTC))
        words = tell_low_balance(DecisionReason.CAP_REACHED, threshold=LINE, cap=cap)

        assert words.why == (
            "A spend has left your Pay wallet below your threshold of 50.00 USDT, and your rule has reached its cap "
            "for this month. The next spend after 2027-01-01 00:00 UTC starts a top-up again."
        )
        assert words.brief.startswith("Your rule has reached its cap for this month.")
        assert "raise the cap" in str(words.next_step)

    def test_of_a_cap_that_has_ended_meanwhile_are_true_too(self) -> None:
        words = tell_low_balance(DecisionReason.CAP_REACHED, threshold=LINE, cap=None)

        assert "The next spend after the cap's period has ended starts a top-up again." in words.why

    def test_of_a_rule_that_is_off_say_how_to_turn_it_on(self) -> None:
        words = tell_low_balance(DecisionReason.OFF, threshold=LINE, cap=None)

        assert "your rule is off" in words.why
        assert "Turn your rule on to top up at once" in str(words.next_step)
