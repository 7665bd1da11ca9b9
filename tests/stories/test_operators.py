"""Operators' hands on a running top-up: cancel, terminate, delete, reset; true results each time."""

import asyncio
from uuid import uuid4

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest, ResetWorkflowExecutionRequest
from temporalio.client import WorkflowExecutionStatus, WorkflowHandle

from activities.messages import Ended, RunState, SweepReport
from tests.builders import Household
from tests.stories.accounts import Gate
from tests.stories.test_doubt import three_sources
from tests.stories.test_waterfall import USDT, ending, results
from tests.stories.town import Town
from workflows.ids import OUTCOME, REASON, RULE, WALLET
from workflows.sweep import SweepOpenTopUps
from workflows.top_up import TopUp


async def sweep(town: Town) -> SweepReport:
    """Have Temporal sweep once."""
    return await town.client.execute_workflow(
        SweepOpenTopUps.run, id=f"sweep-{uuid4().hex}", task_queue=town.settings.task_queue
    )


async def at_the_gate(town: Town, gate: Gate) -> WorkflowHandle[TopUp, Ended]:
    """Watch, and wait until the gated draw is under way; the run."""
    await town.watch()
    await asyncio.wait_for(gate.reached.wait(), timeout=90)
    return town.client.get_workflow_handle_for(TopUp.run, await newest_run_id(town))


async def newest_run_id(town: Town) -> str:
    """The workflow id of the town's only run."""
    async for run in town.client.list_workflows(f"TaskQueue = '{town.settings.task_queue}'"):
        return run.id
    return await newest_run_id(town)


async def reset(
    town: Town, run: WorkflowHandle[TopUp, Ended], *, to_event: int
) -> WorkflowHandle[TopUp, Ended]:
    """Reset the run to right after this workflow task, as the Web UI does; the new run."""
    answer = await town.client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=town.client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=run.id, run_id=run.run_id or ""),
            reason="a story",
            workflow_task_finish_event_id=to_event,
            request_id=str(uuid4()),
        )
    )
    return town.client.get_workflow_handle_for(TopUp.run, run.id, run_id=answer.run_id)


async def first_run(town: Town, home: Household) -> WorkflowHandle[TopUp, Ended]:
    """The newest top-up's run as it is now, whatever is reset later."""
    run = await town.handle(home)
    return town.client.get_workflow_handle_for(TopUp.run, run.id, run_id=(await run.describe()).run_id)


async def workflow_tasks_finished(run: WorkflowHandle[TopUp, Ended]) -> list[int]:
    """Every point the run can be reset to."""
    history = await run.fetch_history()
    finished = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
    return [event.event_id for event in history.events if event.event_type == finished]


async def moved(home: Household) -> tuple[str, str, str, str]:
    """Where the money is: the wallet and its three sources."""
    return (
        await home.balance(),
        await home.holding("USDT"),
        await home.holding("USDC"),
        await home.holding("USDG"),
    )


class TestCancel:
    async def test_between_draws_settles_what_was_drawn_and_asks_no_further_source(
        self, idle_town: Town
    ) -> None:
        home = await three_sources(idle_town)
        idle_town.accounts = gate = Gate(idle_town.accounts, rank=2, after_moving=False)

        async with idle_town.worker():
            run = await at_the_gate(idle_town, gate)
            await run.cancel()
            gate.opened.set()
            await run.result()

        (top_up,) = await home.top_ups()
        assert ending(top_up) == ("partial", "ended_by_operator", 90 * USDT)
        assert [row.status for row in await home.draws(top_up.id)] == [
            "transferred",
            "transferred",
            "not_reached",
        ]
        assert await moved(home) == ("125.00", "0.00", "0.00", "500.00")
        assert (await home.rule()).locked_by is None

    async def test_before_any_draw_leaves_everything_where_it_is(self, idle_town: Town) -> None:
        home = await three_sources(idle_town)
        await idle_town.watch()
        run = await idle_town.handle(home)
        await run.cancel()

        async with idle_town.worker():
            await run.result()

        (top_up,) = await home.top_ups()
        assert ending(top_up) == ("failed", "ended_by_operator", 0)
        assert await moved(home) == ("35.00", "60.00", "30.00", "500.00")


