"""A top-up seen through by the real deeds, one step at a time and without Temporal: anything may come between."""

from dataclasses import dataclass, field, replace
from datetime import timedelta

from temporalio.testing import ActivityEnvironment

from activities.check import Check
from activities.draw import Draw
from activities.hold import Hold
from activities.messages import (
    CheckingNotice,
    CheckOrder,
    Covered,
    DrawAnswer,
    DrawName,
    DrawOrder,
    Order,
    Patience,
    Recovered,
    RunState,
    Settled,
    SettleOrder,
    Telling,
)
from activities.ports import AnswerMissing
from activities.results import result_of
from activities.settle import Settle
from activities.sweep import Sweep
from adapters.postgres.claims import unstarted
from adapters.postgres.database import Database
from adapters.postgres.deliveries import DeliveryRecords
from adapters.postgres.faulty import FaultyAccounts
from adapters.postgres.ledger import LedgerAccounts
from adapters.postgres.top_ups import TopUpRecords
from topup.keys import draw_key
from topup.money import Money
from topup.outcome import (
    DrawReason,
    DrawResult,
    Ending,
    Reason,
    conclude,
    failed,
    not_drawn,
    not_needed,
)
from topup.waterfall import PlannedDraw, carried_over, passed_over


@dataclass(frozen=True, slots=True)
class OneGone:
    """A Temporal that has lost the run of one top-up, and sees to all others."""

    top_up_id: str

    async def state(self, top_up_id: str) -> RunState:
        return RunState.CLOSED if top_up_id == self.top_up_id else RunState.RUNNING

    async def start(self, order: Order) -> None:
        message = f"{order.top_up_id} has been started already"
        raise AssertionError(message)

    async def tell(self, _telling: Telling) -> bool:
        return False


@dataclass(slots=True)
class Story:
    """What the workflow does, each step when it is told to; `again` has the step's deeds done twice."""

    database: Database
    order: Order
    plan: tuple[PlannedDraw, ...] = ()
    ending: Ending | None = None
    """Known before any draw when nothing is to be drawn."""
    results: list[DrawResult] = field(default_factory=list)
    carried: Money | None = None

    @property
    def _top_ups(self) -> TopUpRecords:
        return TopUpRecords(self.database, Patience())

    @property
    def _draw(self) -> Draw:
        return Draw(FaultyAccounts(LedgerAccounts(self.database), self.database), self._top_ups)

    async def holds_lock(self) -> bool:
        return (await Hold(self._top_ups).hold_lock(self.order.top_up_id)).held

    async def check(self, *, again: bool) -> None:
        """Look and plan; a second check gets the first one's plan."""
        order, terms = self.order, self.order.terms
        asked = CheckOrder(
            top_up_id=order.top_up_id, wallet_id=order.wallet_id, owner_id=order.owner_id, terms=terms
        )
        check = Check(LedgerAccounts(self.database), self._top_ups)
        checked = await check.check(asked)
        if again:
            assert await check.check(asked) == checked
        match checked.finding:
            case Covered(draws=draws):
                self.plan = draws
            case Recovered():
                self.ending = not_needed(terms.currency)
            case _:
                self.ending = failed(Reason.INSUFFICIENT_BALANCE, terms.currency)

    async def draw_next(self, *, again: bool) -> None:
        """The next source's turn, as the workflow gives it."""
        place, planned = len(self.results), self.plan[len(self.results)]
        asked = planned.credit + self.carried if self.carried else planned.credit
        if not asked or planned.quote is None:
            later = any(draw.credit for draw in self.plan[place + 1 :])
            self.results.append(passed_over(planned, still_owed=later))
            return
        order = DrawOrder(
            **self._name(planned.rank, planned.asset).model_dump(),
            wallet_id=self.order.wallet_id,
            credit=asked,
            quote=planned.quote,
        )
        result = await self._draw_once(order)
        if again and result.credited:
            assert await self._draw_once(order) == result
        self.results.append(result)
        self.carried = carried_over(asked, result)

    async def settle(self, *, again: bool) -> Settled:
        """Write down the end, which a repeat cannot change."""
        amount, terms = self.order.terms.amount, self.order.terms
        untouched = [not_drawn(rank, asset, currency=terms.currency) for rank, asset in terms.ranked]
        settled = SettleOrder(
            top_up_id=self.order.top_up_id,
            draws=tuple(self.results or untouched),
            ending=self.ending or conclude(amount, self.results),
        )
        settle = Settle(self._top_ups)
        answer = await settle.settle(settled)
        if again:
            assert await settle.settle(settled) == answer
        return answer

    async def sweep(self) -> None:
        """Have it ended by the sweep, from the ledger's records alone."""
        accounts, deliveries = LedgerAccounts(self.database), DeliveryRecords(self.database)
        sweep = Sweep(self._top_ups, accounts, deliveries, OneGone(self.order.top_up_id), timedelta())
        report = await sweep.sweep()
        assert report.settled == (self.order.top_up_id,)

    async def _draw_once(self, order: DrawOrder) -> DrawResult:
        environment = ActivityEnvironment()
        environment.info = replace(environment.info, start_to_close_timeout=timedelta(minutes=1))
        try:
            answer: DrawAnswer = await environment.run(self._draw.draw, order)
        except AnswerMissing:
            notice = CheckingNotice(
                top_up_id=order.top_up_id, rank=order.rank, asset=order.asset, tell_owner=False
            )
            await self._draw.note_checking(notice)
            answer = await self._draw.look_up(self._name(order.rank, order.asset))
            return result_of(order, answer.result, unanswered=DrawReason.UNAVAILABLE)
        return result_of(order, answer.result)

    def _name(self, rank: int, asset: str) -> DrawName:
        return DrawName(
            top_up_id=self.order.top_up_id,
            rank=rank,
            key=draw_key(self.order.top_up_id, rank),
            owner_id=self.order.owner_id,
            account=self.order.terms.account,
            asset=asset,
            currency=self.order.terms.currency,
        )


async def begin_story(database: Database, top_up_id: str) -> Story:
    """The story of a claimed top-up, by the order that the watcher would hand to Temporal."""
    orders = await unstarted(database, patience=Patience())
    return Story(database, next(order for order in orders if order.top_up_id == top_up_id))
