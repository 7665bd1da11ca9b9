"""The operators' page: what waits for somebody, worst first; and the links by which owners get in."""

import re
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from sqlalchemy import text
from sqlmodel import col, select

from activities.messages import CheckingNotice
from adapters.postgres.database import Database, run_sql
from adapters.postgres.deliveries import SUPERSEDED, DeliveryRecords, queue_deliveries
from adapters.postgres.events import EventKind
from adapters.postgres.links import find_link
from adapters.postgres.tables import WebhookEndpoint
from adapters.postgres.top_ups import TopUpRecords
from adapters.postgres.webhooks import create_endpoint
from runtime.patience import patience_of
from tests.builders import Household, open_household
from tests.console.conftest import Browser, sign_in
from tests.console.low_wallets import low_wallet
from tests.console.sites import opened
from tests.console.test_history import words
from tests.hands import by_hand
from tests.stories.town import Town

_BACK_DATE = text("UPDATE delivery SET created_at = created_at - interval '5 minutes'")


async def operator_of(stranger: Browser, database: Database) -> Browser:
    return await sign_in(stranger, database, owner_id=None)


async def claim(town: Town, *, name: str = "Ada") -> tuple[Household, str]:
    """A household whose top-up is claimed, and no more; and the top-up's id."""
    home = await open_household(town.database, balance="80", name=name)
    await home.fund("500", "USDT")
    await home.draw_up_rule()
    await home.spend("45")
    await town.watcher.judge_all()
    (top_up,) = await home.top_ups()
    return home, top_up.id


async def put_in_doubt(town: Town, top_up_id: str) -> None:
    """Have the top-up's first draw unanswered."""
    records = TopUpRecords(town.database, patience_of(town.settings))
    notice = CheckingNotice(top_up_id=top_up_id, rank=1, asset="USDT", tell_owner=False)
    await records.note_checking(notice)


async def queue_letters(town: Town, home: Household, top_up_id: str) -> tuple[str, str]:
    """Letters to the owner, queued five minutes ago; their ids, push first."""
    async with by_hand(town.database) as session:
        push, email = await queue_deliveries(
            session, top_up_id=top_up_id, owner_id=home.owner_id, kind="being_checked", subject="Checking"
        )
        await run_sql(session, _BACK_DATE)
    return push.delivery_id, email.delivery_id


async def add_endpoint(home: Household, url: str, *, off: str | None) -> None:
    """An endpoint that has been failing for two hours."""
    async with home.database.commit() as session:
        endpoint, _ = await create_endpoint(
            session,
            owner_id=home.owner_id,
            url=url,
            events=[EventKind.TOP_UP_ENDED],
            description=None,
            bound_to=None,
        )
        row = (
            await session.exec(select(WebhookEndpoint).where(col(WebhookEndpoint.id) == endpoint.id))
        ).one()
        row.failing_since = datetime.now(UTC) - timedelta(hours=2)
        row.enabled, row.disabled_reason = off is None, off


