"""Auto top-up details: what is typed is never lost, what would happen is said, and only widening needs a passkey."""

import re
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from adapters.postgres.claims import Claims
from adapters.postgres.database import Database
from adapters.postgres.rates import RateRecord, set_rate
from adapters.postgres.rules import find_rule
from adapters.postgres.tables import Rule
from tests.builders import Household, open_household
from tests.console.conftest import Browser, sign_in
from tests.console.test_balance import judge, words_of

TERMS = {"threshold": "50", "amount": "100", "account": "funding", "source_1": "USDT", "source_2": "USDC"}
NOTHING = {"version": "", "do": "save"}


@dataclass(frozen=True, slots=True)
class Desk:
    """An owner at the form of their wallet's rule."""

    browser: Browser
    home: Household

    @property
    def path(self) -> str:
        return f"/wallets/{self.home.wallet_id}/auto-top-up"

    async def look(self) -> httpx2.Response:
        return await self.browser.get(self.path)

    async def save(self, **fields: Any) -> httpx2.Response:
        return await self.browser.send(self.path, **{**TERMS, **NOTHING, **fields})

    async def preview(self, **fields: Any) -> str:
        return words_of((await self.browser.send(f"{self.path}/preview", **{**TERMS, **fields})).text)


async def sit_down(stranger: Browser, database: Database, *, balance: str = "80") -> Desk:
    """An owner whose wallet has no rule, with 60 USDT and 500 USDC in the funding account."""
    home = await open_household(database, balance=balance)
    await home.fund("60", "USDT")
    await home.fund("500", "USDC")
    return Desk(await sign_in(stranger, database, owner_id=home.owner_id), home)


def is_confirmation(answer: httpx2.Response) -> bool:
    """Whether it leads on to the page that asks for the passkey."""
    return answer.status_code == 303 and answer.headers["location"].startswith("/confirmations/")


def is_done(answer: httpx2.Response, done: str) -> bool:
    """Whether it leads back to the wallet, and says this."""
    return answer.status_code == 303 and answer.headers["location"].endswith(f"?done={done}")


def chosen(page: str) -> list[str]:
    """The sources that the form shows, in their order; those of places without one are empty."""
    selects = re.findall(r'<select id="source_\d".*?</select>', page, re.DOTALL)
    return [
        (re.search(r'<option value="([^"]*)"[^>]* selected', select) or ["", ""])[1] for select in selects
    ]


def value_of(page: str, name: str) -> str:
    """What stands in the field."""
    found = re.search(rf'<input[^>]* name="{name}"[^>]*? value="([^"]*)"', page)
    assert found is not None, name
    return found[1]


async def no_rule(home: Household) -> bool:
    """Whether the wallet has none."""
    async with home.database.read() as session:
        return await find_rule(session, home.wallet_id, bound_to=None) is None


class TestTheForm:
    async def test_says_what_each_account_holds_and_what_it_is_worth(
        self, stranger: Browser, database: Database
    ) -> None:
        desk = await sit_down(stranger, database)
        await desk.home.fund("0.5", "BTC", account="trading")
        async with database.commit() as session:
            await set_rate(session, RateRecord("BTC", "USDT", Decimal("60000.01")))

        page = words_of((await desk.look()).text)

        assert re.search(r"Funding account .*60\.00 USDT", page)
        assert "Trading account 0.50 BTC (worth 30,000.005 USDT )" in page
        assert "holds 60.00 USDT" in page

    async def test_begins_with_what_the_owner_has_in_the_wallets_currency(
        self, stranger: Browser, database: Database
    ) -> None:
        desk = await sit_down(stranger, database)

        assert chosen((await desk.look()).text) == ["USDT", "", ""]

    async def test_moves_its_sources_by_buttons_without_saving(
        self, stranger: Browser, database: Database
    ) -> None:
        desk = await sit_down(stranger, database)
        after = {
            "up-2": ["USDC", "USDT", ""],
            "down-1": ["USDC", "USDT", ""],
            "remove-1": ["USDC", "", ""],
            "up-1": ["USDT", "USDC", ""],
            "down-3": ["USDT", "USDC", ""],
            "up-9": ["USDT", "USDC", ""],
            "dance": ["USDT", "USDC", ""],
            "preview": ["USDT", "USDC", ""],
        }

        answers = {do: await desk.save(do=do, amount="77") for do in after}

        assert {answer.status_code for answer in answers.values()} == {200}
        assert {do: chosen(answer.text) for do, answer in answers.items()} == after
        assert {value_of(answer.text, "amount") for answer in answers.values()} == {"77"}
        assert await no_rule(desk.home)


