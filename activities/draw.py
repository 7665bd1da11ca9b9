"""Draw from one source; and when no answer came, find out what became of it."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.messages import (
    CheckingNotice,
    Delivery,
    DrawAnswer,
    DrawName,
    DrawOrder,
    Moved,
    NotMoved,
    Refused,
)
from activities.ports import Accounts, AnswerMissing, TopUps
from topup.plausible import Given, find_nonsense

LOOK_UP_PAUSE_MAX = timedelta(minutes=1)
_MARGIN_MAX = timedelta(seconds=5)
_MARGIN_SHARE = 5


@dataclass(frozen=True, slots=True)
class Draw:
    """Over the accounts, and the record that shows a draw as being checked."""

    accounts: Accounts
    top_ups: TopUps

    @activity.defn(name="draw")
    async def draw(self, order: DrawOrder) -> DrawAnswer:
        """Move one draw's money, at most once for its key, however often it is asked (R10, R20).

        Gives up by itself before Temporal does, since nobody else would stop a late attempt. Any exception leaves the
        outcome unknown, and so does an answer that cannot be true.
        """
        async with asyncio.timeout(_own_deadline().total_seconds()):
            answer = await self.accounts.draw(order)
        _refuse_nonsense(order, answer)
        return DrawAnswer(result=answer)

    @activity.defn(name="look_up_draw")
    async def look_up(self, name: DrawName) -> DrawAnswer:
        """Fence the draw's key, then read what became of it; tried again until that is known (R21)."""
        result = await self.accounts.look_up(name)
        if result is None or not _speaks_of(name, result):
            message = f"nobody knows yet whether draw {name.rank} from {name.asset} moved money; asking again"
            raise ApplicationError(
                message,
                type="StillUnknown",
                next_retry_delay=_pause(),
                category=ApplicationErrorCategory.BENIGN,
            )
        return DrawAnswer(result=result)

    @activity.defn(name="note_checking")
    async def note_checking(self, notice: CheckingNotice) -> tuple[Delivery, ...]:
        """Show the draw as being checked; queue what the owner is to be told, if so asked (R21)."""
        return await self.top_ups.note_checking(notice)


def _refuse_nonsense(order: DrawOrder, answer: Moved | Refused | NotMoved) -> None:
    if not isinstance(answer, Moved):
        return
    given = Given(debited=answer.debited, credited=answer.credited, short=answer.short)
    nonsense = find_nonsense(given, asked=order.credit, quote=order.quote)
    if nonsense is not None:
        activity.logger.error("draw.answer.nonsense", extra={"key": order.key, "nonsense": nonsense})
        message = f"the answer cannot be true: {nonsense}"
        raise AnswerMissing(message)


def _speaks_of(name: DrawName, answer: Moved | Refused | NotMoved) -> bool:
    """Whether what was looked up is about this draw's assets; what is about others says nothing of it."""
    if not isinstance(answer, Moved):
        return True
    return (answer.debited.asset, answer.credited.asset) == (name.asset, name.currency)


def _own_deadline() -> timedelta:
    """Less than Temporal's time-out by a fifth, five seconds at most."""
    allowed = activity.info().start_to_close_timeout or timedelta(seconds=30)
    return allowed - min(_MARGIN_MAX, allowed / _MARGIN_SHARE)


def _pause() -> timedelta:
    return min(timedelta(seconds=2 ** min(activity.info().attempt - 1, 6)), LOOK_UP_PAUSE_MAX)
