"""The queued notifications on a real PostgreSQL: one per channel, true words, and nothing else touched."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest
import pytest_asyncio
from sqlmodel import SQLModel, col, select, update

from activities.messages import Delivery
from adapters.postgres.database import Database
from adapters.postgres.deliveries import (
    FAILURE_LENGTH_MAX,
    SUPERSEDED,
    DeliveryMissing,
    DeliveryRecords,
    NotEnded,
    queue_deliveries,
)
from adapters.postgres.ids import new_id
from adapters.postgres.tables import DeliveryRow, DrawRow, Rule, TopUpRow
from tests.builders import Household, open_household
from tests.hands import by_hand
from topup.money import Money
from topup.outcome import DrawReason, DrawResult, DrawStatus, Ending, Reason, conclude, failed, not_drawn
from topup.words import Notice, checking_headline, headline

AMOUNT = Money.parse("50", "USDT")


class Told:
    """A household whose top-up of 50 USDT is under way, and what its owner is told."""

    def __init__(self, home: Household, rule_id: str) -> None:
        self.home, self.database, self.top_up_id = home, home.database, new_id("topup")
        self.rule_id = rule_id
        self.records = DeliveryRecords(home.database, timedelta(hours=24))

    async def begin(self) -> None:
        top_up = TopUpRow(
            id=self.top_up_id,
            rule_id=self.rule_id,
            rule_version=1,
            wallet_id=self.home.wallet_id,
            owner_id=self.home.owner_id,
            currency="USDT",
            threshold=Money.parse("20", "USDT").units,
            amount=AMOUNT.units,
            account="funding",
            sources=["USDT", "BTC"],
            trigger_event_id=new_id("event"),
            trigger_balance=0,
            state="in_progress",
        )
        async with self.database.commit() as session:
            session.add(top_up)

    async def end(self, ending: Ending, draws: Sequence[DrawResult]) -> None:
        await self.write_draws(draws)
        async with self.database.commit() as session:
            top_up = (await session.exec(select(TopUpRow).where(col(TopUpRow.id) == self.top_up_id))).one()
            top_up.state, top_up.outcome = "ended", ending.outcome.value
            top_up.reason, top_up.credited = ending.reason.value, ending.credited.units

    async def write_draws(self, draws: Sequence[DrawResult]) -> None:
        async with self.database.commit() as session:
            for draw in draws:
                session.add(
                    DrawRow(
                        top_up_id=self.top_up_id,
                        rank=draw.rank,
                        asset=draw.asset,
                        status=draw.status.value,
                        reason=draw.reason.value if draw.reason else None,
                        debited=draw.debited.units,
                        credited=draw.credited.units,
                    )
                )

    async def queue(self, kind: Notice = Notice.ENDED, subject: str = "Subject") -> tuple[Delivery, ...]:
        async with self.database.commit() as session:
            return await queue_deliveries(
                session, top_up_id=self.top_up_id, owner_id=self.home.owner_id, kind=kind, subject=subject
            )

    async def row(self, delivery: Delivery) -> DeliveryRow:
        async with self.database.read() as session:
            return (
                await session.exec(select(DeliveryRow).where(col(DeliveryRow.id) == delivery.delivery_id))
            ).one()

    async def age(self, by: timedelta) -> None:
        async with by_hand(self.database) as session:
            await session.exec(update(DeliveryRow).values(created_at=col(DeliveryRow.created_at) - by))

    async def everything_else(self) -> list[SQLModel]:
        async with self.database.read() as session:
            rules, top_ups = await session.exec(select(Rule)), await session.exec(select(TopUpRow))
            draws = await session.exec(select(DrawRow))
            return [*rules.all(), *top_ups.all(), *draws.all()]


@pytest_asyncio.fixture
async def told(database: Database) -> Told:
    home = await open_household(database)
    told = Told(home, await home.draw_up_rule(threshold="20", amount="50", sources=("USDT", "BTC")))
    await told.begin()
    return told


def gave(
    rank: int, debited: str, credited: str, *, status: DrawStatus = DrawStatus.TRANSFERRED
) -> DrawResult:
    debit = Money.read(debited)
    return DrawResult(rank, debit.asset, status, None, debit, Money.read(credited))


@pytest.mark.rule("R23")
class TestQueueing:
    async def test_makes_one_delivery_for_each_channel(self, told: Told) -> None:
        assert [delivery.channel for delivery in await told.queue()] == ["push", "email"]

    async def test_gives_the_same_deliveries_to_everyone_at_once(self, told: Told) -> None:
        answers = await asyncio.gather(*[told.queue() for _ in range(10)])
        assert len(set(answers)) == 1
        assert len(await told.home.deliveries()) == 2

    async def test_keeps_the_first_ones_when_repeated_after_they_were_sent(self, told: Told) -> None:
        first = await told.queue()
        await told.records.record_sent(first[0].delivery_id)
        assert await told.queue(subject="Another") == first
        assert {row.subject for row in await told.home.deliveries()} == {"Subject"}

    async def test_happens_with_the_callers_commit_or_not_at_all(self, told: Told) -> None:
        with pytest.raises(RuntimeError):
            await _queue_and_fail(told)
        assert await told.home.deliveries() == []

    async def test_tells_the_end_apart_from_being_checked(self, told: Told) -> None:
        checking, ended = await told.queue(Notice.BEING_CHECKED), await told.queue()
        assert not set(checking) & set(ended)

    async def test_refuses_a_kind_nobody_knows(self, told: Told) -> None:
        with pytest.raises(ValueError, match="advert"):
            await told.queue("advert")  # type: ignore[arg-type]


@pytest.mark.rule("R23")
class TestLetter:
    async def test_about_a_waterfall_tells_what_each_source_gave(self, told: Told) -> None:
        draws = [gave(1, "30.00 USDT", "30.00 USDT"), gave(2, "0.0002 BTC", "20.00 USDT")]
        ending = conclude(AMOUNT, draws)
        await told.end(ending, draws)
        _, mail = await told.queue(subject=headline(ending, AMOUNT))
        letter = await told.records.letter(mail.delivery_id)
        assert letter is not None
        assert (letter.to_name, letter.to_address, letter.channel) == ("Ada", "ada@example.com", "email")
        assert letter.subject == "Your Pay wallet was topped up with 50.00 USDT"
        assert letter.why == (
            "Your Pay wallet was below your threshold of 20.00 USDT, so your rule started a top-up of 50.00 USDT "
            "from your funding account. The full amount arrived."
        )
        assert letter.lines == ("1. USDT: gave 30.00 USDT.", "2. BTC: gave 0.0002 BTC, worth 20.00 USDT.")
        assert letter.next_step is None

    async def test_about_a_partial_top_up_tells_what_failed_what_is_missing_and_what_to_do(
        self, told: Told
    ) -> None:
        refused = not_drawn(2, "BTC", currency="USDT", status=DrawStatus.FAILED, reason=DrawReason.REJECTED)
        draws = [gave(1, "30.00 USDT", "30.00 USDT"), refused]
        await told.end(conclude(AMOUNT, draws), draws)
        letter = await told.records.letter((await told.queue())[1].delivery_id)
        assert letter is not None
        assert letter.why.endswith("20.00 USDT did not arrive.")
        assert letter.lines[1] == "2. BTC: gave nothing, because the exchange refused the transfer."
        assert "add funds to your Pay wallet by hand" in str(letter.next_step)
        assert "adjust" in str(letter.next_step)

    async def test_about_sources_that_cannot_cover_tells_so_and_that_nothing_was_moved(
        self, told: Told
    ) -> None:
        ending = failed(Reason.INSUFFICIENT_BALANCE, "USDT")
        await told.end(ending, [not_drawn(1, "USDT", currency="USDT"), not_drawn(2, "BTC", currency="USDT")])
        letter = await told.records.letter(
            (await told.queue(subject=headline(ending, AMOUNT)))[1].delivery_id
        )
        assert letter is not None
        assert letter.subject == "Your top-up of 50.00 USDT failed: nothing was moved"
        assert "do not hold enough" in letter.why
        assert letter.next_step is not None

    async def test_to_push_is_addressed_to_the_owner_rather_than_a_mailbox(self, told: Told) -> None:
        await told.end(failed(Reason.SYSTEM_ERROR, "USDT"), [])
        letter = await told.records.letter((await told.queue())[0].delivery_id)
        assert letter is not None
        assert letter.to_address == told.home.owner_id

    async def test_holds_no_balance(self, told: Told) -> None:
        await told.home.add("7.77")
        await told.end(failed(Reason.INSUFFICIENT_BALANCE, "USDT"), [])
        assert "7.77" not in repr(await told.records.letter((await told.queue())[1].delivery_id))

    async def test_is_refused_for_an_end_that_has_not_come_and_for_a_delivery_that_is_not(
        self, told: Told
    ) -> None:
        with pytest.raises(NotEnded):
            await told.records.letter((await told.queue())[1].delivery_id)
        with pytest.raises(DeliveryMissing):
            await told.records.letter("delivery_0")


@pytest.mark.rule("R21")
class TestLetterAboutADrawBeingChecked:
    async def test_names_the_source_and_says_not_to_top_up_by_hand_and_that_more_follows(
        self, told: Told
    ) -> None:
        silent = not_drawn(2, "BTC", currency="USDT", status=DrawStatus.BEING_CHECKED)
        await told.write_draws([silent])
        _, mail = await told.queue(Notice.BEING_CHECKED, checking_headline(AMOUNT))
        letter = await told.records.letter(mail.delivery_id)
        assert letter is not None
        assert letter.subject == "Your top-up of 50.00 USDT is being checked, do not top up by hand yet"
        assert "The transfer from BTC has not been answered" in letter.why
        assert letter.lines == ("2. BTC: has not answered yet, and is being checked.",)
        assert "do not top up by hand yet" in str(letter.next_step)
        assert "A second message tells you how it ended" in str(letter.next_step)

    async def test_is_not_sent_any_more_once_the_top_up_has_ended(self, told: Told) -> None:
        _, mail = await told.queue(Notice.BEING_CHECKED)
        await told.end(failed(Reason.NOT_CONFIRMED, "USDT"), [])
        assert await told.records.letter(mail.delivery_id) is None
        row = await told.row(mail)
        assert (row.status, row.last_failure) == ("undeliverable", SUPERSEDED)


@pytest.mark.rule("R24")
class TestRecords:
    async def test_of_a_sent_delivery_leave_nothing_more_to_send(self, told: Told) -> None:
        await told.end(failed(Reason.SYSTEM_ERROR, "USDT"), [])
        _, mail = await told.queue()
        await told.records.record_attempt(mail.delivery_id, failure="no answer")
        await told.records.record_sent(mail.delivery_id)
        row = await told.row(mail)
        assert (row.status, row.attempts, row.last_failure) == ("sent", 2, None)
        assert row.sent_at is not None
        assert await told.records.letter(mail.delivery_id) is None

    async def test_of_an_attempt_keep_it_queued_with_its_failure_in_one_clipped_line(
        self, told: Told
    ) -> None:
        _, mail = await told.queue()
        await told.records.record_attempt(mail.delivery_id, failure=f"no <ada@example.com>\nhere {'x' * 999}")
        row = await told.row(mail)
        assert (row.status, row.attempts) == ("pending", 1)
        assert str(row.last_failure).startswith("no <[address]> here xxx")
        assert len(str(row.last_failure)) == FAILURE_LENGTH_MAX

    async def test_of_giving_up_say_what_failed_last(self, told: Told) -> None:
        _, mail = await told.queue()
        await told.records.record_attempt(mail.delivery_id, failure="no answer")
        await told.records.record_undeliverable(mail.delivery_id, failure="given up")
        row = await told.row(mail)
        assert (row.status, row.last_failure) == ("undeliverable", "given up; before that: no answer")

    async def test_of_giving_up_say_the_same_thing_once(self, told: Told) -> None:
        push, _ = await told.queue()
        await told.records.record_attempt(push.delivery_id, failure="no push subscription")
        await told.records.record_undeliverable(push.delivery_id, failure="no push subscription")
        assert (await told.row(push)).last_failure == "no push subscription"

    async def test_never_take_back_what_was_sent(self, told: Told) -> None:
        _, mail = await told.queue()
        await told.records.record_sent(mail.delivery_id)
        sent = (await told.row(mail)).sent_at
        await told.records.record_undeliverable(mail.delivery_id, failure="late")
        await told.records.record_attempt(mail.delivery_id, failure="late")
        await told.records.record_sent(mail.delivery_id)
        row = await told.row(mail)
        assert (row.status, row.attempts, row.last_failure, row.sent_at) == ("sent", 1, None, sent)

    async def test_touch_neither_the_top_up_nor_its_draws_nor_the_rule(self, told: Told) -> None:
        draws = [gave(1, "30.00 USDT", "30.00 USDT"), not_drawn(2, "BTC", currency="USDT")]
        await told.end(conclude(AMOUNT, draws, stopped=True), draws)
        before = await told.everything_else()
        for delivery in await told.queue():
            await told.records.letter(delivery.delivery_id)
            await told.records.record_attempt(delivery.delivery_id, failure="no answer")
            await told.records.record_undeliverable(delivery.delivery_id, failure="given up")
        assert await told.everything_else() == before


@pytest.mark.rule("R24")
class TestUntold:
    async def test_finds_what_waits_longer_than_asked_and_how_long_is_left_for_it(self, told: Told) -> None:
        push, mail = await told.queue()
        assert await told.records.untold(older_than=timedelta(hours=1)) == ()
        await told.age(timedelta(hours=4))
        await told.records.record_sent(push.delivery_id)
        [telling] = await told.records.untold(older_than=timedelta(hours=1))
        assert (telling.top_up_id, telling.kind, telling.deliveries) == (told.top_up_id, "ended", (mail,))
        assert timedelta(hours=19, minutes=59) < telling.give_up_after <= timedelta(hours=20)

    async def test_leaves_time_for_some_last_tries_however_late_it_is(self, told: Told) -> None:
        await told.queue()
        await told.age(timedelta(days=9))
        [telling] = await told.records.untold(older_than=timedelta(hours=1))
        assert telling.give_up_after == timedelta(minutes=1)

    async def test_keeps_the_two_notices_of_one_top_up_apart(self, told: Told) -> None:
        await told.queue(Notice.BEING_CHECKED)
        await told.queue()
        await told.age(timedelta(hours=4))
        kinds = [telling.kind for telling in await told.records.untold(older_than=timedelta(hours=1))]
        assert kinds == ["being_checked", "ended"]


async def _queue_and_fail(told: Told) -> None:
    async with told.database.commit() as session:
        await queue_deliveries(
            session,
            top_up_id=told.top_up_id,
            owner_id=told.home.owner_id,
            kind=Notice.ENDED,
            subject="Subject",
        )
        raise RuntimeError
