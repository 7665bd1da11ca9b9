"""Owners and wallets over HTTP: made, read back, listed, and refused when they make no sense."""

import pytest
from sqlalchemy import text

from adapters.postgres.database import Database, run_sql
from tests.api.conftest import Caller
from tests.hands import by_hand
from topup.alert import AlertCode


class TestRegisteringAnOwner:
    async def test_gives_the_owner_with_an_id(self, caller: Caller) -> None:
        answer = await caller.post("/v1/owners", {"name": "Zoë O'Neil 👩‍🚀", "email": "zoe@example.com"})

        assert answer.status_code == 201
        owner = answer.json()
        assert set(owner) == {"id", "name", "email", "created_at"}
        assert owner["id"].startswith("owner_")
        assert owner["name"] == "Zoë O'Neil 👩‍🚀"
        assert owner["created_at"].endswith("Z")

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("name", ""),
            ("name", "   "),
            ("name", "a\x00b"),
            ("name", "a\nb"),
            ("name", "a" * 201),
            ("name", 5),
            ("name", None),
            ("email", "nobody"),
            ("email", "a@b\r\nBcc: c@d"),
            ("email", "a" * 300 + "@example.com"),
            ("email", ["a@example.com"]),
        ],
    )
    async def test_is_refused_with_a_pointer_to_the_field(
        self, steady: Caller, field: str, value: object
    ) -> None:
        body = {"name": "Ada", "email": "ada@example.com", field: value}
        answer = await steady.post("/v1/owners", body)

        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == [f"/{field}"]

    async def test_is_refused_when_the_text_is_not_unicode(self, steady: Caller) -> None:
        answer = await steady.client.post(
            "/v1/owners",
            content=b'{"name": "\\ud800", "email": "ada@example.com"}',
            headers={"Content-Type": "application/json"},
        )

        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "/name"


class TestOpeningAWallet:
    async def test_gives_an_empty_wallet(self, caller: Caller) -> None:
        owner_id = await caller.register_owner()
        answer = await caller.post("/v1/wallets", {"owner_id": owner_id, "currency": "USDC"})

        assert answer.status_code == 201
        wallet = answer.json()
        assert wallet == {
            "id": wallet["id"],
            "owner_id": owner_id,
            "currency": "USDC",
            "kept": "ledger",
            "balance": "0.00",
            "last_report": None,
            "rule_id": None,
            "alert": None,
        }
        assert (await caller.get(f"/v1/wallets/{wallet['id']}")).json() == wallet

    async def test_for_an_unknown_owner_is_not_found(self, caller: Caller) -> None:
        answer = await caller.post("/v1/wallets", {"owner_id": "owner_unknown", "currency": "USDT"})

        assert answer.status_code == 404
        assert "owner_unknown" in answer.json()["detail"]

    @pytest.mark.parametrize("currency", ["DOGE", "usdt", "", "\x00", "U" * 500])
    async def test_of_an_unknown_asset_is_refused(self, steady: Caller, currency: str) -> None:
        body = {"owner_id": await steady.register_owner(), "currency": currency}
        answer = await steady.post("/v1/wallets", body)

        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "/currency"

    async def test_with_an_owner_id_of_no_known_form_is_refused(self, steady: Caller) -> None:
        answer = await steady.post("/v1/wallets", {"owner_id": "a\x00", "currency": "USDT"})

        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "/owner_id"


class TestTheAccountsOfAnOwner:
    async def test_list_what_was_put_in_by_kind(self, caller: Caller) -> None:
        owner_id = await caller.register_owner()
        await caller.fund(owner_id, "BTC", "0.5")
        await caller.fund(owner_id, "USDT", "20")
        await caller.fund(owner_id, "ETH", "1.000000000000000001", account="trading")
        await caller.open_wallet(owner_id, balance="7")

        assert (await caller.get(f"/v1/owners/{owner_id}/accounts")).json() == {
            "data": [
                {
                    "kind": "funding",
                    "balances": [
                        {"asset": "USDT", "available": "20.00"},
                        {"asset": "BTC", "available": "0.50"},
                    ],
                },
                {"kind": "trading", "balances": [{"asset": "ETH", "available": "1.000000000000000001"}]},
            ]
        }

    async def test_of_an_unknown_owner_are_not_found(self, caller: Caller) -> None:
        for part in ("accounts", "notifications"):
            assert (await caller.get(f"/v1/owners/owner_unknown/{part}")).status_code == 404


