"""Go on telling an owner what could not be delivered at once; a top-up never waits for it (R24)."""

import asyncio

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities.messages import Delivery, Telling
    from activities.notify import Notify
    from workflows import ids, policies


@workflow.defn(name="TellOwner")
class TellOwner:
    """The undelivered notifications of one kind about one top-up, or about one low balance."""

    @workflow.run
    async def run(self, telling: Telling) -> None:
        """Try every channel until it works, can never work, or the time is up.

        Cancelled, it ends as if terminated: what is still to be told stays so, and the sweep goes on with it.
        """
        await asyncio.gather(*[self._tell(delivery, telling) for delivery in telling.deliveries])

    async def _tell(self, delivery: Delivery, telling: Telling) -> None:
        try:
            await workflow.execute_activity_method(
                Notify.notify,
                delivery,
                summary=f"Tell the owner by {delivery.channel}",
                **policies.notifying(
                    telling.give_up_after,
                    task_queue=ids.channel_queue(workflow.info().task_queue, delivery.channel),
                ),
            )
        except ActivityError:
            if workflow.cancellation_reason() is not None:
                raise asyncio.CancelledError from None
            await workflow.execute_activity_method(
                Notify.give_up,
                delivery,
                summary=f"Give up telling by {delivery.channel}",
                **policies.bookkeeping(),
            )
