"""Rules over HTTP: made, read, edited, turned on and off, deleted, each with its history."""

import asyncio

import pytest
from sqlalchemy import text
from sqlmodel import select

from adapters.postgres.database import Database, run_sql
from adapters.postgres.tables import BalanceEvent
from tests.api.conftest import TERMS, Caller, Json
from tests.hands import by_hand


async def unlock(database: Database) -> None:
    """End the top-up in progress as its settling does."""
    async with by_hand(database) as session:
        await run_sql(
            session, text("UPDATE top_up SET state = 'ended', outcome = 'failed', ended_at = now()")
        )
        await run_sql(session, text("UPDATE rule SET locked_by = NULL"))


async def disarm(database: Database) -> None:
    async with database.commit() as session:
        await run_sql(session, text("UPDATE rule SET armed = false"))


async def saved_events(database: Database) -> list[BalanceEvent]:
    async with database.read() as session:
        return [
            event for event in (await session.exec(select(BalanceEvent))).all() if event.change == "saved"
        ]


async def read(caller: Caller, rule: Json) -> Json:
    return (await caller.get(f"/v1/rules/{rule['id']}")).json()


def path_of(rule: Json) -> str:
    return f"/v1/rules/{rule['id']}"


@pytest.mark.rule("R1")
class TestCreatingARule:
    async def test_gives_the_rule_as_it_was_asked_for(self, caller: Caller) -> None:
        wallet_id = await caller.open_wallet(balance="60")
        answer = await caller.post("/v1/rules", {"wallet_id": wallet_id, **TERMS, "enabled": True})

        assert answer.status_code == 201
        assert answer.headers["ETag"] == '"1"'
        rule = answer.json()
        assert rule == {
            "id": rule["id"],
            "wallet_id": wallet_id,
            "threshold": "50.00",
            "amount": "100.00",
            "account": "funding",
            "sources": [{"rank": 1, "asset": "USDT"}, {"rank": 2, "asset": "USDC"}],
            "caps": None,
            "enabled": True,
            "state": "armed",
            "waiting_for": None,
            "waiting_until": None,
            "locked_by": None,
            "version": 1,
            "created_at": rule["created_at"],
            "updated_at": rule["created_at"],
            "warnings": rule["warnings"],
        }
        assert [warning["code"] for warning in rule["warnings"]] == [
            "source_empty",
            "source_empty",
            "sources_insufficient",
        ]
        assert (await caller.get(f"/v1/rules/{rule['id']}")).json() == rule
        assert (await caller.get("/v1/rules")).json()["data"] == [rule]
        assert (await caller.get(f"/v1/wallets/{wallet_id}")).json()["rule_id"] == rule["id"]

    async def test_for_a_wallet_that_has_one_is_refused_naming_it(self, caller: Caller) -> None:
        wallet_id = await caller.open_wallet()
        rule = await caller.create_rule(wallet_id)
        answer = await caller.post("/v1/rules", {"wallet_id": wallet_id, **TERMS})

        assert answer.status_code == 409
        assert answer.json()["code"] == "rule_exists"
        assert answer.json()["rule_id"] == rule["id"]

    async def test_ten_times_at_once_gives_one_rule(self, caller: Caller) -> None:
        wallet_id = await caller.open_wallet()
        body = {"wallet_id": wallet_id, **TERMS}
        answers = await asyncio.gather(*(caller.post("/v1/rules", body) for _ in range(10)))

        assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9
        assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"rule_exists"}
        assert len((await caller.get("/v1/rules")).json()["data"]) == 1

    async def test_for_an_unknown_wallet_is_not_found(self, steady: Caller) -> None:
        answer = await steady.post("/v1/rules", {"wallet_id": "wallet_unknown", **TERMS})

        assert answer.status_code == 404

    @pytest.mark.parametrize(
        ("changed", "pointers"),
        [
            ({"threshold": "0"}, ["/threshold"]),
            ({"threshold": "-1"}, ["/threshold"]),
            ({"amount": "0.0000001"}, ["/amount"]),
            ({"amount": "0.00"}, ["/amount"]),
            ({"amount": 100}, ["/amount"]),
            ({"amount": None}, ["/amount"]),
            ({"amount": "9" * 50}, ["/amount"]),
            ({"amount": "9" * 5000}, ["/amount"]),
            ({"amount": "1000000000001"}, ["/amount"]),
            ({"threshold": "x", "amount": "y"}, ["/threshold", "/amount"]),
            ({"account": "savings"}, ["/account"]),
            (
                {"threshold": "0", "amount": "-1", "account": "x" * 20, "sources": ["USDT", "USDT"]},
                ["/threshold", "/amount", "/account", "/sources/1"],
            ),
            ({"enabled": "yes"}, ["/enabled"]),
            ({"wallet_id": 5}, ["/wallet_id"]),
        ],
    )
    async def test_with_impossible_terms_is_refused_naming_each_field(
        self, steady: Caller, changed: Json, pointers: list[str]
    ) -> None:
        wallet_id = await steady.open_wallet()
        answer = await steady.post("/v1/rules", {"wallet_id": wallet_id, **TERMS, **changed})

        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == pointers
        assert (await steady.get(f"/v1/wallets/{wallet_id}")).json()["rule_id"] is None

    @pytest.mark.rule("R2")
    @pytest.mark.parametrize(
        ("sources", "pointer"),
        [
            ([], "/sources"),
            (["USDT", "USDC", "BTC", "ETH"], "/sources"),
            (["USDT"] * 60, "/sources"),
            (["USDT", "USDT"], "/sources/1"),
            (["USDT", "DOGE"], "/sources/1"),
            (["USDT", 5], "/sources/1"),
            (["USDT", "\x00"], "/sources/1"),
            (["U" * 500], "/sources/0"),
            ("USDT", "/sources"),
            (None, "/sources"),
            ({"1": "USDT"}, "/sources"),
        ],
    )
    async def test_with_impossible_sources_is_refused_naming_them(
        self, steady: Caller, sources: Json, pointer: str
    ) -> None:
        wallet_id = await steady.open_wallet()
        answer = await steady.post("/v1/rules", {"wallet_id": wallet_id, **TERMS, "sources": sources})

        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]

    async def test_with_fields_missing_is_refused_naming_all(self, steady: Caller) -> None:
        answer = await steady.post("/v1/rules", {})

        pointers = {error["pointer"] for error in answer.json()["errors"]}
        assert pointers == {"/wallet_id", "/threshold", "/amount", "/account", "/sources"}

    @pytest.mark.rule("R11")
    async def test_that_is_on_has_it_judged_at_once(self, caller: Caller, database: Database) -> None:
        wallet_id = await caller.open_wallet(balance="10")
        await caller.judge()
        rule = await caller.create_rule(wallet_id)

        (event,) = await saved_events(database)
        assert (event.wallet_id, event.balance) == (wallet_id, 10_000_000)
        (top_up_id,) = await caller.judge()
        assert (await read(caller, rule))["locked_by"] == top_up_id

    async def test_that_is_off_has_nothing_judged(self, caller: Caller, database: Database) -> None:
        rule = await caller.create_rule(await caller.open_wallet(balance="10"), enabled=False)

        assert rule["state"] == "off"
        assert await saved_events(database) == []
        assert await caller.judge() == ()


