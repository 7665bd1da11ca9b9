"""An operator's hand at every step of a running top-up, and builds that come and go: true results each time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import pytest
from temporalio.api.activity.v1 import ActivityOptions
from temporalio.api.common.v1 import RetryPolicy, WorkflowExecution
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.api.workflowservice.v1 import (
    DeleteWorkflowExecutionRequest,
    PauseActivityRequest,
    ResetActivityRequest,
    UnpauseActivityRequest,
    UpdateActivityOptionsRequest,
)
from temporalio.client import WorkflowHandle

import worker as product
from activities.messages import Ended
from adapters.postgres.tables import TopUpRow
from runtime.patience import patience_of
from tests.builders import Household
from tests.histories.changed import ChangedTopUp
from tests.outages.invariants import assert_invariants
from tests.outages.product import until
from tests.stories.gates import Gates, Moment, StepGate
from tests.stories.test_doubt import three_sources
from tests.stories.test_operators import moved, reset, sweep, workflow_tasks_finished
from tests.stories.test_waterfall import USDT, ending
from tests.stories.town import Town
from worker import Workers, build_worker
from workflows.sweep import SweepOpenTopUps
from workflows.telling import TellOwner
from workflows.top_up import TopUp

Run = WorkflowHandle[TopUp, Ended]
Hand = Callable[[Town, Run], Awaitable[object]]

STEPS = ("hold-lock", "check", "draw-1", "draw-2", "draw-3", "settle", "notify-email")
POINTS = [(step, moment) for step in STEPS for moment in Moment]
GIVEN = {"draw-1": 60, "draw-2": 30, "draw-3": 10}
STORM = 500
_FULL = ("completed", "full", 100 * USDT)


@dataclass(frozen=True, slots=True)
class Case:
    """One household whose top-up stands still at one point."""

    home: Household
    run: Run
    step: str
    gate: StepGate

    @property
    def execution(self) -> WorkflowExecution:
        """How Temporal names the run."""
        return WorkflowExecution(workflow_id=self.run.id, run_id=self.run.run_id or "")

    @property
    def done_before(self) -> int:
        """What the sources had given when the point was reached, in USDT."""
        steps = STEPS[: STEPS.index(self.step) + (self.gate.moment is Moment.AFTER)]
        return sum(GIVEN.get(step, 0) for step in steps)

    @property
    def done_after_this_step(self) -> int:
        """What the sources have given once the step is done, in USDT."""
        return sum(GIVEN.get(step, 0) for step in STEPS[: STEPS.index(self.step) + 1])

    async def top_up(self) -> TopUpRow:
        """The household's only top-up."""
        (top_up,) = await self.home.top_ups()
        return top_up


@dataclass(frozen=True, slots=True)
class Gated:
    """A town whose steps can be held up."""

    town: Town
    gates: Gates

    def worker(self) -> Workers:
        """A worker that stops at the gates."""
        return build_worker(self.gates.client(self.town.client), self.town.settings, self.town.activities())

    async def stop_at(self, points: Sequence[tuple[str, Moment]], *, fails: bool = False) -> list[Case]:
        """One low household for each point, its top-up handed to Temporal."""
        homes = [await three_sources(self.town) for _ in points]
        await self.town.watch()
        cases: list[Case] = []
        for home, (step, moment) in zip(homes, points, strict=True):
            run = await self.town.handle(home)
            described = await run.describe()
            run = self.town.client.get_workflow_handle_for(TopUp.run, run.id, run_id=described.run_id)
            cases.append(Case(home, run, step, self.gates.close(run.id, step, moment, fails=fails)))
        return cases


@pytest.fixture
def gated(idle_town: Town) -> Gated:
    """Steps that may stand still for long, side by side."""
    idle_town.settings = idle_town.with_settings(
        draw_timeout=timedelta(seconds=120),
        check_timeout=timedelta(seconds=120),
        notify_patience=timedelta(seconds=120),
        database_pool_size=2 * len(POINTS),
    )
    idle_town.watcher.patience = patience_of(idle_town.settings)
    return Gated(idle_town, Gates())


@asynccontextmanager
async def standing(gated: Gated, points: Sequence[tuple[str, Moment]]) -> AsyncIterator[list[Case]]:
    """Top-ups that stand still at these points; afterwards all is at rest, sound, and told once."""
    cases = await gated.stop_at(points)
    async with gated.worker():
        await asyncio.gather(*(asyncio.wait_for(case.gate.reached.wait(), timeout=90) for case in cases))
        yield cases
        await asyncio.gather(*(asyncio.wait_for(case.gate.passed.wait(), timeout=90) for case in cases))
    await assert_told_once(gated.town, cases)
    await assert_invariants(gated.town.database)
    assert [(await case.home.rule()).locked_by for case in cases] == [None] * len(cases)


async def assert_told_once(town: Town, cases: Sequence[Case]) -> None:
    """Each owner got one message per channel, and the records say so."""
    ids = {(await case.top_up()).id for case in cases}
    for channel in town.channels.values():
        told = [letter.about for letter in channel.sent]
        assert sorted(told) == sorted(ids)
    for case in cases:
        assert [row.status for row in await case.home.deliveries()] == ["sent", "sent"]


