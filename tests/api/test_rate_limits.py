"""Rate limits: each key its own quota, strangers one by address, and nothing of a request read once it is used up."""

from collections.abc import AsyncIterator

import httpx2
import pytest
import pytest_asyncio
from fastapi import FastAPI
from httpx2 import AsyncClient, Response

from adapters.postgres.database import Database
from api.authentication import UNCOUNTED_PATHS
from api.limits import Counts, Limits, TooMany
from api.scopes import Scope
from tests.api.conftest import Caller, build, client_of, make_key
from tests.api.programs import serving

NO_KEY = "tm_" + "a" * 43


class Clock:
    """A clock that stands until it is set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def strict_limits(clock: Clock, *, per_key: str = "3/minute", counted_max: int = 100) -> Limits:
    return Limits(per_key=per_key, per_address="3/minute", clock=clock, counted_max=counted_max)


def refused(answer: Response) -> bool:
    """Whether the answer is a whole and honest refusal for asking too often."""
    if answer.status_code != 429:
        return False
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "rate_limited"
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"]
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert answer.headers["Retry-After"] in answer.json()["detail"]
    return True


@pytest.fixture
def strict(database: Database) -> FastAPI:
    """The application with three requests a minute for everybody."""
    return build(database, rate_limit="3/minute", rate_limit_unauthenticated="3/minute")


@pytest_asyncio.fixture
async def keyed(strict: FastAPI, database: Database) -> AsyncIterator[AsyncClient]:
    """A client with a key, of which three requests a minute are taken."""
    async with client_of(strict, await make_key(database, [*Scope])) as client:
        yield client


@pytest_asyncio.fixture
async def stranger(strict: FastAPI) -> AsyncIterator[AsyncClient]:
    """A client without a key."""
    async with client_of(strict) as client:
        yield client


class TestAKey:
    async def test_is_told_how_it_stands_with_every_answer(self, keyed: AsyncClient) -> None:
        answers = [await keyed.get("/v1/rules") for _ in range(3)]

        assert {answer.headers["RateLimit-Policy"] for answer in answers} == {'"key";q=3;w=60'}
        assert [answer.headers["RateLimit"] for answer in answers] == [
            '"key";r=2;t=60',
            '"key";r=1;t=60',
            '"key";r=0;t=60',
        ]

    async def test_that_asks_too_often_is_refused_with_when_to_ask_again(self, keyed: AsyncClient) -> None:
        answers = [await keyed.get("/v1/rules") for _ in range(5)]

        assert [refused(answer) for answer in answers] == [False, False, False, True, True]
        assert answers[4].headers["RateLimit"].startswith('"key";r=0;t=')

    async def test_uses_up_nothing_of_another(
        self, keyed: AsyncClient, strict: FastAPI, database: Database
    ) -> None:
        for _ in range(4):
            await keyed.get("/v1/rules")
        async with client_of(strict, await make_key(database, ["rules:read"])) as other:
            answer = await other.get("/v1/rules")

        assert answer.status_code == 200
        assert answer.headers["RateLimit"] == '"key";r=2;t=60'

    async def test_is_counted_on_every_route_and_whatever_the_answer_is(self, keyed: AsyncClient) -> None:
        answers = [
            await keyed.get("/v1/nowhere"),
            await keyed.post("/v1/rules", content=b"{}", headers={"Content-Type": "text/plain"}),
            await keyed.post(
                "/v1/rules", content=b"x" * 300_000, headers={"Content-Type": "application/json"}
            ),
            await keyed.get("/v1/rules"),
        ]

        assert [answer.status_code for answer in answers] == [404, 415, 413, 429]

    async def test_over_its_quota_has_no_byte_of_its_body_read(self, keyed: AsyncClient) -> None:
        read = False

        async def body() -> AsyncIterator[bytes]:
            nonlocal read
            read = True
            yield b"{}"

        for _ in range(3):
            await keyed.get("/v1/rules")
        answer = await keyed.post("/v1/rules", content=body(), headers={"Content-Type": "application/json"})

        assert refused(answer)
        assert not read

    async def test_over_its_quota_changes_nothing(self, keyed: AsyncClient, caller: Caller) -> None:
        wallet_id = await caller.open_wallet(balance="10")
        payment = {"wallet_id": wallet_id, "amount": "1"}
        answers = [
            await keyed.post("/v1/ledger/payments", json=payment, headers={"Idempotency-Key": f"k{n}"})
            for n in range(5)
        ]

        assert [answer.status_code for answer in answers] == [201, 201, 201, 429, 429]
        assert await caller.balance(wallet_id) == "7.00"


class TestAStranger:
    @pytest.mark.parametrize(
        "headers", [{}, {"Authorization": "Bearer nonsense"}, {"Authorization": f"Bearer {NO_KEY}"}]
    )
    async def test_without_a_valid_key_is_counted_by_address(
        self, stranger: AsyncClient, headers: dict[str, str]
    ) -> None:
        answers = [await stranger.get("/v1/rules", headers=headers) for _ in range(4)]

        assert [answer.status_code for answer in answers] == [401, 401, 401, 429]
        assert refused(answers[3])
        assert answers[0].headers["RateLimit-Policy"] == '"address";q=3;w=60'

    async def test_does_not_use_up_the_quota_of_a_key_at_the_same_address(
        self, stranger: AsyncClient, keyed: AsyncClient
    ) -> None:
        for _ in range(5):
            await stranger.get("/v1/rules", headers={"Authorization": f"Bearer {NO_KEY}"})

        assert (await keyed.get("/v1/rules")).status_code == 200

    async def test_at_another_address_has_a_quota_of_its_own(self, strict: FastAPI) -> None:
        async def ask(address: str, times: int) -> int:
            transport = httpx2.ASGITransport(app=strict, client=(address, 1))
            async with AsyncClient(transport=transport, base_url="http://tidemark.test") as client:
                return [(await client.get("/v1/rules")).status_code for _ in range(times)][-1]

        assert await ask("192.0.2.1", 4) == 429
        assert await ask("192.0.2.2", 1) == 401

    async def test_is_counted_where_no_key_is_needed_too(self, stranger: AsyncClient) -> None:
        answers = [
            await stranger.get(path) for path in ("/v1/openapi.json", "/nowhere", "/", "/v1/openapi.json")
        ]

        assert [answer.status_code for answer in answers] == [200, 404, 307, 429]

    async def test_is_counted_at_the_pages_with_the_same_quota(self, stranger: AsyncClient) -> None:
        answers = [await stranger.get("/sign-in", headers={"Host": "localhost:8080"}) for _ in range(5)]
        page = answers[4]

        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
        assert page.headers["Content-Type"].startswith("text/html")
        assert "Wait a minute" in page.text
        assert (await stranger.get("/v1/openapi.json")).status_code == 429

    async def test_is_not_counted_for_what_a_page_is_made_of(self, stranger: AsyncClient) -> None:
        answers = [await stranger.get("/static/tidemark.css") for _ in range(10)]

        assert {answer.status_code for answer in answers} == {200}


class TestHealth:
    @pytest.mark.parametrize("path", sorted(UNCOUNTED_PATHS))
    async def test_is_never_refused(self, stranger: AsyncClient, path: str) -> None:
        answers = [await stranger.get(path) for _ in range(10)]

        assert {answer.status_code for answer in answers} == {200}
        assert "RateLimit" not in answers[0].headers


class TestAWindow:
    def test_begins_with_the_first_request_and_gives_the_whole_quota_when_it_ends(self) -> None:
        clock = Clock()
        limits = strict_limits(clock)
        standings = []
        for seconds in (0, 20, 20):
            clock.now += seconds
            standings.append(limits.admit_key("a"))
        assert [(standing.remaining, standing.reset_seconds) for standing in standings] == [
            (2, 60),
            (1, 40),
            (0, 20),
        ]
        with pytest.raises(TooMany) as refusal:
            limits.admit_key("a")

        clock.now += refusal.value.standing.reset_seconds
        assert limits.admit_key("a").remaining == 2

    def test_is_not_made_longer_by_asking_in_vain(self) -> None:
        clock = Clock()
        limits = strict_limits(clock)
        for _ in range(3):
            limits.admit_key("a")
        for _ in range(100):
            with pytest.raises(TooMany):
                limits.admit_key("a")
        clock.now += 60

        assert limits.admit_key("a").remaining == 2

    def test_may_be_of_any_length(self) -> None:
        clock = Clock()
        limits = strict_limits(clock, per_key="20 per 10 seconds")

        assert limits.admit_key("a").headers == {
            "RateLimit-Policy": '"key";q=20;w=10',
            "RateLimit": '"key";r=19;t=10',
        }


class TestAnAddress:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("2001:db8::1", "2001:db8::ffff:2"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            (None, "not an address"),
        ],
    )
    def test_counts_together_with_those_that_are_one_household(self, one: str | None, other: str) -> None:
        limits = strict_limits(Clock())
        limits.admit_stranger(one)

        assert limits.admit_stranger(other).remaining == 1

    @pytest.mark.parametrize(
        ("one", "other"), [("2001:db8::1", "2001:db8:0:1::1"), ("192.0.2.1", "192.0.2.2")]
    )
    def test_counts_apart_from_others(self, one: str, other: str) -> None:
        limits = strict_limits(Clock())
        limits.admit_stranger(one)

        assert limits.admit_stranger(other).remaining == 2


class TestTheMemoryOfIt:
    def test_is_bounded_however_many_ask(self) -> None:
        clock = Clock()
        counts = Counts(most=10, clock=clock)
        for number in range(1000):
            counts.incr(str(number), 60)

        assert len(counts) == 10
        assert counts.get("999") == 1

    def test_forgets_windows_that_have_ended(self) -> None:
        clock = Clock()
        counts = Counts(most=10, clock=clock)
        for number in range(5):
            counts.incr(str(number), 60)
        clock.now += 60
        counts.incr("late", 60)

        assert len(counts) == 1

    def test_drops_no_counter_for_one_it_has_already(self) -> None:
        counts = Counts(most=2, clock=Clock())
        for name in ("a", "b", "a", "a", "b"):
            counts.incr(name, 60)

        assert (counts.get("a"), counts.get("b")) == (3, 2)

    def test_keeps_keys_apart_from_addresses(self) -> None:
        limits = strict_limits(Clock(), counted_max=2)
        limits.admit_key("a")
        for number in range(10):
            limits.admit_stranger(f"192.0.2.{number}")

        assert limits.admit_key("a").remaining == 1


class TestTheProgram:
    async def test_believes_the_address_that_a_trusted_proxy_names_and_no_other(
        self, database_url: str
    ) -> None:
        async def answers(url: str) -> list[int]:
            async with AsyncClient(base_url=url, trust_env=False) as client:
                named = [{"X-Forwarded-For": f"192.0.2.{number}"} for number in range(4)]
                return [(await client.get("/v1/rules", headers=headers)).status_code for headers in named]

        strict = {"TIDEMARK_RATE_LIMIT_UNAUTHENTICATED": "2/hour"}
        async with (
            serving(database_url, **strict) as trusting,
            serving(database_url, **strict, TIDEMARK_TRUSTED_PROXIES="10.0.0.0/8") as wary,
        ):
            assert await answers(trusting.url) == [401, 401, 401, 401]
            assert await answers(wary.url) == [401, 401, 429, 429]
