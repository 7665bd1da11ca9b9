"""The sweep's Temporal Schedule: one for all workers, brought up to date by whoever boots."""

from datetime import timedelta

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)

from workflows.ids import SWEEP_ID
from workflows.sweep import SweepOpenTopUps

_CATCH_UP = timedelta(minutes=1)


async def ensure_sweep(client: Client, *, task_queue: str, every: timedelta) -> None:
    """Have Temporal sweep this often, never two at once, and without making up for missed ones."""
    schedule = Schedule(
        action=ScheduleActionStartWorkflow(
            SweepOpenTopUps.run,
            id=SWEEP_ID,
            task_queue=task_queue,
            static_summary="Settle top-ups whose workflow is gone",
        ),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=every)]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=_CATCH_UP),
    )
    try:
        await client.create_schedule(SWEEP_ID, schedule)
    except ScheduleAlreadyRunningError:
        await client.get_schedule_handle(SWEEP_ID).update(lambda current: _replace(current, schedule))


async def _replace(current: ScheduleUpdateInput, schedule: Schedule) -> ScheduleUpdate:
    schedule.state = current.description.schedule.state
    return ScheduleUpdate(schedule=schedule)
