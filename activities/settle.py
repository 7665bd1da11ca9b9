"""Settle: write the true results, arm or not, unlock, and queue what the owner is told."""

from dataclasses import dataclass

from temporalio import activity

from activities.messages import Settled, SettleOrder
from activities.ports import TopUps


@dataclass(frozen=True, slots=True)
class Settle:
    """Over the record of top-ups."""

    top_ups: TopUps

    @activity.defn(name="settle")
    async def settle(self, order: SettleOrder) -> Settled:
        """End the top-up in one commit; a repeat gets the first one's answer."""
        return await self.top_ups.settle(order)
