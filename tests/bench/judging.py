"""Judging balance events with a million rules, against a thousand: the cost of one must not depend on their number.

Two databases on one server, alternately given the same number of events, each about another wallet at random, so that
a commit judges as many wallets in the one as in the other. The events are spends that leave enough: most are.
"""

import asyncio
import random
import time
from itertools import count

import psycopg

from adapters.postgres.claims import Claims
from adapters.postgres.database import Database
from runtime.embedded_postgres import PostgresServer
from tests.bench.rows import Goal, Row, row_of_rates
from tests.bench.servers import migrated_database, run_script
from tests.bench.sizes import Sizes

GOAL = Goal("watcher_events_with_1m_rules_vs_1k", "few rules", 0.8)

_RULES = """
SET session_replication_role = replica;
SET synchronous_commit = off;
INSERT INTO owner (id, name, email)
SELECT 'owner_' || lpad(n::text, 26, '0'), 'Ada', 'ada@example.com' FROM generate_series(1, %(rules)s) n;
INSERT INTO wallet (id, owner_id, currency)
SELECT 'wallet_' || number, 'owner_' || number, 'USDT'
FROM generate_series(1, %(rules)s) n, lpad(n::text, 26, '0') number;
INSERT INTO account (kind, owner_id, wallet_id, asset)
SELECT 'wallet', 'owner_' || number, 'wallet_' || number, 'USDT'
FROM generate_series(1, %(rules)s) n, lpad(n::text, 26, '0') number;
INSERT INTO rule (id, wallet_id, threshold, amount, account, sources, enabled, armed, version)
SELECT 'rule_' || number, 'wallet_' || number, 50000000, 100000000, 'funding', ARRAY['USDT'], true, true, 1
FROM generate_series(1, %(rules)s) n, lpad(n::text, 26, '0') number;
VACUUM ANALYZE;
CHECKPOINT
"""
"""The first two lines are for the loading alone: rows that refer to each other need no looking up here."""
_EVENTS = """
INSERT INTO balance_event (id, wallet_id, change, balance, version)
SELECT 'event_' || %(batch)s || '_' || n, 'wallet_' || lpad(n::text, 26, '0'), 'spent', 60000000, %(batch)s
FROM unnest(%(numbers)s::bigint[]) n
"""
_BATCHES = 3
_DICE = 20261121


def bench_judging(server: PostgresServer, sizes: Sizes) -> list[Row]:
    """Events judged in a second by one watcher, with many rules and with few."""
    return [asyncio.run(_measure(server, sizes))]


async def _measure(server: PostgresServer, sizes: Sizes) -> Row:
    few = _Town(_town_of(server, sizes.rules_few), sizes.rules_few, sizes.events)
    many = _Town(_town_of(server, sizes.rules_many), sizes.rules_many, sizes.events)
    for town in (few, many):
        await town.judge()
    rounds = [(await few.rate(), await many.rate()) for _ in range(sizes.rounds)]
    for town in (few, many):
        await town.database.close()
    goal = Goal(GOAL.name, f"{sizes.rules_few:,} rules, ours has {sizes.rules_many:,}", GOAL.ratio)
    return row_of_rates(
        goal, ours=[figures[1] for figures in rounds], theirs=[figures[0] for figures in rounds]
    )


class _Town:
    """One database with so many rules, given events and judged by one watcher."""

    def __init__(self, url: str, rules: int, events: int) -> None:
        self.database = Database.open(url, pool_size=2)
        self._url = url
        self._rules = rules
        self._events = events
        self._batches = count(1)
        self._dice = random.Random(_DICE)

    async def rate(self) -> float:
        """Events judged in a second; bringing them about is not counted."""
        seconds = [await self.judge() for _ in range(_BATCHES)]
        return _BATCHES * self._events / sum(seconds)

    async def judge(self) -> float:
        """Have one batch judged, as the watcher does it; the seconds it took."""
        self._let_happen()
        claims = Claims(self.database)
        started = time.perf_counter()
        judged = 0
        while (found := await claims.judge_waiting()).events:
            judged += found.events
        took = time.perf_counter() - started
        if judged != self._events:
            message = f"{judged} of {self._events} events were judged"
            raise RuntimeError(message)
        return took

    def _let_happen(self) -> None:
        numbers = self._dice.sample(range(1, self._rules + 1), self._events)
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(_EVENTS, {"batch": next(self._batches), "numbers": numbers})


def _town_of(server: PostgresServer, rules: int) -> str:
    url = migrated_database(server, f"bench_rules_{rules}")
    run_script(url, _RULES, rules=rules)
    return url
