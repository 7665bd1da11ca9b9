"""A client that nobody wrote: generated from docs/openapi.json, it tells one story against the running API."""

import importlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from adapters.postgres.claims import Claims
from adapters.postgres.database import Database
from api.scopes import Scope
from tests.api.conftest import build, make_key
from tests.house.building import ROOT
from tests.served import serve

PACKAGE = "tidemark_client"
Package = Callable[[str], Any]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Package]:
    """Finds a module of the generated client by its name; a warning of the generator fails."""
    folder = tmp_path_factory.mktemp("client")
    (folder / "settings.yml").write_text("post_hooks: []\n", encoding="utf-8")
    generated = subprocess.run(
        [
            Path(sys.executable).with_name("openapi-python-client"), "generate", "--fail-on-warning",
            "--path", ROOT / "docs" / "openapi.json", "--config", folder / "settings.yml",
            "--meta", "none", "--output-path", folder / PACKAGE,
        ],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert generated.returncode == 0, generated.stdout + generated.stderr
    sys.path.insert(0, str(folder))
    yield lambda name: importlib.import_module(f"{PACKAGE}.{name}")
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
        del sys.modules[name]


@pytest_asyncio.fixture
async def client(package: Package, database: Database) -> AsyncIterator[Any]:
    """The generated client with a key that may do everything, at the API on a real socket."""
    key = await make_key(database, [*Scope])
    open_client = package("client").AuthenticatedClient
    async with serve(build(database)) as url, open_client(base_url=url, token=key) as client:
        yield client


class TestTheGeneratedClient:
    async def test_has_a_function_for_every_operation(self, package: Package) -> None:
        paths = build(Database.open("postgresql:///unused", pool_size=1), environment="production").openapi()[
            "paths"
        ]
        operations = [operation for found in paths.values() for operation in found.values()]

        for operation in operations:
            tag = operation["tags"][0].replace(" ", "_").replace("-", "_")
            assert package(f"api.{tag}.{operation['operationId']}").asyncio_detailed

    async def test_tells_the_story_of_a_top_up(
        self, package: Package, client: Any, database: Database
    ) -> None:
        models, call = package("models"), _caller(package, client)

        owner = await call(
            "owners.register_owner", body=models.OwnerOrder(name="Ada", email="ada@example.com")
        )
        wallet = await call(
            "wallets.open_wallet", body=models.WalletOrder(owner_id=owner.id, currency=models.Asset.USDT)
        )
        await call(
            "embedded_ledger.deposit",
            body=models.WalletDeposit(wallet_id=wallet.id, amount="62.50"),
            idempotency_key=str(uuid4()),
        )
        for asset, amount in ((models.Asset.USDT, "70.00"), (models.Asset.BTC, "0.01")):
            deposit = models.AccountDeposit(
                owner_id=owner.id, account=models.AccountKind.FUNDING, asset=asset, amount=amount
            )
            await call("embedded_ledger.deposit", body=deposit, idempotency_key=str(uuid4()))
        rule = await call(
            "rules.create_rule",
            body=models.RuleOrder(
                wallet_id=wallet.id,
                threshold="50.00",
                amount="100.00",
                account=models.AccountKind.FUNDING,
                sources=[models.Asset.USDT, models.Asset.BTC],
            ),
        )
        assert rule.state is models.RuleState.ARMED
        assert [source.asset for source in rule.sources] == ["USDT", "BTC"]

        preview = await call("rules.preview_rule", rule_id=rule.id)
        assert preview.outcome is models.Outcome.COMPLETED
        assert [(draw.asset, draw.credit) for draw in preview.draws] == [("USDT", "70.00"), ("BTC", "30.00")]

        payment = models.PaymentOrder(wallet_id=wallet.id, amount="20.00")
        paid = await call("embedded_ledger.pay", body=payment, idempotency_key=str(uuid4()))
        assert paid.balance == "42.50"

        claimed = [*(await Claims(database).judge_waiting()).claimed]
        (decision, *earlier) = (await call("rules.list_decisions", rule_id=rule.id)).data
        assert decision.fired
        assert decision.reason is models.DecisionReason.BELOW_THRESHOLD
        assert not any(other.fired for other in earlier)

        top_up = await call("top_ups.get_top_up", top_up_id=decision.top_up_id)
        assert [top_up.id] == claimed
        assert top_up.trigger.balance == "42.50"
        assert top_up.ended_at is None
        assert (await call("rules.get_rule", rule_id=rule.id)).locked_by == top_up.id

    async def test_gets_problems_it_can_read(self, package: Package, client: Any) -> None:
        models = package("models")
        get_rule = package("api.rules.get_rule")
        edit_rule = package("api.rules.edit_rule")
        order = models.OwnerOrder(name=" ", email="nobody")

        unknown = await get_rule.asyncio_detailed("rule_nothing", client=client)
        unseen = await edit_rule.asyncio_detailed(
            "rule_nothing", client=client, body=models.RuleEdit(amount="1"), if_match="*"
        )
        invalid = await package("api.owners.register_owner").asyncio_detailed(client=client, body=order)

        assert unknown.status_code == HTTPStatus.NOT_FOUND
        assert isinstance(unknown.parsed, models.Problem)
        assert unknown.parsed.code == "not_found"
        assert unseen.parsed.code == "version_required"
        assert [error.pointer for error in invalid.parsed.errors] == ["/name", "/email"]

    async def test_changes_a_rule_by_its_version(self, package: Package, client: Any) -> None:
        models, call = package("models"), _caller(package, client)
        owner = await call(
            "owners.register_owner", body=models.OwnerOrder(name="Ada", email="ada@example.com")
        )
        wallet = await call(
            "wallets.open_wallet", body=models.WalletOrder(owner_id=owner.id, currency=models.Asset.USDT)
        )
        order = {
            "wallet_id": wallet.id,
            "threshold": "5",
            "amount": "9",
            "account": "trading",
            "sources": ["EUR"],
        }
        rule = await call("rules.create_rule", body=models.RuleOrder.from_dict(order))

        read = await package("api.rules.get_rule").asyncio_detailed(rule.id, client=client)
        edit = models.RuleEdit(amount="10.00")
        edited = await call("rules.edit_rule", rule_id=rule.id, body=edit, if_match=read.headers["ETag"])
        stale = await package("api.rules.edit_rule").asyncio_detailed(
            rule.id, client=client, body=edit, if_match=read.headers["ETag"]
        )

        assert edited.amount == "10.00"
        assert edited.version == rule.version + 1
        assert stale.parsed.code == "version_stale"


def _caller(package: Package, client: Any) -> Callable[..., Any]:
    """Calls an operation by tag and name; gives what it answered with, which must be a success."""

    async def call(name: str, **arguments: Any) -> Any:
        answer = await package(f"api.{name}").asyncio_detailed(client=client, **arguments)
        assert answer.status_code < HTTPStatus.BAD_REQUEST, answer.content
        return answer.parsed

    return call
