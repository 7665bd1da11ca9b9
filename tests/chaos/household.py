"""One case's own household: brought to its point by a payment, and judged when all is over."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from httpx2 import AsyncClient, HTTPError
from sqlalchemy import text

from adapters.postgres.database import Database, run_sql
from runtime.inbox_store import Message
from tests.builders import Household, open_household
from tests.chaos.cases import SHORT_STEPS, Case, Manner, Moment, Struck
from tests.chaos.tower import Stand
from topup.money import Money

SHARES: Mapping[int, int] = {1: 10, 2: 30, 3: 60}
"""What each source is to give, in whole USDT, by rank: every set of them has a sum of its own."""
SOURCES = ("USDT", "USDC", "BTC")
AMOUNT = sum(SHARES.values())
LEFT = 35
"""The balance after the payment: 80 less 45."""

_MOVED = text(
    "SELECT transfer.id FROM transfer JOIN top_up ON top_up.id = split_part(transfer.id, ':', 1) "
    "WHERE top_up.wallet_id = :wallet_id AND transfer.kind = 'draw' AND transfer.credited > 0"
)


@dataclass(slots=True)
class Subject:
    """A household, the case it stands for, and the stand it is brought to."""

    case: Case
    home: Household
    email: str
    stand: Stand
    paid: bool = False
    stood: bool = False
    """Whether it was at its point when the program was struck."""
    moved: frozenset[int] = frozenset()
    """The ranks whose money had moved by then."""

    async def pay(self, client: AsyncClient) -> None:
        """Try to pay once; the same payment however often, by its Idempotency-Key."""
        body = {"wallet_id": self.home.wallet_id, "amount": "45"}
        once = {"Idempotency-Key": self.stand.payment_key}
        try:
            answer = await client.post("/v1/ledger/payments", json=body, headers=once)
        except HTTPError:
            return
        assert answer.status_code in {201, 409, 500, 503}, f"{self.case}: {answer.status_code} {answer.text}"
        self.paid = answer.status_code == 201

    async def note_moved(self, database: Database) -> None:
        """Remember what has moved already: it has to be in the result."""
        async with database.read() as session:
            rows = (await run_sql(session, _MOVED, wallet_id=self.home.wallet_id)).all()
        self.moved = frozenset(int(row.id.rpartition(":")[2]) for row in rows)


async def open_subject(database: Database, case: Case, number: int, *, draw_seconds: int) -> Subject:
    """A wallet of 80 with a line at 50, and a rule over three sources that give 10, 30 and 60."""
    name = f"Case{number:06d}"
    home = await open_household(database, balance="80", name=name)
    await home.fund(str(SHARES[1]), "USDT")
    await home.fund(str(SHARES[2]), "USDC")
    await home.fund("1", "BTC")
    await home.draw_up_rule(amount=str(AMOUNT), sources=SOURCES)
    if case.step == "look-up":
        before = case.moment is Moment.DURING
        await home.switch_fault("answer_lost_before_moving" if before else "answer_lost_after_moving", "USDT")
    told_to = name if case.step == "notify-email" else home.owner_id
    stand = Stand(
        case.step,
        case.moment,
        home.wallet_id,
        f"pay-{home.wallet_id}",
        told_to.encode(),
        _seconds_max(case.step, draw_seconds),
    )
    return Subject(case, home, f"{name.lower()}@example.com", stand)


def _seconds_max(step: str, draw_seconds: int) -> float:
    """Less than its caller waits: the API half a minute, a start and a claim for ever, the others as they are set."""
    if step in {"payment", "claim", "start-workflow"}:
        return 20.0
    return 0.7 * (10 if step in SHORT_STEPS else draw_seconds)


async def problems_of(subject: Subject, inbox: list[Message]) -> list[str]:
    """What is not as it has to be with one household at rest; nothing, if all is well."""
    home = subject.home
    top_ups = await home.top_ups()
    if [top_up.state for top_up in top_ups] != ["ended"]:
        return [f"its top-ups are {[top_up.state for top_up in top_ups]}, not one that has ended"]
    (top_up,) = top_ups
    credited = top_up.credited // Money.parse("1", "USDT").units
    return [
        *problems_of_sums(subject, credited, balance=await home.balance()),
        *_problems_of_ending(str(top_up.outcome), credited),
        *([] if (await home.rule()).locked_by is None else ["its rule is locked"]),
        *([] if [d.fired for d in await home.decisions()].count(True) == 1 else ["it did not fire once"]),
        *await problems_of_telling(subject, inbox),
    ]


def problems_of_sums(subject: Subject, credited: int, *, balance: str) -> list[str]:
    """Whether so much can have arrived, given what had moved when it was struck, and is in the balance."""
    sets = [frozenset(ranks) for size in range(len(SHARES) + 1) for ranks in combinations(SHARES, size)]
    found = [ranks for ranks in sets if sum(SHARES[rank] for rank in ranks) == credited]
    if not found:
        return [f"{credited} is no sum of {[*SHARES.values()]}"]
    problems = []
    if not subject.moved <= found[0]:
        problems.append(f"draws {sorted(subject.moved)} had moved, but it tells of {sorted(found[0])}")
    if subject.stood and found[0] & _cannot_move(subject.case):
        problems.append(f"draws {sorted(found[0] & _cannot_move(subject.case))} cannot have moved, but did")
    if balance != Money.parse(str(LEFT + credited), "USDT").text:
        problems.append(f"the balance is {balance}, not {LEFT} and {credited}")
    return problems


def _cannot_move(case: Case) -> frozenset[int]:
    """The ranks that nothing may have moved for: their only attempt was ended before its commit (R20)."""
    if case.step == "look-up" and case.moment is Moment.DURING:
        return frozenset({1})
    killed_worker = (case.struck, case.manner) == (Struck.WORKER, Manner.KILL)
    if case.step == "check" and killed_worker:
        return frozenset(SHARES)
    broken_off = case.struck in {Struck.WORKER, Struck.POSTGRES} and case.manner in {Manner.KILL, Manner.CUT}
    if case.step.startswith("draw-"):
        rank = int(case.step[-1])
        if (killed_worker and case.moment is Moment.BEFORE) or (broken_off and case.moment is Moment.DURING):
            return frozenset({rank})
    return frozenset()


def _problems_of_ending(outcome: str, credited: int) -> list[str]:
    expected = "completed" if credited == AMOUNT else "partial" if credited else "failed"
    return [] if outcome == expected else [f"{credited} of {AMOUNT} arrived, and it tells of {outcome}"]


async def problems_of_telling(subject: Subject, inbox: list[Message]) -> list[str]:
    """One mail and one push: a repeat carries the same Message-ID or tag, and so reaches the person once (R24)."""
    home = subject.home
    addresses = {home.owner_id, subject.email}
    found = [message for message in inbox if addresses & set(message.to)]
    queued = {
        delivery.id: (delivery.channel, delivery.status)
        for delivery in await home.deliveries()
        if delivery.kind == "ended"
    }
    problems = []
    if sorted(queued.values()) != [("email", "sent"), ("push", "sent")]:
        problems.append(f"its deliveries are {sorted(queued.values())}")
    for channel in ("email", "push"):
        names = [message.message_id or "" for message in found if message.channel == channel]
        known = [key for key, (of, _) in queued.items() if of == channel]
        if len(names) != 1 or not any(key in names[0] for key in known):
            problems.append(f"the person got {len(names)} by {channel}: {names}")
    return problems
