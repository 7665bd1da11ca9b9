"""The record of top-ups: the lock they hold, and the one commit that ends them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.messages import (
    Checked,
    CheckingNotice,
    Delivery,
    DrawName,
    Moved,
    NotMoved,
    Patience,
    Refused,
    Settled,
    SettleOrder,
)
from activities.ports import OpenTopUp
from activities.results import draw_names, result_of
from adapters.postgres.announcements import tell_ended
from adapters.postgres.claims import judge_wallets, order_of, record_hand_over, terms_of
from adapters.postgres.clock import read_clock
from adapters.postgres.database import Database, run_sql
from adapters.postgres.deliveries import draw_result, queue_deliveries, queued_deliveries
from adapters.postgres.ids import new_id
from adapters.postgres.ledger import fence_all
from adapters.postgres.tables import BalanceEvent, DrawRow, Owner, Rule, TopUpRow
from topup.money import Money
from topup.outcome import DrawResult, DrawStatus, Ending, Outcome, Reason, conclude, not_drawn
from topup.rule import Terms
from topup.trigger import Change, Kept, armed_after
from topup.words import checking_headline, headline

_LOCK_WALLET = text("SELECT id FROM wallet WHERE id = :wallet_id FOR NO KEY UPDATE")
_HOLD_BALANCE = text("SELECT balance, version, kept FROM hold_balance(:wallet_id)")


class TopUpMissing(LookupError):
    """There is no such top-up."""


@dataclass(frozen=True, slots=True)
class _Truth:
    """What one source gave; `answered`: the ledger has an answer of its own, and told it publicly with the draw."""

    draw: DrawResult
    answered: bool


@dataclass(frozen=True, slots=True)
class TopUpRecords:
    """Fulfils the TopUps port."""

    database: Database
    patience: Patience

    async def holds_lock(self, top_up_id: str) -> bool:
        """Whether the top-up is in progress and its rule is locked by it."""
        async with self.database.read() as session:
            found = await session.exec(
                select(Rule.id)
                .join(TopUpRow, col(TopUpRow.rule_id) == col(Rule.id))
                .where(col(TopUpRow.id) == top_up_id, col(TopUpRow.state) == "in_progress")
                .where(col(Rule.locked_by) == top_up_id)
            )
            return found.first() is not None

    async def remember_check(self, top_up_id: str, checked: Checked) -> Checked:
        """Keep what the check found; a repeat gets what was kept first. Raises TopUpMissing."""
        async with self.database.commit() as session:
            top_up = await _lock_top_up(session, top_up_id)
            if top_up.checked is None:
                top_up.checked = checked.model_dump(mode="json")
            return Checked.model_validate(top_up.checked)

    async def note_checking(self, notice: CheckingNotice) -> tuple[Delivery, ...]:
        """Show the draw as being checked while the top-up is open; queue the notices when asked to (R21)."""
        async with self.database.commit() as session:
            top_up = await _lock_top_up(session, notice.top_up_id)
            if top_up.state == "ended":
                return ()
            await _write_draws(session, top_up.id, [_being_checked(notice, top_up)])
            if not notice.tell_owner:
                return ()
            return await queue_deliveries(
                session,
                top_up_id=top_up.id,
                owner_id=top_up.owner_id,
                kind="being_checked",
                subject=checking_headline(Money(top_up.currency, top_up.amount)),
            )

    async def settle(self, order: SettleOrder) -> Settled:
        """End the top-up: results, arming, unlocking, what was spent meanwhile, and notifications, in one commit.

        The ledger has the last word on what moved, and every draw key is taken: nothing moves for this top-up any
        more. Locks in the order wallet, balance, keys: a draw still under way has its accounts before it takes its key,
        so neither can wait for the other in a circle. A repeat changes nothing and gets the first one's answer.
        Raises TopUpMissing.
        """
        async with self.database.commit() as session:
            wallet_id = await _wallet_of(session, order.top_up_id)
            await run_sql(session, _LOCK_WALLET, wallet_id=wallet_id)
            top_up = await _lock_top_up(session, order.top_up_id)
            if top_up.state == "ended":
                return await _as_recorded(session, top_up)
            held = (await run_sql(session, _HOLD_BALANCE, wallet_id=wallet_id)).one()
            truths, ending = await _by_the_ledger(session, top_up, order)
            await _write_draws(session, top_up.id, [truth.draw for truth in truths])
            _end(top_up, ending, at=await read_clock(session))
            await _release(session, top_up, ending, held)
            deliveries = await _queue_ending(session, top_up, ending)
            await tell_ended(session, top_up, [truth.draw for truth in truths if not truth.answered])
        await self.database.wake_watchers()
        return Settled(ending=ending, deliveries=deliveries, draws=tuple(truth.draw for truth in truths))

    async def unsettled(self, *, older_than: timedelta) -> tuple[OpenTopUp, ...]:
        """Top-ups in progress for longer than this, oldest first.

        The clock may have been turned back meanwhile: one that seems to start in the future is none that has just
        begun.
        """
        started = col(TopUpRow.started_at)
        async with self.database.read() as session:
            now = await read_clock(session)
            rows = await session.exec(
                select(TopUpRow, Owner)
                .join(Owner, col(Owner.id) == col(TopUpRow.owner_id))
                .where(
                    col(TopUpRow.state) == "in_progress",
                    (started <= now - older_than) | (started > now),
                )
                .order_by(col(TopUpRow.id))
            )
            return tuple(
                OpenTopUp(order_of(top_up, owner, self.patience), top_up.handed_over_at is not None)
                for top_up, owner in rows
            )

    async def record_hand_over(self, top_up_ids: tuple[str, ...]) -> None:
        """Remember that Temporal has these top-ups' workflows."""
        await record_hand_over(self.database, top_up_ids)


