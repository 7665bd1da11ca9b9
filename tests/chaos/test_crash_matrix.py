"""The sample of the crash matrix: each program, each manner of failing, before, during and after the effect."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping

import pytest
import pytest_asyncio

from tests.chaos.campaign import make_home, run_campaign
from tests.chaos.cases import (
    STEPS,
    Case,
    Manner,
    Moment,
    Struck,
    fit_together,
    long_run,
    sample,
    whole_matrix,
)
from tests.chaos.lane import make_template
from tests.chaos.play import Verdict

SEED = 20261121
LANES = 4
DRAW_SECONDS = 10
CASES = [case for batch in sample(seed=SEED) for case in batch.cases]


@pytest_asyncio.fixture(scope="module")
async def verdicts() -> AsyncIterator[Mapping[Case, Verdict]]:
    """The whole sample, played once."""
    home = make_home()
    template = await asyncio.to_thread(make_template, home)
    outcome = await run_campaign(
        sample(seed=SEED), home=home, template=template, lanes=LANES, draw_seconds=DRAW_SECONDS, say=print
    )
    yield {verdict.case: verdict for verdict in outcome.verdicts.values()}
    if not outcome.failures:
        shutil.rmtree(home)


class TestEveryProgramStruckAtAPoint:
    @pytest.mark.rule("R7")
    @pytest.mark.rule("R10")
    @pytest.mark.rule("R19")
    @pytest.mark.rule("R20")
    @pytest.mark.rule("R21")
    @pytest.mark.rule("R23")
    @pytest.mark.rule("R24")
    @pytest.mark.parametrize("case", CASES, ids=str)
    async def test_lets_the_top_up_end_by_itself_with_true_sums_the_lock_free_and_its_owner_told_once(
        self, verdicts: Mapping[Case, Verdict], case: Case
    ) -> None:
        verdict = verdicts[case]

        assert verdict.struck, f"the top-up did not come to its point; again: make chaos CASE={case}"
        assert not verdict.problems, f"again: make chaos CASE={case}"


class TestTheMatrix:
    def test_has_every_step_of_a_top_up_for_every_program_manner_and_moment(self) -> None:
        cells = [case for batch in whole_matrix() for case in batch.cases]

        assert len(cells) == len(set(cells)) == len(Struck) * len(Manner) * len(STEPS) * len(Moment)
        assert all(fit_together(batch.cases) for batch in whole_matrix())

    def test_is_sampled_over_every_program_manner_and_moment(self) -> None:
        assert len(CASES) == 60
        assert len({(case.struck, case.manner, case.moment) for case in CASES}) == 60

    def test_is_gone_through_whole_in_the_long_run(self) -> None:
        cells = {case for batch in whole_matrix() for case in batch.cases}
        played = [case for batch in long_run(1000, seed=1) for case in batch.cases]

        assert set(played) == cells
        assert len(played) >= 1000

    @pytest.mark.parametrize("case", CASES[:3], ids=str)
    def test_has_a_name_for_each_case_by_which_it_is_played_again(self, case: Case) -> None:
        assert Case.parse(str(case)) == case
