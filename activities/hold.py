"""Confirm the lock: the first step of every run, and the reason a stray one ends without moving money."""

from dataclasses import dataclass

from temporalio import activity

from activities.messages import Lock
from activities.ports import TopUps


@dataclass(frozen=True, slots=True)
class Hold:
    """Over the record of top-ups."""

    top_ups: TopUps

    @activity.defn(name="hold_lock")
    async def hold_lock(self, top_up_id: str) -> Lock:
        """Say whether the top-up is in progress and holds its rule's lock. Reads only."""
        return Lock(held=await self.top_ups.holds_lock(top_up_id))
