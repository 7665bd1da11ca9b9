"""Top-ups from the payment's commit to their end, against a bare workflow with as many activities.

The bare one runs on the same Temporal server with the same worker settings: what it costs is Temporal's own price, and
the ratio tells what our part adds to it: ledger, watcher, checks, records and letters.

`top_ups_per_second` is a closed loop: so many in flight, and whoever has seen its notices begins anew. It counts from
the first payment to the last notice, for both. `commit_to_ended_median` is measured one at a time with nothing else
going on. Ours lasts from the payment's commit, as the paying client sees it, to the `ended_at` that settling writes
into the record; the bare one from the client's call for a start to the run of its fourth activity, which stands for
settling. Both moments are taken inside the activity, by the same clock. How long it took until the owner was told is
kept beside it, for it includes settling's commit as well.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import median

from runtime.embedded_postgres import PostgresServer
from tests.bench.rows import Goal, Row, row_of_rates, row_of_times
from tests.bench.servers import migrated_database, own_temporal
from tests.bench.sizes import Sizes
from tests.bench.ways import Way, both_ways

BARE = "bare workflow of 6 activities"
RATE = Goal("top_ups_per_second", BARE, 0.4)
TIME = Goal("commit_to_ended_median", BARE, 0.4)


@dataclass(frozen=True, slots=True)
class _Idle:
    """Medians of runs one at a time, in milliseconds from their beginning."""

    ended: float
    told: float


def bench_top_ups(server: PostgresServer, sizes: Sizes) -> list[Row]:
    """Top-ups in a second at load, and the time of one when nothing else goes on."""
    return asyncio.run(_measure(server, sizes))


async def _measure(server: PostgresServer, sizes: Sizes) -> list[Row]:
    url = migrated_database(server, "bench_top_ups")
    async with (
        own_temporal() as client,
        both_ways(client, url, households=3 * sizes.in_flight) as ways,
    ):
        for way in ways:
            await _rate(way, sizes)
        rates = [[await _rate(way, sizes) for way in ways] for _ in range(sizes.rounds)]
        times = [[await _idle(way, sizes) for way in ways] for _ in range(sizes.rounds)]
    return [_rate_row(rates), _time_row(times)]


async def _rate(way: Way, sizes: Sizes) -> float:
    """Runs in a second with so many in flight; seeing them out is not counted."""
    left = iter(range(sizes.top_ups))

    async def walk() -> list[str]:
        return [await way.go() for _ in left]

    started = time.perf_counter()
    walked = await asyncio.gather(*[walk() for _ in range(sizes.in_flight)])
    took = time.perf_counter() - started
    await way.see_out(list(chain.from_iterable(walked)))
    return sizes.top_ups / took


async def _idle(way: Way, sizes: Sizes) -> _Idle:
    """Some runs, each begun when the one before has left the server in peace."""
    runs = []
    for _ in range(sizes.top_ups_idle):
        run = await way.go()
        await way.see_out([run])
        runs.append(run)
    ended = await way.ended(runs)
    return _Idle(
        ended=median(1000 * (ended[run] - way.begun[run]) for run in runs),
        told=median(1000 * (way.told[run] - way.begun[run]) for run in runs),
    )


def _rate_row(rates: Sequence[Sequence[float]]) -> Row:
    return row_of_rates(RATE, ours=[ours for ours, _ in rates], theirs=[bare for _, bare in rates])


def _time_row(times: Sequence[Sequence[_Idle]]) -> Row:
    return row_of_times(
        TIME,
        ours=[ours.ended for ours, _ in times],
        theirs=[bare.ended for _, bare in times],
        besides={
            "ours_told": tuple(ours.told for ours, _ in times),
            "theirs_told": tuple(bare.told for _, bare in times),
        },
    )
