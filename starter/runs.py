"""Temporal's runs of top-ups: start one once, see what became of it, go on telling."""

from dataclasses import dataclass
from datetime import timedelta

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from activities.messages import Order, RunState, Telling
from runtime.temporal import TemporalUnreachable
from topup.keys import telling_id, workflow_id
from workflows import details, ids
from workflows.telling import TellOwner
from workflows.top_up import TopUp

_RPC_TIMEOUT = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class TemporalRuns:
    """Fulfils the Runs port. All calls may be repeated; while Temporal is out of reach they raise RPCError.

    A lazy client that has never reached Temporal is only good for `start` and for telling of a low balance, which
    say so by TemporalUnreachable.
    """

    client: Client
    task_queue: str

    async def start(self, order: Order) -> None:
        """Start the top-up's workflow. One of that id can only be our own earlier start: it is left alone."""
        try:
            await self.client.start_workflow(
                TopUp.run,
                order,
                id=workflow_id(order.top_up_id),
                task_queue=self.task_queue,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                search_attributes=_attributes(order),
                static_summary=details.summary(order),
                static_details=details.details(order),
                rpc_timeout=_RPC_TIMEOUT,
            )
        except WorkflowAlreadyStartedError:
            return
        except RuntimeError as unconnected:
            raise self._unreachable() from unconnected

    async def state(self, top_up_id: str) -> RunState:
        """What has become of the top-up's workflow."""
        try:
            run = await self.client.get_workflow_handle(workflow_id(top_up_id)).describe(
                rpc_timeout=_RPC_TIMEOUT
            )
        except RPCError as refused:
            if refused.status is RPCStatusCode.NOT_FOUND:
                return RunState.MISSING
            raise
        running = run.status is WorkflowExecutionStatus.RUNNING
        return RunState.RUNNING if running else RunState.CLOSED

    async def tell(self, telling: Telling) -> bool:
        """Go on trying to deliver; False while the top-up's own run or an earlier telling is at it."""
        if telling.top_up_id and await self.state(telling.top_up_id) is RunState.RUNNING:
            return False
        try:
            await self.client.start_workflow(
                TellOwner.run,
                telling,
                id=telling_id(telling.about, telling.kind),
                task_queue=self.task_queue,
                static_summary=f"Go on telling the owner about {telling.about}",
                rpc_timeout=_RPC_TIMEOUT,
            )
        except WorkflowAlreadyStartedError:
            return False
        except RuntimeError as unconnected:
            raise self._unreachable() from unconnected
        return True

    def _unreachable(self) -> TemporalUnreachable:
        return TemporalUnreachable(
            f"Temporal at {self.client.service_client.config.target_host} does not answer."
        )


def _attributes(order: Order) -> TypedSearchAttributes:
    return TypedSearchAttributes(
        [
            SearchAttributePair(ids.RULE, order.rule_id),
            SearchAttributePair(ids.WALLET, order.wallet_id),
            SearchAttributePair(ids.OWNER, order.owner_id),
            SearchAttributePair(ids.OUTCOME, ids.OPEN),
        ]
    )
