"""Seeds of trouble, of which every step is one that the same seed takes again."""

import pytest

from tests.simulation.theater import Theater

SEEDS = range(1, 10)
STEPS = 10_000


@pytest.mark.rule("R7")
@pytest.mark.rule("R9")
@pytest.mark.rule("R10")
@pytest.mark.rule("R12")
@pytest.mark.rule("R13")
@pytest.mark.rule("R19")
@pytest.mark.rule("R20")
@pytest.mark.rule("R21")
class TestSeeds:
    def test_ten_thousand_steps_of_trouble_leave_every_promise_kept(self, theater: Theater) -> None:
        for seed in SEEDS:
            theater.play(seed)

        assert theater.steps >= STEPS
