"""What a rule shows: "armed" is a promise to fire on the next drop (R5, R7, R26)."""

from itertools import product

import pytest

from tests.product.builders import usdt, watch
from topup.rule import RuleState, state_of
from topup.trigger import Change, judge


@pytest.mark.rule("R26")
class TestTheStateOfARule:
    @pytest.mark.parametrize(
        ("enabled", "armed", "locked", "state"),
        [
            (True, True, False, RuleState.ARMED),
            (True, False, False, RuleState.WAITING),
            (False, True, False, RuleState.OFF),
            (False, False, False, RuleState.OFF),
            (True, True, True, RuleState.LOCKED),
            (True, False, True, RuleState.LOCKED),
            (False, True, True, RuleState.LOCKED),
            (False, False, True, RuleState.LOCKED),
        ],
    )
    def test_follows_from_three_facts(
        self, enabled: bool, armed: bool, locked: bool, state: RuleState
    ) -> None:
        assert state_of(enabled=enabled, armed=armed, locked=locked) is state

    @pytest.mark.parametrize(("enabled", "armed", "locked"), list(product([True, False], repeat=3)))
    def test_is_armed_exactly_when_the_next_spend_below_the_line_fires(
        self, enabled: bool, armed: bool, locked: bool
    ) -> None:
        rule = watch(usdt(20), enabled=enabled, armed=armed, locked=locked)

        fires = judge(rule, balance=usdt(19), change=Change.SPENT).fired

        assert fires == (state_of(enabled=enabled, armed=armed, locked=locked) is RuleState.ARMED)
