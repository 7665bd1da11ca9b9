"""Top-ups over HTTP: while they run, and when they have ended."""

import pytest

from activities.messages import CheckingNotice, DrawOrder, Patience, SettleOrder
from adapters.postgres.database import Database
from adapters.postgres.ledger import LedgerAccounts
from adapters.postgres.top_ups import TopUpRecords
from tests.api.conftest import Caller, Json
from topup.keys import draw_key
from topup.money import Money
from topup.outcome import DrawStatus, conclude, failed, not_drawn
from topup.outcome import Reason as Why
from topup.quote import Quote

SOURCES = ["USDT", "USDC", "BTC"]


def usdt(amount: str) -> Money:
    return Money.parse(amount, "USDT")


class Running:
    """A top-up in progress, and what happens to it behind the API's back."""

    def __init__(self, caller: Caller, database: Database) -> None:
        self.caller = caller
        self.records = TopUpRecords(database, Patience())
        self.accounts = LedgerAccounts(database)

    async def start(self) -> None:
        self.rule, self.id = await self.caller.fire(sources=SOURCES)
        wallet = await self.caller.get(f"/v1/wallets/{self.rule['wallet_id']}")
        self.owner_id = wallet.json()["owner_id"]

    async def draw(self, rank: int, credit: str) -> None:
        asset = SOURCES[rank - 1]
        order = DrawOrder(
            top_up_id=self.id,
            rank=rank,
            key=draw_key(self.id, rank),
            owner_id=self.owner_id,
            account="funding",
            asset=asset,
            currency="USDT",
            wallet_id=self.rule["wallet_id"],
            credit=usdt(credit),
            quote=Quote(asset, "USDT", 1, 1),
        )
        await self.accounts.draw(order)

    async def check(self, rank: int) -> None:
        notice = CheckingNotice(top_up_id=self.id, rank=rank, asset=SOURCES[rank - 1], tell_owner=True)
        await self.records.note_checking(notice)

    async def end_failed(self) -> None:
        draws = tuple(not_drawn(rank, asset, currency="USDT") for rank, asset in enumerate(SOURCES, start=1))
        ending = failed(Why.INSUFFICIENT_BALANCE, "USDT")
        await self.records.settle(SettleOrder(top_up_id=self.id, draws=draws, ending=ending))

    async def view(self) -> Json:
        answer = await self.caller.get(f"/v1/top-ups/{self.id}")
        assert answer.status_code == 200
        return answer.json()


@pytest.fixture
def running(caller: Caller, database: Database) -> Running:
    return Running(caller, database)


class TestATopUpInProgress:
    async def test_shows_its_trigger_and_its_terms_and_no_end(self, running: Running) -> None:
        await running.start()
        view = await running.view()

        assert view == {
            "id": running.id,
            "rule_id": running.rule["id"],
            "wallet_id": running.rule["wallet_id"],
            "state": "in_progress",
            "outcome": None,
            "reason": None,
            "amount": "100.00",
            "credited": "0.00",
            "trigger": {
                "event_id": view["trigger"]["event_id"],
                "balance": "40.00",
                "threshold": "50.00",
            },
            "rule_version": 1,
            "draws": [
                {
                    "rank": rank,
                    "asset": asset,
                    "status": "not_reached",
                    "reason": None,
                    "debited": "0.00",
                    "credited": "0.00",
                }
                for rank, asset in enumerate(SOURCES, start=1)
            ],
            "notifications": [],
            "workflow_id": f"top-up/{running.id}",
            "started_at": view["started_at"],
            "ended_at": None,
        }

    async def test_shows_what_the_ledger_knows_already(self, running: Running) -> None:
        await running.start()
        await running.caller.fund(running.owner_id, "USDC", "10")
        await running.draw(1, "60")
        await running.draw(2, "40")
        view = await running.view()

        assert [(draw["status"], draw["reason"], draw["credited"]) for draw in view["draws"]] == [
            ("transferred", None, "60.00"),
            ("short", "insufficient", "10.00"),
            ("not_reached", None, "0.00"),
        ]
        assert view["credited"] == "70.00"

    @pytest.mark.rule("R21")
    async def test_shows_a_draw_that_is_being_checked_and_that_the_owner_is_told(
        self, running: Running
    ) -> None:
        await running.start()
        await running.check(1)
        view = await running.view()

        assert [draw["status"] for draw in view["draws"]] == ["being_checked", "not_reached", "not_reached"]
        assert {told["channel"]: told["status"] for told in view["notifications"]} == {
            "push": "pending",
            "email": "pending",
        }


