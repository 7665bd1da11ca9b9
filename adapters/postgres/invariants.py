"""What is true of the whole database at every moment, each said in a sentence and asked for what breaches it.

Each query gives what breaches the invariant, its id first. Every one holds between any two commits of the product, so
also while top-ups run, events wait to be judged and notifications wait to be sent. Nothing here goes by the order of
clocks: within a wallet, the number of a balance event is the order of commits, since whoever writes one has the lock.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

COUNTS: Mapping[str, str] = MappingProxyType(
    {
        "accounts": "SELECT count(*) FROM account",
        "entries": "SELECT count(*) FROM entry",
        "transfers": "SELECT count(*) FROM transfer",
        "draws": "SELECT count(*) FROM transfer WHERE kind = 'draw'",
        "balance events": "SELECT count(*) FROM balance_event",
        "decisions": "SELECT count(*) FROM decision",
        "rules": "SELECT count(*) FROM rule",
        "top-ups": "SELECT count(*) FROM top_up",
        "ended top-ups": "SELECT count(*) FROM top_up WHERE state = 'ended'",
        "notifications": "SELECT count(*) FROM delivery",
        "guards": "SELECT 14",
    }
)
"""How many there are of what the invariants look at."""


@dataclass(frozen=True, slots=True)
class Invariant:
    """One thing that is always so: the rules of the product it belongs to, and what of the database it looks at."""

    name: str
    sentence: str
    rules: tuple[str, ...]
    looks_at: str
    """One of COUNTS."""
    breaches: str


_CONSERVED = Invariant(
    "conserved",
    "every asset is conserved, the world's and the house's accounts included",
    ("R19",),
    "accounts",
    "SELECT asset, sum(posted) AS too_much FROM account GROUP BY asset HAVING sum(posted) <> 0",
)
_CONSERVING = Invariant(
    "conserving",
    "every transfer conserves each asset",
    ("R19",),
    "transfers",
    """
    SELECT e.transfer_id, a.asset, sum(e.amount) AS too_much FROM entry e JOIN account a ON a.id = e.account_id
    GROUP BY e.transfer_id, a.asset HAVING sum(e.amount) <> 0
    """,
)
_NOBODY_OWES = Invariant(
    "not_negative",
    "no balance is negative",
    ("R19", "R22"),
    "accounts",
    """
    SELECT id, asset, posted, held FROM account
    WHERE kind NOT IN ('house', 'world') AND posted - held < 0 OR held < 0
    """,
)
_CHAIN = Invariant(
    "chained",
    "the entries of an account have no gap, and each tells the balance after it",
    ("R19",),
    "entries",
    """
    SELECT account_id, account_version, place, balance_after, sum_so_far FROM (
        SELECT account_id, account_version, balance_after,
            row_number() OVER story AS place, sum(amount) OVER story AS sum_so_far
        FROM entry WINDOW story AS (PARTITION BY account_id ORDER BY account_version)
    ) chain WHERE place <> account_version OR sum_so_far <> balance_after
    """,
)
_BALANCE = Invariant(
    "summed",
    "a balance is the sum of its entries",
    ("R19",),
    "accounts",
    """
    SELECT a.id, a.asset, a.posted, e.amount, a.version, e.entries
    FROM account a LEFT JOIN (
        SELECT account_id, sum(amount) AS amount, count(*) AS entries FROM entry GROUP BY account_id
    ) e ON e.account_id = a.id
    WHERE (a.posted, a.version) <> (coalesce(e.amount, 0), coalesce(e.entries, 0))
    """,
)
_WRITTEN_ONCE = Invariant(
    "written_once",
    "a key stands for at most one transfer, and its entries are written once, or never if it moved nothing",
    ("R10", "R21"),
    "transfers",
    """
    SELECT coalesce(x.id, e.transfer_id) AS id, x.kind, x.status, e.entries FROM (
        SELECT id, min(kind) AS kind, min(status) AS status, count(*) AS times FROM transfer GROUP BY id
    ) x FULL JOIN (
        SELECT transfer_id, count(*) AS entries, count(DISTINCT account_id) AS accounts FROM entry GROUP BY transfer_id
    ) e ON e.transfer_id = x.id
    WHERE x.times IS DISTINCT FROM 1 OR e.entries <> e.accounts
        OR CASE WHEN x.status NOT IN ('moved', 'short') THEN e.entries IS NOT NULL
            WHEN x.kind = 'draw' THEN coalesce(e.entries, 0) NOT IN (2, 4)
            ELSE coalesce(e.entries, 0) <> 2 END
    """,
)
_OWN_SOURCE = Invariant(
    "own_source",
    "a draw takes from its own source, and gives to its own wallet, what its transfer says",
    ("R2", "R16", "R19"),
    "draws",
    """
    SELECT x.id, t.wallet_id, x.debited, x.credited
    FROM transfer x
    LEFT JOIN top_up t ON t.id = split_part(x.id, ':', 1)
    LEFT JOIN entry e ON e.transfer_id = x.id
    LEFT JOIN account a ON a.id = e.account_id
    WHERE x.kind = 'draw' AND x.status IN ('moved', 'short')
    GROUP BY x.id, x.debited, x.credited, t.id
    HAVING count(*) FILTER (WHERE a.wallet_id = t.wallet_id AND e.amount = x.credited) <> 1
        OR count(*) FILTER (WHERE a.wallet_id IS NULL AND a.owner_id = t.owner_id AND a.kind = t.account
            AND x.id = t.id || ':' || array_position(t.sources, a.asset) AND e.amount = -x.debited) <> 1
        OR count(*) FILTER (WHERE a.kind = 'house') <> count(*) - 2
    """,
)
_NEVER_MORE = Invariant(
    "never_more",
    "no top-up has been given more than its amount, whether it has ended or runs",
    ("R19",),
    "top-ups",
    """
    SELECT t.id, t.amount, t.credited, coalesce(x.moved, 0) AS moved FROM top_up t LEFT JOIN (
        SELECT split_part(id, ':', 1) AS top_up_id, sum(credited) AS moved FROM transfer WHERE kind = 'draw' GROUP BY 1
    ) x ON x.top_up_id = t.id
    WHERE t.credited > t.amount OR x.moved > t.amount
    """,
)
_ONE_SUM = Invariant(
    "one_sum",
    "what an ended top-up says it gave is what its sources gave, what the ledger moved and what arrived",
    ("R19", "R23"),
    "ended top-ups",
    """
    SELECT t.id, t.credited, coalesce(d.told, 0) AS told, coalesce(x.moved, 0) AS moved,
        coalesce(w.arrived, 0) AS arrived
    FROM top_up t
    LEFT JOIN (SELECT top_up_id, sum(credited) AS told FROM draw GROUP BY 1) d ON d.top_up_id = t.id
    LEFT JOIN (
        SELECT split_part(id, ':', 1) AS top_up_id, sum(credited) AS moved FROM transfer WHERE kind = 'draw' GROUP BY 1
    ) x ON x.top_up_id = t.id
    LEFT JOIN (
        SELECT split_part(e.transfer_id, ':', 1) AS top_up_id, a.wallet_id, sum(e.amount) AS arrived
        FROM entry e JOIN account a ON a.id = e.account_id
        WHERE a.wallet_id IS NOT NULL AND e.transfer_id LIKE 'topup\\_%' GROUP BY 1, 2
    ) w ON w.top_up_id = t.id AND w.wallet_id = t.wallet_id
    WHERE t.state = 'ended' AND (t.credited <> coalesce(d.told, 0)
        OR t.credited <> coalesce(x.moved, 0) OR t.credited <> coalesce(w.arrived, 0))
    """,
)
_RESULTS = Invariant(
    "results",
    "an ended top-up has one result for each of its sources, and it is the ledger's",
    ("R18", "R21", "R23"),
    "ended top-ups",
    """
    SELECT t.id, s.rank, s.asset, d.asset AS told_asset, d.status, d.debited, d.credited, x.status AS moved,
        x.debited AS moved_debit, x.credited AS moved_credit
    FROM top_up t CROSS JOIN LATERAL unnest(t.sources) WITH ORDINALITY AS s (asset, rank)
    FULL JOIN draw d ON d.top_up_id = t.id AND d.rank = s.rank
    LEFT JOIN transfer x ON x.id = t.id || ':' || s.rank
    WHERE (t.state = 'ended' AND (d.rank IS NULL OR d.status = 'being_checked' OR d.asset <> s.asset
        OR (d.debited, d.credited) <> (coalesce(x.debited, 0), coalesce(x.credited, 0)))) OR t.id IS NULL
    """,
)
_FENCED = Invariant(
    "fenced",
    "no draw of an ended top-up can still happen: each of its keys is taken",
    ("R21",),
    "ended top-ups",
    """
    SELECT t.id, s.rank FROM top_up t CROSS JOIN LATERAL generate_series(1, cardinality(t.sources)) AS s (rank)
    LEFT JOIN transfer x ON x.id = t.id || ':' || s.rank
    WHERE t.state = 'ended' AND x.id IS NULL
    """,
)
_OUTCOME = Invariant(
    "outcome",
    "an outcome says how much arrived: all, some or nothing",
    ("R18",),
    "top-ups",
    """
    SELECT id, state, outcome, amount, credited FROM top_up
    WHERE (state = 'ended') <> (outcome IS NOT NULL AND reason IS NOT NULL AND ended_at IS NOT NULL)
        OR CASE outcome WHEN 'completed' THEN credited <> amount
            WHEN 'partial' THEN credited <= 0 OR credited >= amount ELSE credited <> 0 END
    """,
)
_ONE_PER_TRIGGER = Invariant(
    "one_per_trigger",
    "a trigger has at most one top-up",
    ("R10",),
    "top-ups",
    """
    SELECT trigger_event_id, count(*) AS top_ups, string_agg(id, ' ' ORDER BY id) AS ids FROM top_up
    GROUP BY trigger_event_id HAVING count(*) > 1
    """,
)
_FIRINGS = Invariant(
    "explained",
    "every firing has its top-up, and every top-up the decision that explains it",
    ("R10", "R13"),
    "top-ups",
    """
    SELECT coalesce(t.id, d.event_id) AS id, d.seq AS decision, t.id AS top_up
    FROM (SELECT * FROM decision WHERE fired) d
    FULL JOIN top_up t ON t.id = d.top_up_id AND t.trigger_event_id = d.event_id AND t.rule_id = d.rule_id
    WHERE d.seq IS NULL OR t.id IS NULL
    """,
)
_FIRED_RIGHTLY = Invariant(
    "fired_rightly",
    "a top-up fired below its threshold, by a spend or by its owner, never by a rise or a stale event",
    ("R8", "R9", "R11"),
    "top-ups",
    """
    SELECT t.id, d.balance, d.threshold, e.change, e.stale
    FROM top_up t JOIN decision d ON d.top_up_id = t.id AND d.fired
    LEFT JOIN balance_event e ON e.id = d.event_id AND e.wallet_id = t.wallet_id
    WHERE (d.balance < d.threshold AND d.balance = t.trigger_balance AND d.balance = e.balance
        AND d.threshold = t.threshold AND d.wallet_id = t.wallet_id AND d.reason = 'below_threshold'
        AND e.judged AND NOT e.stale AND e.change IN ('spent', 'saved', 'released')) IS NOT TRUE
    """,
)
_DECIDED = Invariant(
    "decided",
    "every balance event judged while there was a rule has been decided by it, once",
    ("R10", "R13"),
    "balance events",
    # A rule decides from its first decision on, from the event that its creation queued (written at the very moment
    # its history has), and from a minute after its creation at the latest: no commit lasts that long. One that was
    # deleted decided up to its last decision.
    """
    WITH ruled AS (
        SELECT r.id, r.wallet_id, true AS lives, coalesce(v.at, r.created_at) AS created_at
        FROM rule r LEFT JOIN rule_revision v ON v.rule_id = r.id AND v.change = 'created'
        UNION ALL
        SELECT DISTINCT d.rule_id, d.wallet_id, false, NULL::timestamptz FROM decision d
        WHERE NOT EXISTS (SELECT FROM rule r WHERE r.id = d.rule_id)
    ), told AS (
        SELECT d.rule_id, min(e.seq) AS first, max(e.seq) AS last
        FROM decision d JOIN balance_event e ON e.id = d.event_id GROUP BY d.rule_id
    ), queued AS (
        SELECT r.id AS rule_id, min(e.seq) AS first FROM ruled r JOIN balance_event e ON e.wallet_id = r.wallet_id
        WHERE e.recorded_at > r.created_at + interval '1 minute'
            OR e.recorded_at = r.created_at AND e.change = 'saved'
        GROUP BY r.id
    ), span AS (
        SELECT r.id, r.wallet_id, least(t.first, q.first) AS first, CASE WHEN NOT r.lives THEN t.last END AS last
        FROM ruled r LEFT JOIN told t ON t.rule_id = r.id LEFT JOIN queued q ON q.rule_id = r.id
    )
    SELECT e.id, s.id AS rule_id, e.change, count(d.seq) AS decisions
    FROM span s JOIN balance_event e ON e.wallet_id = s.wallet_id AND e.judged
        AND e.seq >= s.first AND (s.last IS NULL OR e.seq <= s.last)
    LEFT JOIN decision d ON d.event_id = e.id AND d.rule_id = s.id
    GROUP BY s.id, e.id, e.change HAVING count(d.seq) <> 1
    """,
)
_TOLD_OF = Invariant(
    "recorded",
    "every change of a balance that the ledger keeps was told by one balance event",
    ("R8", "R10"),
    "entries",
    """
    SELECT w.id, e.account_version AS version, e.transfer_id, count(b.seq) AS events
    FROM wallet w JOIN account a ON a.wallet_id = w.id JOIN entry e ON e.account_id = a.id
    LEFT JOIN balance_event b ON b.wallet_id = w.id AND b.version = e.account_version
        AND b.change NOT IN ('saved', 'released')
    WHERE w.kept = 'ledger' GROUP BY w.id, e.account_id, e.account_version, e.transfer_id HAVING count(b.seq) <> 1
    """,
)
_LOCKS = Invariant(
    "locked",
    "a rule is locked by a top-up of its own in progress, and every top-up in progress locks its rule",
    ("R7",),
    "rules",
    """
    SELECT coalesce(r.id, t.rule_id) AS id, r.locked_by, t.id AS in_progress
    FROM (SELECT * FROM rule WHERE locked_by IS NOT NULL) r
    FULL JOIN (SELECT * FROM top_up WHERE state = 'in_progress') t
        ON t.rule_id = r.id AND t.id = r.locked_by AND t.wallet_id = r.wallet_id
    WHERE r.id IS NULL OR t.id IS NULL
    """,
)
_DISARMED = Invariant(
    "disarmed",
    "a rule is not armed while it is locked or off",
    ("R9", "R26"),
    "rules",
    "SELECT id, locked_by, enabled FROM rule WHERE armed AND (locked_by IS NOT NULL OR NOT enabled)",
)
_TOLD_ONCE = Invariant(
    "told_once",
    "an owner is told of an ended top-up once on each channel, and of nothing when nothing was needed",
    ("R23",),
    "ended top-ups",
    """
    SELECT t.id, t.state, t.outcome, string_agg(d.channel, ' ' ORDER BY d.channel) AS told
    FROM top_up t LEFT JOIN delivery d ON d.top_up_id = t.id AND d.kind = 'ended' AND d.owner_id = t.owner_id
    GROUP BY t.id, t.state, t.outcome
    HAVING coalesce(string_agg(d.channel, ' ' ORDER BY d.channel), '')
        <> CASE WHEN t.state <> 'ended' OR t.outcome = 'not_needed' THEN '' ELSE 'email push' END
    """,
)
_NOTICED_ONCE = Invariant(
    "noticed_once",
    "of anything else, such as a low balance, an owner is told once on each channel too",
    ("R21", "R25"),
    "notifications",
    """
    SELECT coalesce(top_up_id, event_id) AS id, kind, string_agg(channel, ' ' ORDER BY channel) AS told
    FROM delivery WHERE kind <> 'ended' GROUP BY 1, kind
    HAVING string_agg(channel, ' ' ORDER BY channel) <> 'email push'
    """,
)
_GUARDS = Invariant(
    "guarded",
    "what keeps the records from being rewritten or doubled is in force",
    ("R10", "R19"),
    "guards",
    """
    SELECT g.name, g.holds FROM (VALUES
        ('entry_immutable', 'entry'), ('transfer_immutable', 'transfer'), ('asset_immutable', 'asset'),
        ('balance_event_told', 'balance_event'), ('draw_told', 'transfer')
    ) AS g (name, holds)
    LEFT JOIN pg_trigger t ON t.tgname = g.name AND t.tgrelid = to_regclass(g.holds) AND t.tgenabled IN ('O', 'A')
    WHERE t.oid IS NULL
    UNION ALL
    SELECT g.name, g.holds FROM (VALUES
        ('account_not_overdrawn', 'account'), ('transfer_pkey', 'transfer'), ('entry_pkey', 'entry'),
        ('balance_event_told_once', 'balance_event'), ('rule_one_per_wallet', 'rule'),
        ('decision_once_per_event', 'decision'), ('top_up_one_per_trigger', 'top_up'),
        ('top_up_never_over_its_amount', 'top_up'), ('delivery_once_per_channel', 'delivery')
    ) AS g (name, holds)
    LEFT JOIN pg_constraint c ON c.conname = g.name AND c.conrelid = to_regclass(g.holds) AND c.convalidated
    WHERE c.oid IS NULL
    """,
)

INVARIANTS: tuple[Invariant, ...] = (
    _CONSERVED,
    _CONSERVING,
    _NOBODY_OWES,
    _CHAIN,
    _BALANCE,
    _WRITTEN_ONCE,
    _OWN_SOURCE,
    _NEVER_MORE,
    _ONE_SUM,
    _RESULTS,
    _FENCED,
    _OUTCOME,
    _ONE_PER_TRIGGER,
    _FIRINGS,
    _FIRED_RIGHTLY,
    _DECIDED,
    _TOLD_OF,
    _LOCKS,
    _DISARMED,
    _TOLD_ONCE,
    _NOTICED_ONCE,
    _GUARDS,
)
