"""What the deeds need from the world: one Protocol for each thing outside."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from activities.messages import (
    Checked,
    CheckingNotice,
    CheckOrder,
    Delivery,
    DrawName,
    DrawOrder,
    Moved,
    NotMoved,
    Order,
    Refused,
    RunState,
    Settled,
    SettleOrder,
    Telling,
)
from topup.money import Money
from topup.waterfall import Holding


class AnswerMissing(Exception):
    """The account was asked and gave no usable answer: whether money moved is unknown (R21)."""


class Undeliverable(Exception):
    """This notification can never be delivered as addressed; trying again is useless."""


class NotDeliveredYet(Exception):
    """This notification was not taken this time; whoever refused it asked to be left alone for `pause`."""

    def __init__(self, message: str, pause: timedelta | None) -> None:
        """Say why, and for how long to wait if somebody asked for it."""
        super().__init__(message)
        self.pause = pause


@dataclass(frozen=True, slots=True)
class Sight:
    """The wallet's balance and what each source holds, in the order of the rule, all read at one moment."""

    balance: Money
    holdings: tuple[Holding, ...]
    known: bool = True
    """False where nobody knows the balance yet: of a wallet kept elsewhere, before its first report (R8)."""

    @property
    def known_balance(self) -> Money | None:
        """The balance, if anybody knows it."""
        return self.balance if self.known else None


@dataclass(frozen=True, slots=True)
class OpenTopUp:
    """A top-up in progress; `handed_over` once Temporal is known to have its workflow."""

    order: Order
    handed_over: bool


@dataclass(frozen=True, slots=True)
class LetterDraw:
    """What one source gave, in parts that can stand in a table."""

    source: str
    """Rank and asset: "1. USDT"."""
    result: str
    credited: str
    moved: bool
    """Whether anything came from it."""


@dataclass(frozen=True, slots=True)
class Letter:
    """Everything a channel needs to tell an owner, in words; `delivery_id` names it on every repeat."""

    delivery_id: str
    channel: str
    kind: str
    """What is told: one of `topup.words.Notice`."""
    about: str
    """The id of the top-up, or of the wallet that is low: a newer message about the same replaces an older one."""
    queued_at: datetime
    """When it was queued, by the database's clock: the newer of two messages about the same has the later moment."""
    to_name: str
    to_address: str
    subject: str
    why: str
    brief: str
    lines: tuple[str, ...]
    next_step: str | None
    page: str
    """Where to read on, as a path below the address of the pages."""
    rule_page: str
    outcome: str | None = None
    sums: tuple[tuple[str, str], ...] = ()
    """What was to arrive, what did, and what is missing: a name and an amount each."""
    draws: tuple[LetterDraw, ...] = ()
    stop_token: str | None = field(default=None, repr=False)
    """What turns off notices of this kind, where one may."""

    @property
    def is_urgent(self) -> bool:
        """Whether its reader may have to do something, or to leave something undone."""
        return self.outcome != "completed"


@dataclass(frozen=True, slots=True)
class PushBrowser:
    """A browser that an owner's push notifications go to: its push service's address, and its keys in base64url."""

    id: str
    endpoint: str = field(repr=False)
    p256dh: str = field(repr=False)
    auth: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PushList:
    """The browsers that a delivery has not reached yet, and how many it has."""

    unreached: tuple[PushBrowser, ...]
    reached: int


class Accounts(Protocol):
    """The owner's exchange account and the Pay wallet it fills."""

    async def look(self, order: CheckOrder) -> Sight:
        """Read balance, holdings and quotes at one moment."""
        ...

    async def draw(self, order: DrawOrder) -> Moved | Refused | NotMoved:
        """Move money once for the key, however often it is asked; a fenced key gives NotMoved.

        Raises AnswerMissing, or anything else, when the outcome is unknown.
        """
        ...

    async def look_up(self, name: DrawName) -> Moved | Refused | NotMoved | None:
        """Fence the key, then say what became of it; None while nobody can know."""
        ...


class TopUps(Protocol):
    """The record of top-ups and the locks they hold."""

    async def holds_lock(self, top_up_id: str) -> bool:
        """Whether the top-up is in progress and its rule is locked by it."""
        ...

    async def remember_check(self, top_up_id: str, checked: Checked) -> Checked:
        """Keep what the check found; a repeat gets what was kept first, so that a top-up is planned once only."""
        ...

    async def note_checking(self, notice: CheckingNotice) -> tuple[Delivery, ...]:
        """Show a draw as being checked; when asked to, queue the notices that say so, once per channel."""
        ...

    async def settle(self, order: SettleOrder) -> Settled:
        """Write the results, arm or not, unlock and queue the notifications, in one commit; once only."""
        ...

    async def unsettled(self, *, older_than: timedelta) -> tuple[OpenTopUp, ...]:
        """Top-ups in progress for longer than this, oldest first."""
        ...

    async def record_hand_over(self, top_up_ids: tuple[str, ...]) -> None:
        """Remember that Temporal has these top-ups' workflows."""
        ...


class Deliveries(Protocol):
    """The notifications queued by settle, and what became of them."""

    async def letter(self, delivery_id: str) -> Letter | None:
        """What to send; None when it has been sent or given up already."""
        ...

    async def record_sent(self, delivery_id: str) -> None:
        """It reached the channel."""
        ...

    async def record_attempt(self, delivery_id: str, *, failure: str) -> None:
        """One attempt failed; it stays queued."""
        ...

    async def record_undeliverable(self, delivery_id: str, *, failure: str) -> None:
        """It is given up."""
        ...

    async def untold(self, *, older_than: timedelta) -> tuple[Telling, ...]:
        """Deliveries queued for longer than this and neither sent nor given up, by top-up."""
        ...


class Browsers(Protocol):
    """The browsers of owners, and which of them has had which delivery."""

    async def list_for(self, delivery_id: str, *, owner_id: str) -> PushList:
        """Those that have not had it yet."""
        ...

    async def signing_key(self) -> str:
        """The private key by which push services know us: the same for every program, for ever."""
        ...

    async def record_reached(self, delivery_id: str, browser: PushBrowser) -> None:
        """Its push service has taken the delivery."""
        ...

    async def forget(self, browser: PushBrowser) -> None:
        """It is not there any more; one that has subscribed anew meanwhile stays."""
        ...


class Sender(Protocol):
    """One channel."""

    async def send(self, letter: Letter) -> None:
        """Send it; a repeat must reach the person as the same message.

        Raises Undeliverable when it never can be, NotDeliveredYet or anything else when it may be later.
        """
        ...


class Runs(Protocol):
    """Temporal's view of the top-ups' workflows."""

    async def state(self, top_up_id: str) -> RunState:
        """What has become of the workflow."""
        ...

    async def start(self, order: Order) -> None:
        """Start it; one that was started before is left alone."""
        ...

    async def tell(self, telling: Telling) -> bool:
        """Go on trying to deliver; False when that is being done already."""
        ...