class TestTheOverview:
    async def test_says_that_all_is_well_when_it_is(self, stranger: Browser, database: Database) -> None:
        operator = await operator_of(stranger, database)

        said = words(await operator.get("/operator"))

        assert "No top-up is in progress." in said
        assert "No top-up was attempted in the last day." in said
        assert "Everybody has been told what they are to be told." in said
        assert "Every endpoint takes its webhooks, or there is none." in said
        assert "Nothing has been funded" not in said

    @pytest.mark.rule("R21")
    async def test_lists_top_ups_in_progress_those_being_checked_first(
        self, idle_town: Town, stranger: Browser
    ) -> None:
        _, waiting = await claim(idle_town)
        home, doubtful = await claim(idle_town, name="Grace")
        await put_in_doubt(idle_town, doubtful)
        operator = await operator_of(stranger, idle_town.database)

        page = await operator.get("/operator")

        assert page.text.index(doubtful) < page.text.index(waiting)
        said = words(page)
        assert "Nobody knows yet what became of the draw from USDT; it is looked up." in said
        assert "Temporal does not have it yet; handing it over is repeated." in said
        assert f"Grace {home.owner_id} {home.wallet_id} 100.00 USDT" in said

    async def test_leads_to_the_run_of_each_in_temporals_own_pages(
        self, idle_town: Town, database_url: str
    ) -> None:
        _, top_up_id = await claim(idle_town)
        ui = "https://temporal.example"

        async with opened(idle_town.database, database_url, temporal_ui_url=ui) as (_, stranger):
            operator = await operator_of(stranger, idle_town.database)
            page = (await operator.get("/operator")).text

        assert f'href="{ui}/namespaces/default/workflows/top-up%2F{top_up_id}"' in page

    async def test_names_runs_where_it_does_not_know_temporals_pages(
        self, idle_town: Town, stranger: Browser
    ) -> None:
        _, top_up_id = await claim(idle_town)
        operator = await operator_of(stranger, idle_town.database)

        assert f"<code>{top_up_id}</code>" in (await operator.get("/operator")).text

    async def test_shows_no_balance(self, idle_town: Town, stranger: Browser) -> None:
        await claim(idle_town)
        operator = await operator_of(stranger, idle_town.database)

        said = words(await operator.get("/operator"))

        assert "35.00" not in said
        assert "500.00" not in said

    async def test_turns_red_when_attempts_move_nothing_at_all(self, town: Town, stranger: Browser) -> None:
        home = await low_wallet(town, usdt="1", usdc="1")
        await town.see_through(home)
        operator = await operator_of(stranger, town.database)

        page = await operator.get("/operator")

        said = words(page)
        assert "Nothing has been funded" in said
        assert "One top-up was attempted in the last day, and it moved no money." in said
        assert "Failed The funding sources together do not hold enough to cover the amount. 1" in said
        assert "figure-danger" in page.text

    async def test_counts_what_was_funded_of_what_was_attempted(self, town: Town, stranger: Browser) -> None:
        await town.see_through(await low_wallet(town))
        await town.see_through(await low_wallet(town, usdt="1", usdc="1"))
        operator = await operator_of(stranger, town.database)

        said = words(await operator.get("/operator"))

        assert "Funded of attempted, last day 1 of 2" in said
        assert "Nothing has been funded" not in said

    @pytest.mark.rule("R24")
    async def test_lists_notifications_that_did_not_get_through_with_the_reason(
        self, idle_town: Town, stranger: Browser
    ) -> None:
        home, top_up_id = await claim(idle_town)
        push, email = await queue_letters(idle_town, home, top_up_id)
        records = DeliveryRecords(idle_town.database)
        await records.record_attempt(push, failure="the push service is down")
        await records.record_undeliverable(email, failure="the mailbox is full")
        operator = await operator_of(stranger, idle_town.database)

        said = words(await operator.get("/operator"))

        assert "push Tried again" in said
        assert "5 minutes 1 the push service is down" in said
        assert "email Given up" in said
        assert "the mailbox is full" in said

    async def test_leaves_out_a_notice_that_its_top_up_has_overtaken(
        self, idle_town: Town, stranger: Browser
    ) -> None:
        home, top_up_id = await claim(idle_town)
        push, email = await queue_letters(idle_town, home, top_up_id)
        await DeliveryRecords(idle_town.database).record_sent(push)
        await DeliveryRecords(idle_town.database).record_undeliverable(email, failure=SUPERSEDED)
        operator = await operator_of(stranger, idle_town.database)

        assert "Everybody has been told" in words(await operator.get("/operator"))

    async def test_lists_webhook_endpoints_that_fail_or_are_off_without_their_secrets(
        self, stranger: Browser, database: Database
    ) -> None:
        home = await open_household(database)
        await add_endpoint(home, "https://failing.example/hook?token=secret", off=None)
        await add_endpoint(home, "https://off.example/hook", off="it has taken none for days")
        operator = await operator_of(stranger, database)

        page = await operator.get("/operator")

        said = words(page)
        assert "failing.example Failing" in said
        assert "off.example Off" in said
        assert "it has taken none for days" in said
        assert "2 hours" in said
        assert "secret" not in page.text

    async def test_names_the_oldest_event_that_nobody_has_judged(
        self, stranger: Browser, database: Database
    ) -> None:
        home = await open_household(database, balance="80")
        await home.spend("1")
        await home.spend("1")
        operator = await operator_of(stranger, database)

        said = words(await operator.get("/operator"))

        assert f"in the wallet {home.wallet_id} of Ada. 2 wait in all." in said

    async def test_says_loudly_when_events_wait_too_long(self, stranger: Browser, database: Database) -> None:
        home = await open_household(database, balance="80")
        await home.spend("1")
        async with by_hand(database) as session:
            await run_sql(session, text("UPDATE balance_event SET recorded_at = now() - interval '1 hour'"))
        operator = await operator_of(stranger, database)

        assert "While this lasts no rule fires." in words(await operator.get("/operator"))

    async def test_writes_hostile_names_as_they_are(self, idle_town: Town, stranger: Browser) -> None:
        await claim(idle_town, name="<script>alert(1)</script>")
        operator = await operator_of(stranger, idle_town.database)

        page = (await operator.get("/operator")).text

        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
        assert "<script>alert" not in page

    async def test_renews_the_part_that_changes(self, idle_town: Town, stranger: Browser) -> None:
        operator = await operator_of(stranger, idle_town.database)
        before = await operator.get("/operator/live")
        _, top_up_id = await claim(idle_town)

        after = await operator.get("/operator/live")

        assert "<html" not in after.text
        assert (top_up_id in before.text, top_up_id in after.text) == (False, True)


