"""A seed is one story: played again it takes the same steps with the same results, and a failure says how to see it."""

import pytest

from tests.simulation.defects import DEFECTS
from tests.simulation.play import SeedFailed
from tests.simulation.theater import Theater

STEPS = 400


class TestSeed:
    @pytest.mark.parametrize("seed", [3, 1001, 1002])
    def test_takes_the_same_steps_with_the_same_results_each_time(self, theater: Theater, seed: int) -> None:
        traces: list[list[str]] = [[], []]

        first = theater.play(seed, steps=STEPS, trace=traces[0].append)
        theater.play(seed + 1, steps=STEPS)
        again = theater.play(seed, steps=STEPS, trace=traces[1].append)

        assert len(traces[0]) > STEPS
        assert traces[0] == traces[1]
        assert first.digest.hexdigest() == again.digest.hexdigest()

    def test_differs_from_another_one(self, theater: Theater) -> None:
        one, other = (theater.play(seed, steps=STEPS) for seed in (11, 12))

        assert one.digest.hexdigest() != other.digest.hexdigest()

    def test_that_fails_tells_its_last_steps_and_how_to_play_it_again(self, theater: Theater) -> None:
        with DEFECTS["stays_armed"](), pytest.raises(SeedFailed) as failed:
            theater.play(1)

        assert "seed 1 failed at step" in str(failed.value)
        assert "watcher-" in str(failed.value)
        assert "make simulate SEED=1" in str(failed.value)
