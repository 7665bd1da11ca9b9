"""The other half of the simulation's steps: the seeds with even numbers."""

import pytest

from tests.simulation.halves import assert_everything_happened, play_half
from tests.simulation.theater import Theater


@pytest.mark.rule("R9")
@pytest.mark.rule("R12")
@pytest.mark.rule("R13")
@pytest.mark.rule("R20")
class TestEvenSeeds:
    def test_fifty_thousand_steps_of_trouble_leave_every_promise_kept(self, theater: Theater) -> None:
        play_half(theater, first=2)

        assert_everything_happened(theater)
