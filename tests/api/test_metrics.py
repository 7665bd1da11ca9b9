"""Metrics: how requests are answered and how top-ups stand, told of all owners together and to nobody without leave."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from httpx2 import AsyncClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from adapters.postgres import figures
from adapters.postgres.database import Database, run_sql
from adapters.postgres.figures import read_figures
from api import measures
from api.measures import Answered, Measures
from tests.api.conftest import Caller, MakeCaller, build, client_of
from tests.builders import Household, open_household
from tests.hands import by_hand

Labels = dict[str, str]


async def told(client: AsyncClient) -> dict[str, list[tuple[Labels, float]]]:
    """What the page says: by the name of a sample, its labels and its value."""
    answer = await client.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    samples: dict[str, list[tuple[Labels, float]]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples


async def value(client: AsyncClient, name: str) -> float:
    """The only sample of that name."""
    ((_, found),) = (await told(client))[name]
    return found


@pytest.fixture(autouse=True)
def unkept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the figures anew each time, but where a test says otherwise."""
    monkeypatch.setattr(measures, "FIGURES_KEPT_FOR", timedelta(0))


@pytest_asyncio.fixture
async def prometheus(database: Database) -> AsyncIterator[AsyncClient]:
    """A client of an application whose metrics are open."""
    async with client_of(build(database, metrics_open=True)) as client:
        yield client


@pytest_asyncio.fixture
async def home(database: Database) -> Household:
    """A wallet of 80 with an armed rule, and money to top it up with."""
    home = await open_household(database, balance="80")
    await home.fund("1000", "USDT")
    await home.draw_up_rule()
    return home


async def end_top_up(
    database: Database, home: Household, outcome: str, reason: str, *, ago: str = "0 s"
) -> None:
    """Write a top-up that ended so long ago."""
    statement = text(
        "INSERT INTO top_up (id, rule_id, rule_version, wallet_id, owner_id, currency, threshold, amount, account, "
        "sources, trigger_event_id, trigger_balance, state, outcome, reason, ended_at, handed_over_at) "
        "SELECT new_id('topup'), 'rule_past', 1, :wallet_id, :owner_id, 'USDT', 1, 1, 'funding', '{USDT}', "
        "new_id('event'), 0, 'ended', :outcome, :reason, now() - CAST(:ago AS interval), now()"
    )
    names = {"wallet_id": home.wallet_id, "owner_id": home.owner_id}
    async with database.commit() as session:
        await run_sql(session, statement, **names, outcome=outcome, reason=reason, ago=ago)


class TestThePage:
    async def test_needs_a_key_that_may_administer_all_owners(
        self, caller: Caller, caller_with: MakeCaller, nobody: AsyncClient
    ) -> None:
        bound = await caller_with("admin", owner_id=await caller.register_owner())
        reader = await caller_with("rules:read", "rules:write", "wallets:read", "events:write")

        assert (await nobody.get("/metrics")).status_code == 401
        assert (await reader.get("/metrics")).status_code == 403
        assert (await bound.get("/metrics")).status_code == 403
        assert (await (await caller_with("admin")).get("/metrics")).status_code == 200

    async def test_needs_none_where_an_operator_opens_it(self, prometheus: AsyncClient) -> None:
        assert await value(prometheus, "tidemark_figures_read") == 1

    async def test_says_nothing_of_any_one_owner(
        self, prometheus: AsyncClient, database: Database, home: Household
    ) -> None:
        await home.spend("45")
        await Caller(prometheus, database).judge()
        await end_top_up(database, home, "partial", "source_short")
        await prometheus.get(f"/v1/wallets/{home.wallet_id}")
        page = (await prometheus.get("/metrics")).text

        assert not re.search(r"(owner|wallet|rule|topup|event|key)_0", page)
        assert "example.com" not in page

    async def test_says_what_it_means(self, prometheus: AsyncClient) -> None:
        page = (await prometheus.get("/metrics")).text

        named = set(re.findall(r"^# TYPE (tidemark_\w+) ", page, re.MULTILINE))
        explained = set(re.findall(r"^# HELP (tidemark_\w+) \S.*\.$", page, re.MULTILINE))
        assert named
        assert named == explained


