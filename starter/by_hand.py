"""Start one top-up by hand: the rule is saved as it stands, judged at once, and its top-up followed to the end."""

import asyncio
import contextlib
from dataclasses import dataclass

from activities.messages import Ended
from adapters.postgres.claims import is_judged
from adapters.postgres.database import Database
from adapters.postgres.history import DecisionRecord, list_decisions
from adapters.postgres.rules import Author, RuleLocked, RuleUnknown, VersionStale, edit_rule, read_rule
from starter.runs import TemporalRuns
from starter.watcher import Watcher
from topup.keys import workflow_id
from topup.rule import RuleState
from topup.words import decision_words

_OPERATOR = Author(name="operator, by hand", bound_to=None)
_PAUSE_SECONDS = 0.1
_PATIENCE_SECONDS = 30
_DECISIONS_MAX = 100


@dataclass(frozen=True, slots=True)
class _Asked:
    """A rule that was saved to have it judged, and the number of the last decision before."""

    rule_id: str
    wallet_id: str
    decided_before: int


async def run_rule(watcher: Watcher, runs: TemporalRuns, rule_id: str) -> tuple[str, int]:
    """Save the rule unchanged, which arms it and has it judged (R9, R11); then wait for what comes of it.

    Returns what happened in words and the exit code: 0 when a top-up ran or none was due, 1 when it was refused.
    """
    asked = await _ask(watcher.database, rule_id)
    if isinstance(asked, str):
        return asked, 1
    decision = await _decision(watcher, asked)
    if decision is None:
        return f"{rule_id} was not judged: it was deleted meanwhile, or the logs of the watchers say why.", 1
    if decision.top_up_id is None:
        return f"No top-up: {decision_words(decision.reason)}", 0
    await watcher.hand_over_all()
    run = runs.client.get_workflow_handle(workflow_id(decision.top_up_id), result_type=Ended)
    ended = await run.result()
    return "\n".join((f"{ended.top_up_id}: {ended.outcome} / {ended.reason}", *ended.in_words)), 0


async def _ask(database: Database, rule_id: str) -> _Asked | str:
    """Have the rule judged as if its owner had just saved it; or what stands in the way, in words."""
    try:
        async with database.commit() as session:
            rule = await read_rule(session, rule_id, bound_to=None)
            if rule.state is RuleState.OFF:
                return f"{rule_id} is off: turn it on first, which has it judged at once."
            await edit_rule(session, rule_id, {}, version=rule.version, author=_OPERATOR)
            newest = await list_decisions(session, rule_id, after=None, most=1)
    except (RuleUnknown, RuleLocked, VersionStale) as refusal:
        return str(refusal)
    return _Asked(rule_id, rule.wallet_id, newest[0].seq if newest else 0)


async def _decision(watcher: Watcher, asked: _Asked) -> DecisionRecord | None:
    """What was decided, whichever watcher judged it: the first decision with a top-up, else the newest."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await _judge(watcher, asked.wallet_id)
    async with watcher.database.read() as session:
        newest = await list_decisions(session, asked.rule_id, after=None, most=_DECISIONS_MAX)
    since = [decision for decision in reversed(newest) if decision.seq > asked.decided_before]
    return next((decision for decision in since if decision.top_up_id), since[-1] if since else None)


async def _judge(watcher: Watcher, wallet_id: str) -> None:
    """Judge, or wait for another watcher that is at it."""
    await watcher.judge_all()
    while not await is_judged(watcher.database, wallet_id):
        await asyncio.sleep(_PAUSE_SECONDS)
        await watcher.judge_all()