class TestTerminate:
    @pytest.mark.parametrize("after_moving", [False, True])
    async def test_in_the_middle_of_a_draw_is_settled_truly_by_the_sweep(
        self, idle_town: Town, *, after_moving: bool
    ) -> None:
        home = await three_sources(idle_town)
        idle_town.accounts = gate = Gate(idle_town.accounts, rank=2, after_moving=after_moving)

        async with idle_town.worker():
            run = await at_the_gate(idle_town, gate)
            await run.terminate("a story")
            report = await sweep(idle_town)
            gate.opened.set()
            await gate.late

        (top_up,) = await home.top_ups()
        assert report.settled == (top_up.id,)
        assert ending(top_up) == ("partial", "ended_by_operator", (90 if after_moving else 60) * USDT)
        assert await moved(home) == (
            ("125.00", "0.00", "0.00", "500.00") if after_moving else ("95.00", "0.00", "30.00", "500.00")
        )
        assert (await home.rule()).locked_by is None
        assert len(await home.deliveries()) == 2

    async def test_the_owner_is_told_by_the_sweep_once_per_channel(self, idle_town: Town) -> None:
        home = await three_sources(idle_town)
        idle_town.accounts = gate = Gate(idle_town.accounts, rank=1, after_moving=True)
        told = asyncio.Event()
        idle_town.channels["email"].on_sent = told.set

        async with idle_town.worker():
            run = await at_the_gate(idle_town, gate)
            await run.terminate("a story")
            await sweep(idle_town)
            await asyncio.wait_for(told.wait(), timeout=90)
            gate.opened.set()
            await gate.late
            await sweep(idle_town)

        assert len(idle_town.channels["email"].sent) == 1
        assert len(await home.deliveries()) == 2


class TestDelete:
    async def test_a_deleted_run_is_settled_by_the_sweep(self, idle_town: Town) -> None:
        home = await three_sources(idle_town)
        await idle_town.watch()
        run = await idle_town.handle(home)
        request = DeleteWorkflowExecutionRequest(
            namespace=idle_town.client.namespace, workflow_execution=WorkflowExecution(workflow_id=run.id)
        )
        await idle_town.client.workflow_service.delete_workflow_execution(request)
        await gone(idle_town, home)

        async with idle_town.worker():
            await sweep(idle_town)

        (top_up,) = await home.top_ups()
        assert ending(top_up) == ("failed", "ended_by_operator", 0)
        assert (await home.rule()).locked_by is None


async def gone(town: Town, home: Household) -> None:
    """Wait until Temporal has really deleted the newest top-up's run."""
    (top_up,) = await home.top_ups()
    while await town.runs.state(top_up.id) is not RunState.MISSING:  # noqa: ASYNC110 Temporal tells nobody of it
        await asyncio.sleep(0.05)


class TestReset:
    @pytest.mark.rule("R10")
    async def test_to_every_point_of_an_ended_run_moves_nothing_again(self, town: Town) -> None:
        home = await three_sources(town)
        top_up = await town.see_through(home)
        before = await moved(home)

        run = await first_run(town, home)
        for point in await workflow_tasks_finished(run):
            again = await reset(town, run, to_event=point)
            await again.result()

        assert await moved(home) == before
        assert ending((await home.top_ups())[0]) == ending(top_up)
        assert len(await home.deliveries()) == 2

    @pytest.mark.rule("R19")
    async def test_of_a_run_in_the_middle_of_its_draws_keeps_to_its_first_plan(self, idle_town: Town) -> None:
        home = await three_sources(idle_town)
        idle_town.accounts = gate = Gate(idle_town.accounts, rank=2, after_moving=True)

        async with idle_town.worker():
            await at_the_gate(idle_town, gate)
            run = await first_run(idle_town, home)
            again = await reset(idle_town, run, to_event=(await workflow_tasks_finished(run))[0])
            gate.opened.set()
            await again.result()

        (top_up,) = await home.top_ups()
        assert ending(top_up) == ("completed", "full", 100 * USDT)
        assert results(await home.draws(top_up.id))[2] == ("USDG", "transferred", None, 10 * USDT, 10 * USDT)
        assert await moved(home) == ("135.00", "0.00", "0.00", "490.00")


