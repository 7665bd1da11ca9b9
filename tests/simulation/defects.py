"""Defects planted on purpose: each breaks one promise, and a simulation that does not see it is worth nothing."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from types import MappingProxyType
from typing import Any
from unittest.mock import patch

from sqlalchemy import text
from sqlmodel import col, select, update

from activities.messages import Checked, DrawName, Moved, NotMoved, Refused
from adapters.postgres import claims, ledger, rules, top_ups
from adapters.postgres.database import run_sql
from adapters.postgres.deliveries import queue_deliveries
from adapters.postgres.tables import Rule
from adapters.postgres.wallets import hold_wallet
from topup.money import Money
from topup.outcome import DrawResult
from topup.trigger import Decision, judge
from workflows import policies, top_up

Planted = AbstractContextManager[Any]

_ONLY_READ = text(
    "SELECT key AS id, coalesce(t.status, 'void') AS status, t.reason, coalesce(t.debited, 0) AS debited, "
    "coalesce(t.credited, 0) AS credited FROM unnest(CAST(:keys AS text[])) AS key LEFT JOIN transfer t ON t.id = key"
)
_LOCK_NOTHING = text("SELECT id FROM wallet WHERE id = ANY(:wallet_ids) ORDER BY id")


def stays_armed() -> Planted:
    """Firing does not disarm (R9)."""

    def judged(*arguments: Any, **named: Any) -> Decision:
        return replace(judge(*arguments, **named), armed=True)

    return patch.object(claims, "judge", judged)


def acts_on_stale_events() -> Planted:
    """An old report counts like a new one (R10)."""

    def judged(*arguments: Any, **named: Any) -> Decision:
        return judge(*arguments, **{**named, "stale": False})

    return patch.object(claims, "judge", judged)


def judges_without_wallet_lock() -> Planted:
    """Two watchers judge the same wallet at once (R10)."""
    return patch.object(claims, "_LOCK_WALLETS", _LOCK_NOTHING)


def forgets_spends_during_top_up() -> Planted:
    """What is spent while the rule is locked is never judged (R12)."""
    judge_one = claims._judge_one

    def judged(bench: Any, event: Any) -> None:
        judge_one(bench, event)
        if bench.rule is not None:
            bench.rule.spent_while_locked = False

    return patch.object(claims, "_judge_one", judged)


def settles_without_fence() -> Planted:
    """Settling only reads what moved, and takes no key (R19, R21)."""

    async def read_all(
        session: Any, names: Sequence[DrawName]
    ) -> tuple[tuple[DrawName, Moved | Refused | NotMoved], ...]:
        rows = {row.id: row for row in await run_sql(session, _ONLY_READ, keys=[name.key for name in names])}
        return tuple((name, ledger._answer(rows[name.key], name)) for name in names)

    return patch.object(top_ups, "fence_all", read_all)


def looks_up_without_fence() -> Planted:
    """A draw that is not found counts as not moved, though it may still come (R21)."""
    return patch.object(ledger, "_FENCE", _ONLY_READ)


def draws_failed_shares_elsewhere() -> Planted:
    """What a source did not give is asked of the next one, whatever the cause (R18)."""

    def carried(asked: Money, result: DrawResult) -> Money:
        return asked - result.credited

    return patch.object(top_up, "carried_over", carried)


def draws_too_much() -> Planted:
    """What a source gave is asked of the next one once more (R16, R19)."""

    def carried(_: Money, result: DrawResult) -> Money:
        return result.credited

    return patch.object(top_up, "carried_over", carried)


def draws_again() -> Planted:
    """A draw without an answer is simply tried again (R20)."""
    drawing = policies.drawing

    def patient(patience: Any) -> Any:
        return {**drawing(patience), "retry_policy": policies.BOOKKEEPING}

    return patch.object(policies, "drawing", patient)


def unlocks_early() -> Planted:
    """The rule is unlocked as soon as the sources have been checked (R7)."""
    remember_check = top_ups.TopUpRecords.remember_check

    async def remember(records: Any, top_up_id: str, checked: Checked) -> Checked:
        kept = await remember_check(records, top_up_id, checked)
        async with records.database.commit() as session:
            opened = update(Rule).where(col(Rule.locked_by) == top_up_id).values(locked_by=None)
            await session.exec(opened)
        return kept

    return patch.object(top_ups.TopUpRecords, "remember_check", remember)


def edits_locked_rules() -> Planted:
    """A rule can be changed while its top-up runs (R7)."""
    hold_rule = rules._hold_rule

    async def hold(session: Any, rule_id: str, **named: Any) -> Any:
        try:
            return await hold_rule(session, rule_id, **named)
        except rules.RuleLocked:
            rule = (await session.exec(select(Rule).where(col(Rule.id) == rule_id))).one()
            wallet = await hold_wallet(session, rule.wallet_id, bound_to=None)
            return rules._Held(rule, wallet, named["author"])

    return patch.object(rules, "_hold_rule", hold)


def arms_after_failures() -> Planted:
    """A failed top-up arms its rule (R9)."""
    return patch.object(top_ups, "armed_after", lambda *_, **__: True)


def tells_twice() -> Planted:
    """Settling queues a second notice for each channel (R23)."""

    async def queue_twice(session: Any, **named: Any) -> Any:
        await queue_deliveries(session, **{**named, "kind": "being_checked"})
        return await queue_deliveries(session, **named)

    return patch.object(top_ups, "queue_deliveries", queue_twice)


def loses_events() -> Planted:
    """Of several events of a wallet only the last one is judged (R10, R13)."""
    unjudged = claims._unjudged

    async def last_ones(session: Any, wallet_ids: Sequence[str], events_max: int | None) -> Any:
        events = await unjudged(session, wallet_ids, events_max)
        last = {event.wallet_id: event for event in events}
        for event in events:
            event.judged = True
        return [event for event in events if last[event.wallet_id] is event]

    return patch.object(claims, "_unjudged", last_ones)


DEFECTS: Mapping[str, Callable[[], Planted]] = MappingProxyType(
    {
        planted.__name__: planted
        for planted in (
            stays_armed,
            acts_on_stale_events,
            judges_without_wallet_lock,
            forgets_spends_during_top_up,
            settles_without_fence,
            looks_up_without_fence,
            draws_failed_shares_elsewhere,
            draws_too_much,
            draws_again,
            unlocks_early,
            edits_locked_rules,
            arms_after_failures,
            tells_twice,
            loses_events,
        )
    }
)
