"""The deed of telling an owner: what it records, what it raises, and what it never says aloud."""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.messages import Delivery, Telling
from activities.notify import GIVEN_UP, Notify
from activities.ports import Letter, Undeliverable

MAIL = Delivery(delivery_id="delivery_01", channel="email")


@dataclass
class RecordedDeliveries:
    """Deliveries that remember what was recorded about them."""

    found: Letter | None
    records: list[tuple[str, ...]] = field(default_factory=list)

    async def letter(self, delivery_id: str) -> Letter | None:
        del delivery_id
        return self.found

    async def record_sent(self, delivery_id: str) -> None:
        self.records.append(("sent", delivery_id))

    async def record_attempt(self, delivery_id: str, *, failure: str) -> None:
        self.records.append(("attempt", delivery_id, failure))

    async def record_undeliverable(self, delivery_id: str, *, failure: str) -> None:
        self.records.append(("undeliverable", delivery_id, failure))

    async def untold(self, *, older_than: timedelta) -> tuple[Telling, ...]:
        del older_than
        return ()


@dataclass
class Post:
    """A sender that keeps the letters, or fails like this."""

    failure: BaseException | None = None
    letters: list[Letter] = field(default_factory=list)

    async def send(self, letter: Letter) -> None:
        self.letters.append(letter)
        if self.failure:
            raise self.failure


@pytest.mark.rule("R23")
class TestTelling:
    async def test_sends_the_letter_on_its_channel_and_records_it(self, letter: Letter) -> None:
        deliveries, mail, push = RecordedDeliveries(letter), Post(), Post()
        assert await Notify(deliveries, {"email": mail, "push": push}).notify(MAIL) is True
        assert (mail.letters, push.letters) == ([letter], [])
        assert deliveries.records == [("sent", "delivery_01")]

    async def test_sends_nothing_when_it_is_told_already(self) -> None:
        deliveries, mail = RecordedDeliveries(None), Post()
        assert await Notify(deliveries, {"email": mail}).notify(MAIL) is True
        assert (mail.letters, deliveries.records) == ([], [])


@pytest.mark.rule("R24")
class TestTellingThatFails:
    async def test_is_recorded_and_raised_in_words_to_be_tried_again(self, letter: Letter) -> None:
        deliveries = RecordedDeliveries(letter)
        notify = Notify(deliveries, {"email": Post(ConnectionError("the mail server could not be reached"))})
        with pytest.raises(ApplicationError) as failure:
            await notify.notify(MAIL)
        assert failure.value.message == "not delivered by email: the mail server could not be reached"
        assert (failure.value.type, failure.value.non_retryable) == ("NotDelivered", False)
        assert failure.value.category is ApplicationErrorCategory.BENIGN
        assert deliveries.records == [("attempt", "delivery_01", "the mail server could not be reached")]

    async def test_carries_neither_address_nor_cause_into_the_history(self, letter: Letter) -> None:
        deliveries = RecordedDeliveries(letter)
        notify = Notify(deliveries, {"email": Post(RuntimeError(f"no route to {letter.to_address}"))})
        with pytest.raises(ApplicationError) as failure:
            await notify.notify(MAIL)
        assert letter.to_address not in failure.value.message + str(deliveries.records)
        assert failure.value.__cause__ is None

    async def test_is_tried_again_when_this_worker_lacks_the_channel(self, letter: Letter) -> None:
        with pytest.raises(ApplicationError, match="no sender for email"):
            await Notify(RecordedDeliveries(letter), {}).notify(MAIL)

    async def test_is_given_up_at_once_when_it_can_never_arrive(self, letter: Letter) -> None:
        deliveries = RecordedDeliveries(letter)
        notify = Notify(deliveries, {"email": Post(Undeliverable("the mailbox does not exist"))})
        assert await notify.notify(MAIL) is False
        assert deliveries.records == [
            ("attempt", "delivery_01", "the mailbox does not exist"),
            ("undeliverable", "delivery_01", "the mailbox does not exist"),
        ]

    async def test_is_given_up_when_the_time_for_trying_is_over(self, letter: Letter) -> None:
        deliveries = RecordedDeliveries(letter)
        await Notify(deliveries, {}).give_up(MAIL)
        assert deliveries.records == [("undeliverable", "delivery_01", GIVEN_UP)]

    async def test_records_nothing_when_it_is_cancelled(self, letter: Letter) -> None:
        deliveries = RecordedDeliveries(letter)
        with pytest.raises(asyncio.CancelledError):
            await Notify(deliveries, {"email": Post(asyncio.CancelledError())}).notify(MAIL)
        assert deliveries.records == []

    async def test_names_the_kind_of_a_failure_that_says_nothing(self, letter: Letter) -> None:
        notify = Notify(RecordedDeliveries(replace(letter)), {"email": Post(TimeoutError())})
        with pytest.raises(ApplicationError, match="TimeoutError"):
            await notify.notify(MAIL)