class TestRequests:
    async def test_are_counted_by_template_and_status(self, prometheus: AsyncClient, caller: Caller) -> None:
        headers = {"Authorization": caller.client.headers["Authorization"]}
        for rule_id in ("rule_1", "rule_2", "rule_3"):
            await prometheus.get(f"/v1/rules/{rule_id}", headers=headers)
        await prometheus.get("/v1/rules", headers=headers)
        await prometheus.get("/v1/rules")
        await prometheus.get("/no/such/path")
        await prometheus.request("BREW", "/v1/rules", headers=headers)

        samples = await told(prometheus)
        counted = {
            (labels["method"], labels["route"], labels["status"]): number
            for labels, number in samples["tidemark_requests_total"]
        }
        assert counted == {
            ("GET", "/v1/rules/{rule_id}", "404"): 3,
            ("GET", "/v1/rules", "200"): 1,
            ("GET", "none", "401"): 1,
            ("GET", "none", "404"): 1,
            ("other", "/v1/rules", "405"): 1,
        }

    async def test_are_timed(self, prometheus: AsyncClient) -> None:
        await prometheus.get("/livez")
        samples = await told(prometheus)

        livez = {"method": "GET", "route": "/livez"}
        assert (livez, 1) in samples["tidemark_request_seconds_count"]
        buckets = [labels for labels, _ in samples["tidemark_request_seconds_bucket"]]
        assert {**livez, "le": "0.25"} in buckets

    def test_of_unheard_of_methods_and_paths_add_no_labels(self) -> None:
        counting = Measures()
        for number in range(100):
            counting.count(Answered(f"METHOD{number}", None, 404, 0.1))

        (family,) = [family for family in counting._registry.collect() if family.name == "tidemark_requests"]
        assert {tuple(sample.labels.items()) for sample in family.samples} == {
            (("method", "other"), ("route", "none"), ("status", "404"))
        }


class TestTopUps:
    async def test_of_a_day_are_told_by_outcome_and_reason(
        self, prometheus: AsyncClient, database: Database, home: Household
    ) -> None:
        for outcome, reason in (
            ("completed", "full"),
            ("completed", "full"),
            ("partial", "source_short"),
            ("failed", "insufficient_balance"),
            ("not_needed", "balance_recovered"),
        ):
            await end_top_up(database, home, outcome, reason)
        await end_top_up(database, home, "failed", "system_error", ago="25 hours")

        samples = await told(prometheus)
        ended = {
            (labels["outcome"], labels["reason"]): number
            for labels, number in samples["tidemark_top_ups_ended_in_a_day"]
        }
        assert ended == {
            ("completed", "full"): 2,
            ("partial", "source_short"): 1,
            ("failed", "insufficient_balance"): 1,
            ("not_needed", "balance_recovered"): 1,
        }
        assert samples["tidemark_top_ups_attempted_in_a_day"] == [({}, 4)]
        assert samples["tidemark_top_ups_funded_in_a_day"] == [({}, 3)]
        assert samples["tidemark_funded_ratio_in_a_day"] == [({}, 0.75)]

    async def test_that_all_failed_show_a_ratio_of_zero(
        self, prometheus: AsyncClient, database: Database, home: Household
    ) -> None:
        await end_top_up(database, home, "failed", "system_error")

        assert await value(prometheus, "tidemark_funded_ratio_in_a_day") == 0

    async def test_that_there_were_none_of_show_no_ratio(self, prometheus: AsyncClient) -> None:
        assert "tidemark_funded_ratio_in_a_day" not in await told(prometheus)


