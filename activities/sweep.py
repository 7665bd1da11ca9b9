"""Sweep: end the top-ups whose workflow is gone, start those Temporal never got, tell what stayed untold."""

from dataclasses import dataclass
from datetime import timedelta

from temporalio import activity

from activities.messages import DrawName, NotMoved, Order, RunState, SettleOrder, SweepReport
from activities.ports import Accounts, Deliveries, OpenTopUp, Runs, TopUps
from activities.results import draw_names, result_of
from topup.outcome import DrawResult, conclude, not_drawn


class StillOpen(Exception):
    """A draw of a top-up whose workflow is gone cannot be known yet; the next sweep asks again."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """Over everything a top-up touches; `grace` spares what has only just begun."""

    top_ups: TopUps
    accounts: Accounts
    deliveries: Deliveries
    runs: Runs
    grace: timedelta

    @activity.defn(name="sweep")
    async def sweep(self) -> SweepReport:
        """Go once over what is open. Every step may be repeated; none can move money."""
        settled: list[str] = []
        started: list[str] = []
        for open_top_up in await self.top_ups.unsettled(older_than=self.grace):
            top_up_id = open_top_up.order.top_up_id
            match await self._next_step(open_top_up):
                case RunState.MISSING:
                    await self._start(open_top_up.order)
                    started.append(top_up_id)
                case RunState.CLOSED:
                    if await self._settle(open_top_up.order):
                        settled.append(top_up_id)
                case RunState.RUNNING:
                    pass
        retold = await self._tell_untold()
        return SweepReport(settled=tuple(settled), started=tuple(started), retold=retold)

    async def _next_step(self, open_top_up: OpenTopUp) -> RunState:
        """A workflow that Temporal once had and has no more was deleted: it counts as closed."""
        state = await self.runs.state(open_top_up.order.top_up_id)
        if state is RunState.MISSING and open_top_up.handed_over:
            return RunState.CLOSED
        return state

    async def _start(self, order: Order) -> None:
        await self.runs.start(order)
        await self.top_ups.record_hand_over((order.top_up_id,))

    async def _settle(self, order: Order) -> bool:
        """Fence every draw, then record what the ledger knows; False when one draw cannot be known yet."""
        try:
            names = draw_names(top_up_id=order.top_up_id, owner_id=order.owner_id, terms=order.terms)
            draws = [await self._what_became_of(name) for name in names]
        except StillOpen:
            return False
        ending = conclude(order.terms.amount, draws, stopped=True)
        await self.top_ups.settle(SettleOrder(top_up_id=order.top_up_id, draws=tuple(draws), ending=ending))
        return True

    async def _what_became_of(self, name: DrawName) -> DrawResult:
        answer = await self.accounts.look_up(name)
        if answer is None:
            raise StillOpen
        if isinstance(answer, NotMoved):
            return not_drawn(name.rank, name.asset, currency=name.currency)
        return result_of(name, answer)

    async def _tell_untold(self) -> tuple[str, ...]:
        untold = await self.deliveries.untold(older_than=self.grace)
        return tuple([telling.about for telling in untold if await self.runs.tell(telling)])