class TestWhatWouldHappen:
    async def test_is_said_before_anything_is_saved(self, stranger: Browser, database: Database) -> None:
        desk = await sit_down(stranger, database)

        said = await desk.preview(source_2="")

        assert "If it fired now, it would fail and move nothing" in said
        assert "The sources together are worth 60.00 USDT, 40.00 USDT short of the amount." in said
        assert await no_rule(desk.home)

    async def test_names_the_share_of_each_source(self, stranger: Browser, database: Database) -> None:
        desk = await sit_down(stranger, database)
        await desk.home.fund("140", "USDT")

        assert "If it fired now: 100.00 USDT from USDT." in await desk.preview()

    @pytest.mark.rule("R11")
    async def test_includes_what_saving_starts_at_once(self, stranger: Browser, database: Database) -> None:
        desk = await sit_down(stranger, database, balance="40")
        await desk.home.fund("140", "USDT")
        await desk.home.draw_up_rule(armed=False)

        page = words_of((await desk.look()).text)

        assert "Saving starts a top-up at once" in page
        assert (
            "Your balance of 40.00 USDT is below the threshold of 50.00 USDT, so this tops up 100.00 USDT at once: "
            "100.00 USDT from USDT." in page
        )

    async def test_waits_until_there_are_terms(self, stranger: Browser, database: Database) -> None:
        desk = await sit_down(stranger, database)

        for fields in ({"threshold": ""}, {"amount": "x"}, {"source_1": "", "source_2": ""}):
            assert "As soon as threshold, amount and a first source" in await desk.preview(**fields)


class TestWhatIsWrong:
    async def test_is_said_at_each_field_and_above_all_and_nothing_typed_is_lost(
        self, stranger: Browser, database: Database
    ) -> None:
        desk = await sit_down(stranger, database)
        typed = {
            "threshold": "fifty",
            "amount": "0",
            "account": "piggy",
            "source_1": "",
            "source_2": "USDC",
            "source_3": "USDC",
            "cap_day_amount": "-1",
            "cap_month_count": "often",
        }

        answer = await desk.save(**typed, do="save-on")

        page = answer.text
        assert answer.status_code == 422
        assert "6 things are not right yet. Nothing was saved." in words_of(page)
        wrong = ["threshold", "amount", "account", "source_3", "cap_day_amount", "cap_month_count"]
        said = re.findall(r'<li><a href="#([a-z_0-9]+)">([^<]+)</a>', page)
        assert [name for name, _ in said if name in wrong] == wrong
        for name, message in said:
            assert f'id="{name}"' in page
            assert page.count(message) == 2, message
        assert "The third source is named twice." in page
        assert "The number per month must be a whole number from 1 to 10000." in page
        for name in ("threshold", "amount", "cap_day_amount", "cap_month_count"):
            assert value_of(page, name) == typed[name]
        assert chosen(page) == ["", "USDC", "USDC"]
        assert await no_rule(desk.home)

    async def test_is_a_cap_below_one_top_up(self, stranger: Browser, database: Database) -> None:
        desk = await sit_down(stranger, database)

        answer = await desk.save(cap_day_amount="99")

        assert answer.status_code == 422
        assert "The most per day is less than the amount of one top-up" in answer.text

    async def test_is_no_source_at_all(self, stranger: Browser, database: Database) -> None:
        desk = await sit_down(stranger, database)

        answer = await desk.save(source_1="", source_2="")

        assert '<li><a href="#source_1">The first source must name at least one source.' in answer.text

    async def test_is_shown_without_running_what_was_typed(
        self, stranger: Browser, database: Database
    ) -> None:
        desk = await sit_down(stranger, database)
        evil = '"><script>alert(1)</script>'

        answer = await desk.save(threshold=evil, amount=evil, account=evil, source_1=evil, cap_day_count=evil)

        assert answer.status_code == 422
        assert "<script>alert" not in answer.text


