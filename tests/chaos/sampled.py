"""The sample of the crash matrix: each program, each manner of failing, before, during and after; `make sample`."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping

import pytest
import pytest_asyncio

from tests.chaos.campaign import make_home, run_campaign
from tests.chaos.cases import Case, sample
from tests.chaos.lane import make_template
from tests.chaos.play import Verdict

SEED = 20261121
LANES = 4
DRAW_SECONDS = 20
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
