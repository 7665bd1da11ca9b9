"""The embedded ledger over HTTP: deposits, payments, rates and the development switch."""

import asyncio

import pytest
from sqlmodel import col, select

from adapters.postgres.database import Database
from adapters.postgres.tables import Account, BalanceEvent, Fault, Transfer
from tests.api.conftest import Caller


class TestADeposit:
    async def test_into_a_wallet_raises_its_balance_and_tells_of_it(
        self, caller: Caller, database: Database
    ) -> None:
        owner_id = await caller.register_owner()
        wallet_id = await caller.open_wallet(owner_id)
        answer = await caller.deposit(wallet_id=wallet_id, amount="12.5")

        assert answer.status_code == 201
        transfer = answer.json()
        assert transfer == {
            "id": transfer["id"],
            "wallet_id": wallet_id,
            "owner_id": owner_id,
            "account": None,
            "asset": "USDT",
            "amount": "12.50",
            "balance": "12.50",
        }
        assert transfer["id"].startswith("transfer_")
        assert await caller.balance(wallet_id) == "12.50"
        async with database.read() as session:
            events = (await session.exec(select(BalanceEvent.change))).all()
        assert events == ["added"]

    async def test_into_an_account_shows_there(self, caller: Caller) -> None:
        owner_id = await caller.register_owner()
        answer = await caller.deposit(owner_id=owner_id, account="trading", asset="BTC", amount="0.00000001")

        assert answer.status_code == 201
        assert answer.json()["balance"] == "0.00000001"
        assert answer.json()["account"] == "trading"

    @pytest.mark.parametrize(
        ("body", "pointers"),
        [
            ({"wallet_id": "wallet_1"}, ["/amount"]),
            ({"wallet_id": "wallet_1", "amount": "1", "asset": "USDT"}, ["/asset"]),
            ({}, ["/owner_id", "/account", "/asset", "/amount"]),
            (
                {"owner_id": "owner_1", "account": "x", "asset": "X", "amount": 1},
                ["/account", "/asset", "/amount"],
            ),
            ({"wallet_id": None, "amount": "1"}, ["/wallet_id"]),
        ],
    )
    async def test_of_a_wrong_shape_is_refused_naming_the_fields(
        self, steady: Caller, body: dict[str, object], pointers: list[str]
    ) -> None:
        answer = await steady.deposit(**body)

        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == pointers

    async def test_for_what_does_not_exist_is_not_found(self, caller: Caller) -> None:
        unknown = [
            await caller.deposit(wallet_id="wallet_1", amount="1"),
            await caller.deposit(owner_id="owner_1", account="funding", asset="USDT", amount="1"),
        ]

        assert [answer.status_code for answer in unknown] == [404, 404]


class TestAPayment:
    @pytest.mark.parametrize(
        "amount",
        [
            *(
                "0",
                "0.00",
                "-1",
                "+1",
                "1e3",
                "NaN",
                "Infinity",
                "1,5",
                " 1",
                "1.",
                ".5",
                "",
                "٣",
                "1.0000001",
            ),
            *("9" * 30, "9" * 5000, "1\x00", 1, 1.5, True, None, ["1"], {"units": 1}),
        ],
    )
    async def test_of_an_impossible_amount_is_refused_with_a_pointer(
        self, steady: Caller, amount: object
    ) -> None:
        wallet_id = await steady.open_wallet(balance="100")
        answer = await steady.pay(wallet_id, amount)

        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == ["/amount"]
        assert await steady.balance(wallet_id) == "100.00"

    async def test_lowers_the_balance(self, caller: Caller) -> None:
        wallet_id = await caller.open_wallet(balance="100")
        answer = await caller.pay(wallet_id, "0.000001")

        assert answer.status_code == 201
        payment = answer.json()
        assert payment["id"].startswith("payment_")
        assert payment == {
            "id": payment["id"],
            "wallet_id": wallet_id,
            "amount": "0.000001",
            "balance": "99.999999",
        }

    async def test_that_the_wallet_lacks_is_refused_in_words(self, caller: Caller) -> None:
        wallet_id = await caller.open_wallet(balance="10")
        answer = await caller.pay(wallet_id, "10.01")

        assert answer.status_code == 409
        assert answer.json()["code"] == "insufficient_balance"
        assert "10.00 USDT" in answer.json()["detail"]
        assert await caller.balance(wallet_id) == "10.00"

    async def test_from_an_unknown_wallet_is_not_found(self, caller: Caller) -> None:
        assert (await caller.pay("wallet_unknown", "1")).status_code == 404

    async def test_among_fifty_at_once_conserves_money(self, caller: Caller, database: Database) -> None:
        wallet_id = await caller.open_wallet(balance="30")

        answers = await asyncio.gather(*(caller.pay(wallet_id, "1") for _ in range(50)))

        statuses = sorted(answer.status_code for answer in answers)
        assert statuses == [201] * 30 + [409] * 20
        assert await caller.balance(wallet_id) == "0.00"
        async with database.read() as session:
            accounts = (await session.exec(select(Account).where(col(Account.asset) == "USDT"))).all()
            refused = (await session.exec(select(Transfer).where(col(Transfer.status) == "refused"))).all()
        assert sum(account.posted for account in accounts) == 0
        assert len(refused) == 20
        balances = {answer.json()["balance"] for answer in answers if answer.status_code == 201}
        assert balances == {f"{left}.00" for left in range(30)}


