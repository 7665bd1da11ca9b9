"""What Prometheus reads: how requests were answered by this program, and how top-ups stand in the database."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from adapters.postgres.database import Database, PoolUse
from adapters.postgres.figures import Figures, Waiting, read_figures

FIGURES_KEPT_FOR = timedelta(seconds=5)
"""However often it is asked, the database is read once in this time."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Answered:
    """One request and its answer, as they are counted."""

    method: str
    route: str | None
    """The template, such as /v1/rules/{rule_id}; None when the request never reached one."""
    status: int
    seconds: float
    """Until the answer began; the rest of a stream is not waiting."""


class Measures:
    """Counts this program's answers, and tells them together with the figures of the whole."""

    def __init__(self) -> None:
        """Start counting at nothing; nothing is shared with another application in this program."""
        self._registry = CollectorRegistry()
        self._answers = Counter(
            "tidemark_requests",
            "Requests answered by this program.",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "tidemark_request_seconds",
            "Time until the answer began.",
            ["method", "route"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        ProcessCollector(registry=self._registry)
        self._figures: Figures | None = None
        self._read_at: float | None = None
        self._reading = asyncio.Lock()

    def count(self, answered: Answered) -> None:
        """Count one answer, by its route's template: the number of label values is that of routes, not of callers."""
        method = answered.method if answered.method in _METHODS else "other"
        route = answered.route or "none"
        self._answers.labels(method, route, answered.status).inc()
        self._seconds.labels(method, route).observe(answered.seconds)

    async def tell(self, database: Database) -> str:
        """Everything, as Prometheus reads it; a database out of reach is told as such and hides nothing else."""
        figures = await self._current(database)
        whole = CollectorRegistry()
        whole.register(_Told(figures, database.pool_use()))
        return (generate_latest(self._registry) + generate_latest(whole)).decode()

    async def _current(self, database: Database) -> Figures | None:
        """The figures of a moment ago, or read anew by the first who asks while the others wait."""
        async with self._reading:
            now = time.monotonic()
            if self._read_at is None or now - self._read_at > FIGURES_KEPT_FOR.total_seconds():
                self._figures = await read_figures(database)
                self._read_at = time.monotonic()
            return self._figures


class _Told(Collector):
    """The figures of one reading as gauges."""

    def __init__(self, figures: Figures | None, pool: PoolUse) -> None:
        self._figures = figures
        self._pool = pool

    def collect(self) -> Iterator[Metric]:
        """Give every gauge there is something to say about."""
        yield _gauge(
            "tidemark_figures_read",
            "Whether the figures below could be read from the database: 1 or 0.",
            float(self._figures is not None),
        )
        yield from _pool_gauges(self._pool)
        if self._figures:
            yield from _day_gauges(self._figures)
            yield from _waiting_gauges(self._figures)


def _pool_gauges(pool: PoolUse) -> Iterator[Metric]:
    yield _gauge(
        "tidemark_database_connections_in_use", "Connections this program is using.", float(pool.in_use)
    )
    yield _gauge("tidemark_database_connections_max", "Connections it may use at most.", float(pool.most))


def _day_gauges(figures: Figures) -> Iterator[Metric]:
    ended = GaugeMetricFamily(
        "tidemark_top_ups_ended_in_a_day",
        "Top-ups that ended within the last 24 hours.",
        labels=["outcome", "reason"],
    )
    for (outcome, reason), count in sorted(figures.ended.items()):
        ended.add_metric([outcome, reason], count)
    yield ended
    yield _gauge(
        "tidemark_top_ups_attempted_in_a_day",
        "Those of them that were to move money.",
        float(figures.attempted),
    )
    yield _gauge(
        "tidemark_top_ups_funded_in_a_day", "Those that moved all or some of it.", float(figures.funded)
    )
    if figures.attempted:
        yield _gauge(
            "tidemark_funded_ratio_in_a_day",
            "Funded by attempted; absent while nothing was attempted.",
            figures.funded / figures.attempted,
        )


def _waiting_gauges(figures: Figures) -> Iterator[Metric]:
    told: tuple[tuple[str, str, Waiting], ...] = (
        ("tidemark_top_ups_open", "Top-ups in progress", figures.open),
        (
            "tidemark_top_ups_not_handed_over",
            "Top-ups that Temporal does not have yet",
            figures.not_handed_over,
        ),
        ("tidemark_draws_being_checked", "Draws whose outcome is unknown", figures.being_checked),
        ("tidemark_balance_events_unjudged", "Balance events that no watcher has judged", figures.unjudged),
        ("tidemark_notifications_undelivered", "Notifications still to be delivered", figures.undelivered),
        ("tidemark_webhooks_undelivered", "Webhooks still to be delivered", figures.unsent),
    )
    for name, words, waiting in told:
        yield _gauge(name, f"{words}.", float(waiting.count))
        yield _gauge(f"{name}_oldest_seconds", f"{words}: the age of the oldest.", waiting.oldest_seconds)


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value=value)