class TestWhoMaySeeIt:
    @pytest.mark.parametrize("path", ["/operator", "/operator/live"])
    async def test_is_no_owner(self, stranger: Browser, database: Database, path: str) -> None:
        home = await open_household(database)
        owner = await sign_in(stranger, database, owner_id=home.owner_id)

        answer = await owner.get(path)

        assert answer.status_code == 403
        assert home.owner_id not in answer.text

    async def test_is_nobody_unknown(self, stranger: Browser) -> None:
        answer = await stranger.get("/operator")

        assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=%2Foperator")

    async def test_is_led_to_the_sign_in_as_a_whole_page_when_signed_out_meanwhile(
        self, stranger: Browser
    ) -> None:
        page = {"HX-Request": "true", "HX-Current-URL": f"{stranger.origin}/operator"}

        answer = await stranger.get("/operator/live", **page)

        assert (answer.status_code, answer.headers["hx-redirect"]) == (200, "/sign-in?next=%2Foperator")
        assert answer.text == ""


class TestALink:
    async def test_is_made_for_an_owner_and_shown_this_once(
        self, stranger: Browser, database: Database
    ) -> None:
        home = await open_household(database, name="Grace")
        operator = await operator_of(stranger, database)

        made = await operator.send("/operator/links", owner_id=f" {home.owner_id} ")

        assert "For Grace, until" in words(made)
        assert await find_link(database, _token_in(made))
        assert "/join/" not in (await operator.get("/operator")).text

    async def test_says_who_made_it(self, stranger: Browser, database: Database) -> None:
        home = await open_household(database)
        operator = await operator_of(stranger, database)
        await operator.send("/operator/links", owner_id=home.owner_id)

        async with database.read() as session:
            made_by = (await run_sql(session, text("SELECT made_by FROM registration_link"))).scalar_one()

        assert re.fullmatch(r"Ada \(user_\w+\)", made_by)

    @pytest.mark.parametrize("owner_id", ["", "owner_nobody", "\0", "<script>"])
    async def test_is_not_made_for_nobody(self, stranger: Browser, database: Database, owner_id: str) -> None:
        operator = await operator_of(stranger, database)

        answer = await operator.send("/operator/links", owner_id=owner_id)

        assert answer.status_code == 404
        assert "There is no owner of this id. Nothing was made." in answer.text
        assert "/join/" not in answer.text

    async def test_is_not_made_by_an_owner(self, stranger: Browser, database: Database) -> None:
        home = await open_household(database)
        owner = await sign_in(stranger, database, owner_id=home.owner_id)

        assert (await owner.send("/operator/links", owner_id=home.owner_id)).status_code == 403

    async def test_is_not_made_for_a_form_of_another_site(
        self, stranger: Browser, database: Database
    ) -> None:
        home = await open_household(database)
        operator = await operator_of(stranger, database)

        answer = await operator.send("/operator/links", owner_id=home.owner_id, csrf="guessed")

        assert answer.status_code == 403
        assert "/join/" not in answer.text


def _token_in(page: httpx2.Response) -> str:
    found = re.search(r"/join/([\w-]+)", page.text)
    assert found is not None, page.text
    return found[1]
