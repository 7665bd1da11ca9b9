"""Ten thousand balance events at once, repeated and shuffled, and two watchers: what a plain model allows, no more."""

import asyncio
import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.exc import OperationalError
from sqlmodel import col, select

from adapters.postgres.database import Database
from adapters.postgres.reports import Receipt, Report, hold_wallets_elsewhere, record_reports
from adapters.postgres.tables import BalanceEvent, TopUpRow
from tests.adapters.crowd import judge_with, settle, utc_now
from tests.builders import Household, open_household
from tests.outages.invariants import assert_invariants
from topup.money import Money
from topup.trigger import Change, Kept

WALLETS = 20
TOLD_MAX = 360
"""How many balances each wallet goes through."""
REPEATED = 2800
BATCH = 100
WAVES = 5
"""After each of them the top-ups that run are settled."""
OUT_OF_ORDER = 12
AT_ONCE = 4
POLL_SECONDS = 0.1
SENDERS = 4
"""Each tells of its own wallets."""
LINE, AMOUNT, UNIT = 50, 100, 1_000_000


@dataclass(frozen=True, slots=True)
class Told:
    """One event: which of the wallets, its version and its balance."""

    wallet: int
    version: int
    balance: int


def draw_flood(dice: random.Random) -> list[Told]:
    """For each wallet a walk of balances, above its line and below it; repeated, and out of order by some places."""
    told = []
    for wallet in range(WALLETS):
        balance = 80
        for version in range(1, TOLD_MAX + 1):
            balance = max(0, balance + dice.randint(-30, 30)) if dice.random() < 0.9 else 120
            told.append(Told(wallet, version, balance))
    flood = [*told, *dice.choices(told, k=REPEATED)]
    return sorted(flood, key=lambda one: one.version + dice.uniform(0, OUT_OF_ORDER))


@dataclass(slots=True)
class Model:
    """A wallet kept elsewhere and its rule: what is decided of its events in the order in which they were taken."""

    version: int = 0
    balance: int = 0
    armed: bool = True
    locked: bool = False
    spent_while_locked: bool = False
    fired: int = 0

    def judge(self, version: int, balance: int) -> str:
        """The reason of the decision about a report, by R8 to R10."""
        if version <= self.version:
            return "stale_event"
        spent = not self.version or balance < self.balance
        self.version, self.balance = version, balance
        if self.locked:
            self.spent_while_locked |= spent
            return "locked"
        if balance >= LINE:
            self.armed = True
            return "not_below"
        if not self.armed:
            return "disarmed"
        if not spent:
            return "balance_rose"
        self.armed, self.locked, self.fired = False, True, self.fired + 1
        return "below_threshold"

    def settle(self) -> None:
        """A completed top-up opens the lock; what it has handed over is not seen yet, so it does not arm (R9, R12)."""
        self.locked, self.armed = False, self.balance >= LINE

    def release(self) -> str:
        """What was spent while it was locked is judged once (R12)."""
        self.spent_while_locked = False
        return "not_below" if self.balance >= LINE else "disarmed"


async def tell(database: Database, homes: Sequence[Household], batch: Sequence[Told]) -> Sequence[Receipt]:
    """Report a batch, as the API's endpoint does: all of it in one commit."""
    reports = [
        Report(
            event_id=f"evt-{told.version}",
            wallet_id=homes[told.wallet].wallet_id,
            balance=Money.parse(str(told.balance), "USDT"),
            version=told.version,
            occurred_at=datetime(2026, 11, 21, tzinfo=UTC) + timedelta(seconds=told.version),
        )
        for told in batch
    ]
    while True:
        try:
            async with database.commit() as session:
                await hold_wallets_elsewhere(session, [report.wallet_id for report in reports], bound_to=None)
                return await record_reports(session, reports)
        except OperationalError:
            continue  # Somebody waited too long for a wallet: the API answers 503, and the sender tells again.


async def flood(database: Database, homes: Sequence[Household], events: Sequence[Told]) -> list[Receipt]:
    """Report them all, some batches at a time, each event's receipt in their order."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def pour(batch: Sequence[Told]) -> Sequence[Receipt]:
        async with gate:
            return await tell(database, homes, batch)

    senders = [[told for told in events if told.wallet % SENDERS == sender] for sender in range(SENDERS)]
    batches = [told[start : start + BATCH] for told in senders for start in range(0, len(told), BATCH)]
    random.Random(len(events)).shuffle(batches)
    return [receipt for batch in await asyncio.gather(*map(pour, batches)) for receipt in batch]


async def all_top_ups(database: Database) -> Sequence[TopUpRow]:
    """All there are."""
    async with database.read() as session:
        return (await session.exec(select(TopUpRow))).all()


@pytest.mark.rule("R10")
@pytest.mark.rule("R13")
class TestTenThousandEvents:
    async def test_fire_exactly_what_a_model_allows_and_each_is_decided_once(
        self, database: Database
    ) -> None:
        dice = random.Random(6)
        homes = [await open_household(database, kept=Kept.ELSEWHERE) for _ in range(WALLETS)]
        for home in homes:
            await home.draw_up_rule(threshold=str(LINE), amount=str(AMOUNT))
        events = draw_flood(dice)
        assert len(events) == 10_000
        books = [Book(home) for home in homes]

        receipts = []
        for start in range(0, len(events), len(events) // WAVES):
            receipts += await pour_over(database, homes, events[start : start + len(events) // WAVES])
            for book in books:
                await book.read_on()
                await settle(database, book.home)
                book.model.settle()

        assert sum(receipt.duplicate for receipt in receipts) == REPEATED
        await judge_with(database, utc_now, utc_now)
        for book in books:
            await book.read_on()
            decisions = await book.home.decisions()
            assert {row.event_id: row.reason for row in decisions} == book.expected
            assert len(decisions) == len(book.expected)
            assert len(await book.home.top_ups()) == book.model.fired
        reasons = [reason for book in books for reason in book.expected.values()]
        stale = sum(receipt.stale and not receipt.duplicate for receipt in receipts)
        assert stale == reasons.count("stale_event") > WALLETS
        assert sum(book.model.fired for book in books) == len(await all_top_ups(database)) > WALLETS
        await assert_invariants(database)


@dataclass(slots=True)
class Book:
    """A wallet, the model of it, and what the model decided of each event that was taken so far."""

    home: Household
    model: Model = field(default_factory=Model)
    expected: dict[str, str] = field(default_factory=dict)
    _read: int = 0

    async def read_on(self) -> None:
        """Have the model decide of what was taken since."""
        async with self.home.database.read() as session:
            statement = select(BalanceEvent).where(
                col(BalanceEvent.wallet_id) == self.home.wallet_id, col(BalanceEvent.seq) > self._read
            )
            rows = (await session.exec(statement.order_by(col(BalanceEvent.seq)))).all()
        for row in rows:
            released = row.change == Change.RELEASED
            reason = self.model.release() if released else self.model.judge(row.version, row.balance // UNIT)
            self.expected[row.id] = reason
            self._read = row.seq or 0


async def pour_over(database: Database, homes: Sequence[Household], events: Sequence[Told]) -> list[Receipt]:
    """Report them all while two watchers judge, each of which goes on until nothing is left."""
    over = asyncio.Event()
    watchers = [asyncio.create_task(_watch(database, over)) for _ in range(2)]
    receipts = await flood(database, homes, events)
    over.set()
    await asyncio.gather(*watchers)
    return receipts


async def _watch(database: Database, over: asyncio.Event) -> None:
    while not over.is_set():
        await judge_with(database, utc_now)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), timeout=POLL_SECONDS)
    await judge_with(database, utc_now)
