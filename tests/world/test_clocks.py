"""Clocks apart by an hour or a day, and jumping: the database's alone decides, and nothing waits or lasts for it."""

import ast
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import pytest
import pytest_asyncio
from starlette.requests import Request

from activities.messages import Patience
from adapters.postgres.claims import Claims
from adapters.postgres.clock import read_clock
from adapters.postgres.confirmations import ConfirmationOver, burn_intent, read_intent
from adapters.postgres.deliveries import DeliveryRecords
from adapters.postgres.history import read_top_up
from adapters.postgres.keys import create_key, find_holder
from adapters.postgres.people import person_of_owner
from adapters.postgres.sessions import PersonKind, Visitor, find_visitor
from adapters.postgres.top_ups import TopUpRecords
from console.ceremony import begin_anew
from console.confirmation import ask_to_confirm
from console.wiring import Wiring
from runtime.parts import CHECKOUT
from tests.adapters.crowd import settle
from tests.builders import low_wallet, open_household
from tests.outages.invariants import assert_invariants
from tests.world.clock import Elsewhen, open_elsewhen
from topup.caps import Cap, Caps
from topup.money import Money
from topup.rule import AccountKind, Terms
from topup.widening import Agreement

APART = [timedelta(hours=hours) for hours in (-24, 1)]
OWN_TIME: Mapping[str, str] = MappingProxyType(
    {
        "adapters/notify/mail.py": "the date a mail carries; nothing depends on it",
        "adapters/notify/web_push.py": "how long a signature to a push service lasts; one it refuses is tried again",
        "adapters/postgres/ids.py": "ids of what is not sorted by them",
        "api/push_subscriptions.py": "refuses a subscription that has ended; reading them asks the database",
        "runtime/inbox_store.py": "the development inbox",
        "runtime/payload_keys.py": "the name of a new key",
    }
)
"""Where a program looks at its own clock, and why that decides nothing."""
ROOMS = ("topup", "activities", "workflows", "adapters", "runtime", "starter", "console", "api")


@pytest_asyncio.fixture(params=APART, ids=str)
async def elsewhen(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Elsewhen]:
    """A database whose clock is that far ahead of this program's."""
    async with open_elsewhen(database_url, ahead=request.param) as elsewhen:
        yield elsewhen


async def judge(elsewhen: Elsewhen) -> None:
    """A watcher without a clock of its own judges what there is."""
    while (await Claims(elsewhen.database).judge_waiting()).events:
        pass


def looks_at_its_own_clock(source: str) -> bool:
    """Whether a module asks for the time of day."""
    asked = {"now", "utcnow", "today", "time", "time_ns"}
    owners = {"datetime", "date", "time"}
    return any(
        isinstance(node, ast.Attribute)
        and node.attr in asked
        and isinstance(node.value, ast.Name)
        and node.value.id in owners
        for node in ast.walk(ast.parse(source))
    )


class TestAProgram:
    def test_looks_at_its_own_clock_only_where_nothing_is_decided_by_it(self) -> None:
        paths = [path for room in ROOMS for path in (CHECKOUT / room).rglob("*.py")]
        found = {
            str(path.relative_to(CHECKOUT))
            for path in [*paths, CHECKOUT / "worker.py"]
            if looks_at_its_own_clock(path.read_text(encoding="utf-8"))
        }

        assert found == set(OWN_TIME)

    def test_is_seen_when_it_does(self) -> None:
        assert looks_at_its_own_clock("from datetime import datetime\nx = datetime.now(UTC)")
        assert looks_at_its_own_clock("import time\nx = time.time()")
        assert not looks_at_its_own_clock("import time\nx = time.monotonic()")


