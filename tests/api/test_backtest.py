"""The dry run over the past, over HTTP: other terms tried on what really happened, and nothing moved."""

from typing import Any

import pytest
from sqlmodel import select

from adapters.postgres.database import Database
from adapters.postgres.tables import BalanceEvent, DecisionRow, Entry, TopUpRow
from api.scopes import Scope
from tests.adapters.crowd import settle
from tests.api.conftest import Caller, Json, MakeCaller
from tests.api.test_balance_events import PATH, event, open_elsewhere
from tests.api.test_rules import path_of
from tests.builders import Household


class Past:
    """A wallet with a rule that has fired twice: 100 came in, 60 and 110 were spent, each topped up with 100."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller

    async def happen(self) -> Json:
        self.owner_id = await self.caller.register_owner()
        self.wallet_id = await self.caller.open_wallet(self.owner_id, balance="100")
        self.rule = await self.caller.create_rule(self.wallet_id, sources=["USDT"])
        await self.caller.judge()
        home = Household(self.caller.database, self.owner_id, self.wallet_id, "USDT")
        for amount in ("60", "110"):
            await self.caller.pay(self.wallet_id, amount)
            assert len(await self.caller.judge()) == 1
            await settle(self.caller.database, home)
        await self.caller.judge()
        return self.rule

    async def try_with(self, order: Json = None) -> Json:
        answer = await self.caller.post(path_of(self.rule) + "/backtest", order)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
async def past(caller: Caller) -> Past:
    past = Past(caller)
    await past.happen()
    return past


class TestADryRun:
    async def test_with_the_rules_own_terms_tells_what_really_happened(self, past: Past) -> None:
        found = await past.try_with()

        top_ups = (await past.caller.get("/v1/top-ups")).json()["data"]
        assert found == {
            "events": 3,
            "first_event_at": found["first_event_at"],
            "last_event_at": found["last_event_at"],
            "truncated": False,
            "top_ups": [
                {
                    "at": found["top_ups"][0]["at"],
                    "balance_before": "40.00",
                    "balance_after": "140.00",
                    "outcome": "completed",
                    "reason": "full",
                },
                {
                    "at": found["top_ups"][1]["at"],
                    "balance_before": "30.00",
                    "balance_after": "130.00",
                    "outcome": "completed",
                    "reason": "full",
                },
            ],
            "count": 2,
            "insufficient": 0,
            "capped": 0,
            "unpaid": 0,
            "lowest_balance": "30.00",
            "final_balance": "130.00",
        }
        assert [top_up["trigger"]["balance"] for top_up in top_ups] == ["30.00", "40.00"]
        assert await past.try_with({}) == found

    @pytest.mark.parametrize(
        ("order", "expected"),
        [
            ({"threshold": "35"}, {"count": 0, "unpaid": 1, "final_balance": "40.00"}),
            ({"amount": "10"}, {"count": 1, "unpaid": 1, "lowest_balance": "40.00"}),
            ({"threshold": "200"}, {"count": 2, "final_balance": "130.00"}),
            ({"caps": {"day": {"count": 1}}}, {"count": 1, "capped": 1, "final_balance": "30.00"}),
            (
                {"assume_available": {"USDT": "150"}},
                {"count": 2, "insufficient": 1, "final_balance": "30.00"},
            ),
            ({"assume_available": {}}, {"count": 1, "insufficient": 1, "unpaid": 1}),
            (
                {"sources": ["USDT", "BTC"], "assume_available": {"USDT": "150", "BTC": "0.1"}},
                {"count": 2, "insufficient": 0, "final_balance": "130.00"},
            ),
            ({"from": "2200-01-01T00:00:00Z"}, {"events": 0, "count": 0, "final_balance": "130.00"}),
            ({"until": "2020-01-01T00:00:00Z"}, {"events": 0, "lowest_balance": None, "final_balance": None}),
        ],
    )
    async def test_tries_what_is_asked(self, past: Past, order: Json, expected: dict[str, Any]) -> None:
        found = await past.try_with(order)

        assert {name: found[name] for name in expected} == expected

    async def test_of_caps_of_its_own_keeps_to_them_unless_told_otherwise(self, past: Past) -> None:
        await past.caller.change("PATCH", path_of(past.rule), {"caps": {"day": {"count": 1}}}, version=1)

        assert (await past.try_with())["count"] == 1
        assert (await past.try_with({"caps": None}))["count"] == 2

    async def test_moves_and_writes_nothing(self, past: Past, database: Database) -> None:
        async def everything() -> list[int]:
            async with database.read() as session:
                tables = (Entry, BalanceEvent, DecisionRow, TopUpRow)
                return [len((await session.exec(select(table))).all()) for table in tables]

        before = await everything()
        await past.try_with({"threshold": "1000"})

        assert await everything() == before
        assert (await past.caller.get(path_of(past.rule))).json()["version"] == 1

    @pytest.mark.parametrize(
        ("order", "pointers"),
        [
            ({"threshold": "0", "amount": "x", "sources": []}, ["/threshold", "/amount", "/sources"]),
            ({"caps": {"day": {"amount": "99"}}}, ["/caps/day/amount"]),
            ({"assume_available": {"USDC": "1"}}, ["/assume_available/USDC"]),
            ({"assume_available": {"USDT": "-1"}}, ["/assume_available/USDT"]),
            ({"assume_available": {"USDT": 5}}, ["/assume_available/USDT"]),
            ({"from": "today"}, ["/from"]),
            ({"since": "2026-11-20T10:00:00Z"}, ["/since"]),
            ({"from": "2026-11-20T10:00:00Z", "until": "2026-11-20T10:00:00Z"}, ["/until"]),
            ({"limit": 3}, ["/limit"]),
        ],
    )
    async def test_of_what_is_wrong_is_refused_naming_the_field(
        self, steady: Caller, order: Json, pointers: list[str]
    ) -> None:
        rule = await steady.create_rule(await steady.open_wallet(), sources=["USDT"])

        answer = await steady.post(path_of(rule) + "/backtest", order)

        assert answer.status_code == 422, answer.text
        assert [problem["pointer"] for problem in answer.json()["errors"]] == pointers

    async def test_is_open_to_readers_of_the_rule_alone(self, past: Past, caller_with: MakeCaller) -> None:
        reader = await caller_with(Scope.RULES_READ, owner_id=past.owner_id)
        writer = await caller_with(Scope.RULES_WRITE)
        stranger = await caller_with(Scope.RULES_READ, owner_id=await past.caller.register_owner())

        answers = [await one.post(path_of(past.rule) + "/backtest", {}) for one in (reader, writer, stranger)]

        assert [answer.status_code for answer in answers] == [200, 403, 404]

    async def test_under_an_idempotency_key_is_of_one_body(self, past: Past) -> None:
        path = path_of(past.rule) + "/backtest"

        first = await past.caller.post(path, {"threshold": "35"}, key="tried")
        again = await past.caller.post(path, {"threshold": "35"}, key="tried")
        other = await past.caller.post(path, {"threshold": "36"}, key="tried")

        assert again.json() == first.json()
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")

    async def test_of_a_wallet_elsewhere_replays_its_reports(self, caller: Caller) -> None:
        wallet_id = await open_elsewhere(caller)
        rule = await caller.create_rule(wallet_id)
        for version, balance in enumerate(("80", "40", "90", "45", "30")):
            await caller.post(PATH, event(wallet_id, version, balance))

        answer = await caller.post(path_of(rule) + "/backtest", {"amount": "20"})

        found = answer.json()
        assert [top_up["balance_before"] for top_up in found["top_ups"]] == ["40.00"]
        assert (found["events"], found["final_balance"], found["lowest_balance"]) == (5, "50.00", "40.00")
