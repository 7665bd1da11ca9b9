"""What travels between workflow and activities: one model each way, money as text, every amount with its asset."""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from topup.money import Money
from topup.outcome import DrawReason, DrawResult, Ending
from topup.quote import Quote
from topup.rule import Terms
from topup.waterfall import PlannedDraw


class Message(BaseModel):
    """Frozen; a field that is added later needs a default, so that older histories still replay."""

    model_config = ConfigDict(frozen=True)


class Patience(Message):
    """How long each kind of step may take."""

    check: timedelta = timedelta(seconds=30)
    draw: timedelta = timedelta(seconds=30)
    """A draw may take this long, and wait twice as long for a worker to take it up."""
    tell_checking: timedelta = timedelta(seconds=60)
    """A draw unknown for this long is told to the owner (R21)."""
    notify: timedelta = timedelta(seconds=30)
    """How long the top-up's own run goes on trying to deliver; another run takes over after that (R24)."""
    notify_give_up: timedelta = timedelta(hours=24)


class Order(Message):
    """A claimed top-up: the terms as they were when it fired, and what triggered it."""

    top_up_id: str
    rule_id: str
    wallet_id: str
    owner_id: str
    owner_name: str
    terms: Terms
    trigger_event_id: str
    trigger_balance: Money
    patience: Patience = Patience()


class Lock(Message):
    """Whether the top-up still holds its rule's lock; if not, it has ended already or never was."""

    held: bool


class CheckOrder(Message):
    """Whose sources to look at, and against which terms."""

    top_up_id: str
    wallet_id: str
    owner_id: str
    terms: Terms


class Recovered(Message):
    """The wallet is no longer below its threshold (R14)."""

    kind: Literal["recovered"] = "recovered"
    balance: Money


class Covered(Message):
    """The sources cover the amount, drawn like this (R16)."""

    kind: Literal["covered"] = "covered"
    balance: Money
    draws: tuple[PlannedDraw, ...]


class Uncovered(Message):
    """The sources together cannot cover the amount (R15)."""

    kind: Literal["uncovered"] = "uncovered"
    balance: Money
    available: Money
    missing: Money


class Checked(Message):
    """What the look at wallet and sources found."""

    finding: Annotated[Recovered | Covered | Uncovered, Field(discriminator="kind")]


class DrawName(Message):
    """Which draw is meant: `key` is the only name under which it can ever have moved money."""

    top_up_id: str
    rank: int
    key: str
    owner_id: str
    account: str
    asset: str
    currency: str


class DrawOrder(DrawName):
    """One draw: credit at most `credit` to the wallet, from one asset of the owner's account, at this quote."""

    wallet_id: str
    credit: Money
    quote: Quote


class Moved(Message):
    """The source gave this; `short` when it had less than it was asked for (R17)."""

    kind: Literal["moved"] = "moved"
    debited: Money
    credited: Money
    short: bool


class Refused(Message):
    """The source gave nothing and says why; certain."""

    kind: Literal["refused"] = "refused"
    reason: DrawReason


class NotMoved(Message):
    """Looked up and fenced: the draw did not happen and cannot happen later (R21)."""

    kind: Literal["not_moved"] = "not_moved"


class DrawAnswer(Message):
    """What became of a draw, once it is known."""

    result: Annotated[Moved | Refused | NotMoved, Field(discriminator="kind")]


class CheckingNotice(Message):
    """A draw whose outcome is unknown; `tell_owner` when it has stayed so for long (R21)."""

    top_up_id: str
    rank: int
    asset: str
    tell_owner: bool


class SettleOrder(Message):
    """The true results of a top-up, to be written once."""

    top_up_id: str
    draws: tuple[DrawResult, ...]
    ending: Ending


class Delivery(Message):
    """One notification on one channel."""

    delivery_id: str
    channel: str


class Settled(Message):
    """How the top-up ended, as recorded: a repeated settle gets the first one's answer."""

    ending: Ending
    deliveries: tuple[Delivery, ...]
    draws: tuple[DrawResult, ...] = ()
    """What each source gave, as recorded, which is what the owner is told."""


class Telling(Message):
    """Deliveries of one kind still to be made about one thing, and how long to go on trying."""

    top_up_id: str | None = None
    kind: str
    deliveries: tuple[Delivery, ...]
    give_up_after: timedelta
    event_id: str | None = None
    """The balance event that left a balance low, where it is no top-up that is told of."""

    @property
    def about(self) -> str:
        """The id of what is told of."""
        return self.top_up_id or self.event_id or ""


class Ended(Message):
    """What a top-up's workflow returns: its end in words, for whoever opens the run."""

    top_up_id: str
    outcome: str
    reason: str
    credited: str
    in_words: tuple[str, ...]


class RunState(StrEnum):
    """What has become of the workflow of a top-up."""

    RUNNING = "running"
    CLOSED = "closed"
    MISSING = "missing"


class SweepReport(Message):
    """What a sweep did: ids of the top-ups it settled and started, and of what it told of."""

    settled: tuple[str, ...] = ()
    started: tuple[str, ...] = ()
    retold: tuple[str, ...] = ()