@pytest.mark.rule("R4")
class TestEditingARule:
    async def test_changes_what_was_named_and_nothing_else(self, caller: Caller) -> None:
        rule = await caller.create_rule(await caller.open_wallet(balance="60"))
        answer = await caller.change("PATCH", path_of(rule), {"amount": "25", "sources": ["BTC"]}, version=1)

        assert answer.status_code == 200
        assert answer.headers["ETag"] == '"2"'
        edited = answer.json()
        assert edited == {
            **rule,
            "amount": "25.00",
            "sources": [{"rank": 1, "asset": "BTC"}],
            "version": 2,
            "updated_at": edited["updated_at"],
            "warnings": edited["warnings"],
        }
        assert edited["updated_at"] > rule["updated_at"]
        assert await read(caller, rule) == edited

    @pytest.mark.rule("R11")
    async def test_of_a_rule_that_is_on_has_it_judged_at_once(self, caller: Caller) -> None:
        wallet_id = await caller.open_wallet(balance="60")
        rule = await caller.create_rule(wallet_id)
        await caller.judge()
        await caller.change("PATCH", path_of(rule), {"threshold": "61"}, version=1)

        assert len(await caller.judge()) == 1

    async def test_of_a_rule_that_is_off_has_nothing_judged(self, caller: Caller, database: Database) -> None:
        rule = await caller.create_rule(await caller.open_wallet(balance="10"), enabled=False)
        answer = await caller.change("PATCH", path_of(rule), {"amount": "1"}, version=1)

        assert answer.json()["state"] == "off"
        assert await saved_events(database) == []

    @pytest.mark.rule("R9")
    async def test_to_the_same_terms_saves_it_again_which_arms_it(
        self, caller: Caller, database: Database
    ) -> None:
        rule = await caller.create_rule(await caller.open_wallet(balance="60"))
        await disarm(database)
        assert (await read(caller, rule))["waiting_for"] == "balance_at_threshold"

        answer = await caller.change("PATCH", path_of(rule), {"amount": rule["amount"]}, version=1)

        assert answer.json()["state"] == "armed"
        assert answer.json()["version"] == 2

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({}, ""),
            ({"amount": None}, "/amount"),
            ({"sources": None}, "/sources"),
            ({"amount": "0"}, "/amount"),
            ({"sources": ["USDT", "USDT"]}, "/sources/1"),
            ({"enabled": False}, "/enabled"),
            ({"wallet_id": "wallet_1"}, "/wallet_id"),
            ([], ""),
        ],
    )
    async def test_to_what_cannot_be_is_refused_and_changes_nothing(
        self, steady: Caller, body: Json, pointer: str
    ) -> None:
        rule = await steady.create_rule(await steady.open_wallet())
        answer = await steady.change("PATCH", path_of(rule), body, version=1)

        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
        assert await read(steady, rule) == rule

    async def test_twice_at_once_lets_one_through(self, caller: Caller) -> None:
        rule = await caller.create_rule(await caller.open_wallet(balance="60"))
        answers = await asyncio.gather(
            *(caller.change("PATCH", path_of(rule), {"amount": f"{n}"}, version=1) for n in range(1, 9))
        )

        assert sorted(answer.status_code for answer in answers) == [200] + [412] * 7
        assert (await read(caller, rule))["version"] == 2


