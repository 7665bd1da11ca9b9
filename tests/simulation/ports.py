"""The product's ports as the simulation wires them: the real adapters, and the model beside each call."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from activities.messages import (
    Checked,
    CheckingNotice,
    CheckOrder,
    Delivery,
    DrawName,
    DrawOrder,
    Moved,
    NotMoved,
    Refused,
    Settled,
    SettleOrder,
    Telling,
)
from activities.ports import (
    Accounts,
    Deliveries,
    Letter,
    NotDeliveredYet,
    OpenTopUp,
    Sight,
    TopUps,
    Undeliverable,
)
from tests.simulation.programs import ACT, Act, Gates
from tests.simulation.witness import Witness

_MOVED_STATUS = {True: "short", False: "moved"}


@contextmanager
def doing(kind: str, **about: Any) -> Iterator[Act]:
    """Say what is done meanwhile."""
    act = Act(kind, about)
    token = ACT.set(act)
    try:
        yield act
    finally:
        ACT.reset(token)


@dataclass(frozen=True, slots=True)
class SeenAccounts:
    """Fulfils the Accounts port."""

    accounts: Accounts
    witness: Witness

    async def look(self, order: CheckOrder) -> Sight:
        """Look; what is seen must have been so at one moment meanwhile."""
        look = self.witness.begin_look(order)
        try:
            sight = await self.accounts.look(order)
        except BaseException:
            self.witness.looks.remove(look)
            raise
        self.witness.end_look(look, sight)
        return sight

    async def draw(self, order: DrawOrder) -> Moved | Refused | NotMoved:
        """Draw."""
        with doing("draw", order=order) as act:
            answer = await self.accounts.draw(order)
        _compare(self.witness, act, answer)
        return answer

    async def look_up(self, name: DrawName) -> Moved | Refused | NotMoved | None:
        """Fence, and look up."""
        with doing("fence", key=name.key) as act:
            answer = await self.accounts.look_up(name)
        _compare(self.witness, act, answer)
        return answer


@dataclass(frozen=True, slots=True)
class SeenTopUps:
    """Fulfils the TopUps port."""

    top_ups: TopUps

    async def holds_lock(self, top_up_id: str) -> bool:
        """Read the lock."""
        return await self.top_ups.holds_lock(top_up_id)

    async def remember_check(self, top_up_id: str, checked: Checked) -> Checked:
        """Keep what was found."""
        with doing("check", top_up=top_up_id):
            return await self.top_ups.remember_check(top_up_id, checked)

    async def note_checking(self, notice: CheckingNotice) -> tuple[Delivery, ...]:
        """Show a draw as being checked."""
        with doing("note", notice=notice):
            return await self.top_ups.note_checking(notice)

    async def settle(self, order: SettleOrder) -> Settled:
        """End the top-up."""
        with doing("settle", order=order):
            return await self.top_ups.settle(order)

    async def unsettled(self, *, older_than: timedelta) -> tuple[OpenTopUp, ...]:
        """Read what is open."""
        return await self.top_ups.unsettled(older_than=older_than)

    async def record_hand_over(self, top_up_ids: tuple[str, ...]) -> None:
        """Remember what Temporal has."""
        with doing("hand_over"):
            await self.top_ups.record_hand_over(top_up_ids)


@dataclass(frozen=True, slots=True)
class SeenDeliveries:
    """Fulfils the Deliveries port."""

    deliveries: Deliveries

    async def letter(self, delivery_id: str) -> Letter | None:
        """Read what to send."""
        with doing("deliver"):
            return await self.deliveries.letter(delivery_id)

    async def record_sent(self, delivery_id: str) -> None:
        """It is sent."""
        with doing("deliver"):
            await self.deliveries.record_sent(delivery_id)

    async def record_attempt(self, delivery_id: str, *, failure: str) -> None:
        """It was not sent."""
        with doing("deliver"):
            await self.deliveries.record_attempt(delivery_id, failure=failure)

    async def record_undeliverable(self, delivery_id: str, *, failure: str) -> None:
        """It is given up."""
        with doing("deliver"):
            await self.deliveries.record_undeliverable(delivery_id, failure=failure)

    async def untold(self, *, older_than: timedelta) -> tuple[Telling, ...]:
        """Read what is still to be told."""
        return await self.deliveries.untold(older_than=older_than)


@dataclass(frozen=True, slots=True)
class Post:
    """Fulfils the Sender port: letters that arrive, get lost, or come back."""

    gates: Gates
    sent: dict[str, int]
    """How often each delivery has reached its owner."""

    async def send(self, letter: Letter) -> None:
        """Send it, if the channel lets it through."""
        try:
            answered = await self.gates.call(f"send {letter.kind} by {letter.channel}")
        except ConnectionError as refused:
            if len(self.sent) % 7 == 6:
                raise Undeliverable(str(refused)) from refused
            raise NotDeliveredYet(str(refused), timedelta(seconds=3)) from refused
        self.sent[letter.delivery_id] = self.sent.get(letter.delivery_id, 0) + 1
        if not answered:
            message = "the answer was lost"
            raise ConnectionError(message)


def _compare(witness: Witness, act: Act, answer: Moved | Refused | NotMoved | None) -> None:
    """What the ledger answers is what the model remembers under the key."""
    found: tuple[str, int, int] | None
    match answer:
        case Moved(debited=debited, credited=credited, short=short):
            found = (_MOVED_STATUS[short], debited.units, credited.units)
        case Refused():
            found = ("refused", 0, 0)
        case NotMoved():
            found = ("void", 0, 0)
        case None:
            found = None
    expected = act.about.get("expected")
    if expected is not None and found != expected:
        witness.complain(f"{act.kind} was answered {found}, not {expected}")
