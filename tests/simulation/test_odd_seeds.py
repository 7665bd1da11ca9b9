"""Half of the simulation's steps: the seeds with odd numbers."""

import pytest

from tests.simulation.halves import assert_everything_happened, play_half
from tests.simulation.theater import Theater


@pytest.mark.rule("R7")
@pytest.mark.rule("R10")
@pytest.mark.rule("R19")
@pytest.mark.rule("R21")
class TestOddSeeds:
    def test_fifty_thousand_steps_of_trouble_leave_every_promise_kept(self, theater: Theater) -> None:
        play_half(theater, first=1)

        assert_everything_happened(theater)