class TestTheVersionOfARule:
    CHANGES = (
        ("PATCH", "", {"amount": "1"}),
        ("POST", "/enable", None),
        ("POST", "/disable", None),
        ("DELETE", "", None),
    )

    async def test_must_be_named_by_every_change(self, steady: Caller) -> None:
        rule = await steady.create_rule(await steady.open_wallet())
        for method, part, body in self.CHANGES:
            answer = await steady.change(method, path_of(rule) + part, body)
            assert answer.status_code == 428
            assert answer.json()["code"] == "version_required"

    async def test_must_be_the_newest(self, steady: Caller) -> None:
        rule = await steady.create_rule(await steady.open_wallet())
        for method, part, body in self.CHANGES:
            answer = await steady.change(method, path_of(rule) + part, body, version=7)
            assert answer.status_code == 412
            assert answer.json()["code"] == "version_stale"
        assert await read(steady, rule) == rule

    @pytest.mark.parametrize("sent", ["*", " * "])
    async def test_cannot_be_any(self, steady: Caller, sent: str) -> None:
        rule = await steady.create_rule(await steady.open_wallet())
        answer = await steady.client.delete(path_of(rule), headers={"If-Match": sent})

        assert answer.status_code == 428
        assert "*" in answer.json()["detail"]

    @pytest.mark.parametrize("sent", ['"abc"', "", '"1", "2"', "-1", '"1', "1" * 30, "²"])
    async def test_that_was_never_given_out_is_refused(self, steady: Caller, sent: str) -> None:
        rule = await steady.create_rule(await steady.open_wallet(), amount="3")
        answer = await steady.client.patch(
            path_of(rule), json={"amount": "3"}, headers={b"If-Match": sent.encode()}
        )

        assert answer.status_code == 412
        assert (await read(steady, rule))["version"] == 1

    @pytest.mark.parametrize("sent", ['"1"', 'W/"1"', "1"])
    async def test_may_come_as_proxies_and_people_write_it(self, steady: Caller, sent: str) -> None:
        rule = await steady.create_rule(await steady.open_wallet())

        assert (await steady.client.delete(path_of(rule), headers={"If-Match": sent})).status_code == 204