class TestTheListOfWallets:
    async def test_comes_in_pages_newest_first(self, caller: Caller) -> None:
        owner_id = await caller.register_owner()
        opened = [await caller.open_wallet(owner_id) for _ in range(5)]

        found: list[str] = []
        after: dict[str, str] = {}
        sizes = []
        while True:
            page = (await caller.get("/v1/wallets", limit=2, **after)).json()
            found += [wallet["id"] for wallet in page["data"]]
            sizes.append(len(page["data"]))
            if not page["has_more"]:
                assert page["next_cursor"] is None
                break
            after = {"after": page["next_cursor"]}

        assert found == opened[::-1]
        assert sizes == [2, 2, 1]

    async def test_says_when_a_full_page_is_the_last_one(self, caller: Caller) -> None:
        await caller.open_wallet()
        page = (await caller.get("/v1/wallets", limit=1)).json()

        assert page["has_more"] is False

    @pytest.mark.parametrize(
        ("parameter", "value"),
        [
            ("limit", "0"),
            ("limit", "101"),
            ("limit", "many"),
            ("limit", "-1"),
            ("after", "nonsense"),
            ("after", "YWZ0ZXI6"),
            ("after", "%00"),
            ("after", "YWZ0ZXI6eA==" * 40),
            ("after", "é"),
            ("afer", "x"),
        ],
    )
    async def test_refuses_what_it_does_not_understand(
        self, steady: Caller, parameter: str, value: str
    ) -> None:
        for path in ("/v1/wallets", "/v1/rules", "/v1/top-ups"):
            answer = await steady.get(path, **{parameter: value})
            assert answer.status_code == 422
            assert answer.json()["errors"][0]["pointer"] == f"/query/{parameter}"


@pytest.mark.rule("R25")
class TestTheLowBalanceAlert:
    async def alert(self, caller: Caller, wallet_id: str) -> dict[str, str] | None:
        alert: dict[str, str] | None = (await caller.get(f"/v1/wallets/{wallet_id}")).json()["alert"]
        return alert

    async def test_is_silent_without_a_rule(self, caller: Caller) -> None:
        assert await self.alert(caller, await caller.open_wallet()) is None

    async def test_is_silent_at_the_threshold(self, caller: Caller) -> None:
        wallet_id = await caller.open_wallet(balance="50")
        await caller.create_rule(wallet_id, enabled=False)
        await caller.judge()

        assert await self.alert(caller, wallet_id) is None

    async def test_says_that_the_rule_is_off_and_what_to_do(self, caller: Caller) -> None:
        wallet_id = await caller.open_wallet(balance="49.99")
        await caller.create_rule(wallet_id, enabled=False)
        await caller.judge()

        alert = await self.alert(caller, wallet_id)
        assert alert is not None
        assert alert["code"] == AlertCode.RULE_OFF
        assert "49.99 USDT" in alert["message"]
        assert "Turn it on" in alert["message"]

    async def test_is_silent_while_a_top_up_is_on_its_way(self, caller: Caller) -> None:
        wallet_id = await caller.open_wallet(balance="10")
        await caller.create_rule(wallet_id)
        before_judging = await self.alert(caller, wallet_id)
        await caller.judge()

        assert before_judging is None
        assert await self.alert(caller, wallet_id) is None

    async def test_speaks_when_nobody_looks_at_the_last_balance_change(
        self, caller: Caller, database: Database
    ) -> None:
        wallet_id = await caller.open_wallet(balance="80")
        await caller.create_rule(wallet_id)
        await caller.judge()
        await caller.pay(wallet_id, "70")
        at_once = await self.alert(caller, wallet_id)
        async with by_hand(database) as session:
            aged = "UPDATE balance_event SET recorded_at = now() - interval '6 s' WHERE NOT judged"
            await run_sql(session, text(aged))
        late = await self.alert(caller, wallet_id)
        await caller.judge()

        assert at_once is None
        assert late is not None
        assert late["code"] == AlertCode.BEING_JUDGED_LATE
        assert await self.alert(caller, wallet_id) is None
