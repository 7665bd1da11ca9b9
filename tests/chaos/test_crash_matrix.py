"""The sample of the crash matrix: each program, each manner of failing, before, during and after the effect."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime

import pytest
import pytest_asyncio

from adapters.postgres.database import Database
from runtime.inbox_store import Message
from tests.builders import Household, open_household
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
from tests.chaos.household import Subject, problems_of, problems_of_sums, problems_of_telling
from tests.chaos.lane import make_template
from tests.chaos.play import Verdict
from tests.chaos.tower import Stand

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


class TestTheMatrix:
    def test_has_every_step_of_a_top_up_for_every_program_manner_and_moment(self) -> None:
        cells = [case for batch in whole_matrix() for case in batch.cases]

        assert len(cells) == len(set(cells)) == len(Struck) * len(Manner) * len(STEPS) * len(Moment)
        assert all(fit_together(batch.cases) for batch in whole_matrix())

    def test_is_sampled_over_every_program_manner_and_moment(self) -> None:
        assert len(CASES) == 60
        assert len({(case.struck, case.manner, case.moment) for case in CASES}) == 60

    def test_is_sampled_at_the_steps_that_the_program_takes_itself(self) -> None:
        for batch in sample(seed=SEED):
            steps = {case.step for case in batch.cases}
            assert batch.struck is not Struck.WATCHER or {"claim", "start-workflow"} <= steps
            assert batch.struck is not Struck.API or "payment" in steps
            assert batch.struck is not Struck.WORKER or not steps & {"claim", "start-workflow", "payment"}

    def test_is_sampled_at_every_step_several_times(self) -> None:
        assert all([case.step for case in CASES].count(step) >= 3 for step in STEPS)

    def test_is_gone_through_whole_in_the_long_run(self) -> None:
        cells = {case for batch in whole_matrix() for case in batch.cases}
        run = long_run(1000, seed=1)

        assert {case for batch in run for case in batch.cases} == cells
        assert len(run) == 1000

    @pytest.mark.parametrize("case", CASES[:3], ids=str)
    def test_has_a_name_for_each_case_by_which_it_is_played_again(self, case: Case) -> None:
        assert Case.parse(str(case)) == case


@pytest_asyncio.fixture
async def home(database: Database) -> Household:
    """A household at rest whose top-up has ended completed, as the judge is to find it."""
    return await open_household(database, balance="80", name="Judged")


class TestTheJudge:
    """What would slip through here would slip through the whole matrix."""

    @pytest.mark.parametrize(
        ("credited", "balance", "moved", "found"),
        [
            (100, "135.00", {1, 2}, ""),
            (90, "125.00", {2}, ""),
            (0, "35.00", (), ""),
            (50, "85.00", (), "50 is no sum of"),
            (110, "145.00", (), "110 is no sum of"),
            (100, "145.00", (), "the balance is 145.00"),
            (90, "125.00", {1}, "draws [1] had moved, but it tells of [2, 3]"),
        ],
    )
    async def test_finds_a_sum_that_cannot_be(
        self, home: Household, credited: int, balance: str, moved: Iterable[int], found: str
    ) -> None:
        subject = _subject(home, "watcher.kill.settle.before", moved)

        problems = "; ".join(problems_of_sums(subject, credited, balance=balance))

        assert problems.startswith(found)
        assert bool(problems) == bool(found)

    @pytest.mark.parametrize(
        ("case", "credited", "found"),
        [
            ("worker.kill.draw-2.before", 100, True),
            ("worker.kill.draw-2.during", 70, False),
            ("worker.kill.draw-2.after", 100, False),
            ("worker.cut.draw-2.during", 100, True),
            ("worker.cut.draw-2.before", 100, False),
            ("postgres.kill.draw-3.during", 100, True),
            ("worker.kill.check.after", 10, True),
            ("api.kill.look-up.during", 100, True),
        ],
    )
    async def test_finds_money_of_a_draw_whose_only_attempt_was_ended_before_its_commit(
        self, home: Household, case: str, credited: int, *, found: bool
    ) -> None:
        subject = _subject(home, case, ())

        problems = "; ".join(problems_of_sums(subject, credited, balance=f"{35 + credited}.00"))

        assert ("cannot have moved, but did" in problems) == found

    async def test_finds_a_person_told_twice_or_by_nobody_knows_whom(self, home: Household) -> None:
        subject = _subject(home, "worker.kill.record-sent.before", ())
        mail = Message(
            id="1",
            channel="email",
            to=["judged@example.com"],
            subject="",
            text="",
            received_at=datetime.now(UTC),
        )

        problems = await problems_of_telling(subject, [mail, mail.model_copy(update={"message_id": "other"})])

        assert problems == [
            "its deliveries are []",
            "the person got 2 by email: ['', 'other']",
            "the person got 0 by push: []",
        ]

    async def test_finds_a_top_up_that_never_was(self, home: Household) -> None:
        problems = await problems_of(_subject(home, "api.kill.payment.before", ()), [])

        assert problems == ["its top-ups are [], not one that has ended"]


def _subject(home: Household, case: str, moved: Iterable[int]) -> Subject:
    stand = Stand("settle", Moment.BEFORE, home.wallet_id, "", b"", 1.0)
    return Subject(
        Case.parse(case), home, "judged@example.com", stand, paid=True, stood=True, moved=frozenset(moved)
    )