@pytest.mark.rule("R5")
class TestSaving:
    async def test_makes_a_rule_that_is_off_without_a_passkey(
        self, stranger: Browser, database: Database
    ) -> None:
        desk = await sit_down(stranger, database)

        answer = await desk.save(cap_day_count="3", cap_month_amount="1000")

        rule = await desk.home.rule()
        assert is_done(answer, "rule-saved")
        assert (rule.enabled, rule.sources, rule.cap_day_count) == (False, ["USDT", "USDC"], 3)
        assert rule.cap_month_amount == 1000_000000

    async def test_asks_for_the_passkey_to_make_one_that_is_on(
        self, stranger: Browser, database: Database
    ) -> None:
        desk = await sit_down(stranger, database)

        assert is_confirmation(await desk.save(do="save-on"))
        assert await no_rule(desk.home)

    async def test_asks_for_the_passkey_to_widen_a_rule_that_is_on(
        self, stranger: Browser, database: Database
    ) -> None:
        desk = await sit_down(stranger, database)
        before = await rule_with_cap(desk.home)
        wider = [
            {"threshold": "50.01"},
            {"amount": "101"},
            {"account": "trading"},
            {"source_1": "USDC", "source_2": "USDT"},
            {"source_3": "BTC"},
            {"cap_day_count": "4"},
            {"cap_day_count": ""},
        ]

        answers = [await desk.save(**{"version": "1", "cap_day_count": "3", **fields}) for fields in wider]

        assert [is_confirmation(answer) for answer in answers] == [True] * len(wider)
        assert await desk.home.rule() == before

    async def test_narrows_a_rule_that_is_on_at_once(self, stranger: Browser, database: Database) -> None:
        desk = await sit_down(stranger, database)
        await rule_with_cap(desk.home)
        fields = {"cap_day_count": "3"}
        narrower: list[dict[str, str]] = [
            {},
            {"threshold": "49"},
            {"amount": "99"},
            {"source_1": "USDC", "source_2": ""},
            {"cap_day_count": "2"},
            {"cap_month_amount": "500"},
        ]

        for version, change in enumerate(narrower, start=1):
            fields |= change
            assert is_done(await desk.save(version=str(version), **fields), "rule-saved"), change

        rule = await desk.home.rule()
        assert (rule.version, rule.enabled, rule.sources) == (7, True, ["USDC"])

    async def test_changes_a_rule_that_is_off_as_its_owner_likes(
        self, stranger: Browser, database: Database
    ) -> None:
        desk = await sit_down(stranger, database)
        await desk.home.draw_up_rule(enabled=False, armed=False)

        answer = await desk.save(version="1", threshold="500", amount="5000", account="trading")

        rule = await desk.home.rule()
        assert is_done(answer, "rule-saved")
        assert (rule.enabled, rule.amount, rule.account) == (False, 5000_000000, "trading")

    @pytest.mark.rule("R11")
    async def test_of_the_same_terms_is_a_new_attempt(self, stranger: Browser, database: Database) -> None:
        desk = await sit_down(stranger, database, balance="40")
        await desk.home.draw_up_rule(sources=("USDT", "USDC"), armed=False)

        await desk.save(version="1")
        judged = await Claims(database).judge_waiting()

        assert len(judged.claimed) == 1

    async def test_needs_the_pages_own_form(self, stranger: Browser, database: Database) -> None:
        desk = await sit_down(stranger, database)
        forger = replace(desk, browser=replace(desk.browser, csrf="wrong"))

        assert (await forger.save()).status_code == 403
        for path in ("/on", "/off", "/delete", "/preview"):
            answer = await forger.browser.send(f"{desk.path}{path}", version="1")
            assert answer.status_code == 403
        assert await no_rule(desk.home)


async def rule_with_cap(home: Household) -> Rule:
    """A rule that is on, over USDT and USDC, at most three times a day."""
    await home.draw_up_rule(sources=("USDT", "USDC"))
    async with home.database.commit() as session:
        rule = await session.get(Rule, (await home.rule()).id)
        assert rule is not None
        rule.cap_day_count = 3
    return await home.rule()


@pytest.mark.rule("R4")
class TestARuleThatIsNotAsShown:
    async def test_is_said_to_have_changed_and_what_was_typed_is_kept(
        self, stranger: Browser, database: Database
    ) -> None:
        desk = await sit_down(stranger, database)
        await desk.home.draw_up_rule(sources=("USDT", "USDC"))
        await desk.save(version="1", threshold="45")

        answer = await desk.save(version="1", threshold="44")

        assert answer.status_code == 409
        assert "It now says: below 45.00 USDT, top up 100.00 USDT from USDT, USDC." in words_of(answer.text)
        assert value_of(answer.text, "threshold") == "44"
        assert value_of(answer.text, "version") == "2"
        assert is_done(await desk.save(version="2", threshold="44"), "rule-saved")

    async def test_was_made_meanwhile(self, stranger: Browser, database: Database) -> None:
        desk = await sit_down(stranger, database)
        await desk.home.draw_up_rule()

        answer = await desk.save(do="save-on", threshold="44")

        assert answer.status_code == 409
        assert value_of(answer.text, "threshold") == "44"

    async def test_was_deleted_meanwhile(self, stranger: Browser, database: Database) -> None:
        desk = await sit_down(stranger, database)

        answer = await desk.save(version="3", threshold="44")

        assert answer.status_code == 409
        assert "It was deleted. Nothing was saved; what you typed is still here." in words_of(answer.text)
        assert is_done(await desk.save(threshold="44"), "rule-saved")


