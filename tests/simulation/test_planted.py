"""A simulation that finds nothing proves something only if it finds what was hidden on purpose."""

import pytest

from tests.simulation.defects import DEFECTS
from tests.simulation.play import SeedFailed
from tests.simulation.theater import Theater

SEEDS = range(1, 13)
STEPS = 800


def find(theater: Theater) -> str | None:
    """The first seed's failure, if there is one."""
    for seed in SEEDS:
        try:
            theater.play(seed, steps=STEPS)
        except SeedFailed as failed:
            return str(failed)
    return None


class TestPlantedDefect:
    @pytest.mark.parametrize("defect", DEFECTS)
    def test_is_found_within_a_dozen_seeds(self, theater: Theater, defect: str) -> None:
        before = theater.steps

        with DEFECTS[defect]():
            found = find(theater)

        assert found is not None, f"{defect} was not found in {theater.steps - before} steps"