async def swept(town: Town, cases: Sequence[Case]) -> None:
    """Sweep until every top-up has ended and every owner is told, as the Schedule does."""

    async def at_rest() -> bool:
        await sweep(town)
        states = [(await case.top_up()).state for case in cases]
        deliveries = [row.status for case in cases for row in await case.home.deliveries()]
        return set(states) == {"ended"} and set(deliveries) == {"sent"}

    await until(at_rest)


async def terminate(town: Town, run: Run) -> None:
    """What the Web UI's Terminate does."""
    del town
    await run.terminate("a story")


async def delete(town: Town, run: Run) -> None:
    """What `temporal workflow delete` does: the run ends, and Temporal forgets it."""
    execution = WorkflowExecution(workflow_id=run.id, run_id=run.run_id or "")
    await town.client.workflow_service.delete_workflow_execution(
        DeleteWorkflowExecutionRequest(namespace=town.client.namespace, workflow_execution=execution)
    )


class TestAtEveryStep:
    @pytest.mark.rule("R7")
    @pytest.mark.rule("R21")
    @pytest.mark.parametrize("hand", [terminate, delete])
    async def test_a_run_taken_away_is_settled_with_what_had_moved_and_nothing_moves_later(
        self, gated: Gated, hand: Hand
    ) -> None:
        async with standing(gated, POINTS) as cases:
            await asyncio.gather(*(hand(gated.town, case.run) for case in cases))
            await swept(gated.town, cases)
            for case in cases:
                case.gate.opened.set()

        for case in cases:
            top_up = await case.top_up()
            given = case.done_before
            assert top_up.credited == given * USDT, (case.step, case.gate.moment)
            assert await case.home.balance() == f"{35 + given}.00"
            told_by = "completed" if given == 100 else "partial" if given else "failed"
            assert top_up.outcome == told_by, (case.step, case.gate.moment)

    @pytest.mark.rule("R7")
    async def test_a_cancelled_run_finishes_the_step_under_way_and_draws_no_further(
        self, gated: Gated
    ) -> None:
        async with standing(gated, POINTS) as cases:
            await asyncio.gather(*(case.run.cancel() for case in cases))
            for case in cases:
                case.gate.opened.set()
            await asyncio.gather(*(case.run.result() for case in cases))

        for case in cases:
            given = case.done_after_this_step
            assert (await case.top_up()).credited == given * USDT, (case.step, case.gate.moment)
            assert await case.home.balance() == f"{35 + given}.00"

    @pytest.mark.rule("R10")
    @pytest.mark.rule("R20")
    async def test_a_run_reset_to_its_beginning_goes_the_whole_way_and_moves_nothing_twice(
        self, gated: Gated
    ) -> None:
        async with standing(gated, POINTS) as cases:
            again = []
            for case in cases:
                first, *_ = await workflow_tasks_finished(case.run)
                again.append(await reset(gated.town, case.run, to_event=first))
            await asyncio.gather(*(run.result() for run in again))
            await swept(
                gated.town, cases
            )  # A run that finds its top-up ended leaves the telling to the sweep.
            for case in cases:
                case.gate.opened.set()

        for case in cases:
            assert ending(await case.top_up()) == _FULL, (case.step, case.gate.moment)
            assert await moved(case.home) == ("135.00", "0.00", "0.00", "490.00")

    @pytest.mark.rule("R10")
    async def test_a_run_reset_to_every_point_there_is_one_after_the_other_moves_nothing_twice(
        self, gated: Gated
    ) -> None:
        async with standing(gated, [("draw-3", Moment.AFTER)]) as (case,):
            run = case.run
            for point in await workflow_tasks_finished(case.run):
                run = await reset(gated.town, case.run, to_event=point)
            await run.result()
            case.gate.opened.set()

        assert ending(await case.top_up()) == _FULL
        assert await moved(case.home) == ("135.00", "0.00", "0.00", "490.00")

    async def test_a_storm_of_signals_changes_nothing(self, gated: Gated) -> None:
        async with standing(gated, [(step, Moment.BEFORE) for step in STEPS]) as cases:
            for case in cases:
                await asyncio.gather(
                    *(case.run.signal(f"hurry-{n % 7}", n) for n in range(STORM // len(STEPS)))
                )
                case.gate.opened.set()
            await asyncio.gather(*(case.run.result() for case in cases))

        assert [ending(await case.top_up()) for case in cases] == [_FULL] * len(cases)


class TestActivityCommands:
    @pytest.mark.rule("R7")
    async def test_a_paused_settling_keeps_the_rule_locked_until_it_is_unpaused(self, gated: Gated) -> None:
        (case,) = await gated.stop_at([("settle", Moment.BEFORE)], fails=True)
        namespace, execution = gated.town.client.namespace, case.execution

        async with gated.worker():
            await asyncio.wait_for(case.gate.reached.wait(), timeout=90)
            await gated.town.client.workflow_service.pause_activity(
                PauseActivityRequest(
                    namespace=namespace,
                    execution=execution,
                    id="settle",
                    identity="operator",
                    reason="a story",
                )
            )
            case.gate.opened.set()
            await until(lambda: self._is_paused(case))
            while_paused = ((await case.top_up()).state, (await case.home.rule()).locked_by)
            await gated.town.client.workflow_service.unpause_activity(
                UnpauseActivityRequest(
                    namespace=namespace, execution=execution, id="settle", identity="operator"
                )
            )
            await case.run.result()

        assert while_paused == ("in_progress", (await case.top_up()).id)
        assert ending(await case.top_up()) == _FULL
        await assert_told_once(gated.town, [case])

    @pytest.mark.rule("R10")
    @pytest.mark.rule("R20")
    async def test_a_draw_reset_while_under_way_moves_its_money_once(self, gated: Gated) -> None:
        async with standing(gated, [("draw-2", Moment.AFTER)]) as (case,):
            await gated.town.client.workflow_service.reset_activity(
                ResetActivityRequest(
                    namespace=gated.town.client.namespace,
                    execution=case.execution,
                    id="draw-2",
                    identity="operator",
                )
            )
            case.gate.opened.set()
            await case.run.result()

        assert ending(await case.top_up()) == _FULL
        assert await moved(case.home) == ("135.00", "0.00", "0.00", "490.00")

    @pytest.mark.rule("R10")
    async def test_a_draw_that_an_operator_lets_be_retried_moves_its_money_once(self, gated: Gated) -> None:
        (case,) = await gated.stop_at([("draw-2", Moment.AFTER)], fails=True)
        generous = UpdateActivityOptionsRequest(
            namespace=gated.town.client.namespace,
            execution=case.execution,
            id="draw-2",
            identity="operator",
            activity_options=ActivityOptions(retry_policy=RetryPolicy(maximum_attempts=5)),
        )
        generous.update_mask.paths.append("retry_policy.maximum_attempts")

        async with gated.worker():
            await asyncio.wait_for(case.gate.reached.wait(), timeout=90)
            await gated.town.client.workflow_service.update_activity_options(generous)
            case.gate.opened.set()
            await case.run.result()

        assert ending(await case.top_up()) == _FULL
        assert await moved(case.home) == ("135.00", "0.00", "0.00", "490.00")
        await assert_invariants(gated.town.database)

    @staticmethod
    async def _is_paused(case: Case) -> bool:
        pending = (await case.run.describe()).raw_description.pending_activities
        return any(each.activity_id == "settle" and each.paused and each.attempt > 1 for each in pending)


class TestBuilds:
    @pytest.mark.rule("R10")
    async def test_a_newer_worker_goes_on_where_an_older_one_left_off(self, gated: Gated) -> None:
        (case,) = await gated.stop_at([("draw-2", Moment.AFTER)])
        async with gated.worker():
            await asyncio.wait_for(case.gate.reached.wait(), timeout=90)
            case.gate.opened.set()
        gated.town.settings = gated.town.settings.model_copy(update={"worker_build_id": "newer"})

        async with gated.worker():
            await case.run.result()

        assert ending(await case.top_up()) == _FULL
        assert await moved(case.home) == ("135.00", "0.00", "0.00", "490.00")
        await assert_invariants(gated.town.database)

    @pytest.mark.rule("R7")
    async def test_a_build_that_goes_another_way_moves_nothing_and_the_right_one_goes_on(
        self, gated: Gated, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (case,) = await gated.stop_at([("check", Moment.AFTER)])
        async with gated.worker():
            await asyncio.wait_for(case.gate.reached.wait(), timeout=90)
            case.gate.opened.set()
            stops_here = gated.gates.close(case.run.id, "draw-1", Moment.BEFORE)
            await asyncio.wait_for(stops_here.reached.wait(), timeout=90)
            stops_here.opened.set()
        with monkeypatch.context() as patched:
            patched.setattr(product, "WORKFLOWS", (ChangedTopUp, TellOwner, SweepOpenTopUps))
            async with gated.worker():
                await until(lambda: self._was_noticed(case))
        before = await moved(case.home)

        async with gated.worker():
            await case.run.result()

        assert before == ("95.00", "0.00", "30.00", "500.00")
        assert ending(await case.top_up()) == _FULL
        assert await moved(case.home) == ("135.00", "0.00", "0.00", "490.00")

    @staticmethod
    async def _was_noticed(case: Case) -> bool:
        history = await case.run.fetch_history()
        return any(
            event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
            and event.workflow_task_failed_event_attributes.cause
            == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR
            for event in history.events
        )


class TestOneAtATime:
    @pytest.mark.rule("R7")
    async def test_a_hundred_hands_on_one_run_end_it_once(self, gated: Gated) -> None:
        async with standing(gated, [("draw-1", Moment.AFTER)]) as (case,):
            await asyncio.gather(
                *(case.run.cancel() for _ in range(50)), *(sweep(gated.town) for _ in range(5))
            )
            case.gate.opened.set()
            await case.run.result()

        assert (await case.top_up()).credited == 60 * USDT
