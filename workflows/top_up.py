"""The way of a top-up, from the claimed trigger to the outcome its owner is told."""

import asyncio
from collections.abc import Sequence

from temporalio import workflow
from temporalio.common import SearchAttributeUpdate
from temporalio.exceptions import ActivityError, WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from activities.check import Check
    from activities.draw import Draw
    from activities.hold import Hold
    from activities.messages import (
        Checked,
        CheckingNotice,
        CheckOrder,
        Covered,
        Delivery,
        DrawAnswer,
        DrawName,
        DrawOrder,
        Ended,
        Order,
        Recovered,
        Refused,
        Settled,
        SettleOrder,
        Telling,
        Uncovered,
    )
    from activities.notify import Notify
    from activities.results import result_of
    from activities.settle import Settle
    from topup.keys import draw_key, telling_id
    from topup.money import Money
    from topup.outcome import DrawReason, DrawResult, Ending, Reason, conclude, failed, not_drawn, not_needed
    from topup.quote import Quote
    from topup.waterfall import PlannedDraw, carried_over, passed_over
    from workflows import details, doubt, ids, policies
    from workflows.telling import TellOwner


@workflow.defn(name="TopUp")
class TopUp:
    """One top-up. It ends completed whatever became of the money: every foreseen ending is a result, not a failure."""

    @workflow.run
    async def run(self, order: Order) -> Ended:
        """See the top-up through, even when it is cancelled: then it stops before the next draw and settles."""
        story = asyncio.ensure_future(self._top_up(order))
        while not story.done():
            try:
                await asyncio.shield(story)
            except asyncio.CancelledError:
                if story.cancelled():
                    raise
        return story.result()

    async def _top_up(self, order: Order) -> Ended:
        if not await self._hold_lock(order):
            return details.stray(order)
        results, ending = await self._execute(order, await self._look_and_check(order))
        settled = await self._settle(order, results, ending)
        await self._notify(order, settled)
        return details.ended(order, settled, settled.draws or results)

    async def _execute(self, order: Order, checked: Checked | None) -> tuple[tuple[DrawResult, ...], Ending]:
        match checked and checked.finding:
            case Covered() as covered:
                results = await self._draw_all(order, covered.draws)
                return results, conclude(order.terms.amount, results, stopped=_stopped())
            case Recovered():
                return _untouched(order), not_needed(order.terms.currency)
            case Uncovered():
                return _untouched(order), failed(Reason.INSUFFICIENT_BALANCE, order.terms.currency)
            case _:
                reason = Reason.ENDED_BY_OPERATOR if _stopped() else Reason.SYSTEM_ERROR
                return _untouched(order), failed(reason, order.terms.currency)

    async def _hold_lock(self, order: Order) -> bool:
        workflow.set_current_details(details.progress("confirming that the rule is locked by this top-up"))
        lock = await workflow.execute_activity_method(
            Hold.hold_lock,
            order.top_up_id,
            activity_id="hold-lock",
            summary="Confirm the lock",
            **policies.bookkeeping(),
        )
        return lock.held

    async def _look_and_check(self, order: Order) -> Checked | None:
        """What was found; None when looking failed, or an operator ended the top-up before: nothing has moved then."""
        workflow.set_current_details(details.progress("looking at the wallet and checking the sources"))
        if _stopped():
            return None
        try:
            return await workflow.execute_activity_method(
                Check.check,
                _check_order(order),
                activity_id="check",
                summary=f"Check that {', '.join(order.terms.sources)} cover {order.terms.amount}",
                **policies.checking(order.patience),
            )
        except ActivityError as error:
            workflow.logger.error(
                "top_up.check.failed", extra={"top_up_id": order.top_up_id, "cause": repr(error.cause)}
            )
            return None

    async def _draw_all(self, order: Order, plan: Sequence[PlannedDraw]) -> tuple[DrawResult, ...]:
        """Draw in rank order; what a short source leaves over flows on (R16, R17), a failed share does not (R18)."""
        results: list[DrawResult] = []
        carried = Money.nothing(order.terms.currency)
        for place, planned in enumerate(plan):
            asked = planned.credit + carried
            workflow.set_current_details(details.progress(f"drawing {asked} from {planned.asset}", results))
            if _stopped():
                results.append(not_drawn(planned.rank, planned.asset, currency=order.terms.currency))
            elif not asked or planned.quote is None:
                later = any(draw.credit for draw in plan[place + 1 :])
                results.append(passed_over(planned, still_owed=later))
            else:
                draw = _draw_order(order, planned, asked, planned.quote)
                result = await self._draw(order, draw, results)
                carried = carried_over(asked, result)
                results.append(result)
        return tuple(results)

    async def _draw(self, order: Order, draw: DrawOrder, so_far: Sequence[DrawResult]) -> DrawResult:
        try:
            answer: DrawAnswer = await workflow.execute_activity_method(
                Draw.draw,
                draw,
                activity_id=f"draw-{draw.rank}",
                summary=f"Draw {draw.rank}: {draw.credit} from {draw.asset}",
                **policies.drawing(order.patience),
            )
        except ActivityError as error:
            refusal = doubt.certain_refusal(error)
            if refusal is not None:
                return result_of(draw, Refused(reason=refusal))
            return await self._find_out(order, draw, so_far, doubt.why_unanswered(error))
        return result_of(draw, answer.result)

    async def _find_out(
        self, order: Order, draw: DrawOrder, so_far: Sequence[DrawResult], unanswered: DrawReason
    ) -> DrawResult:
        """No answer is not a no: fence the key, look it up until it is known, and only then go on (R21)."""
        workflow.upsert_search_attributes([ids.NEEDS_ATTENTION.value_set(value=True)])
        workflow.set_current_details(
            details.progress("finding out what became of a draw", so_far, checking=draw)
        )
        await self._note_checking(draw, tell_owner=False)
        looking_up = workflow.start_activity_method(
            Draw.look_up,
            DrawName(**draw.model_dump(include=set(DrawName.model_fields))),
            activity_id=f"look-up-{draw.rank}",
            summary=f"Find out whether draw {draw.rank} from {draw.asset} happened",
            **policies.bookkeeping(),
        )
        try:
            await workflow.wait_condition(
                looking_up.done, timeout=order.patience.tell_checking, timeout_summary="Then tell the owner"
            )
        except TimeoutError:
            await self._tell_checking(order, draw)
        answer = await looking_up
        workflow.upsert_search_attributes([ids.NEEDS_ATTENTION.value_set(value=False)])
        return result_of(draw, answer.result, unanswered=unanswered)

    async def _note_checking(self, draw: DrawOrder, *, tell_owner: bool) -> tuple[Delivery, ...]:
        return await workflow.execute_activity_method(
            Draw.note_checking,
            CheckingNotice(top_up_id=draw.top_up_id, rank=draw.rank, asset=draw.asset, tell_owner=tell_owner),
            summary="Tell the owner that it is being checked"
            if tell_owner
            else "Show the draw as being checked",
            **policies.bookkeeping(),
        )

    async def _tell_checking(self, order: Order, draw: DrawOrder) -> None:
        deliveries = await self._note_checking(draw, tell_owner=True)
        await self._hand_over_telling(order, "being_checked", deliveries)

    async def _settle(self, order: Order, results: tuple[DrawResult, ...], ending: Ending) -> Settled:
        workflow.set_current_details(
            details.progress("writing down the results and unlocking the rule", results)
        )
        settled: Settled = await workflow.execute_activity_method(
            Settle.settle,
            SettleOrder(top_up_id=order.top_up_id, draws=results, ending=ending),
            activity_id="settle",
            summary=f"Settle as {ending.outcome.value}: {ending.reason.value}",
            **policies.bookkeeping(),
        )
        workflow.upsert_search_attributes(_outcome_attributes(settled))
        workflow.set_current_details(details.end_in_words(order, settled, settled.draws or results))
        return settled

    async def _notify(self, order: Order, settled: Settled) -> None:
        """Try each channel for a little while; what is still undelivered goes on in a run of its own (R24)."""
        delivered = await asyncio.gather(
            *[self._notify_one(order, delivery) for delivery in settled.deliveries]
        )
        undelivered = [
            delivery for delivery, done in zip(settled.deliveries, delivered, strict=True) if not done
        ]
        if undelivered:
            await self._hand_over_telling(order, "ended", undelivered)

    async def _notify_one(self, order: Order, delivery: Delivery) -> bool:
        try:
            await workflow.execute_activity_method(
                Notify.notify,
                delivery,
                activity_id=f"notify-{delivery.channel}",
                summary=f"Tell the owner by {delivery.channel}",
                **policies.notifying(
                    order.patience.notify,
                    task_queue=ids.channel_queue(workflow.info().task_queue, delivery.channel),
                ),
            )
        except ActivityError:
            return False
        return True

    async def _hand_over_telling(self, order: Order, kind: str, deliveries: Sequence[Delivery]) -> None:
        if not deliveries:
            return
        telling = Telling(
            top_up_id=order.top_up_id,
            kind=kind,
            deliveries=tuple(deliveries),
            give_up_after=order.patience.notify_give_up,
        )
        try:
            _ = await workflow.start_child_workflow(
                TellOwner.run,
                telling,
                id=telling_id(order.top_up_id, kind),
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                static_summary=f"Go on telling {order.owner_name} about {order.top_up_id}",
            )
        except WorkflowAlreadyStartedError:
            workflow.logger.info("top_up.telling.already_started", extra={"top_up_id": order.top_up_id})


def _stopped() -> bool:
    """Whether an operator has cancelled the run; an empty reason counts too."""
    return workflow.cancellation_reason() is not None


def _check_order(order: Order) -> CheckOrder:
    return CheckOrder(
        top_up_id=order.top_up_id, wallet_id=order.wallet_id, owner_id=order.owner_id, terms=order.terms
    )


def _draw_order(order: Order, planned: PlannedDraw, asked: Money, quote: Quote) -> DrawOrder:
    return DrawOrder(
        top_up_id=order.top_up_id,
        rank=planned.rank,
        key=draw_key(order.top_up_id, planned.rank),
        owner_id=order.owner_id,
        wallet_id=order.wallet_id,
        account=order.terms.account,
        asset=planned.asset,
        currency=order.terms.currency,
        credit=asked,
        quote=quote,
    )


def _untouched(order: Order) -> tuple[DrawResult, ...]:
    return tuple(not_drawn(rank, asset, currency=order.terms.currency) for rank, asset in order.terms.ranked)


def _outcome_attributes(settled: Settled) -> list[SearchAttributeUpdate[str]]:
    return [
        ids.OUTCOME.value_set(settled.ending.outcome.value),
        ids.REASON.value_set(settled.ending.reason.value),
    ]
