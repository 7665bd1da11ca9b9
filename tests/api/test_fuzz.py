"""The whole description, tried with made-up requests: whatever is sent, the answer is one that it tells of."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio
import structlog

from adapters.postgres.events import find_position
from api.examples import FIELDS
from api.scopes import Scope
from tests.api.conftest import Caller, build, client_of, lasting, make_key
from tests.api.fuzzing import CHECKS, EXHAUSTIVE, ID, Fuzzer, Ids, Tried
from tests.api.households import KEYS, Household, furnish
from tests.api.test_authorization import STORY, WALLETS
from tests.api.test_description import COMMITTED, operations_of
from tests.conftest import address
from tests.served import serve

HOUSEHOLDS = 3
"""How many owners have things that are asked for: some of those are deleted on the way."""

OF_ALL = {"GET /metrics", "POST /v1/owners", "PUT /v1/ledger/rates"}
"""What a key that is bound to one owner will not do for."""


AMOUNTS = ("1", "2.50", "20", "100.00")


def replaced(document: Any, texts: Mapping[str, str]) -> Any:
    """The same with other texts in it."""
    text = json.dumps(document)
    for known, found in texts.items():
        text = text.replace(known, found)
    return json.loads(text)


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """Thousands of requests need no line of log each; what is broken is still told."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    yield
    structlog.configure(**before)


class Ground:
    """The API on a real socket, its database, and some households in it."""

    def __init__(self, url: str, app: Any, caller: Caller, households: list[Household]) -> None:
        self.url = url
        self.document = app.openapi()
        self.caller = caller
        self.households = households

    async def fuzzer(self, key: str, *, owned: list[Household]) -> Fuzzer:
        """Asks with this key for what is its own, more often than for what is not."""
        asked = owned * 3 + self.households
        foreign = [await self._ids_of(other) for other in self.households if other not in owned]
        place = str(await find_position(self.caller.database, None))
        return Fuzzer(
            self.url,
            await self._told_of(owned[-1], place),
            key,
            await self._values(asked),
            self._narrower(asked, place),
            frozenset().union(*foreign),
        )

    async def _told_of(self, household: Household, place: str) -> Any:
        """The description, with this household in its examples instead of the one that is not there."""
        spares = await self._spares(household["owner_id"])
        texts = {known: household[name] for known, name in STORY.items()}
        texts |= {FIELDS["last_event_id"]: place, json.dumps(FIELDS["if-match"]): json.dumps('"1"')}
        document = replaced(self.document, texts)
        for _, _, operation in operations_of(document):
            if name := WALLETS.get(operation["operationId"]):
                told = {household["wallet_id"]: household[name]}
                operation["requestBody"] = replaced(operation["requestBody"], told)
            if spare := spares.get(operation["operationId"]):
                told = {household["rule_id"]: spare, household["endpoint_id"]: spare}
                operation["parameters"] = replaced(operation["parameters"], told)
        return document

    async def _spares(self, owner_id: str) -> Mapping[str, str]:
        """What only one operation changes, or takes away."""
        rules = [await self.caller.create_rule(await self.caller.open_wallet(owner_id)) for _ in range(4)]
        order = {"owner_id": owner_id, "url": "https://shop.example.com/spare"}
        endpoint = await self.caller.post("/v1/webhook-endpoints", order)
        return {
            "edit_rule": rules[0]["id"],
            "delete_rule": rules[1]["id"],
            "enable_rule": rules[2]["id"],
            "disable_rule": rules[3]["id"],
            "delete_webhook_endpoint": endpoint.json()["id"],
        }

    async def _values(self, asked: list[Household]) -> Ids:
        page = await self.caller.get("/v1/wallets", limit=1)
        ids = {name: [household[name] for household in asked] for name in STORY.values()}
        in_path = {f"path.{name}": values for name, values in ids.items()}
        in_query = {f"query.{name}": ids[name] for name in ("owner_id", "wallet_id", "rule_id")}
        return {
            **in_path,
            **in_query,
            "query.after": [page.json()["next_cursor"]],
            "header.If-Match": ['"1"', '"1"', '"2"'],
            "body.owner_id": ids["owner_id"],
            "body.wallet_id": ids["wallet_id"],
            "body.amount": AMOUNTS,
            "body.threshold": AMOUNTS,
            "body.endpoint": [FIELDS["endpoint"]],
            "body.keys.p256dh": [KEYS["p256dh"]],
            "body.keys.auth": [KEYS["auth"]],
        }

    @staticmethod
    def _narrower(asked: list[Household], place: str) -> dict[str, Ids]:
        numbered = {"query.after": ["YWZ0ZXI6MQ", "YWZ0ZXI6Mg"]}
        elsewhere = [household["elsewhere"] for household in asked]
        now = [datetime.now(UTC).isoformat()]
        return {
            "create_rule": {"body.wallet_id": [household["bare"] for household in asked]},
            "list_decisions": numbered,
            "list_revisions": numbered,
            "report_balance": {
                "body.wallet_id": elsewhere,
                "body.events[*].wallet_id": elsewhere,
                "body.balance": AMOUNTS,
                "body.events[*].balance": AMOUNTS,
                "body.occurred_at": now,
                "body.events[*].occurred_at": now,
            },
            "stream_events": {"query.after": [place], "header.Last-Event-Id": [place]},
        }

    async def _ids_of(self, household: Household) -> set[str]:
        """Every id there is of an owner."""
        owner_id = household["owner_id"]
        rule_id, endpoint_id = household["rule_id"], household["endpoint_id"]
        owned = ("wallets", "rules", "webhook-endpoints", "push-subscriptions")
        answers = [await self.caller.get(f"/v1/{name}", owner_id=owner_id) for name in owned]
        deeper = (
            f"rules/{rule_id}/decisions",
            f"rules/{rule_id}/revisions",
            f"webhook-endpoints/{endpoint_id}/deliveries",
            f"top-ups/{household['top_up_id']}",
        )
        answers += [await self.caller.get(f"/v1/{path}") for path in deeper]
        found = ID.findall(" ".join(answer.text for answer in answers))
        assert household["wallet_id"] in found
        return {*found, *household.values()}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ground(postgres_url: str, template: str) -> AsyncIterator[Ground]:
    """Everything there is to ask, with limits that are not met here, and streams that soon end by themselves."""
    async with lasting(postgres_url, template, "fuzz") as database:
        url = address(postgres_url, "fuzz")
        app = build(database, url=url, stream_lifetime="200ms", streams_per_key=1000)
        async with serve(app) as at, client_of(app, await make_key(database, [*Scope])) as client:
            caller = Caller(client, database)
            yield Ground(at, app, caller, [await furnish(caller) for _ in range(HOUSEHOLDS)])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def by_owner(ground: Ground) -> Tried:
    """What came of it with a key that may do everything for one owner; by itself without the edges."""
    owned = [ground.households[0]]
    key = await make_key(ground.caller.database, [*Scope], owner_id=owned[0]["owner_id"])
    fuzzer = await ground.fuzzer(key, owned=owned)
    return await asyncio.to_thread(fuzzer.run, "a key of one owner", covering=EXHAUSTIVE)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def by_admin(ground: Ground, by_owner: Tried) -> Tried:
    """What came of it with a key that may do everything; last, since it deletes what is anybody's."""
    assert by_owner.sent
    key = await make_key(ground.caller.database, [*Scope])
    fuzzer = await ground.fuzzer(key, owned=ground.households)
    return await asyncio.to_thread(fuzzer.run, "a key of all owners", covering=True)