async def _wallet_of(session: AsyncSession, top_up_id: str) -> str:
    found = (await session.exec(select(TopUpRow.wallet_id).where(col(TopUpRow.id) == top_up_id))).first()
    if found is None:
        message = f"there is no top-up {top_up_id}"
        raise TopUpMissing(message)
    return found


async def _lock_top_up(session: AsyncSession, top_up_id: str) -> TopUpRow:
    statement = select(TopUpRow).where(col(TopUpRow.id) == top_up_id).with_for_update(key_share=True)
    top_up = (await session.exec(statement)).first()
    if top_up is None:
        message = f"there is no top-up {top_up_id}"
        raise TopUpMissing(message)
    return top_up


async def _by_the_ledger(
    session: AsyncSession, top_up: TopUpRow, order: SettleOrder
) -> tuple[Sequence[_Truth], Ending]:
    """The results as reported, unless the ledger knows better: then it wins.

    An operator's hand was in it, or an answer was untrue. Where something is missing and no source had less than
    it was asked for, it was the hand.
    """
    reported = {draw.rank: draw for draw in order.draws}
    answers = await fence_all(
        session, draw_names(top_up_id=top_up.id, owner_id=top_up.owner_id, terms=_terms(top_up))
    )
    truths = [_truth(name, answer, reported.get(name.rank)) for name, answer in answers]
    draws = [truth.draw for truth in truths]
    if sum(draw.credited.units for draw in draws) == order.ending.credited.units:
        return truths, order.ending
    short = any(draw.status is DrawStatus.SHORT for draw in draws)
    return truths, conclude(Money(top_up.currency, top_up.amount), draws, stopped=not short)


def _truth(name: DrawName, answer: Moved | Refused | NotMoved, reported: DrawResult | None) -> _Truth:
    known, answered = result_of(name, answer), not isinstance(answer, NotMoved)
    if reported is None:
        nothing = not_drawn(name.rank, name.asset, currency=name.currency)
        return _Truth(known if known.credited else nothing, answered)
    agreed = (reported.debited, reported.credited) == (known.debited, known.credited)
    return _Truth(reported if agreed else known, answered)


def _terms(top_up: TopUpRow) -> Terms:
    return terms_of(top_up, top_up.currency)


def _end(top_up: TopUpRow, ending: Ending, *, at: datetime) -> None:
    """Whatever the clock says, nothing ends before it started."""
    top_up.state = "ended"
    top_up.outcome = ending.outcome.value
    top_up.reason = ending.reason.value
    top_up.credited = ending.credited.units
    top_up.ended_at = max(at, top_up.started_at)


async def _release(session: AsyncSession, top_up: TopUpRow, ending: Ending, held: Row[Any]) -> None:
    """Judge what is left as locked, open the lock, arm or not, and have meanwhile's spends judged (R7, R9, R12)."""
    statement = select(Rule).where(col(Rule.id) == top_up.rule_id, col(Rule.locked_by) == top_up.id)
    rule = (await session.exec(statement.with_for_update(key_share=True))).first()
    await judge_wallets(session, [top_up.wallet_id])
    if rule is None:
        return
    balance, threshold = (
        Money(top_up.currency, int(held.balance)),
        Money(top_up.currency, rule.threshold),
    )
    spent_meanwhile = rule.spent_while_locked
    rule.locked_by = None
    rule.spent_while_locked = False
    rule.armed = armed_after(ending.outcome, balance=balance, threshold=threshold, kept=Kept(held.kept))
    if spent_meanwhile:
        session.add(
            BalanceEvent(
                id=new_id("event"),
                wallet_id=top_up.wallet_id,
                change=Change.RELEASED.value,
                balance=balance.units,
                version=held.version,
            )
        )


async def _queue_ending(session: AsyncSession, top_up: TopUpRow, ending: Ending) -> tuple[Delivery, ...]:
    if ending.outcome is Outcome.NOT_NEEDED:
        return ()
    await session.flush()
    return await queue_deliveries(
        session,
        top_up_id=top_up.id,
        owner_id=top_up.owner_id,
        kind="ended",
        subject=headline(ending, Money(top_up.currency, top_up.amount)),
    )


async def _as_recorded(session: AsyncSession, top_up: TopUpRow) -> Settled:
    outcome, reason = Outcome(str(top_up.outcome)), Reason(str(top_up.reason))
    rows = await session.exec(
        select(DrawRow).where(col(DrawRow.top_up_id) == top_up.id).order_by(col(DrawRow.rank))
    )
    return Settled(
        ending=Ending(outcome, reason, Money(top_up.currency, top_up.credited)),
        deliveries=await queued_deliveries(session, top_up.id, "ended"),
        draws=tuple(draw_result(row, top_up.currency) for row in rows),
    )


async def _write_draws(session: AsyncSession, top_up_id: str, draws: Sequence[DrawResult]) -> None:
    for draw in draws:
        columns = {
            "status": draw.status.value,
            "reason": draw.reason.value if draw.reason else None,
            "debited": draw.debited.units,
            "credited": draw.credited.units,
        }
        written = insert(DrawRow).values(top_up_id=top_up_id, rank=draw.rank, asset=draw.asset, **columns)
        await session.exec(written.on_conflict_do_update(index_elements=["top_up_id", "rank"], set_=columns))


def _being_checked(notice: CheckingNotice, top_up: TopUpRow) -> DrawResult:
    return DrawResult(
        rank=notice.rank,
        asset=notice.asset,
        status=DrawStatus.BEING_CHECKED,
        reason=None,
        debited=Money.nothing(notice.asset),
        credited=Money.nothing(top_up.currency),
    )
