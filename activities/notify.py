"""Tell the owner on one channel; whatever comes of it never touches the top-up (R23, R24)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.messages import Delivery
from activities.ports import Deliveries, Letter, NotDeliveredYet, Sender, Undeliverable

GIVEN_UP = "given up: it could not be delivered in the time set for trying"
PAUSE_MAX = timedelta(hours=1)
"""Nobody may ask to be left alone for longer."""


@dataclass(frozen=True, slots=True)
class Notify:
    """Over the queued deliveries, and one sender for each channel by name."""

    deliveries: Deliveries
    senders: Mapping[str, Sender]

    @activity.defn(name="notify")
    async def notify(self, delivery: Delivery) -> bool:
        """Deliver, at least once; a repeat reaches the owner as the same message.

        True when it is sent or there is nothing left to send, False when it can never be delivered. Anything else is
        recorded and raised in words, to be tried again.
        """
        letter = await self.deliveries.letter(delivery.delivery_id)
        if letter is None:
            return True
        try:
            await self._sender_of(delivery).send(letter)
        except Undeliverable as never:
            await self._give_up_at_once(letter, _in_words(never, letter))
            return False
        except NotDeliveredYet as later:
            raise await self._not_this_time(letter, _in_words(later, letter), pause=later.pause) from None
        except Exception as failure:  # noqa: BLE001 whatever stopped it, the owner is still to be told
            raise await self._not_this_time(letter, _in_words(failure, letter)) from None
        await self.deliveries.record_sent(delivery.delivery_id)
        return True

    @activity.defn(name="give_up_delivery")
    async def give_up(self, delivery: Delivery) -> None:
        """Record that the time for trying is over."""
        await self.deliveries.record_undeliverable(delivery.delivery_id, failure=GIVEN_UP)
        activity.logger.error("delivery.given_up", extra=_about(delivery.delivery_id, delivery.channel))

    def _sender_of(self, delivery: Delivery) -> Sender:
        try:
            return self.senders[delivery.channel]
        except KeyError:
            message = f"this worker has no sender for {delivery.channel}"
            raise LookupError(message) from None

    async def _give_up_at_once(self, letter: Letter, failure: str) -> None:
        await self.deliveries.record_attempt(letter.delivery_id, failure=failure)
        await self.deliveries.record_undeliverable(letter.delivery_id, failure=failure)
        about = _about(letter.delivery_id, letter.channel)
        activity.logger.warning("delivery.found_undeliverable", extra={**about, "failure": failure})

    async def _not_this_time(
        self, letter: Letter, failure: str, *, pause: timedelta | None = None
    ) -> ApplicationError:
        """What has it tried again: after `pause` if one was asked for, else as the retry policy says."""
        await self.deliveries.record_attempt(letter.delivery_id, failure=failure)
        return ApplicationError(
            f"not delivered by {letter.channel}: {failure}",
            type="NotDelivered",
            next_retry_delay=min(pause, PAUSE_MAX) if pause else None,
            category=ApplicationErrorCategory.BENIGN,
        )


def _in_words(failure: Exception, letter: Letter) -> str:
    """What a sender said, without the owner's address, in case it was said nevertheless."""
    return (str(failure) or type(failure).__name__).replace(letter.to_address, "[address]")


def _about(delivery_id: str, channel: str) -> dict[str, str]:
    return {"delivery_id": delivery_id, "channel": channel}
