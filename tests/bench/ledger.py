"""Draws in the embedded ledger, against pgbench's own built-in script on the same PostgreSQL.

Both run with four clients, prepared statements and a commit each. The built-in one is tpcb-like at scale 10: seven
round trips for one commit. A draw is one: the key is looked up, its accounts locked, the money moved, entries, transfer
and balance event written.
"""

import re
import subprocess
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path

from runtime.embedded_postgres import PostgresServer, create_database, program_path
from tests.bench.rows import Goal, Row, row_of_rates
from tests.bench.servers import migrated_database, run_script
from tests.bench.sizes import Sizes

TPCB = "pgbench tpcb-like"
SPREAD = Goal("draws_vs_tpcb_spread", TPCB, 1.3)
HOT = Goal("draws_vs_tpcb_hot_wallet", TPCB, 0.6)
CONVERTED = Goal("draws_converted_vs_tpcb", TPCB, 0.4)

_CLIENTS = 4
_DRAW = r"""
\set n :n + 1
\set household random(1, {households})
SELECT status, reason, debited, credited FROM ledger_draw(
    format('bench_%s_%s_%s:1', :run::bigint, :client_id::bigint, :n::bigint), repeat('0', 64),
    'owner_' || :household::bigint, 'funding', '{asset}', {wallet}, 1000000::minor_units, {rate});
"""
_OWN_WALLET = "'wallet_' || :household::bigint"
_ONE_WALLET = "'wallet_1'"
_AT_PAR = "1::numeric, 1::numeric"
_QUOTED = "9998::numeric, 10000::numeric"

_HOUSEHOLDS = """
INSERT INTO owner (id, name, email)
SELECT 'owner_' || n, 'Ada', 'ada@example.com' FROM generate_series(1, %(households)s) n;
INSERT INTO wallet (id, owner_id, currency)
SELECT 'wallet_' || n, 'owner_' || n, 'USDT' FROM generate_series(1, %(households)s) n;
INSERT INTO account (kind, owner_id, wallet_id, asset)
SELECT 'wallet', 'owner_' || n, 'wallet_' || n, 'USDT' FROM generate_series(1, %(households)s) n;
INSERT INTO account (kind, owner_id, asset)
SELECT 'funding', 'owner_' || n, asset FROM generate_series(1, %(households)s) n, unnest(ARRAY['USDT', 'USDC']) asset;
SELECT ledger_post(
    'deposit_' || payee.id, repeat('0', 64), 'deposit', world.id, payee.id, 1e15::numeric(16, 0), 'added')
FROM account payee JOIN account world ON world.kind = 'world' AND world.asset = payee.asset
WHERE payee.kind = 'funding';
"""


def bench_ledger(server: PostgresServer, sizes: Sizes) -> list[Row]:
    """Spread over wallets, all into one wallet, and converted through the house account."""
    draws = _household_ledger(server, sizes)
    tpcb = _tpcb(server, sizes)
    with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as folder:
        ways = _ways(Path(folder), draws, sizes)
        _warm(ways, draws, sizes)
        rounds = [
            {"tpcb": tpcb(), **{name: way(sizes.pgbench_seconds) for name, way in ways.items()}}
            for _ in range(sizes.pgbench_rounds)
        ]
    theirs = [figures["tpcb"] for figures in rounds]
    return [
        row_of_rates(goal, ours=[figures[goal.name] for figures in rounds], theirs=theirs)
        for goal in (SPREAD, HOT, CONVERTED)
    ]


def _household_ledger(server: PostgresServer, sizes: Sizes) -> str:
    """Households with more money than they will ever need, every unit of it deposited through the ledger."""
    url = migrated_database(server, "bench_ledger")
    run_script(url, _HOUSEHOLDS, households=sizes.households)
    return url


def _tpcb(server: PostgresServer, sizes: Sizes) -> Callable[[], float]:
    url = create_database(server, "bench_tpcb")
    _pgbench("-i", "-q", "-s", str(sizes.pgbench_scale), url)
    built_in = ("-b", "tpcb-like", "-n", *_load(sizes.pgbench_seconds), url)
    return lambda: _rate(_pgbench(*built_in))


def _load(seconds: int) -> tuple[str, ...]:
    return ("-M", "prepared", "-c", str(_CLIENTS), "-j", "2", "-T", str(seconds))


def _ways(folder: Path, url: str, sizes: Sizes) -> dict[str, Callable[[int], float]]:
    numbers = count(1)

    def way(goal: Goal, *, asset: str, wallet: str, rate: str) -> Callable[[int], float]:
        script = folder / f"{goal.name}.sql"
        script.write_text(_DRAW.format(households=sizes.households, asset=asset, wallet=wallet, rate=rate))
        return lambda seconds: _rate(
            _pgbench("-f", str(script), "-n", "-D", "n=0", "-D", f"run={next(numbers)}", *_load(seconds), url)
        )

    return {
        SPREAD.name: way(SPREAD, asset="USDT", wallet=_OWN_WALLET, rate=_AT_PAR),
        HOT.name: way(HOT, asset="USDT", wallet=_ONE_WALLET, rate=_AT_PAR),
        CONVERTED.name: way(CONVERTED, asset="USDC", wallet=_OWN_WALLET, rate=_QUOTED),
    }


def _warm(ways: dict[str, Callable[[int], float]], url: str, sizes: Sizes) -> None:
    """Fill the tables a little and let the planner see them, as on any server that has run for a day."""
    for way in ways.values():
        way(sizes.pgbench_seconds)
    run_script(url, "VACUUM ANALYZE")


def _pgbench(*arguments: str) -> str:
    asked = [str(program_path("pgbench")), *arguments]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        message = f"pgbench {arguments} ended with {done.returncode}: {done.stderr[-1000:]}"
        raise RuntimeError(message)
    return done.stdout


def _rate(report: str) -> float:
    """How many in a second, by pgbench's own report; connecting is not counted."""
    found = re.search(r"^tps = ([0-9.]+)", report, re.MULTILINE)
    if found is None or "number of failed transactions: 0 " not in report:
        message = f"pgbench reports no clean rate: {report}"
        raise RuntimeError(message)
    return float(found[1])
