"""Judging: balance events become decisions, and at most one of them a top-up, in one commit (R8 to R13)."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from sqlalchemy import text
from sqlalchemy.exc import DataError, IntegrityError, InternalError
from sqlmodel import col, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.messages import Delivery, Order, Patience, Telling
from adapters.postgres.announcements import tell_started
from adapters.postgres.caps import read_reached
from adapters.postgres.clock import read_clock
from adapters.postgres.database import Database, run_sql
from adapters.postgres.deliveries import queue_low_balance
from adapters.postgres.ids import new_id
from adapters.postgres.tables import BalanceEvent, DecisionRow, Owner, Rule, TopUpRow, Wallet
from topup.keys import shown_event
from topup.low_balance import begins_low_balance, ends_dip
from topup.money import Money
from topup.rule import AccountKind, Terms
from topup.trigger import Change, Decision, DecisionReason, Watch, judge
from topup.words import Notice

_UNJUDGEABLE = (ValueError, LookupError, ArithmeticError, IntegrityError, DataError, InternalError)
_LOG = structlog.get_logger()
_WALLETS_WAITING = text("SELECT DISTINCT wallet_id FROM balance_event WHERE NOT judged LIMIT :wallets_max")
_IS_WAITING = text("SELECT EXISTS (SELECT FROM balance_event WHERE wallet_id = :wallet_id AND NOT judged)")
_MARK_JUDGED = text("UPDATE balance_event SET judged = true WHERE seq = ANY(:seqs)")
_LOCK_WALLETS = text(
    "SELECT id FROM wallet WHERE id = ANY(:wallet_ids) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED"
)


@dataclass(frozen=True, slots=True)
class LowBalance:
    """A low balance that no top-up follows: the event that left it, and what was queued to tell its owner."""

    event_id: str
    deliveries: tuple[Delivery, ...]

    def telling(self, patience: Patience) -> Telling:
        """What has the owner told."""
        return Telling(
            event_id=self.event_id,
            kind=Notice.LOW_BALANCE,
            deliveries=self.deliveries,
            give_up_after=patience.notify_give_up,
        )


@dataclass(frozen=True, slots=True)
class Judged:
    """What one round of judging did: events judged, top-ups claimed, ready to be started, and low balances to tell."""

    events: int
    claimed: tuple[str, ...]
    low: tuple[LowBalance, ...] = ()


@dataclass(slots=True)
class _Bench:
    """One wallet on the bench: its rule as judging changes it, and what was decided."""

    wallet: Wallet
    rule: Rule | None
    capped: bool
    """One more top-up, started at `at`, would pass a cap of the rule."""
    wants_notices: bool
    """Its owner wants to be told of a low balance that no top-up follows."""
    at: datetime
    now: datetime
    """This moment by the database's clock: what sorts a top-up behind those before it."""
    decisions: list[DecisionRow] = field(default_factory=list)
    claimed: list[TopUpRow] = field(default_factory=list)
    low: list[str] = field(default_factory=list)
    """The events that left the balance low, of which the owner is to be told."""


@dataclass(frozen=True, slots=True)
class Claims:
    """The watcher's part of the store. Any number may judge at once: a wallet is judged by one at a time."""

    database: Database
    wallets_max: int = 64
    events_max: int = 1000
    """How many wallets, and how many of their events, one commit judges at most."""
    clock: Callable[[], datetime] | None = None
    """Only tests have one: a top-up starts by the database's, since watchers' own clocks differ."""

    async def judge_waiting(self) -> Judged:
        """Judge every unjudged event of some wallets, in order; repeat until it says zero events.

        One commit: decisions, disarming, locks and top-ups become true together or not at all. The cost depends on
        the events, not on the number of rules.
        """
        async with self.database.commit() as session:
            waiting = (await run_sql(session, _WALLETS_WAITING, wallets_max=self.wallets_max)).scalars().all()
            if not waiting:
                return Judged(0, ())
            locked = (await run_sql(session, _LOCK_WALLETS, wallet_ids=list(waiting))).scalars().all()
            return await judge_wallets(session, locked, at=self._at(), events_max=self.events_max)

    async def judge_one_by_one(self) -> Judged:
        """Judge some wallets, each in a commit of its own, and pass over those that cannot be judged, saying so."""
        async with self.database.read() as session:
            waiting = (await run_sql(session, _WALLETS_WAITING, wallets_max=None)).scalars().all()
        rounds = [await self._judge_alone(wallet_id) for wallet_id in waiting]
        return Judged(
            events=sum(judged.events for judged in rounds),
            claimed=tuple(top_up_id for judged in rounds for top_up_id in judged.claimed),
            low=tuple(low for judged in rounds for low in judged.low),
        )

    async def _judge_alone(self, wallet_id: str) -> Judged:
        try:
            async with self.database.commit() as session:
                locked = (await run_sql(session, _LOCK_WALLETS, wallet_ids=[wallet_id])).scalars().all()
                return await judge_wallets(session, locked, at=self._at(), events_max=self.events_max)
        except _UNJUDGEABLE:
            _LOG.exception("wallet.not_judged", wallet_id=wallet_id)
            return Judged(0, ())

    def _at(self) -> datetime | None:
        return self.clock() if self.clock else None


