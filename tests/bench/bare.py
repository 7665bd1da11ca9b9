"""A bare workflow of a top-up's shape: four steps one after the other and two at once, and none does anything."""

import asyncio
import time
from dataclasses import dataclass, field
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import RetryPolicy

STEPS = 4
"""Hold, check, draw, settle."""
NOTICES = 2


@dataclass(slots=True)
class BareDeeds:
    """Activities without an effect; whoever waits in this program learns when the fourth and the last has run."""

    ended_at: dict[str, float] = field(default_factory=dict)
    told: dict[str, asyncio.Event] = field(default_factory=dict)
    _notices: dict[str, int] = field(default_factory=dict)

    @activity.defn(name="bare_step")
    async def step(self, run: str) -> str:
        """One of the four; the last one's moment is kept."""
        self.ended_at[run] = time.time()
        return run

    @activity.defn(name="bare_notice")
    async def notice(self, run: str) -> bool:
        """One of the two."""
        self._notices[run] = self._notices.get(run, 0) + 1
        if self._notices[run] == NOTICES:
            self.told[run].set()
        return True


@workflow.defn(name="Bare")
class Bare:
    """What any workflow with as many activities costs on this server."""

    @workflow.run
    async def run(self, run: str) -> str:
        """Take every step."""
        for _ in range(STEPS):
            await workflow.execute_activity_method(
                BareDeeds.step,
                run,
                start_to_close_timeout=timedelta(seconds=30),
                retry_policy=RetryPolicy(maximum_attempts=1),
            )
        notices = [
            workflow.execute_activity_method(
                BareDeeds.notice,
                run,
                start_to_close_timeout=timedelta(seconds=30),
                retry_policy=RetryPolicy(maximum_attempts=1),
            )
            for _ in range(NOTICES)
        ]
        await asyncio.gather(*notices)
        return run
