"""A gateway that fails or lies at one source, around the real accounts, and what each fault may lead to."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from activities.messages import DrawName, DrawOrder, Moved, NotMoved, Refused
from activities.ports import AnswerMissing
from tests.builders import Household
from tests.stories.accounts import Through
from topup.money import Money
from topup.outcome import DrawReason

Answer = Moved | Refused | NotMoved
HOLDINGS: Mapping[str, int] = MappingProxyType({"USDT": 60, "USDC": 30, "USDG": 500})
"""What the sources of a household hold, in whole units, in rank order; a top-up of 100 takes 60, 30 and 10."""


@dataclass(slots=True)
class Gateway(Through):
    """The real accounts; a draw from a faulty source goes as its fault says."""

    faults: dict[tuple[str, str], "Fault"] = field(default_factory=dict)
    """By owner and asset."""
    late: list[asyncio.Task[Answer]] = field(default_factory=list)
    """Draws that nobody waits for any more, and that go on nevertheless."""

    def spoil(self, home: Household, asset: str, fault: "Fault") -> None:
        """Have every draw from one source of a household go wrong like this."""
        self.faults[home.owner_id, asset] = fault

    async def draw(self, order: DrawOrder) -> Answer:
        """Draw, as the source's fault says."""
        fault = self.faults.get((order.owner_id, order.asset))
        return await (fault(self, order) if fault else self.really(order))

    async def really(self, order: DrawOrder) -> Answer:
        """Draw without fault."""
        return await self.accounts.draw(order)

    async def finish_late(self) -> list[Answer]:
        """What became of the draws that nobody waited for."""
        return await asyncio.gather(*self.late)


Fault = Callable[[Gateway, DrawOrder], Awaitable[Answer]]


@dataclass(slots=True)
class MovedBehindTheLookUp(Gateway):
    """Draws that are late are sent on their way by the look-up that finds nothing of them."""

    waiting: dict[str, asyncio.Event] = field(default_factory=dict)

    async def look_up(self, name: DrawName) -> Answer | None:
        """Look up, then let the late draw go."""
        found = await self.accounts.look_up(name)
        if late := self.waiting.get(name.key):
            late.set()
        return found


async def reject(gateway: Gateway, order: DrawOrder) -> Answer:
    """A certain no."""
    del gateway, order
    return Refused(reason=DrawReason.REJECTED)


async def hang(gateway: Gateway, order: DrawOrder) -> Answer:
    """No answer, ever."""
    del gateway, order
    await asyncio.Event().wait()
    raise AnswerMissing


async def lose_before(gateway: Gateway, order: DrawOrder) -> Answer:
    """The answer is lost, and nothing has moved."""
    del gateway, order
    raise AnswerMissing


async def lose_after(gateway: Gateway, order: DrawOrder) -> Answer:
    """The answer is lost, and the money has moved."""
    await gateway.really(order)
    raise AnswerMissing


async def come_late(gateway: Gateway, order: DrawOrder) -> Answer:
    """The answer is lost, and the gateway tries to move the money when it has been looked up and not been found."""
    assert isinstance(gateway, MovedBehindTheLookUp)
    looked_up = gateway.waiting[order.key] = asyncio.Event()

    async def later() -> Answer:
        await looked_up.wait()
        return await gateway.really(order)

    gateway.late.append(asyncio.ensure_future(later()))
    raise AnswerMissing


def slow(seconds: float) -> Fault:
    """Takes so long before it moves the money."""

    async def draw(gateway: Gateway, order: DrawOrder) -> Answer:
        await asyncio.sleep(seconds)
        return await gateway.really(order)

    return draw


async def outlast(gateway: Gateway, order: DrawOrder) -> Answer:
    """Moves the money at the very moment at which its caller gives up, in a race with whoever looks it up."""
    try:
        await asyncio.Event().wait()
    finally:
        gateway.late.append(asyncio.ensure_future(gateway.really(order)))
    raise AnswerMissing


def lying(lie: Callable[[DrawOrder, Moved], Answer]) -> Fault:
    """Moves all that is asked, and tells something else."""

    async def draw(gateway: Gateway, order: DrawOrder) -> Answer:
        moved = await gateway.really(order)
        assert isinstance(moved, Moved), "the source was to have it all"
        return lie(order, moved)

    return draw


async def boast(gateway: Gateway, order: DrawOrder) -> Answer:
    """Nothing has moved, and all is said to have."""
    del gateway
    return Moved(debited=order.quote.cost(order.credit), credited=order.credit, short=False)


async def boast_of_half(gateway: Gateway, order: DrawOrder) -> Answer:
    """Half of it has moved, and all is said to have."""
    half = Money(order.credit.asset, order.credit.units // 2)
    await gateway.really(order.model_copy(update={"credit": half}))
    return Moved(debited=order.quote.cost(order.credit), credited=order.credit, short=False)


def halved(amount: Money) -> Money:
    """Half of it."""
    return Money(amount.asset, amount.units // 2)


def doubled(amount: Money) -> Money:
    """Twice as much."""
    return amount + amount


def renamed(amount: Money) -> Money:
    """As much of another asset."""
    return Money("EUR", amount.units)


ANSWERED: Mapping[str, Fault] = MappingProxyType(
    {"rejects": reject, "loses the answer before moving": lose_before, "loses it after moving": lose_after}
)
"""Faults that say nothing untrue."""

NONSENSE: Mapping[str, Fault] = MappingProxyType(
    {
        "credits more than was asked": lying(
            lambda _, moved: moved.model_copy(
                update={"debited": doubled(moved.debited), "credited": doubled(moved.credited)}
            )
        ),
        "credits less, and not for want of money": lying(
            lambda _, moved: moved.model_copy(
                update={"debited": halved(moved.debited), "credited": halved(moved.credited)}
            )
        ),
        "credits another currency": lying(
            lambda _, moved: moved.model_copy(update={"credited": renamed(moved.credited)})
        ),
        "debits another asset": lying(
            lambda _, moved: moved.model_copy(update={"debited": renamed(moved.debited)})
        ),
        "debits less than the credit costs": lying(
            lambda _, moved: moved.model_copy(update={"debited": halved(moved.debited)})
        ),
        "debits more than the credit costs": lying(
            lambda _, moved: moved.model_copy(update={"debited": doubled(moved.debited)})
        ),
        "says short though it gave all": lying(lambda _, moved: moved.model_copy(update={"short": True})),
        "has moved nothing to speak of": lying(
            lambda _, moved: moved.model_copy(
                update={
                    "debited": Money.nothing(moved.debited.asset),
                    "credited": Money.nothing(moved.credited.asset),
                }
            )
        ),
    }
)
"""Answers that cannot be true, of draws that gave all that was asked: they are looked up."""

LIES: Mapping[str, Fault] = MappingProxyType(
    {
        "refuses though it moved": lying(lambda *_: Refused(reason=DrawReason.REJECTED)),
        "says not moved though it moved": lying(lambda *_: NotMoved()),
        "says short of half though it gave all": lying(
            lambda _, moved: Moved(debited=halved(moved.debited), credited=halved(moved.credited), short=True)
        ),
        "says empty though it gave all": lying(lambda *_: Refused(reason=DrawReason.INSUFFICIENT)),
        "says moved though nothing has": boast,
        "says all of it though it was half": boast_of_half,
    }
)
"""Answers that could be true and are not: the ledger's word is what counts."""