async def judge_wallets(
    session: AsyncSession,
    wallet_ids: Sequence[str],
    *,
    at: datetime | None = None,
    events_max: int | None = None,
) -> Judged:
    """Judge what is unjudged of these wallets, whose rows the caller has locked, in the caller's commit.

    Whoever has the wallet's row is the only one who can make a top-up of it exist, so what is counted for a cap here
    is all there is. A top-up made here starts `at` this moment, the database's own where none is given, and counts for
    its day and month.
    """
    benches = await _open_benches(session, wallet_ids, at)
    events = await _unjudged(session, wallet_ids, events_max)
    for event in events:
        _judge_one(benches[event.wallet_id], event)
    _write(session, benches.values())
    await _mark_judged(session, events)
    await tell_started(session, (top_up for bench in benches.values() for top_up in bench.claimed))
    claimed = tuple(top_up.id for bench in benches.values() for top_up in bench.claimed)
    return Judged(len(events), claimed, await _queue_low(session, benches.values()))


async def is_judged(database: Database, wallet_id: str) -> bool:
    """Whether no event of the wallet waits to be judged."""
    async with database.read() as session:
        return not (await run_sql(session, _IS_WAITING, wallet_id=wallet_id)).scalar_one()


async def unstarted(database: Database, *, patience: Patience, most: int = 100) -> tuple[Order, ...]:
    """Top-ups that Temporal may not have yet, oldest first."""
    async with database.read() as session:
        rows = await session.exec(
            select(TopUpRow, Owner)
            .join(Owner, col(Owner.id) == col(TopUpRow.owner_id))
            .where(col(TopUpRow.handed_over_at).is_(None), col(TopUpRow.state) == "in_progress")
            .order_by(col(TopUpRow.id))
            .limit(most)
        )
        return tuple(order_of(top_up, owner, patience) for top_up, owner in rows)


async def record_hand_over(database: Database, top_up_ids: Iterable[str]) -> None:
    """Remember that Temporal has these top-ups' workflows."""
    async with database.commit() as session:
        await session.exec(
            update(TopUpRow)
            .where(col(TopUpRow.id).in_(list(top_up_ids)), col(TopUpRow.handed_over_at).is_(None))
            .values(handed_over_at=text("now()"))
        )


def order_of(top_up: TopUpRow, owner: Owner, patience: Patience) -> Order:
    """The order by which a workflow executes a claimed top-up: the terms are those it fired under."""
    return Order(
        top_up_id=top_up.id,
        rule_id=top_up.rule_id,
        wallet_id=top_up.wallet_id,
        owner_id=top_up.owner_id,
        owner_name=owner.name,
        terms=terms_of(top_up, top_up.currency),
        trigger_event_id=shown_event(top_up.trigger_event_id),
        trigger_balance=Money(top_up.currency, top_up.trigger_balance),
        patience=patience,
    )


def terms_of(row: Rule | TopUpRow, currency: str) -> Terms:
    """The terms a rule or a top-up row keeps."""
    return Terms(
        threshold=Money(currency, row.threshold),
        amount=Money(currency, row.amount),
        account=AccountKind(row.account),
        sources=tuple(row.sources),
    )


async def _open_benches(
    session: AsyncSession, wallet_ids: Sequence[str], at: datetime | None
) -> dict[str, _Bench]:
    statement = select(Wallet, Owner.low_balance_notices).join(Owner, col(Owner.id) == col(Wallet.owner_id))
    now = await read_clock(session)
    at = at or now
    wallets = (await session.exec(statement.where(col(Wallet.id).in_(wallet_ids)))).all()
    rules = await _lock_rules(session, wallet_ids)
    ruled = [(rules[wallet.id], wallet.currency) for wallet, _ in wallets if wallet.id in rules]
    reached = await read_reached(session, ruled, at=at)
    return {
        wallet.id: _Bench(wallet, rules.get(wallet.id), wallet.id in reached, wants_notices, at, now)
        for wallet, wants_notices in wallets
    }


async def _lock_rules(session: AsyncSession, wallet_ids: Sequence[str]) -> dict[str, Rule]:
    statement = (
        select(Rule)
        .where(col(Rule.wallet_id).in_(wallet_ids))
        .order_by(col(Rule.wallet_id))
        .with_for_update(key_share=True)
    )
    return {rule.wallet_id: rule for rule in (await session.exec(statement)).all()}