@pytest.mark.rule("R7")
class TestALockedRule:
    async def test_is_explained_and_leads_to_its_top_up(self, stranger: Browser, database: Database) -> None:
        desk, top_up_id = await locked_desk(stranger, database)

        page = (await desk.look()).text

        assert f'href="/top-ups/{top_up_id}"' in page
        assert "Until it has ended the rule cannot be changed" in words_of(page)
        assert '<fieldset class="stack" disabled>' in page
        assert 'value="save"' not in page
        assert "Turn off" not in words_of(page)

    async def test_refuses_every_change_and_keeps_what_was_typed(
        self, stranger: Browser, database: Database
    ) -> None:
        desk, _ = await locked_desk(stranger, database)
        before = await desk.home.rule()

        saved = await desk.save(version="1", threshold="44")
        others = [
            await desk.browser.send(f"{desk.path}/{way}", version="1") for way in ("on", "off", "delete")
        ]

        assert saved.status_code == 409
        assert "A top-up has begun. Nothing was saved" in words_of(saved.text)
        assert value_of(saved.text, "threshold") == "44"
        assert {answer.status_code for answer in others} == {409}
        assert all("A top-up is in progress" in answer.text for answer in others)
        assert await desk.home.rule() == before


async def locked_desk(stranger: Browser, database: Database) -> tuple[Desk, str]:
    """An owner whose rule has just fired."""
    desk = await sit_down(stranger, database)
    await desk.home.draw_up_rule(sources=("USDT", "USDC"))
    await desk.home.spend("40")
    await judge(database)
    (top_up,) = await desk.home.top_ups()
    return desk, top_up.id


@pytest.mark.rule("R5")
class TestOnAndOff:
    async def test_off_keeps_everything_and_needs_no_passkey(
        self, stranger: Browser, database: Database
    ) -> None:
        desk = await sit_down(stranger, database)
        before = await rule_with_cap(desk.home)

        answer = await desk.browser.send(f"{desk.path}/off", version="1")

        rule = await desk.home.rule()
        assert is_done(answer, "rule-off")
        assert (rule.enabled, rule.version) == (False, 2)
        assert (rule.threshold, rule.sources, rule.cap_day_count) == (before.threshold, before.sources, 3)

    async def test_on_asks_for_the_passkey(self, stranger: Browser, database: Database) -> None:
        desk = await sit_down(stranger, database)
        await desk.home.draw_up_rule(enabled=False, armed=False)

        answer = await desk.browser.send(f"{desk.path}/on", version="1")

        assert is_confirmation(answer)
        assert not (await desk.home.rule()).enabled

    async def test_neither_works_on_a_rule_that_has_changed(
        self, stranger: Browser, database: Database
    ) -> None:
        desk = await sit_down(stranger, database)
        await desk.home.draw_up_rule()
        await desk.browser.send(f"{desk.path}/off", version="1")

        for way in ("on", "off", "delete"):
            answer = await desk.browser.send(f"{desk.path}/{way}", version="1")
            assert answer.status_code == 409
            assert "changed meanwhile" in answer.text


@pytest.mark.rule("R6")
class TestDeleting:
    async def test_is_asked_first_and_says_that_the_history_stays(
        self, stranger: Browser, database: Database
    ) -> None:
        desk = await sit_down(stranger, database)
        await desk.home.draw_up_rule()

        page = words_of((await desk.browser.get(f"{desk.path}/delete")).text)

        assert "Delete this rule for good?" in page
        assert "The history stays" in page
        assert (await desk.home.rule()).version == 1

    async def test_is_for_good(self, stranger: Browser, database: Database) -> None:
        desk = await sit_down(stranger, database)
        await desk.home.draw_up_rule()

        answer = await desk.browser.send(f"{desk.path}/delete", version="1")

        assert is_done(answer, "rule-deleted")
        assert await no_rule(desk.home)
        assert (await desk.browser.get(f"{desk.path}/delete")).status_code == 404
