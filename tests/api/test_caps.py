"""Caps over HTTP: set, shown, taken off, and told wherever they hold a rule back."""

from datetime import UTC, datetime

import pytest

from tests.adapters.crowd import settle
from tests.api.conftest import Caller, Json
from tests.api.test_rules import path_of
from tests.builders import Household
from topup.caps import Period

ONE_A_DAY = {"day": {"amount": None, "count": 1}, "month": None}


async def fire_once(caller: Caller, **terms: Json) -> Json:
    """A rule at its cap: it has fired once today, fully, and the wallet is below its line again."""
    owner_id = await caller.register_owner()
    wallet_id = await caller.open_wallet(owner_id, balance="60")
    rule = await caller.create_rule(wallet_id, amount="1", **terms)
    await caller.judge()
    await caller.pay(wallet_id, "20")
    assert len(await caller.judge()) == 1
    await settle(caller.database, Household(caller.database, owner_id, wallet_id, "USDT"))
    return rule


class TestCaps:
    async def test_are_none_unless_set(self, caller: Caller) -> None:
        rule = await caller.create_rule(await caller.open_wallet(balance="60"))

        assert (rule["caps"], rule["waiting_until"]) == (None, None)

    async def test_are_shown_as_they_were_set(self, caller: Caller) -> None:
        caps = {"day": {"amount": "250", "count": 5}, "month": {"count": 20}}

        rule = await caller.create_rule(await caller.open_wallet(balance="60"), caps=caps)

        assert rule["caps"] == {
            "day": {"amount": "250.00", "count": 5},
            "month": {"amount": None, "count": 20},
        }
        assert (await caller.get(path_of(rule))).json()["caps"] == rule["caps"]
        (revision,) = (await caller.get(path_of(rule) + "/revisions")).json()["data"]
        assert revision["terms"]["caps"] == rule["caps"]

    async def test_stay_when_other_terms_change_and_are_taken_off_by_null(self, caller: Caller) -> None:
        rule = await caller.create_rule(await caller.open_wallet(balance="60"), caps=ONE_A_DAY)

        kept = await caller.change("PATCH", path_of(rule), {"amount": "7"}, version=1)
        replaced = await caller.change("PATCH", path_of(rule), {"caps": {"month": {"count": 2}}}, version=2)
        gone = await caller.change("PATCH", path_of(rule), {"caps": None}, version=3)

        assert kept.json()["caps"] == ONE_A_DAY
        assert replaced.json()["caps"] == {"day": None, "month": {"amount": None, "count": 2}}
        assert gone.json()["caps"] is None

    @pytest.mark.parametrize(
        ("caps", "pointers"),
        [
            ({}, ["/caps"]),
            ({"day": {}}, ["/caps/day"]),
            ({"week": {"count": 1}}, ["/caps/week"]),
            ({"day": {"count": 0}}, ["/caps/day/count"]),
            ({"day": {"count": 10_001}}, ["/caps/day/count"]),
            ({"day": {"count": 1.5}}, ["/caps/day/count"]),
            ({"day": {"amount": 5}}, ["/caps/day/amount"]),
            ({"day": {"amount": "0"}, "month": {"amount": "-1"}}, ["/caps/day/amount", "/caps/month/amount"]),
            ({"day": {"amount": "99.99"}}, ["/caps/day/amount"]),
            ([], ["/caps"]),
        ],
    )
    async def test_that_are_wrong_are_refused_naming_the_field(
        self, steady: Caller, caps: Json, pointers: list[str]
    ) -> None:
        wallet_id = await steady.open_wallet()
        terms = {"threshold": "50", "amount": "100", "account": "funding", "sources": ["USDT"]}

        answer = await steady.post("/v1/rules", {"wallet_id": wallet_id, **terms, "caps": caps})

        assert answer.status_code == 422
        assert [problem["pointer"] for problem in answer.json()["errors"]] == pointers

    async def test_that_one_top_up_would_pass_are_refused_when_the_amount_is_raised(
        self, steady: Caller
    ) -> None:
        rule = await steady.create_rule(
            await steady.open_wallet(balance="60"), amount="10", caps={"day": {"amount": "20"}}
        )

        answer = await steady.change("PATCH", path_of(rule), {"amount": "21"}, version=1)

        assert [problem["pointer"] for problem in answer.json()["errors"]] == ["/caps/day/amount"]