@pytest.mark.rule("R5")
class TestTurningARuleOffAndOn:
    async def test_keeps_everything_in_it(self, caller: Caller) -> None:
        rule = await caller.create_rule(await caller.open_wallet(balance="60"))
        off = (await caller.change("POST", path_of(rule) + "/disable", version=1)).json()
        on = (await caller.change("POST", path_of(rule) + "/enable", version=2)).json()

        assert (off["state"], off["enabled"], off["version"]) == ("off", False, 2)
        assert on == {**rule, "version": 3, "updated_at": on["updated_at"]}

    async def test_off_fires_nothing(self, caller: Caller) -> None:
        wallet_id = await caller.open_wallet(balance="60")
        rule = await caller.create_rule(wallet_id)
        await caller.change("POST", path_of(rule) + "/disable", version=1)
        await caller.pay(wallet_id, "20")

        assert await caller.judge() == ()

    @pytest.mark.rule("R11")
    async def test_on_while_the_balance_is_below_fires_at_once(self, caller: Caller) -> None:
        rule = await caller.create_rule(await caller.open_wallet(balance="10"), enabled=False)
        await caller.judge()
        await caller.change("POST", path_of(rule) + "/enable", version=1)

        assert len(await caller.judge()) == 1

    async def test_off_twice_is_off_once(self, caller: Caller) -> None:
        rule = await caller.create_rule(await caller.open_wallet(), enabled=False)
        answer = await caller.change("POST", path_of(rule) + "/disable", version=1)

        assert answer.status_code == 200
        assert answer.json() == rule

    async def test_can_be_repeated_with_its_key(self, caller: Caller) -> None:
        rule = await caller.create_rule(await caller.open_wallet(balance="60"))
        headers = {"If-Match": '"1"'}
        first = await caller.post(path_of(rule) + "/disable", key="k", **headers)
        second = await caller.post(path_of(rule) + "/disable", key="k", **headers)

        assert second.status_code == 200
        assert second.content == first.content
        assert second.headers["ETag"] == '"2"'


@pytest.mark.rule("R6")
class TestDeletingARule:
    async def test_is_permanent_and_makes_room_for_another(self, caller: Caller) -> None:
        wallet_id = await caller.open_wallet()
        rule = await caller.create_rule(wallet_id)
        answer = await caller.change("DELETE", path_of(rule), version=1)

        assert answer.status_code == 204
        assert answer.content == b""
        assert (await caller.get(path_of(rule))).status_code == 404
        assert (await caller.change("DELETE", path_of(rule), version=1)).status_code == 404
        assert (await caller.change("PATCH", path_of(rule), {"amount": "1"}, version=1)).status_code == 404
        assert (await caller.create_rule(wallet_id))["id"] != rule["id"]

    async def test_leaves_its_history_readable(self, caller: Caller, database: Database) -> None:
        rule, top_up_id = await caller.fire()
        await unlock(database)
        assert (await caller.change("DELETE", path_of(rule), version=1)).status_code == 204

        top_ups = (await caller.get("/v1/top-ups", rule_id=rule["id"])).json()["data"]
        decisions = (await caller.get(path_of(rule) + "/decisions")).json()["data"]
        revisions = (await caller.get(path_of(rule) + "/revisions")).json()["data"]
        assert [top_up["id"] for top_up in top_ups] == [top_up_id]
        assert [decision["top_up_id"] for decision in decisions if decision["fired"]] == [top_up_id]
        assert [revision["change"] for revision in revisions] == ["deleted", "created"]


