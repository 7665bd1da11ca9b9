"""What is true of the whole database at rest, whatever was killed or stopped before."""

from collections.abc import Mapping
from types import MappingProxyType

from sqlalchemy import TextClause, text

from adapters.postgres.database import Database, run_sql

_ASSETS = """
SELECT asset, sum(posted) FROM account GROUP BY asset HAVING sum(posted) <> 0
"""
_TRANSFERS = """
SELECT e.transfer_id, a.asset, sum(e.amount) FROM entry e JOIN account a ON a.id = e.account_id
GROUP BY e.transfer_id, a.asset HAVING sum(e.amount) <> 0
"""
_DEBTS = """
SELECT id, posted, held FROM account WHERE kind NOT IN ('house', 'world') AND posted - held < 0
"""
_CHAINS = """
SELECT * FROM (
    SELECT e.account_id, e.account_version, e.balance_after, a.posted, a.version,
        row_number() OVER story AS place, sum(e.amount) OVER story AS sum_so_far,
        count(*) OVER (PARTITION BY e.account_id) AS entries
    FROM entry e JOIN account a ON a.id = e.account_id
    WINDOW story AS (PARTITION BY e.account_id ORDER BY e.account_version)
) chain
WHERE place <> account_version OR sum_so_far <> balance_after OR entries <> version
    OR (place = entries AND balance_after <> posted)
"""
_BALANCES = """
SELECT a.id, a.posted FROM account a
WHERE a.posted <> (SELECT coalesce(sum(e.amount), 0) FROM entry e WHERE e.account_id = a.id)
"""
_DRAW_KEYS = """
SELECT x.id, x.status, count(e.account_id) FROM transfer x LEFT JOIN entry e ON e.transfer_id = x.id
WHERE x.kind = 'draw' GROUP BY x.id
HAVING count(e.account_id) <> count(DISTINCT e.account_id) OR count(e.account_id) NOT IN (0, 2, 4)
    OR (count(e.account_id) > 0) <> (x.credited > 0)
"""
_OVERFILLED = """
SELECT id, credited, amount FROM top_up WHERE credited > amount
"""
_SUMS = """
SELECT * FROM (
    SELECT t.id, t.state, t.credited,
        (SELECT coalesce(sum(d.credited), 0) FROM draw d WHERE d.top_up_id = t.id) AS told,
        (SELECT coalesce(sum(x.credited), 0) FROM transfer x WHERE split_part(x.id, ':', 1) = t.id) AS moved,
        (SELECT coalesce(sum(e.amount), 0) FROM entry e JOIN account a ON a.id = e.account_id
            WHERE a.wallet_id = t.wallet_id AND split_part(e.transfer_id, ':', 1) = t.id) AS arrived
    FROM top_up t
) sums
WHERE state = 'ended' AND NOT (credited = told AND told = moved AND moved = arrived)
"""
_RESULTS = """
SELECT d.top_up_id, d.rank, d.status, d.credited, x.status, x.credited
FROM draw d LEFT JOIN transfer x ON x.id = d.top_up_id || ':' || d.rank
WHERE d.status <> 'being_checked'
    AND (d.debited, d.credited) <> (coalesce(x.debited, 0), coalesce(x.credited, 0))
"""
_TRIGGERS = """
SELECT trigger_event_id, count(*) FROM top_up GROUP BY trigger_event_id HAVING count(*) > 1
"""
_FIRINGS = """
SELECT d.seq, t.id FROM (SELECT * FROM decision WHERE fired) d
FULL JOIN top_up t ON t.id = d.top_up_id AND t.trigger_event_id = d.event_id
WHERE d.seq IS NULL OR t.id IS NULL
"""
_DECISIONS = """
SELECT e.id, e.change, count(d.seq) FROM balance_event e
JOIN rule r ON r.wallet_id = e.wallet_id AND r.created_at < e.occurred_at
LEFT JOIN decision d ON d.event_id = e.id
WHERE e.judged GROUP BY e.id, e.change HAVING count(d.seq) <> 1
"""
_LOCKS = """
SELECT r.id, r.locked_by, t.id FROM rule r
FULL JOIN (SELECT * FROM top_up WHERE state = 'in_progress') t ON t.rule_id = r.id AND t.id = r.locked_by
WHERE (r.locked_by IS NOT NULL AND t.id IS NULL) OR (t.id IS NOT NULL AND r.id IS NULL)
"""
_NOTICES = """
SELECT t.id, t.outcome, count(d.id), count(DISTINCT d.channel)
FROM top_up t LEFT JOIN delivery d ON d.top_up_id = t.id AND d.kind = 'ended'
WHERE t.state = 'ended' GROUP BY t.id, t.outcome
HAVING count(d.id) <> count(DISTINCT d.channel)
    OR count(d.id) <> CASE WHEN t.outcome = 'not_needed' THEN 0 ELSE 2 END
"""

_BREACHES: Mapping[str, TextClause] = MappingProxyType(
    {
        "every asset is conserved, the world's and the house's accounts included": text(_ASSETS),
        "every transfer conserves each asset": text(_TRANSFERS),
        "nobody owes": text(_DEBTS),
        "a chain of entries has no gap and ends in the balance": text(_CHAINS),
        "a balance comes from its entries": text(_BALANCES),
        "a draw's key stands for one transfer, written once": text(_DRAW_KEYS),
        "no top-up gives more than its amount": text(_OVERFILLED),
        "what is told, what moved and what arrived are one sum": text(_SUMS),
        "the result of each source is the ledger's": text(_RESULTS),
        "a trigger has one top-up": text(_TRIGGERS),
        "every firing has its top-up, and every top-up its firing": text(_FIRINGS),
        "every event since the rule was made is decided once": text(_DECISIONS),
        "a rule is locked by a top-up in progress, and only then": text(_LOCKS),
        "an owner is told once per channel, and of nothing when nothing was needed": text(_NOTICES),
    }
)


async def assert_invariants(database: Database) -> None:
    """Assert all of it at one moment, naming what is not so and where."""
    async with database.read() as session:
        found = {what: (await run_sql(session, breach)).all() for what, breach in _BREACHES.items()}
    assert {what: rows for what, rows in found.items() if rows} == {}
