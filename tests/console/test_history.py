"""The history of a wallet: top-ups, decisions and changes of the rule, page by page, of deleted rules too."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from html import unescape

import httpx2
import pytest
from sqlmodel import col, select

from adapters.postgres.database import Database
from adapters.postgres.rules import Author, delete_rule, disable_rule, edit_rule, enable_rule
from adapters.postgres.tables import Owner, RuleRevision, TopUpRow
from tests.builders import Household, open_household
from tests.console.conftest import Browser, sign_in
from tests.console.low_wallets import ADA, low_wallet, save_rule
from tests.hands import by_hand
from tests.stories.town import Town
from topup.confirming import shown_hash

_MARKUP = re.compile(r"<[^>]*>")


def words(answer: httpx2.Response) -> str:
    """What a page says, without its markup."""
    assert answer.status_code == 200, answer.text
    return " ".join(unescape(_MARKUP.sub(" ", answer.text)).split())


def history_of(home: Household, *, show: str = "top-ups", after: str = "") -> str:
    return f"/wallets/{home.wallet_id}/history?show={show}&after={after}"


async def older(browser: Browser, page: httpx2.Response) -> httpx2.Response:
    """The page behind the link to older ones."""
    found = re.search(r'rel="next" href="([^"]+)"', page.text)
    assert found is not None, "there is no link to older ones"
    return await browser.get(unescape(found[1]))


async def add_top_ups(home: Household, number: int) -> None:
    """Write top-ups that ended some time ago, each with another amount."""
    async with home.database.commit() as session:
        for count in range(1, number + 1):
            row = TopUpRow(
                id=f"topup_{count:03}",
                rule_id="rule_gone",
                rule_version=1,
                wallet_id=home.wallet_id,
                owner_id=home.owner_id,
                currency="USDT",
                threshold=50_000_000,
                amount=count * 1_000_000,
                account="funding",
                sources=["USDT"],
                trigger_event_id=f"event_{count}",
                trigger_balance=1,
                state="ended",
                outcome="failed",
                reason="insufficient_balance",
                started_at=datetime(2026, 1, 1, tzinfo=UTC),
                ended_at=datetime(2026, 1, 1, tzinfo=UTC),
            )
            session.add(row)


class TestTheTopUps:
    @pytest.mark.rule("R23")
    async def test_are_shown_with_what_each_source_gave_and_whether_the_owner_was_told(
        self, town: Town, stranger: Browser
    ) -> None:
        home = await low_wallet(town)
        await home.switch_fault("reject", "USDC")
        owner = await sign_in(stranger, town.database, owner_id=home.owner_id)
        top_up = await town.see_through(home)

        page = await owner.get(history_of(home))

        said = words(page)
        assert "60.00 USDT of 100.00 USDT arrived Partial" in said
        assert "40.00 USDT did not arrive, because USDC gave nothing, as the exchange refused" in said
        assert "1. USDT: gave 60.00 USDT. 2. USDC: gave nothing, because the exchange refused" in said
        assert "By push: sent. By email: sent." in said
        assert f'href="/top-ups/{top_up.id}"' in page.text

    @pytest.mark.rule("R6")
    async def test_stay_readable_when_the_rule_is_deleted(self, town: Town, stranger: Browser) -> None:
        home = await town.open_household(balance="80")
        await home.fund("500", "USDT")
        rule = await save_rule(home)
        await home.spend("45")
        await town.see_through(home)
        async with town.database.commit() as session:
            await delete_rule(session, rule.id, version=rule.version, author=ADA)
        owner = await sign_in(stranger, town.database, owner_id=home.owner_id)

        assert "100.00 USDT arrived Completed" in words(await owner.get(history_of(home)))
        assert "so it fired" in words(await owner.get(history_of(home, show="decisions")))
        assert "The rule was deleted" in words(await owner.get(history_of(home, show="changes")))

    async def test_come_twenty_at_a_time(self, stranger: Browser, database: Database) -> None:
        home = await open_household(database)
        await add_top_ups(home, 45)
        owner = await sign_in(stranger, database, owner_id=home.owner_id)

        first = await owner.get(history_of(home))
        second = await older(owner, first)
        third = await older(owner, second)

        assert [page.text.count("/top-ups/topup_") for page in (first, second, third)] == [20, 20, 5]
        assert "topup_025" in second.text
        assert "topup_026" not in second.text
        assert 'rel="next"' not in third.text
        assert "Newest" in words(third)

    async def test_say_so_when_there_are_none(self, stranger: Browser, database: Database) -> None:
        home = await open_household(database)
        owner = await sign_in(stranger, database, owner_id=home.owner_id)

        assert "No top-up yet." in words(await owner.get(history_of(home)))
        assert "Nothing has been decided yet." in words(await owner.get(history_of(home, show="decisions")))
        assert "This wallet has had no rule yet." in words(await owner.get(history_of(home, show="changes")))

    async def test_of_another_owner_are_not_there(self, stranger: Browser, database: Database) -> None:
        home, other = await open_household(database), await open_household(database)
        await add_top_ups(home, 1)
        intruder = await sign_in(stranger, database, owner_id=other.owner_id)

        answer = await intruder.get(history_of(home))

        assert answer.status_code == 404
        assert "topup_001" not in answer.text

    @pytest.mark.parametrize("show", ["top-ups", "decisions", "changes", "nonsense"])
    async def test_take_any_place_to_go_on_from(
        self, stranger: Browser, database: Database, show: str
    ) -> None:
        home = await open_household(database)
        owner = await sign_in(stranger, database, owner_id=home.owner_id)

        for after in (
            "nonsense",
            "%00",
            "-1",
            "9" * 40,
            "x." + "9" * 30,
            "%27;--",
            "%F0%9F%8C%8A",
            "a" * 5000,
        ):
            assert (await owner.get(history_of(home, show=show, after=after))).status_code == 200


class TestTheDecisions:
    @pytest.mark.rule("R13")
    async def test_say_why_the_rule_fired_and_why_it_did_not(
        self, idle_town: Town, stranger: Browser
    ) -> None:
        home = await idle_town.open_household(balance="80")
        await home.fund("500", "USDT")
        await home.draw_up_rule()
        await home.spend("10")
        await home.spend("30")
        await home.spend("5")
        await idle_town.watcher.judge_all()
        owner = await sign_in(stranger, idle_town.database, owner_id=home.owner_id)

        page = await owner.get(history_of(home, show="decisions"))

        newest, fired, not_below = words(page).split("You spent ")[1:]
        assert newest.startswith("Did not fire")
        assert "balance 35.00 USDT , threshold 50.00 USDT A top-up was in progress" in newest
        assert fired.startswith("Fired")
        assert "balance 40.00 USDT" in fired
        assert "See its top-up" in fired
        assert "The balance is at or above the threshold." in not_below

    @pytest.mark.rule("R13")
    async def test_come_twenty_at_a_time_over_all_rules_the_wallet_has_had(
        self, idle_town: Town, stranger: Browser
    ) -> None:
        home = await idle_town.open_household(balance="1000")
        for _ in range(2):
            rule = await save_rule(home)
            await idle_town.watcher.judge_all()
            for _ in range(12):
                await home.spend("1")
            await idle_town.watcher.judge_all()
            async with idle_town.database.commit() as session:
                await delete_rule(session, rule.id, version=rule.version, author=ADA)
        owner = await sign_in(stranger, idle_town.database, owner_id=home.owner_id)

        first = await owner.get(history_of(home, show="decisions"))
        second = await older(owner, first)

        assert [page.text.count("Did not fire") for page in (first, second)] == [20, 6]
        assert "You saved the rule Did not fire" in words(second)


class TestTheChanges:
    @pytest.mark.rule("R6")
    async def test_say_who_changed_what_from_what_to_what(
        self, stranger: Browser, database: Database
    ) -> None:
        home = await open_household(database, balance="80")
        rule = await save_rule(home)
        phone = Author(name="Ada's phone", bound_to=None)
        async with database.commit() as session:
            rule = await edit_rule(
                session, rule.id, {"threshold": "80.00"}, version=rule.version, author=phone
            )
            rule = await disable_rule(session, rule.id, version=rule.version, author=ADA)
            rule = await enable_rule(session, rule.id, version=rule.version, author=ADA)
            rule = await edit_rule(session, rule.id, {}, version=rule.version, author=ADA)
        owner = await sign_in(stranger, database, owner_id=home.owner_id)

        said = words(await owner.get(history_of(home, show="changes")))

        assert "by Ada's phone Threshold was 50.00 USDT → is now 80.00 USDT" in said
        assert "Its terms stayed as they were. Saving it armed it again." in said
        kinds = re.findall(r"The rule was (\w+(?: o\w+)?)", said)
        assert kinds == ["saved", "turned on", "turned off", "saved", "made"]
        assert "Funding sources USDT then USDC It is on." in said

    @pytest.mark.rule("R3")
    async def test_show_which_were_confirmed_with_a_passkey(
        self, stranger: Browser, database: Database
    ) -> None:
        home = await open_household(database)
        await save_rule(home)
        snapshot = '{"any":"snapshot"}'
        async with by_hand(database) as session:
            statement = select(RuleRevision).where(col(RuleRevision.wallet_id) == home.wallet_id)
            (await session.exec(statement)).one().proof = {"snapshot": snapshot}
        owner = await sign_in(stranger, database, owner_id=home.owner_id)

        said = words(await owner.get(history_of(home, show="changes")))

        assert f"Confirmed with a passkey; what was signed begins with {shown_hash(snapshot)}" in said

    async def test_come_twenty_at_a_time(self, stranger: Browser, database: Database) -> None:
        home = await open_household(database)
        rule = await save_rule(home, enabled=False)
        async with database.commit() as session:
            for count in range(24):
                changes = {"threshold": f"{60 + count}.00"}
                rule = await edit_rule(session, rule.id, changes, version=rule.version, author=ADA)
        owner = await sign_in(stranger, database, owner_id=home.owner_id)

        first = await owner.get(history_of(home, show="changes"))
        second = await older(owner, first)

        assert [page.text.count('class="past"') for page in (first, second)] == [20, 5]
        assert "was 63.00 USDT → is now 64.00 USDT" in words(first)
        assert "was 62.00 USDT → is now 63.00 USDT" in words(second)

    async def test_write_hostile_names_as_they_are(self, stranger: Browser, database: Database) -> None:
        home = await open_household(database)
        rule = await save_rule(home)
        hostile = replace(ADA, name="<script>alert(1)</script>")
        async with database.commit() as session:
            await disable_rule(session, rule.id, version=rule.version, author=hostile)
        async with by_hand(database) as session:
            owner_row = (await session.exec(select(Owner).where(col(Owner.id) == home.owner_id))).one()
            owner_row.name = "<script>"
        owner = await sign_in(stranger, database, owner_id=home.owner_id)

        page = await owner.get(history_of(home, show="changes"))

        assert "by &lt;script&gt;alert(1)&lt;/script&gt;" in page.text
        assert "<script>alert" not in page.text
