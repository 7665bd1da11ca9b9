"""The preview: what would happen now, by the same reckoning as the live check, without moving anything."""

import pytest
from sqlmodel import col, select

from activities.messages import CheckOrder
from adapters.postgres.claims import terms_of
from adapters.postgres.database import Database
from adapters.postgres.ledger import LedgerAccounts
from adapters.postgres.tables import Entry, Rule
from tests.api.conftest import Caller, Json
from tests.api.test_balance_events import event, open_elsewhere
from topup.waterfall import Plan, plan_draws


class Scene:
    """A wallet with a rule over three sources, two of them not in its currency."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller

    async def set_up(self, balance: str = "60", **changed: Json) -> Json:
        self.owner_id = await self.caller.register_owner()
        self.wallet_id = await self.caller.open_wallet(self.owner_id, balance=balance)
        terms = {"sources": ["USDT", "BTC", "ETH"], **changed}
        self.rule = await self.caller.create_rule(self.wallet_id, **terms)
        return self.rule

    async def preview(self) -> Json:
        answer = await self.caller.post(f"/v1/rules/{self.rule['id']}/preview")
        assert answer.status_code == 200
        return answer.json()


@pytest.fixture
def scene(caller: Caller) -> Scene:
    return Scene(caller)


class TestThePreview:
    @pytest.mark.rule("R16")
    async def test_shows_each_source_exhausted_before_the_next(self, scene: Scene) -> None:
        await scene.set_up()
        for asset, amount in (("USDT", "30"), ("BTC", "0.001"), ("ETH", "5")):
            await scene.caller.fund(scene.owner_id, asset, amount)

        assert await scene.preview() == {
            "would_fire": False,
            "outcome": "completed",
            "draws": [
                {"rank": 1, "asset": "USDT", "debit": "30.00", "credit": "30.00"},
                {"rank": 2, "asset": "BTC", "debit": "0.001", "credit": "60.00"},
                {"rank": 3, "asset": "ETH", "debit": "0.003333333333333334", "credit": "10.00"},
            ],
            "reason": "full",
            "warnings": [],
        }

    async def test_is_what_the_live_check_reckons(self, scene: Scene, database: Database) -> None:
        await scene.set_up(amount="77.777777")
        for asset, amount in (("USDT", "0.000001"), ("BTC", "0.00012345"), ("ETH", "1.123456789")):
            await scene.caller.fund(scene.owner_id, asset, amount)
        preview = await scene.preview()
        async with database.read() as session:
            rule = (await session.exec(select(Rule).where(col(Rule.id) == scene.rule["id"]))).one()
        terms = terms_of(rule, "USDT")
        order = CheckOrder(
            top_up_id="topup_none", wallet_id=scene.wallet_id, owner_id=scene.owner_id, terms=terms
        )
        sight = await LedgerAccounts(database).look(order)

        plan = plan_draws(terms, sight.holdings)

        assert isinstance(plan, Plan)
        assert [(draw["debit"], draw["credit"]) for draw in preview["draws"]] == [
            (draw.debit.text, draw.credit.text) for draw in plan.draws
        ]

    @pytest.mark.rule("R15")
    async def test_of_sources_that_fall_short_moves_nothing_and_says_how_much_is_missing(
        self, scene: Scene
    ) -> None:
        await scene.set_up(sources=["USDT", "USDC"])
        await scene.caller.fund(scene.owner_id, "USDT", "30.5")
        preview = await scene.preview()

        assert (preview["outcome"], preview["reason"]) == ("failed", "insufficient_balance")
        assert preview["draws"] == []
        warnings = {warning["code"]: warning["message"] for warning in preview["warnings"]}
        assert set(warnings) == {"source_empty", "sources_insufficient"}
        assert "30.50 USDT" in warnings["sources_insufficient"]
        assert "69.50 USDT short" in warnings["sources_insufficient"]

    async def test_warns_of_a_source_that_nobody_quotes(self, scene: Scene) -> None:
        await scene.set_up(sources=["USDT", "JPY"])
        await scene.caller.fund(scene.owner_id, "JPY", "1000000")

        codes = [warning["code"] for warning in (await scene.preview())["warnings"]]
        assert "source_not_quoted" in codes

    async def test_warns_of_an_amount_that_cannot_lift_the_balance_over_the_threshold(
        self, scene: Scene
    ) -> None:
        await scene.set_up(balance="10", threshold="50", amount="39.99", sources=["USDT"])
        await scene.caller.fund(scene.owner_id, "USDT", "1000")

        (warning,) = (await scene.preview())["warnings"]
        assert warning["code"] == "amount_below_gap"
        assert "49.99 USDT" in warning["message"]

    async def test_moves_nothing(self, scene: Scene, database: Database) -> None:
        await scene.set_up(balance="10")
        await scene.caller.fund(scene.owner_id, "USDT", "1000")
        async with database.read() as session:
            before = len((await session.exec(select(Entry))).all())
        await scene.preview()
        async with database.read() as session:
            after = len((await session.exec(select(Entry))).all())

        assert after == before
        assert await scene.caller.balance(scene.wallet_id) == "10.00"

    async def test_of_an_unknown_rule_is_not_found(self, steady: Caller) -> None:
        assert (await steady.post("/v1/rules/rule_unknown/preview")).status_code == 404


class TestWhetherItWouldFire:
    async def test_is_yes_for_an_armed_rule_whose_balance_is_below(self, scene: Scene) -> None:
        await scene.set_up(balance="49.999999")

        assert (await scene.preview())["would_fire"] is True

    @pytest.mark.rule("R8")
    async def test_is_no_at_the_threshold(self, scene: Scene) -> None:
        await scene.set_up(balance="50")

        assert (await scene.preview())["would_fire"] is False

    async def test_is_no_for_a_rule_that_is_off(self, scene: Scene) -> None:
        await scene.set_up(balance="10", enabled=False)

        assert (await scene.preview())["would_fire"] is False

    async def test_is_no_for_a_rule_whose_top_up_is_in_progress(self, scene: Scene) -> None:
        await scene.set_up(balance="10")
        await scene.caller.judge()

        assert (await scene.preview())["would_fire"] is False


class TestThePreviewOfAWalletThatNobodyHasReportedYet:
    @pytest.mark.rule("R8")
    @pytest.mark.rule("R11")
    async def test_says_nothing_that_depends_on_its_balance(self, caller: Caller) -> None:
        wallet_id = await open_elsewhere(caller)
        rule = await caller.create_rule(wallet_id, threshold="50", amount="10")

        unknown = (await caller.post(f"/v1/rules/{rule['id']}/preview")).json()
        await caller.post("/v1/balance-events", event(wallet_id, 1, "10"))
        known = (await caller.post(f"/v1/rules/{rule['id']}/preview")).json()

        assert (unknown["would_fire"], known["would_fire"]) == (False, True)
        gap = "amount_below_gap"
        assert [gap in [warning["code"] for warning in told["warnings"]] for told in (unknown, known)] == [
            False,
            True,
        ]