class TestATopUp:
    @pytest.mark.rule("R7")
    async def test_begins_and_ends_by_the_databases_clock_and_is_swept_by_it(
        self, elsewhen: Elsewhen
    ) -> None:
        records = TopUpRecords(elsewhen.database, Patience())
        home = await low_wallet(elsewhen.database, amount="20")

        before = await elsewhen.now()
        await judge(elsewhen)
        young = await records.unsettled(older_than=timedelta(minutes=30))
        open_now = await records.unsettled(older_than=timedelta())
        await settle(elsewhen.database, home)
        after = await elsewhen.now()

        (top_up,) = await home.top_ups()
        assert top_up.ended_at is not None
        assert before <= top_up.started_at <= top_up.ended_at <= after
        assert (len(young), len(open_now)) == (0, 1)
        await assert_invariants(elsewhen.database)

    @pytest.mark.rule("R7")
    @pytest.mark.rule("R24")
    async def test_is_swept_and_told_of_though_it_seems_to_begin_in_the_future(
        self, elsewhen: Elsewhen
    ) -> None:
        home = await low_wallet(elsewhen.database, amount="20")
        await judge(elsewhen)
        started = await elsewhen.now()

        await elsewhen.jump(started - datetime.now(UTC) - timedelta(days=1))
        swept = await TopUpRecords(elsewhen.database, Patience()).unsettled(older_than=timedelta(hours=1))
        await settle(elsewhen.database, home)
        await elsewhen.jump(started - datetime.now(UTC) - timedelta(days=2))
        (telling,) = await DeliveryRecords(elsewhen.database).untold(older_than=timedelta(hours=1))

        (top_up,) = await home.top_ups()
        assert [found.order.top_up_id for found in swept] == [top_up.id]
        assert top_up.ended_at == top_up.started_at
        assert telling.give_up_after <= timedelta(hours=24)
        async with elsewhen.database.read() as session:
            shown = await read_top_up(session, top_up.id, bound_to=None)
            assert shown.ended_at is not None
            assert shown.ended_at >= shown.started_at

    @pytest.mark.rule("R8")
    async def test_counts_for_the_databases_day(self, elsewhen: Elsewhen) -> None:
        home = await low_wallet(elsewhen.database, amount="20", caps=Caps(Cap(None, 1), None))
        await judge(elsewhen)
        await settle(elsewhen.database, home)
        await home.spend("10")
        await judge(elsewhen)
        assert len(await home.top_ups()) == 1

        ahead = await elsewhen.now() - datetime.now(UTC)
        await elsewhen.jump(ahead + timedelta(days=1))
        await home.add("20")
        await home.spend("20")
        await judge(elsewhen)

        first, second = await home.top_ups()
        assert (second.started_at - first.started_at).days in {0, 1}
        assert first.id < second.id
        assert [row.reason for row in await home.decisions() if row.fired or row.reason == "cap_reached"] == [
            "below_threshold",
            "cap_reached",
            "below_threshold",
        ]


class TestWhatLastsForATime:
    @pytest.mark.rule("R3")
    async def test_a_confirmation_is_good_for_two_minutes_whatever_a_program_thinks(
        self, elsewhen: Elsewhen
    ) -> None:
        home = await open_household(elsewhen.database, balance="80")
        async with elsewhen.database.commit() as session:
            person = await person_of_owner(session, home.owner_id)
        visitor = Visitor(
            "session_1",
            person.id,
            PersonKind.OWNER,
            home.owner_id,
            "Ada",
            "csrf",
            False,
            None,
            datetime.now(UTC),
        )
        terms = Terms(Money.parse("50", "USDT"), Money.parse("20", "USDT"), AccountKind.FUNDING, ("USDT",))

        async def ask() -> str:
            answer = await ask_to_confirm(
                _wiring(elsewhen),
                visitor,
                wallet_id=home.wallet_id,
                rule=None,
                agreement=Agreement(terms, None),
            )
            return answer.headers["location"].rpartition("/")[2]

        first, second = await ask(), await ask()
        now = await elsewhen.now()
        async with elsewhen.database.read() as session:
            record = await read_intent(session, first, person_id=person.id)
        async with elsewhen.database.commit() as session:
            await burn_intent(session, first, person_id=person.id)
        await elsewhen.jump(now - datetime.now(UTC) + timedelta(minutes=2, seconds=1))

        assert not record.over(now)
        assert timedelta() < record.intent.expires_at - now <= timedelta(minutes=2)
        with pytest.raises(ConfirmationOver):
            async with elsewhen.database.commit() as session:
                await burn_intent(session, second, person_id=person.id)

    async def test_a_session_begun_with_a_recovery_code_lasts_a_quarter_of_an_hour(
        self, elsewhen: Elsewhen
    ) -> None:
        home = await open_household(elsewhen.database, balance="80")
        request = Request({"type": "http", "headers": []})
        async with elsewhen.database.commit() as session:
            person = await person_of_owner(session, home.owner_id)
            token = await begin_anew(session, request, person.id, passkey_id=None, recovering=True)
        at_first = await find_visitor(elsewhen.database, token)
        ahead = await elsewhen.now() - datetime.now(UTC)
        await elsewhen.jump(ahead + timedelta(minutes=16))

        assert at_first is not None
        assert await find_visitor(elsewhen.database, token) is None

    async def test_a_key_lasts_as_many_days_as_it_was_given(self, elsewhen: Elsewhen) -> None:
        async with elsewhen.database.commit() as session:
            ends = await read_clock(session) + timedelta(minutes=5)
            _, key = await create_key(session, name="one", scopes=("admin",), expires_at=ends)
        at_first = await find_holder(elsewhen.database, key)
        await elsewhen.jump(ends - datetime.now(UTC) + timedelta(seconds=1))

        assert at_first is not None
        assert await find_holder(elsewhen.database, key) is None


def _wiring(elsewhen: Elsewhen) -> Wiring:
    """As far as asking for a confirmation needs it."""
    wiring = Wiring.__new__(Wiring)
    for name, value in (("database", elsewhen.database), ("public_url", "http://localhost:8080")):
        object.__setattr__(wiring, name, value)
    return wiring