@pytest.fixture(params=["by_owner", "by_admin"])
def tried(request: pytest.FixtureRequest, by_owner: Tried, by_admin: Tried) -> Tried:
    """Each of the two."""
    return by_owner if request.param == "by_owner" else by_admin


class TestEveryMadeUpRequest:
    async def test_is_answered_as_the_description_says(
        self, tried: Tried, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with capsys.disabled():
            print(f"\n{tried.line}")  # noqa: T201 - That is what `make fuzz` is run for.

        assert not tried.faults, tried.told

    async def test_is_of_every_operation_there_is(self, ground: Ground, tried: Tried) -> None:
        served = {f"{method.upper()} {path}" for path, method, _ in operations_of(ground.document)}
        told = operations_of(json.loads(COMMITTED.read_text(encoding="utf-8")))
        committed = {f"{method.upper()} {path}" for path, method, _ in told}

        assert tried.operations == served
        assert len(tried.operations & committed) == len(told)

    async def test_is_valid_or_is_not(self, ground: Ground, tried: Tried) -> None:
        for path, method, operation in operations_of(ground.document):
            label = f"{method.upper()} {path}"
            assert tried.sent[label, "positive"], label
            takes = operation.get("parameters") or "requestBody" in operation
            if takes and tried.phases["coverage"]:
                assert tried.sent[label, "negative"], label

    async def test_is_judged_by_every_check(self, tried: Tried) -> None:
        assert set(tried.checked) == CHECKS
        assert {"examples", "fuzzing", "stateful"} <= set(tried.phases)

    async def test_now_and_then_succeeds(self, tried: Tried, by_owner: Tried) -> None:
        done = {label for label, status in tried.answered if 200 <= status < 300}

        assert done == tried.operations - (OF_ALL if tried is by_owner else set())


class TestTheJudge:
    async def test_finds_what_a_key_must_not_see_and_what_the_description_does_not_tell(
        self, ground: Ground
    ) -> None:
        key = await make_key(ground.caller.database, [*Scope])
        household = await furnish(ground.caller)
        fuzzer = await ground.fuzzer(key, owned=[household])
        paths = fuzzer.document["paths"]
        told = {path: {"get": paths[path]["get"]} for path in ("/v1/rules/{rule_id}", "/v1/wallets")}
        del told["/v1/rules/{rule_id}"]["get"]["responses"]["200"]
        document = {**fuzzer.document, "paths": told}
        short = replace(fuzzer, document=document, narrower={}, foreign=frozenset(household.values()))

        tried = await asyncio.to_thread(short.run, "a key that sees too much", covering=False)

        faults = {
            "GET /v1/wallets: tells an id of somebody else's",
            "GET /v1/wallets: does something with somebody else's things",
            "GET /v1/rules/{rule_id}: tells an id of somebody else's",
            "GET /v1/rules/{rule_id}: does something with somebody else's things",
            "GET /v1/rules/{rule_id}: status_code_conformance: Undocumented status code",
        }
        assert faults <= set(tried.faults), tried.told
