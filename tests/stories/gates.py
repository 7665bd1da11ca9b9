"""Gates around the steps of top-ups: an activity stands still before or after its deed until the story goes on."""

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from temporalio import activity
from temporalio.client import Client
from temporalio.client import Interceptor as ClientInterceptor
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor


class Moment(StrEnum):
    """Where an activity stands still: before its deed, or after it with the answer not given yet."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(slots=True)
class StepGate:
    """The first attempt at one step of one top-up stands here."""

    moment: Moment
    fails: bool = False
    """Whether the attempt breaks once the gate is opened."""
    taken: bool = False
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    passed: asyncio.Event = field(default_factory=asyncio.Event)

    async def stand(self) -> None:
        """Tell that it was reached, wait, and break if so told."""
        self.reached.set()
        await self.opened.wait()
        if self.fails:
            message = "the story breaks this attempt"
            raise ConnectionError(message)


@dataclass(slots=True)
class Gates(Interceptor, ClientInterceptor):
    """All gates of one worker, by workflow id and activity id."""

    closed: dict[tuple[str, str], StepGate] = field(default_factory=dict)

    def close(self, workflow_id: str, step: str, moment: Moment, *, fails: bool = False) -> StepGate:
        """Have the first attempt at this step stand still."""
        gate = self.closed[workflow_id, step] = StepGate(moment, fails)
        return gate

    def client(self, client: Client) -> Client:
        """The same client, whose workers have these gates."""
        config = client.config()
        config["interceptors"] = [self]
        return Client(**config)

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        """Put the gates around every activity."""
        return _Gated(next, self)


class _Gated(ActivityInboundInterceptor):
    def __init__(self, following: ActivityInboundInterceptor, gates: Gates) -> None:
        super().__init__(following)
        self._gates = gates

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        """Stand still where a gate is closed, once."""
        at = activity.info()
        gate = self._gates.closed.get((at.workflow_id or "", at.activity_id))
        if gate is None or gate.taken:
            return await super().execute_activity(input)
        gate.taken = True
        try:
            return await self._through(gate, input)
        finally:
            gate.passed.set()

    async def _through(self, gate: StepGate, order: ExecuteActivityInput) -> Any:
        if gate.moment is Moment.BEFORE:
            await gate.stand()
            return await super().execute_activity(order)
        answer = await super().execute_activity(order)
        await gate.stand()
        return answer
