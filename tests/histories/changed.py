"""A newer build that must not be: its workflow looks and checks before it has confirmed the lock."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.messages import Ended, Order
    from workflows import details
    from workflows.top_up import TopUp


@workflow.defn(name="TopUp")
class ChangedTopUp(TopUp):
    """The same steps in another order: whatever ran under the old order cannot go on under this one."""

    @workflow.run
    async def run(self, order: Order) -> Ended:
        """Check first, then confirm the lock."""
        checked = await self._look_and_check(order)
        if not await self._hold_lock(order):
            return details.stray(order)
        results, ending = await self._execute(order, checked)
        settled = await self._settle(order, results, ending)
        return details.ended(order, settled, results)