async def _unjudged(
    session: AsyncSession, wallet_ids: Sequence[str], events_max: int | None
) -> Sequence[BalanceEvent]:
    statement = (
        select(BalanceEvent)
        .where(col(BalanceEvent.wallet_id).in_(wallet_ids), ~col(BalanceEvent.judged))
        .order_by(col(BalanceEvent.wallet_id), col(BalanceEvent.seq))
        .limit(events_max)
    )
    return (await session.exec(statement)).all()


def _judge_one(bench: _Bench, event: BalanceEvent) -> None:
    if bench.rule is None:
        return
    change, balance = Change(event.change), Money(bench.wallet.currency, event.balance)
    watch = watch_of(bench.rule, bench.wallet.currency, capped=bench.capped)
    decision = judge(watch, balance=balance, change=change, stale=event.stale)
    top_up = _claim(bench.rule, bench, event) if decision.fired else None
    if decision.reason is DecisionReason.LOCKED and change is Change.SPENT:
        # A save found locked came before the lock, which refuses saves: the running top-up has served it already.
        bench.rule.spent_while_locked = True
    bench.rule.armed = decision.armed
    if ends_dip(decision, balance=balance, threshold=watch.threshold):
        bench.rule.told_low_event_id = None
    if begins_low_balance(decision, balance=balance, threshold=watch.threshold, change=change):
        _note_low(bench, bench.rule, event)
    bench.decisions.append(_decision_row(bench.rule, bench.wallet, event, decision, top_up))
    if top_up is not None:
        bench.rule.locked_by = top_up.id
        bench.claimed.append(top_up)


def _note_low(bench: _Bench, rule: Rule, event: BalanceEvent) -> None:
    """Have the owner told, unless they were told of this dip already or do not want to be."""
    if bench.wants_notices and rule.told_low_event_id is None:
        rule.told_low_event_id = event.id
        bench.low.append(event.id)


def watch_of(rule: Rule, currency: str, *, capped: bool) -> Watch:
    """The part of a rule that judging needs."""
    return Watch(
        threshold=Money(currency, rule.threshold),
        enabled=rule.enabled,
        armed=rule.armed,
        locked=rule.locked_by is not None,
        capped=capped,
    )


def _claim(rule: Rule, bench: _Bench, event: BalanceEvent) -> TopUpRow:
    wallet = bench.wallet
    return TopUpRow(
        id=new_id("topup", at=bench.now),
        rule_id=rule.id,
        rule_version=rule.version,
        wallet_id=wallet.id,
        owner_id=wallet.owner_id,
        currency=wallet.currency,
        threshold=rule.threshold,
        amount=rule.amount,
        account=rule.account,
        sources=list(rule.sources),
        trigger_event_id=event.id,
        trigger_balance=event.balance,
        state="in_progress",
        credited=0,
        started_at=bench.at,
    )


def _decision_row(
    rule: Rule, wallet: Wallet, event: BalanceEvent, decision: Decision, top_up: TopUpRow | None
) -> DecisionRow:
    return DecisionRow(
        rule_id=rule.id,
        wallet_id=wallet.id,
        event_id=event.id,
        balance=event.balance,
        threshold=rule.threshold,
        currency=wallet.currency,
        fired=decision.fired,
        reason=decision.reason.value,
        top_up_id=top_up.id if top_up else rule.locked_by,
    )


def _write(session: AsyncSession, benches: Iterable[_Bench]) -> None:
    for bench in benches:
        session.add_all(bench.decisions)
        session.add_all(bench.claimed)


async def _queue_low(session: AsyncSession, benches: Iterable[_Bench]) -> tuple[LowBalance, ...]:
    """Queue what tells of the low balances that are still so: of several dips in one round the last one."""
    low = [
        (bench.wallet, bench.rule)
        for bench in benches
        if bench.rule is not None and bench.rule.told_low_event_id in bench.low
    ]
    return tuple([await _queue_one_low(session, wallet, rule) for wallet, rule in low])


async def _queue_one_low(session: AsyncSession, wallet: Wallet, rule: Rule) -> LowBalance:
    event_id = rule.told_low_event_id or ""
    threshold = Money(wallet.currency, rule.threshold)
    deliveries = await queue_low_balance(
        session, event_id=event_id, owner_id=wallet.owner_id, threshold=threshold
    )
    return LowBalance(event_id, deliveries)


async def _mark_judged(session: AsyncSession, events: Sequence[BalanceEvent]) -> None:
    await session.flush()
    await run_sql(session, _MARK_JUDGED, seqs=[event.seq for event in events])
