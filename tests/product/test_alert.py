"""R25: below the threshold with no top-up on its way, the wallet says why and what to do."""

from dataclasses import replace
from datetime import timedelta

import pytest

from topup.alert import JUDGING_PATIENCE, AlertCode, Low, alert_for
from topup.money import Money
from topup.outcome import Outcome, Reason
from topup.rule import RuleState

LOW = Low(
    balance=Money.parse("49.99", "USDT"),
    threshold=Money.parse("50", "USDT"),
    state=RuleState.WAITING,
    unjudged_for=None,
    outcome=None,
    reason=None,
)


@pytest.mark.rule("R25")
class TestTheAlert:
    @pytest.mark.parametrize(
        ("low", "code", "words"),
        [
            (replace(LOW, state=RuleState.OFF), AlertCode.RULE_OFF, "Turn it on"),
            (replace(LOW, state=RuleState.ARMED), AlertCode.NEXT_SPEND_FIRES, "Your next spend"),
            (
                replace(LOW, outcome=Outcome.FAILED, reason=Reason.INSUFFICIENT_BALANCE),
                AlertCode.LAST_TOP_UP_FAILED,
                "do not hold enough",
            ),
            (
                replace(LOW, outcome=Outcome.PARTIAL, reason=Reason.SOURCE_FAILED),
                AlertCode.LAST_TOP_UP_PARTIAL,
                "funding source failed",
            ),
            (replace(LOW, outcome=Outcome.COMPLETED, reason=Reason.FULL), AlertCode.WAITING, "saving it"),
            (LOW, AlertCode.WAITING, "saving it"),
        ],
    )
    def test_says_why_nothing_is_on_its_way_and_what_to_do(
        self, low: Low, code: AlertCode, words: str
    ) -> None:
        alert = alert_for(low)

        assert alert is not None
        assert alert.code is code
        assert "49.99 USDT is below your threshold of 50.00 USDT" in alert.message
        assert words in alert.message

    @pytest.mark.parametrize("state", list(RuleState))
    def test_is_silent_at_the_threshold(self, state: RuleState) -> None:
        assert alert_for(replace(LOW, state=state, balance=LOW.threshold)) is None

    def test_is_silent_while_a_top_up_is_in_progress(self) -> None:
        assert alert_for(replace(LOW, state=RuleState.LOCKED)) is None

    @pytest.mark.parametrize("state", list(RuleState))
    def test_is_silent_while_the_drop_is_still_to_be_judged(self, state: RuleState) -> None:
        assert alert_for(replace(LOW, state=state, unjudged_for=timedelta(0))) is None

    def test_speaks_once_the_drop_has_waited_for_longer_than_judging_takes(self) -> None:
        waiting = replace(LOW, state=RuleState.ARMED, unjudged_for=JUDGING_PATIENCE)
        alert = alert_for(replace(waiting, unjudged_for=JUDGING_PATIENCE + timedelta(milliseconds=1)))

        assert alert_for(waiting) is None
        assert alert is not None
        assert alert.code is AlertCode.BEING_JUDGED_LATE
        assert "no top-up has started" in alert.message
        assert "add funds by hand" in alert.message

    @pytest.mark.parametrize(
        ("state", "code"),
        [
            (RuleState.OFF, AlertCode.RULE_OFF),
            (RuleState.WAITING, AlertCode.WAITING),
            (RuleState.LOCKED, None),
        ],
    )
    def test_says_what_it_would_say_anyway_where_judging_would_not_start_one(
        self, state: RuleState, code: AlertCode | None
    ) -> None:
        alert = alert_for(replace(LOW, state=state, unjudged_for=timedelta(hours=1)))

        assert (alert.code if alert else None) is code

    def test_is_silent_at_the_threshold_however_long_judging_takes(self) -> None:
        late = replace(LOW, balance=LOW.threshold, state=RuleState.ARMED, unjudged_for=timedelta(hours=1))

        assert alert_for(late) is None