@pytest.mark.rule("R7")
class TestARuleWhoseTopUpIsInProgress:
    async def test_refuses_every_change_naming_the_top_up(self, caller: Caller) -> None:
        rule, top_up_id = await caller.fire()
        before = await read(caller, rule)

        for method, part, body in TestTheVersionOfARule.CHANGES:
            answer = await caller.change(method, path_of(rule) + part, body, version=1)
            assert answer.status_code == 409
            problem = answer.json()
            assert problem["code"] == "rule_locked"
            assert problem["top_up_id"] == top_up_id
            assert top_up_id in problem["detail"]
            assert int(answer.headers["Retry-After"]) > 0
        assert await read(caller, rule) == before

    async def test_shows_that_it_is_locked_and_by_what(self, caller: Caller) -> None:
        rule, top_up_id = await caller.fire()
        locked = await read(caller, rule)

        assert (locked["state"], locked["locked_by"], locked["enabled"]) == ("locked", top_up_id, True)
        assert locked["waiting_for"] is None

    async def test_takes_every_change_again_once_it_has_ended(
        self, caller: Caller, database: Database
    ) -> None:
        rule, _ = await caller.fire()
        await unlock(database)

        answer = await caller.change("PATCH", path_of(rule), {"threshold": "30"}, version=1)

        assert answer.status_code == 200
        assert answer.json()["threshold"] == "30.00"

    async def test_that_fires_while_it_is_edited_is_either_edited_first_or_refuses(
        self, caller: Caller
    ) -> None:
        wallet_id = await caller.open_wallet(balance="60")
        rule = await caller.create_rule(wallet_id)
        await caller.judge()
        await caller.pay(wallet_id, "20")

        claimed, answer = await asyncio.gather(
            caller.judge(), caller.change("PATCH", path_of(rule), {"amount": "7"}, version=1)
        )

        top_ups = (await caller.get("/v1/top-ups")).json()["data"] if claimed else []
        if answer.status_code == 200:
            assert all(top_up["amount"] == "7.00" for top_up in top_ups)
        else:
            assert answer.status_code == 409
            assert [top_up["amount"] for top_up in top_ups] == ["100.00"]


class TestTheHistoryOfARule:
    async def test_tells_who_changed_what_newest_first(self, caller: Caller) -> None:
        rule = await caller.create_rule(await caller.open_wallet(balance="60"))
        await caller.change("PATCH", path_of(rule), {"amount": "7"}, version=1)
        await caller.change("POST", path_of(rule) + "/disable", version=2)

        revisions = (await caller.get(path_of(rule) + "/revisions")).json()["data"]

        assert [(entry["version"], entry["change"], entry["enabled"]) for entry in revisions] == [
            (3, "disabled", False),
            (2, "edited", True),
            (1, "created", True),
        ]
        assert revisions[1]["terms"] == {
            **TERMS,
            "amount": "7.00",
            "currency": "USDT",
            "caps": None,
        }
        assert revisions[2]["terms"] == {**TERMS, "currency": "USDT", "caps": None}
        assert all(entry["by"].startswith("test (key_") for entry in revisions)
        assert all(entry["confirmation"] is None for entry in revisions)

    async def test_comes_in_pages(self, caller: Caller) -> None:
        rule = await caller.create_rule(await caller.open_wallet(balance="60"))
        for version in (1, 2):
            await caller.change("PATCH", path_of(rule), {"amount": "7"}, version=version)
        path = path_of(rule) + "/revisions"

        first = (await caller.get(path, limit=2)).json()
        second = (await caller.get(path, limit=2, after=first["next_cursor"])).json()

        assert [entry["version"] for entry in (*first["data"], *second["data"])] == [3, 2, 1]
        assert second["has_more"] is False

    @pytest.mark.rule("R13")
    async def test_tells_why_it_fired_and_why_it_did_not(self, caller: Caller) -> None:
        wallet_id = await caller.open_wallet(balance="60")
        rule = await caller.create_rule(wallet_id)
        for amount in ("5", "10", "1"):
            await caller.pay(wallet_id, amount)
        (top_up_id,) = await caller.judge()
        path = path_of(rule) + "/decisions"

        page = (await caller.get(path, limit=2)).json()
        rest = (await caller.get(path, after=page["next_cursor"])).json()["data"]
        decisions = page["data"] + rest

        assert [(entry["reason"], entry["fired"], entry["balance"]) for entry in decisions] == [
            ("locked", False, "44.00"),
            ("below_threshold", True, "45.00"),
            ("not_below", False, "55.00"),
            ("not_below", False, "60.00"),
            ("not_below", False, "60.00"),
        ]
        assert decisions[1]["top_up_id"] == top_up_id
        assert set(decisions[0]) == {"at", "event_id", "balance", "fired", "reason", "top_up_id"}

    async def test_of_a_rule_that_never_was_is_not_found(self, steady: Caller) -> None:
        for part in ("decisions", "revisions"):
            assert (await steady.get(f"/v1/rules/rule_never/{part}")).status_code == 404