class TestARuleAtItsCap:
    @pytest.mark.rule("R26")
    async def test_waits_for_the_end_of_the_period(self, caller: Caller) -> None:
        rule = await fire_once(caller, caps=ONE_A_DAY)

        shown = (await caller.get(path_of(rule))).json()

        midnight = Period.DAY.end(datetime.now(UTC)).isoformat().replace("+00:00", "Z")
        assert (shown["state"], shown["waiting_for"], shown["waiting_until"]) == (
            "waiting",
            "cap_period_end",
            midnight,
        )
        assert "cap_reached" in [warning["code"] for warning in shown["warnings"]]
        assert (await caller.get("/v1/rules")).json()["data"] == [shown]

    @pytest.mark.rule("R25")
    async def test_is_told_by_the_wallet(self, caller: Caller) -> None:
        rule = await fire_once(caller, caps=ONE_A_DAY)

        alert = (await caller.get(f"/v1/wallets/{rule['wallet_id']}")).json()["alert"]

        assert alert["code"] == "cap_reached"
        assert "cap for this day" in alert["message"]

    @pytest.mark.rule("R13")
    async def test_is_told_by_the_decision(self, caller: Caller) -> None:
        rule = await fire_once(caller, caps=ONE_A_DAY)

        await caller.pay(rule["wallet_id"], "1")
        assert await caller.judge() == ()

        newest, *_ = (await caller.get(path_of(rule) + "/decisions")).json()["data"]
        assert (newest["fired"], newest["reason"], newest["top_up_id"]) == (False, "cap_reached", None)

    async def test_is_told_by_the_preview(self, caller: Caller) -> None:
        rule = await fire_once(caller, caps=ONE_A_DAY)

        preview = (await caller.post(path_of(rule) + "/preview")).json()

        assert preview["would_fire"] is False
        assert "cap_reached" in [warning["code"] for warning in preview["warnings"]]

    @pytest.mark.rule("R11")
    async def test_fires_at_once_when_its_cap_is_widened(self, caller: Caller) -> None:
        rule = await fire_once(caller, caps=ONE_A_DAY)

        saved = await caller.change("PATCH", path_of(rule), {"amount": "1"}, version=1)
        assert saved.json()["state"] == "waiting"
        assert await caller.judge() == ()
        widened = await caller.change("PATCH", path_of(rule), {"caps": {"day": {"count": 2}}}, version=2)

        assert widened.json()["state"] == "armed"
        assert len(await caller.judge()) == 1


class TestTheWarningsOfARule:
    async def test_are_those_of_its_preview(self, caller: Caller) -> None:
        owner_id = await caller.register_owner()
        await caller.fund(owner_id, "USDT", "5")
        wallet_id = await caller.open_wallet(owner_id, balance="10")
        rule = await caller.create_rule(wallet_id, amount="30", sources=["USDT", "JPY"])

        preview = (await caller.post(path_of(rule) + "/preview")).json()
        edited = await caller.change("PATCH", path_of(rule), {"amount": "30"}, version=1)

        assert [warning["code"] for warning in rule["warnings"]] == [
            "amount_below_gap",
            "source_not_quoted",
            "sources_insufficient",
        ]
        assert preview["warnings"] == rule["warnings"] == edited.json()["warnings"]
        assert (await caller.get("/v1/rules")).json()["data"][0]["warnings"] == rule["warnings"]

    async def test_are_none_when_all_is_well(self, caller: Caller) -> None:
        owner_id = await caller.register_owner()
        await caller.fund(owner_id, "USDT", "500")

        rule = await caller.create_rule(await caller.open_wallet(owner_id, balance="60"), sources=["USDT"])

        assert rule["warnings"] == []