class TestATopUpThatHasEnded:
    async def test_shows_its_outcome_and_the_result_of_each_source(self, running: Running) -> None:
        await running.start()
        await running.draw(1, "100")
        draws = tuple(not_drawn(rank, asset, currency="USDT") for rank, asset in enumerate(SOURCES, start=1))
        await running.records.settle(
            SettleOrder(top_up_id=running.id, draws=draws, ending=conclude(usdt("100"), draws))
        )
        view = await running.view()

        assert (view["state"], view["outcome"], view["reason"]) == ("ended", "completed", "full")
        assert view["credited"] == "100.00"
        assert view["draws"][0]["status"] == DrawStatus.TRANSFERRED
        assert view["draws"][0]["debited"] == "100.00"
        assert view["ended_at"] > view["started_at"]

    @pytest.mark.rule("R23")
    async def test_shows_one_notification_for_each_channel_also_after_a_notice_in_between(
        self, running: Running
    ) -> None:
        await running.start()
        await running.check(1)
        await running.end_failed()

        told = (await running.view())["notifications"]
        deliveries = (await running.caller.get(f"/v1/owners/{running.owner_id}/notifications")).json()["data"]
        assert sorted(notification["channel"] for notification in told) == ["email", "push"]
        assert len(deliveries) == 4
        assert set(deliveries[0]) == {
            "id",
            "kind",
            "top_up_id",
            "channel",
            "status",
            "attempts",
            "subject",
            "sent_at",
        }
        assert {delivery["top_up_id"] for delivery in deliveries} == {running.id}

    @pytest.mark.rule("R26")
    async def test_and_failed_leaves_its_rule_waiting_and_says_for_what(self, running: Running) -> None:
        await running.start()
        await running.end_failed()
        rule = (await running.caller.get(f"/v1/rules/{running.rule['id']}")).json()

        assert rule["state"] == "waiting"
        assert rule["waiting_for"] == "balance_at_threshold"
        assert rule["locked_by"] is None

    @pytest.mark.rule("R25")
    async def test_and_failed_shows_in_the_alert_of_its_wallet(self, running: Running) -> None:
        await running.start()
        await running.end_failed()
        await running.caller.judge()

        alert = (await running.caller.get(f"/v1/wallets/{running.rule['wallet_id']}")).json()["alert"]
        assert alert["code"] == "last_top_up_failed"
        assert "40.00 USDT" in alert["message"]
        assert "Add funds by hand" in alert["message"]

    @pytest.mark.rule("R11")
    async def test_and_failed_is_tried_anew_when_the_owner_saves_the_rule(self, running: Running) -> None:
        await running.start()
        await running.end_failed()
        path = f"/v1/rules/{running.rule['id']}"
        answer = await running.caller.change("PATCH", path, {"amount": "100.00"}, version=1)

        assert answer.json()["state"] == "armed"
        assert len(await running.caller.judge()) == 1


class TestTheListOfTopUps:
    async def test_can_be_narrowed_by_wallet_rule_state_and_outcome(
        self, caller: Caller, running: Running
    ) -> None:
        await running.start()
        await running.end_failed()
        other, other_id = await caller.fire()

        async def ids(**params: str) -> list[str]:
            return [top_up["id"] for top_up in (await caller.get("/v1/top-ups", **params)).json()["data"]]

        assert await ids() == [other_id, running.id]
        assert await ids(wallet_id=other["wallet_id"]) == [other_id]
        assert await ids(rule_id=running.rule["id"]) == [running.id]
        assert await ids(state="in_progress") == [other_id]
        assert await ids(state="ended", outcome="failed") == [running.id]
        assert await ids(outcome="completed") == []
        assert await ids(wallet_id="wallet_unknown") == []

    async def test_comes_in_pages_newest_first(self, caller: Caller) -> None:
        fired = [(await caller.fire())[1] for _ in range(3)]
        first = (await caller.get("/v1/top-ups", limit=2)).json()
        second = (await caller.get("/v1/top-ups", limit=2, after=first["next_cursor"])).json()

        assert [top_up["id"] for top_up in (*first["data"], *second["data"])] == fired[::-1]

    @pytest.mark.parametrize(
        ("parameter", "value"),
        [
            ("state", "open"),
            ("outcome", "full"),
            ("wallet_id", "\x00"),
            ("rule_id", "x" * 500),
            ("walletid", "x"),
        ],
    )
    async def test_refuses_a_filter_it_does_not_know(
        self, steady: Caller, parameter: str, value: str
    ) -> None:
        answer = await steady.get("/v1/top-ups", **{parameter: value})

        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == f"/query/{parameter}"

    async def test_has_no_top_up_of_an_unknown_id(self, steady: Caller) -> None:
        answer = await steady.get("/v1/top-ups/topup_unknown")

        assert answer.status_code == 404
        assert answer.json()["code"] == "not_found"
