"""Idempotency-Key: a request repeated gets its first answer, and has one effect."""

import asyncio

import pytest
from sqlalchemy import text
from sqlmodel import select

from adapters.postgres.answers import forget_old_answers
from adapters.postgres.database import Database, run_sql
from adapters.postgres.tables import KeptAnswer, Owner
from tests.api.conftest import TERMS, Caller, MakeCaller

REPLAYED = "Idempotency-Replayed"


class TestAMoneyRequestWithoutKey:
    @pytest.mark.parametrize("path", ["/v1/ledger/payments", "/v1/ledger/deposits"])
    async def test_is_refused(self, caller: Caller, path: str) -> None:
        body = {"wallet_id": await caller.open_wallet(), "amount": "1"}
        answer = await caller.post(path, body)

        assert answer.status_code == 400
        assert answer.json()["code"] == "idempotency_key_required"


class TestAKey:
    @pytest.mark.parametrize("key", ["", " ", "x" * 256, "a b", "ä", '""', '"', '"a', f'"{"x" * 254}"'])
    async def test_that_cannot_be_used_is_refused(self, steady: Caller, key: str) -> None:
        answer = await steady.client.post(
            "/v1/owners",
            json={"name": "Ada", "email": "ada@example.com"},
            headers={b"Idempotency-Key": key.encode()},
        )

        assert answer.status_code == 400
        assert answer.json()["code"] == "idempotency_key_invalid"

    async def test_is_the_same_with_and_without_quotes(self, caller: Caller) -> None:
        wallet_id = await caller.open_wallet(balance="10")
        first = await caller.pay(wallet_id, "1", key="abc")
        second = await caller.pay(wallet_id, "1", key='"abc"')

        assert second.json() == first.json()


class TestARepeatedRequest:
    async def test_gets_the_first_answer_and_has_no_second_effect(self, caller: Caller) -> None:
        wallet_id = await caller.open_wallet(balance="10")
        first = await caller.pay(wallet_id, "1", key="k")
        second = await caller.pay(wallet_id, "1", key="k")

        assert REPLAYED not in first.headers
        assert second.headers[REPLAYED] == "true"
        assert second.status_code == 201
        assert second.content == first.content
        assert await caller.balance(wallet_id) == "9.00"

    async def test_gets_the_first_refusal_too_once_the_ledger_remembers_it(self, caller: Caller) -> None:
        wallet_id = await caller.open_wallet(balance="10")
        first = await caller.pay(wallet_id, "20", key="k")
        await caller.deposit(wallet_id=wallet_id, amount="50")
        second = await caller.pay(wallet_id, "20", key="k")

        assert (first.status_code, second.status_code) == (409, 409)
        assert second.headers[REPLAYED] == "true"
        assert second.headers["Content-Type"] == "application/problem+json"
        assert await caller.balance(wallet_id) == "60.00"

    async def test_gets_its_headers_again(self, caller: Caller) -> None:
        body = {"wallet_id": await caller.open_wallet(), **TERMS}
        first = await caller.post("/v1/rules", body, key="k")
        second = await caller.post("/v1/rules", body, key="k")

        assert second.headers["ETag"] == first.headers["ETag"] == '"1"'
        assert second.status_code == 201

    async def test_with_another_body_is_refused(self, caller: Caller) -> None:
        wallet_id = await caller.open_wallet(balance="10")
        await caller.pay(wallet_id, "1", key="k")
        answer = await caller.pay(wallet_id, "2", key="k")

        assert answer.status_code == 422
        assert answer.json()["code"] == "idempotency_key_reused"
        assert await caller.balance(wallet_id) == "9.00"

    async def test_is_another_request_on_another_path_or_with_another_api_key(
        self, caller: Caller, caller_with: MakeCaller
    ) -> None:
        wallet_id = await caller.open_wallet(balance="10")
        await caller.pay(wallet_id, "1", key="k")
        deposited = await caller.post("/v1/ledger/deposits", {"wallet_id": wallet_id, "amount": "1"}, key="k")
        paid = await (await caller_with("admin")).pay(wallet_id, "1", key="k")

        assert REPLAYED not in deposited.headers
        assert REPLAYED not in paid.headers
        assert await caller.balance(wallet_id) == "9.00"

    async def test_that_was_refused_before_doing_anything_can_be_corrected(self, caller: Caller) -> None:
        wallet_id = await caller.open_wallet(balance="10")
        refused = await caller.pay(wallet_id, "0", key="k")
        corrected = await caller.pay(wallet_id, "1", key="k")

        assert (refused.status_code, corrected.status_code) == (422, 201)

    async def test_works_on_every_post(self, caller: Caller, database: Database) -> None:
        owner = {"name": "Ada", "email": "ada@example.com"}
        answers = [await caller.post("/v1/owners", owner, key="k") for _ in range(2)]
        rule, _ = await caller.fire()
        path = f"/v1/rules/{rule['id']}/preview"
        answers += [await caller.post(path, key="k") for _ in range(2)]

        assert answers[0].content == answers[1].content
        assert answers[2].content == answers[3].content
        assert answers[3].headers[REPLAYED] == "true"
        async with database.read() as session:
            owners = (await session.exec(select(Owner))).all()
        assert len(owners) == 2

    async def test_after_seven_days_is_a_new_one(self, caller: Caller, database: Database) -> None:
        wallet_id = await caller.open_wallet(balance="10")
        await caller.pay(wallet_id, "1", key="k")
        await age_answers(database)
        answer = await caller.pay(wallet_id, "2", key="k")

        assert answer.status_code == 201
        assert REPLAYED not in answer.headers
        assert (await caller.pay(wallet_id, "2", key="k")).content == answer.content

    async def test_is_forgotten_after_seven_days(self, caller: Caller, database: Database) -> None:
        wallet_id = await caller.open_wallet(balance="10")
        await age_answers(database)
        await caller.pay(wallet_id, "1", key="k")

        assert await forget_old_answers(database) == 1
        async with database.read() as session:
            (kept,) = (await session.exec(select(KeptAnswer))).all()
        assert kept.key == "k"


class TestTwins:
    async def test_sent_at_once_have_one_effect_and_one_answer(self, caller: Caller) -> None:
        wallet_id = await caller.open_wallet(balance="10")
        answers = await asyncio.gather(*(caller.pay(wallet_id, "1", key="k") for _ in range(20)))

        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.content for answer in answers}) == 1
        assert [answer.headers.get(REPLAYED) for answer in answers].count(None) == 1
        assert await caller.balance(wallet_id) == "9.00"

    async def test_of_one_that_takes_too_long_are_told_to_ask_again(
        self, caller: Caller, database: Database
    ) -> None:
        wallet_id = await caller.open_wallet(balance="10")
        async with database.commit() as session:
            statement = text("SELECT 1 FROM account WHERE wallet_id = :wallet_id FOR UPDATE")
            await run_sql(session, statement, wallet_id=wallet_id)
            first, second = await asyncio.gather(
                caller.pay(wallet_id, "1", key="k"), caller.pay(wallet_id, "1", key="k")
            )

        refusals = {answer.json()["code"] for answer in (first, second)}
        assert refusals <= {"still_running", "unavailable"}
        assert all(answer.headers["Retry-After"] for answer in (first, second))
        assert await caller.balance(wallet_id) == "10.00"
        assert (await caller.pay(wallet_id, "1", key="k")).status_code == 201


async def age_answers(database: Database) -> None:
    async with database.commit() as session:
        await run_sql(session, text("UPDATE kept_answer SET at = at - interval '7 days 1 second'"))