class TestWhatAnOperatorReads:
    async def test_a_run_says_whose_it_is_what_triggered_it_and_how_it_ended(self, town: Town) -> None:
        home = await three_sources(town)
        top_up = await town.see_through(home)

        run = await (await town.handle(home)).describe()
        attributes = run.typed_search_attributes

        assert await run.static_summary() == (
            "Top up Ada's wallet with 100.00 USDT: balance 35.00 USDT fell below 50.00 USDT"
        )
        assert "Whose rule" in str(await run.static_details())
        assert run.status is WorkflowExecutionStatus.COMPLETED
        assert (attributes[RULE], attributes[WALLET]) == (top_up.rule_id, top_up.wallet_id)
        assert (attributes[OUTCOME], attributes[REASON]) == ("completed", "full")

    async def test_each_step_carries_its_summary(self, town: Town) -> None:
        home = await three_sources(town)
        await town.see_through(home)

        history = await (await town.handle(home)).fetch_history()
        converter = town.client.data_converter.payload_converter
        summaries = [
            converter.from_payload(event.user_metadata.summary)
            for event in history.events
            if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
        ]

        assert summaries == [
            "Confirm the lock",
            "Check that USDT, USDC, USDG cover 100.00 USDT",
            "Draw 1: 60.00 USDT from USDT",
            "Draw 2: 30.00 USDT from USDC",
            "Draw 3: 10.00 USDT from USDG",
            "Settle as completed: full",
            "Tell the owner by push",
            "Tell the owner by email",
        ]

    async def test_runs_are_found_by_rule_and_outcome(self, town: Town) -> None:
        home = await three_sources(town)
        top_up = await town.see_through(home)

        query = f"TidemarkRule = '{top_up.rule_id}' AND TidemarkOutcome = 'completed'"
        found: list[str] = []
        while not found:
            found = [run.id async for run in town.client.list_workflows(query)]

        assert found == [f"top-up/{top_up.id}"]


class TestTheOutbox:
    @pytest.mark.rule("R10")
    async def test_a_start_that_never_reached_temporal_is_repeated_by_the_sweep(
        self, idle_town: Town
    ) -> None:
        home = await three_sources(idle_town)
        await idle_town.watcher.judge_all()

        async with idle_town.worker():
            report = await sweep(idle_town)
            await (await idle_town.handle(home)).result()

        (top_up,) = await home.top_ups()
        assert report.started == (top_up.id,)
        assert ending(top_up) == ("completed", "full", 100 * USDT)

    @pytest.mark.rule("R10")
    async def test_a_hundred_starts_of_one_top_up_make_one_run(self, town: Town) -> None:
        home = await three_sources(town)
        await town.watcher.judge_all()

        await asyncio.gather(*[town.watcher.hand_over_all() for _ in range(100)])
        await (await town.handle(home)).result()

        assert await moved(home) == ("135.00", "0.00", "0.00", "490.00")

    async def test_a_running_top_up_is_left_alone_by_the_sweep(self, idle_town: Town) -> None:
        home = await three_sources(idle_town)
        idle_town.accounts = gate = Gate(idle_town.accounts, rank=1, after_moving=False)

        async with idle_town.worker():
            run = await at_the_gate(idle_town, gate)
            report = await sweep(idle_town)
            gate.opened.set()
            await run.result()

        assert report == SweepReport()
        assert ending((await home.top_ups())[0]) == ("completed", "full", 100 * USDT)
