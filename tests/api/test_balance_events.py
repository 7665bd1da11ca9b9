"""Balance events from outside over HTTP: single and in batches, refused whole, and only for one's own wallets."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from httpx2 import Response
from sqlmodel import select

from adapters.postgres.database import Database
from adapters.postgres.tables import BalanceEvent
from api.balance_events import AHEAD_MAX, EVENTS_MAX
from api.scopes import Scope
from tests.api.conftest import Caller, Json, MakeCaller

PATH = "/v1/balance-events"
AT = "2026-11-20T10:00:00Z"
TAKEN = {"accepted": True, "duplicate": False, "stale": False}


async def open_elsewhere(caller: Caller, owner_id: str | None = None) -> str:
    """A wallet whose balance is kept elsewhere."""
    owner_id = owner_id or await caller.register_owner()
    answer = await caller.post("/v1/wallets", {"owner_id": owner_id, "currency": "USDT", "kept": "elsewhere"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def event(wallet_id: str, version: int = 1, balance: str = "80.00", **changed: Json) -> dict[str, Json]:
    """One balance event, under an id that its version gives it."""
    told = {"event_id": f"evt-{version}", "wallet_id": wallet_id, "balance": balance, "version": version}
    return {**told, "occurred_at": AT, **changed}


def pointers(answer: Response) -> list[str]:
    """The fields that are named as wrong."""
    assert answer.status_code == 422, answer.text
    return [problem["pointer"] for problem in answer.json()["errors"]]


async def recorded(database: Database) -> int:
    """How many balance events there are."""
    async with database.read() as session:
        return len((await session.exec(select(BalanceEvent))).all())


class TestAWalletKeptElsewhere:
    async def test_shows_what_was_reported_last(self, caller: Caller) -> None:
        wallet_id = await open_elsewhere(caller)
        before = (await caller.get(f"/v1/wallets/{wallet_id}")).json()

        await caller.post(PATH, event(wallet_id, 7, "80.5"))
        after = (await caller.get(f"/v1/wallets/{wallet_id}")).json()

        assert (before["kept"], before["balance"], before["last_report"]) == ("elsewhere", "0.00", None)
        assert after["balance"] == "80.50"
        assert after["last_report"] == {
            "event_id": "evt-7",
            "version": 7,
            "occurred_at": AT,
            "received_at": after["last_report"]["received_at"],
        }
        assert (await caller.get("/v1/wallets")).json()["data"] == [after]

    async def test_takes_no_deposits_and_no_payments(self, caller: Caller) -> None:
        wallet_id = await open_elsewhere(caller)

        answers = [await caller.deposit(wallet_id=wallet_id, amount="1"), await caller.pay(wallet_id, "1")]

        assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [
            (409, "wallet_kept_elsewhere"),
            (409, "wallet_kept_elsewhere"),
        ]

    @pytest.mark.rule("R11")
    async def test_is_not_judged_before_its_first_report_and_by_that_then(self, caller: Caller) -> None:
        wallet_id = await open_elsewhere(caller)
        rule = await caller.create_rule(wallet_id)
        assert await caller.judge() == ()
        assert (await caller.get(f"/v1/wallets/{wallet_id}")).json()["alert"] is None

        await caller.post(PATH, event(wallet_id, 1, "10"))

        (top_up_id,) = await caller.judge()
        top_up = (await caller.get(f"/v1/top-ups/{top_up_id}")).json()
        assert top_up["trigger"] == {"event_id": "evt-1", "balance": "10.00", "threshold": "50.00"}
        (decision,) = (await caller.get(f"/v1/rules/{rule['id']}/decisions")).json()["data"]
        assert (decision["event_id"], decision["top_up_id"]) == ("evt-1", top_up_id)

    @pytest.mark.rule("R11")
    async def test_is_judged_by_the_last_report_when_its_rule_is_saved(self, caller: Caller) -> None:
        wallet_id = await open_elsewhere(caller)
        await caller.post(PATH, event(wallet_id, 1, "10"))

        await caller.create_rule(wallet_id)

        assert len(await caller.judge()) == 1


class TestAnEvent:
    async def test_is_accepted(self, caller: Caller) -> None:
        answer = await caller.post(PATH, event(await open_elsewhere(caller)))

        assert (answer.status_code, answer.json()) == (202, TAKEN)

    @pytest.mark.rule("R10")
    async def test_says_whether_it_was_seen_before_or_is_late(self, caller: Caller) -> None:
        wallet_id = await open_elsewhere(caller)
        await caller.post(PATH, event(wallet_id, 2))

        again = await caller.post(
            PATH, event(wallet_id, 2, "80.000", occurred_at="2026-11-20T11:00:00+01:00")
        )
        late = await caller.post(PATH, event(wallet_id, 1))

        assert (again.status_code, again.json()) == (202, {**TAKEN, "duplicate": True})
        assert (late.status_code, late.json()) == (202, {**TAKEN, "stale": True})

    async def test_under_an_id_that_said_something_else_is_refused(self, caller: Caller) -> None:
        wallet_id = await open_elsewhere(caller)
        await caller.post(PATH, event(wallet_id))

        answer = await caller.post(PATH, event(wallet_id, balance="79"))

        assert (answer.status_code, answer.json()["code"]) == (409, "event_id_reused")
        assert "'evt-1'" in answer.json()["detail"]

    async def test_for_a_wallet_in_the_ledger_is_refused(self, caller: Caller) -> None:
        answer = await caller.post(PATH, event(await caller.open_wallet()))

        assert (answer.status_code, answer.json()["code"]) == (409, "wallet_kept_here")

    @pytest.mark.parametrize(
        ("changed", "named"),
        [
            ({"event_id": ""}, ["/event_id"]),
            ({"event_id": "two words"}, ["/event_id"]),
            ({"event_id": "x" * 201}, ["/event_id"]),
            ({"event_id": 7}, ["/event_id"]),
            ({"balance": "-1"}, ["/balance"]),
            ({"balance": 80}, ["/balance"]),
            ({"balance": "1.0000001"}, ["/balance"]),
            ({"balance": "9" * 30, "occurred_at": "2100-01-01T00:00:00Z"}, ["/balance", "/occurred_at"]),
            ({"version": -1}, ["/version"]),
            ({"version": 2**63}, ["/version"]),
            ({"version": "1"}, ["/version"]),
            ({"version": True}, ["/version"]),
            ({"version": None}, ["/version"]),
            ({"occurred_at": "yesterday"}, ["/occurred_at"]),
            ({"occurred_at": "2026-11-20"}, ["/occurred_at"]),
            ({"occurred_at": "2026-11-20T10:00:00"}, ["/occurred_at"]),
            ({"occurred_at": 1763632800}, ["/occurred_at"]),
            ({"occurred_at": "2026-02-30T10:00:00Z"}, ["/occurred_at"]),
            ({"occurred_at": "0001-01-01T00:00:00+14:00"}, ["/occurred_at"]),
            ({"occurred_at": "1999-12-31T23:59:59Z"}, ["/occurred_at"]),
            ({"occurred_at": "9999-12-31T23:59:59Z"}, ["/occurred_at"]),
            ({"colour": "red"}, ["/colour"]),
        ],
    )
    async def test_that_is_wrong_is_refused_naming_the_field(
        self, steady: Caller, changed: dict[str, Json], named: list[str]
    ) -> None:
        wallet_id = await open_elsewhere(steady)

        assert pointers(await steady.post(PATH, event(wallet_id, **changed))) == named

    async def test_may_come_from_a_clock_that_is_a_little_ahead(self, caller: Caller) -> None:
        wallet_id = await open_elsewhere(caller)
        soon, too_late = (datetime.now(UTC) + AHEAD_MAX + timedelta(minutes=late) for late in (-1, 1))

        taken = await caller.post(PATH, event(wallet_id, occurred_at=soon.isoformat()))
        refused = await caller.post(PATH, event(wallet_id, 2, occurred_at=too_late.isoformat()))

        assert taken.status_code == 202
        assert pointers(refused) == ["/occurred_at"]

    async def test_may_be_of_an_empty_wallet(self, caller: Caller) -> None:
        assert (await caller.post(PATH, event(await open_elsewhere(caller), 0, "0"))).status_code == 202

    async def test_sent_twenty_times_at_once_is_taken_once(self, caller: Caller, database: Database) -> None:
        wallet_id = await open_elsewhere(caller)

        answers = await asyncio.gather(*[caller.post(PATH, event(wallet_id)) for _ in range(20)])

        assert {answer.status_code for answer in answers} == {202}
        assert sum(not answer.json()["duplicate"] for answer in answers) == 1
        assert await recorded(database) == 1

    async def test_is_repeated_by_its_idempotency_key_too(self, caller: Caller) -> None:
        wallet_id = await open_elsewhere(caller)

        first = await caller.post(PATH, event(wallet_id), key="once")
        again = await caller.post(PATH, event(wallet_id), key="once")

        assert (again.json(), again.headers["Idempotency-Replayed"]) == (first.json(), "true")


class TestABatch:
    async def test_is_answered_in_its_order(self, caller: Caller) -> None:
        one, other = await open_elsewhere(caller), await open_elsewhere(caller)
        events = [event(one, 5), event(other, 1), event(one, 4), event(one, 5)]

        answer = await caller.post(PATH, {"events": events})

        assert answer.status_code == 202
        assert answer.json() == {
            "data": [TAKEN, TAKEN, {**TAKEN, "stale": True}, {**TAKEN, "duplicate": True}]
        }

    async def test_with_one_bad_event_is_refused_whole(self, caller: Caller, database: Database) -> None:
        wallet_id = await open_elsewhere(caller)
        events = [event(wallet_id, version) for version in range(5)]
        events[3]["version"] = -1

        assert pointers(await caller.post(PATH, {"events": events})) == ["/events/3/version"]
        events[3] |= {"version": 3, "balance": "1.1234567"}
        assert pointers(await caller.post(PATH, {"events": events})) == ["/events/3/balance"]

        assert await recorded(database) == 0

    @pytest.mark.parametrize("bad", ["unknown", "in the ledger", "reused"])
    async def test_with_one_event_that_is_refused_leaves_nothing(
        self, caller: Caller, database: Database, bad: str
    ) -> None:
        wallet_id, ledger_id = await open_elsewhere(caller), await caller.open_wallet()
        refused, status, code = {
            "unknown": (event("wallet_unknown"), 404, "not_found"),
            "in the ledger": (event(ledger_id), 409, "wallet_kept_here"),
            "reused": (event(wallet_id, 2, event_id="evt-1"), 409, "event_id_reused"),
        }[bad]

        answer = await caller.post(PATH, {"events": [event(wallet_id), refused]})

        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert await recorded(database) == 0

    @pytest.mark.parametrize(
        ("body", "named"),
        [
            ({"events": []}, ["/events"]),
            ({"events": "all"}, ["/events"]),
            ({"events": [7]}, ["/events/0"]),
            ({"events": [], "event_id": "evt-1"}, ["/events", "/event_id"]),
            ({"events": [{}] * (EVENTS_MAX + 1)}, ["/events"]),
            ([], [""]),
        ],
    )
    async def test_of_a_wrong_form_is_refused(self, steady: Caller, body: Json, named: list[str]) -> None:
        assert pointers(await steady.post(PATH, body)) == named

    async def test_may_have_five_hundred_events(self, caller: Caller) -> None:
        wallet_id = await open_elsewhere(caller)
        events = [event(wallet_id, version, event_id=f"{version:0200}") for version in range(EVENTS_MAX)]

        answer = await caller.post(PATH, {"events": events})

        assert answer.json() == {"data": [TAKEN] * EVENTS_MAX}

    async def test_and_another_in_the_other_order_wait_for_each_other(self, caller: Caller) -> None:
        wallet_ids = [await open_elsewhere(caller) for _ in range(6)]

        answers = await asyncio.gather(
            *[
                caller.post(PATH, {"events": [event(one, version) for one in order]})
                for version, order in enumerate([wallet_ids, wallet_ids[::-1]] * 5)
            ]
        )

        assert {answer.status_code for answer in answers} == {202}


class TestAKeyForEvents:
    async def test_needs_its_scope(self, caller: Caller, caller_with: MakeCaller) -> None:
        wallet_id = await open_elsewhere(caller)
        others = await caller_with(*(scope for scope in Scope if scope is not Scope.EVENTS_WRITE))

        assert (await others.post(PATH, event(wallet_id))).status_code == 403

    async def test_bound_to_an_owner_tells_of_that_owners_wallets_only(
        self, caller: Caller, caller_with: MakeCaller, database: Database
    ) -> None:
        owner_id = await caller.register_owner()
        own, foreign = await open_elsewhere(caller, owner_id), await open_elsewhere(caller)
        bound = await caller_with(Scope.EVENTS_WRITE, owner_id=owner_id)

        refused = await bound.post(PATH, event(foreign))
        whole = await bound.post(PATH, {"events": [event(own), event(foreign)]})
        unknown = await bound.post(PATH, event("wallet_unknown"))
        assert [answer.status_code for answer in (refused, whole, unknown)] == [404, 404, 404]
        assert await recorded(database) == 0

        assert (await bound.post(PATH, event(own))).status_code == 202

    async def test_cannot_learn_of_another_wallets_event_ids(self, caller: Caller) -> None:
        one, other = await open_elsewhere(caller), await open_elsewhere(caller)
        await caller.post(PATH, event(one, 1, "80"))

        assert (await caller.post(PATH, event(other, 1, "70"))).json() == TAKEN