class TestWhatWaits:
    async def test_is_nothing_at_first(self, prometheus: AsyncClient) -> None:
        samples = await told(prometheus)

        for name in (
            "tidemark_top_ups_open",
            "tidemark_top_ups_not_handed_over",
            "tidemark_draws_being_checked",
            "tidemark_balance_events_unjudged",
            "tidemark_notifications_undelivered",
            "tidemark_webhooks_undelivered",
        ):
            assert samples[name] == [({}, 0)]
            assert samples[f"{name}_oldest_seconds"] == [({}, 0)]

    async def test_for_the_watcher_is_told_with_its_age(
        self, prometheus: AsyncClient, database: Database, home: Household
    ) -> None:
        await home.spend("45")
        await home.spend("1")
        aged = "UPDATE balance_event SET recorded_at = now() - interval '90 s' WHERE balance = 35000000"
        async with by_hand(database) as session:
            await run_sql(session, text(aged))

        assert await value(prometheus, "tidemark_balance_events_unjudged") == 2
        assert 90 <= await value(prometheus, "tidemark_balance_events_unjudged_oldest_seconds") < 120
        await Caller(prometheus, database).judge()
        assert await value(prometheus, "tidemark_balance_events_unjudged") == 0

    async def test_does_not_look_old_because_it_happened_long_before_it_was_reported(
        self, prometheus: AsyncClient, database: Database, home: Household
    ) -> None:
        await home.spend("45")
        async with by_hand(database) as session:
            await run_sql(session, text("UPDATE balance_event SET occurred_at = now() - interval '1 day'"))

        assert await value(prometheus, "tidemark_balance_events_unjudged_oldest_seconds") < 60

    async def test_for_temporal_and_for_an_end_is_told_with_its_age(
        self, prometheus: AsyncClient, database: Database, home: Household
    ) -> None:
        await home.spend("45")
        (top_up_id,) = await Caller(prometheus, database).judge()
        async with by_hand(database) as session:
            await run_sql(session, text("UPDATE top_up SET started_at = now() - interval '1 hour'"))
        claimed = await told(prometheus)
        async with database.commit() as session:
            await run_sql(session, text("UPDATE top_up SET handed_over_at = now()"))
            draw = (
                "INSERT INTO draw (top_up_id, rank, asset, status) VALUES (:id, 1, 'USDT', 'being_checked')"
            )
            await run_sql(session, text(draw), id=top_up_id)
        handed_over = await told(prometheus)

        for name in ("tidemark_top_ups_open", "tidemark_top_ups_not_handed_over"):
            assert claimed[name] == [({}, 1)]
            assert 3600 <= claimed[f"{name}_oldest_seconds"][0][1] < 3660
        assert claimed["tidemark_draws_being_checked"] == [({}, 0)]
        assert handed_over["tidemark_top_ups_open"] == [({}, 1)]
        assert handed_over["tidemark_top_ups_not_handed_over"] == [({}, 0)]
        assert handed_over["tidemark_draws_being_checked"] == [({}, 1)]

    async def test_for_an_owner_to_be_told_is_told_with_its_age(
        self, prometheus: AsyncClient, database: Database, home: Household
    ) -> None:
        await home.spend("45")
        (top_up_id,) = await Caller(prometheus, database).judge()
        queue = (
            "INSERT INTO delivery (id, top_up_id, owner_id, kind, channel, subject, status, created_at) VALUES "
            "('d1', :top_up_id, :owner_id, 'ended', 'push', 's', 'pending', now() - interval '2 min'), "
            "('d2', :top_up_id, :owner_id, 'ended', 'email', 's', 'sent', now())"
        )
        async with database.commit() as session:
            await run_sql(session, text(queue), top_up_id=top_up_id, owner_id=home.owner_id)

        assert await value(prometheus, "tidemark_notifications_undelivered") == 1
        assert 120 <= await value(prometheus, "tidemark_notifications_undelivered_oldest_seconds") < 150


class TestTheDatabase:
    async def test_shows_how_much_of_its_pool_is_in_use(
        self, prometheus: AsyncClient, database: Database
    ) -> None:
        idle = await value(prometheus, "tidemark_database_connections_in_use")
        async with database.read():
            busy = await value(prometheus, "tidemark_database_connections_in_use")

        assert (idle, busy) == (0, 1)
        assert await value(prometheus, "tidemark_database_connections_max") == 10

    async def test_out_of_reach_hides_nothing_else(self, tmp_path: Path) -> None:
        database = Database.open(f"postgresql://nobody@/nothing?host={tmp_path}", pool_size=2)
        async with client_of(build(database, metrics_open=True)) as client:
            await client.get("/livez")
            samples = await told(client)
        await database.close()

        assert samples["tidemark_figures_read"] == [({}, 0)]
        assert samples["tidemark_requests_total"]
        assert "tidemark_top_ups_open" not in samples

    async def test_is_read_once_in_a_while_however_often_it_is_asked(
        self,
        prometheus: AsyncClient,
        home: Household,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(measures, "FIGURES_KEPT_FOR", timedelta(hours=1))
        reads = 0

        async def read_and_count(given: Database) -> object:
            nonlocal reads
            reads += 1
            return await read_figures(given)

        monkeypatch.setattr(measures, "read_figures", read_and_count)
        await asyncio.gather(*(told(prometheus) for _ in range(20)))
        await home.spend("45")

        assert reads == 1
        assert await value(prometheus, "tidemark_balance_events_unjudged") == 0

    async def test_is_not_kept_busy_for_longer_than_two_seconds(
        self, prometheus: AsyncClient, database: Database
    ) -> None:
        async with by_hand(database) as session:
            await run_sql(session, text("LOCK TABLE balance_event IN ACCESS EXCLUSIVE MODE"))
            async with asyncio.timeout(10):
                assert await value(prometheus, "tidemark_figures_read") == 0

    async def test_finds_each_figure_by_an_index(self, database: Database) -> None:
        async with database.commit() as session:
            await run_sql(session, text("SET LOCAL enable_seqscan = off"))
            for statement in (figures._ENDED, figures._WAITING):
                plan = "\n".join((await run_sql(session, text(f"EXPLAIN {statement.text}"))).scalars())
                assert "Index" in plan
                assert "Seq Scan" not in plan