class TestARate:
    async def test_can_be_set_and_read_back_exactly(self, caller: Caller) -> None:
        rate = {"asset": "BTC", "currency": "EUR", "rate": "54321.123456789012345678"}
        answer = await caller.change("PUT", "/v1/ledger/rates", rate)

        assert answer.status_code == 200
        assert answer.json() == rate
        assert rate in (await caller.get("/v1/ledger/rates")).json()["data"]

    async def test_that_exists_is_replaced(self, caller: Caller) -> None:
        for rate in ("61000", "62000.50"):
            await caller.change("PUT", "/v1/ledger/rates", {"asset": "BTC", "currency": "USDT", "rate": rate})

        rates = (await caller.get("/v1/ledger/rates")).json()["data"]
        assert [rate["rate"] for rate in rates if rate["asset"] == "BTC"] == ["62000.5"]

    @pytest.mark.parametrize(
        "rate", ["0", "-1", "1e5", "", "NaN", 1.1, None, "1" * 19, "0." + "1" * 19, "\x00"]
    )
    async def test_that_is_none_is_refused(self, steady: Caller, rate: object) -> None:
        answer = await steady.change(
            "PUT", "/v1/ledger/rates", {"asset": "BTC", "currency": "USDT", "rate": rate}
        )

        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "/rate"

    async def test_of_an_asset_in_itself_is_refused(self, steady: Caller) -> None:
        answer = await steady.change(
            "PUT", "/v1/ledger/rates", {"asset": "BTC", "currency": "BTC", "rate": "2"}
        )

        assert answer.status_code == 422


class TestTheFaultSwitch:
    async def test_is_set_replaced_and_taken_back(self, caller: Caller, database: Database) -> None:
        source = {"owner_id": await caller.register_owner(), "account": "funding", "asset": "USDT"}

        for fault, times in (("reject", 1), ("hang", 2)):
            answer = await caller.change(
                "PUT", "/v1/ledger/faults", {**source, "fault": fault, "times": times}
            )
            assert answer.status_code == 200
            assert answer.json() == {**source, "fault": fault, "times": times}
        async with database.read() as session:
            (switched,) = (await session.exec(select(Fault))).all()
        answer = await caller.change("PUT", "/v1/ledger/faults", {**source, "fault": None})
        async with database.read() as session:
            left = (await session.exec(select(Fault))).all()

        assert (switched.fault, switched.times) == ("hang", 2)
        assert answer.json()["fault"] is None
        assert left == []

    @pytest.mark.parametrize(
        ("field", "value"),
        [("fault", "explode"), ("times", 0), ("times", "1"), ("account", "other"), ("asset", "X")],
    )
    async def test_refuses_what_it_does_not_know(self, steady: Caller, field: str, value: object) -> None:
        body = {
            "owner_id": await steady.register_owner(),
            "account": "funding",
            "asset": "USDT",
            "fault": "reject",
            "times": 1,
            field: value,
        }
        answer = await steady.change("PUT", "/v1/ledger/faults", body)

        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == f"/{field}"

    async def test_of_an_unknown_owner_is_not_found(self, caller: Caller) -> None:
        body = {"owner_id": "owner_1", "account": "funding", "asset": "USDT", "fault": "reject", "times": 1}

        assert (await caller.change("PUT", "/v1/ledger/faults", body)).status_code == 404
