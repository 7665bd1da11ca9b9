"""Balance details: what a wallet holds, what its rule waits for, how the balance went, and paying in development."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from adapters.postgres.claims import Claims
from adapters.postgres.database import Database, run_sql
from tests.api.conftest import build
from tests.builders import Household, open_household
from tests.console.conftest import Browser, sign_in
from tests.hands import by_hand
from tests.served import serve
from topup.caps import Cap, Caps
from topup.money import Money


async def visit(stranger: Browser, home: Household) -> Browser:
    """The household's owner, signed in."""
    return await sign_in(stranger, home.database, owner_id=home.owner_id)


def words_of(html: str) -> str:
    """What a page says, without its tags, in one line."""
    return " ".join(re.sub(r"<[^>]+>", " ", html).replace("&#34;", '"').split())


def once_of(html: str) -> str:
    """The key that keeps the page's form from paying twice."""
    found = re.search(r'name="once" value="([^"]+)"', html)
    assert found is not None
    return found[1]


async def judge(database: Database) -> None:
    """Let the watcher judge all there is."""
    while (await Claims(database).judge_waiting()).events:
        pass


class TestTheBalancePage:
    async def test_says_the_balance_first(self, stranger: Browser, database: Database) -> None:
        owner = await visit(stranger, home := await open_household(database, balance="1234.5"))

        page = words_of((await owner.get(f"/wallets/{home.wallet_id}")).text)

        assert "Pay wallet 1,234.50 USDT" in page

    async def test_offers_to_set_a_rule_up_where_there_is_none(
        self, stranger: Browser, database: Database
    ) -> None:
        owner = await visit(stranger, home := await open_household(database))

        page = (await owner.get(f"/wallets/{home.wallet_id}")).text

        assert "Not set up" in words_of(page)
        assert f'href="/wallets/{home.wallet_id}/auto-top-up">Set up auto top-up' in page

    async def test_is_nobody_elses(self, stranger: Browser, database: Database) -> None:
        home, other = await open_household(database), await open_household(database)
        owner = await visit(stranger, other)

        for path in ("", "/auto-top-up", "/auto-top-up/delete"):
            assert (await owner.get(f"/wallets/{home.wallet_id}{path}")).status_code == 404
        for path in ("/pay", "/auto-top-up", "/auto-top-up/preview"):
            answer = await owner.send(f"/wallets/{home.wallet_id}{path}", amount="1", threshold="1")
            assert answer.status_code == 404
        for path in ("/auto-top-up/on", "/auto-top-up/off", "/auto-top-up/delete"):
            assert (await owner.send(f"/wallets/{home.wallet_id}{path}", version="1")).status_code == 404

    async def test_sends_a_stranger_to_sign_in_and_back(self, stranger: Browser, database: Database) -> None:
        home = await open_household(database)

        answer = await stranger.get(f"/wallets/{home.wallet_id}")

        assert answer.headers["location"] == f"/sign-in?next=%2Fwallets%2F{home.wallet_id}"


@pytest.mark.rule("R26")
class TestTheStateInWords:
    @pytest.mark.parametrize(
        ("rule", "chip", "words"),
        [
            ({}, "On", "When a payment leaves less than 50.00 USDT, 100.00 USDT come in"),
            ({"armed": False}, "Waiting", "waits for a balance of 50.00 USDT or more"),
            ({"enabled": False, "armed": False}, "Off", "moves nothing until you turn it on again"),
        ],
    )
    async def test_says_what_it_waits_for(
        self, rule: dict[str, bool], chip: str, words: str, stranger: Browser, database: Database
    ) -> None:
        owner = await visit(stranger, home := await open_household(database, balance="80"))
        await home.draw_up_rule(**rule)  # type: ignore[arg-type]

        page = words_of((await owner.get(f"/wallets/{home.wallet_id}")).text)

        assert f"{chip} Threshold 50.00 USDT" in page
        assert words in page

    async def test_names_the_cap_it_waits_for(self, stranger: Browser, database: Database) -> None:
        owner = await visit(stranger, home := await open_household(database, balance="80"))
        used_up = Caps(day=Cap(Money.parse("100", "USDT"), None), month=None)
        await home.draw_up_rule(amount="101", caps=used_up)

        page = words_of((await owner.get(f"/wallets/{home.wallet_id}")).text)

        assert "reached its cap for this day and waits" in page

    async def test_shows_the_steps_of_a_top_up_in_progress(
        self, stranger: Browser, database: Database
    ) -> None:
        owner = await visit(stranger, home := await open_household(database, balance="80"))
        await home.draw_up_rule()
        await home.spend("40")
        await judge(database)

        page = (await owner.get(f"/wallets/{home.wallet_id}")).text

        (top_up,) = await home.top_ups()
        assert "Topping up Threshold 50.00 USDT" in words_of(page)
        assert "The balance was 40.00 USDT, below the threshold of 50.00 USDT" in words_of(page)
        assert f'href="/top-ups/{top_up.id}"' in page
        assert "http-equiv" in page


@pytest.mark.rule("R25")
class TestTheBanner:
    async def test_turns_a_rule_that_is_off_on(self, stranger: Browser, database: Database) -> None:
        owner = await visit(stranger, home := await open_household(database, balance="40"))
        await home.draw_up_rule(enabled=False, armed=False)

        page = (await owner.get(f"/wallets/{home.wallet_id}")).text

        assert "Your balance is low" in page
        assert "below your threshold of 50.00 USDT, and your rule is off" in words_of(page)
        assert f'action="/wallets/{home.wallet_id}/auto-top-up/on"' in page

    async def test_leads_to_the_rule_that_waits(self, stranger: Browser, database: Database) -> None:
        owner = await visit(stranger, home := await open_household(database, balance="40"))
        await home.draw_up_rule(armed=False)

        page = (await owner.get(f"/wallets/{home.wallet_id}")).text

        assert "the rule has fired for this dip already" in words_of(page)
        assert f'href="/wallets/{home.wallet_id}/auto-top-up">Adjust the rule' in page
        assert 'href="#try">Add funds' in page

    async def test_is_not_there_at_the_threshold(self, stranger: Browser, database: Database) -> None:
        owner = await visit(stranger, home := await open_household(database, balance="50"))
        await home.draw_up_rule()

        assert "Your balance is low" not in (await owner.get(f"/wallets/{home.wallet_id}")).text


class TestTheCourse:
    async def test_is_drawn_and_told_with_the_threshold_and_each_top_up(
        self, stranger: Browser, database: Database
    ) -> None:
        owner = await visit(stranger, home := await open_household(database, balance="80"))
        await home.draw_up_rule()
        await home.spend("15")

        page = (await owner.get(f"/wallets/{home.wallet_id}")).text

        assert "It went between 65.00 USDT and 80.00 USDT, and is 65.00 USDT now." in page
        assert "Threshold 50.00" in page
        assert re.search(r'class="chart-line" d="M[0-9 .L]+"', page)
        assert "65.00 USDT" in words_of(page.partition("<tbody>")[2])

    async def test_begins_with_what_was_there_before_the_window(
        self, stranger: Browser, database: Database
    ) -> None:
        owner = await visit(stranger, home := await open_household(database, balance="80"))
        await age(database, timedelta(days=40))
        await home.spend("15")

        page = (await owner.get(f"/wallets/{home.wallet_id}")).text

        assert "It went between 65.00 USDT and 80.00 USDT" in page
        since = (datetime.now(UTC) - timedelta(days=30)).strftime("%b")
        assert f"Balance in USDT since {since}" in page

    async def test_keeps_to_a_few_hundred_points_and_misses_no_low(
        self, stranger: Browser, database: Database
    ) -> None:
        owner = await visit(stranger, home := await open_household(database, balance="1000"))
        await busy_month(home, changes=3000)

        page = (await owner.get(f"/wallets/{home.wallet_id}")).text

        line = re.search(r'class="chart-line" d="([^"]+)"', page)
        assert line is not None
        assert line[1].count("L") < 800
        assert "It went between 1.00 USDT and" in page
        assert len(re.findall("<tr>", page)) < 40


async def age(database: Database, by: timedelta) -> None:
    """Let what has been told so far have happened longer ago."""
    earlier = text("UPDATE balance_event SET occurred_at = occurred_at - CAST(:by AS interval)")
    async with by_hand(database) as session:
        await run_sql(session, earlier, by=by)


async def busy_month(home: Household, *, changes: int) -> None:
    """Many balance events over a month, one of them very low."""
    async with home.database.call() as connection:
        await connection.execute(
            text(
                "INSERT INTO balance_event (id, wallet_id, change, balance, version, occurred_at, judged) "
                "SELECT 'event_' || n, :wallet_id, 'spent', CASE n WHEN 1500 THEN 1 ELSE 100 + n % 700 END * 1000000, "
                "10 + n, now() - interval '29 days' * (1 - n / CAST(:changes AS numeric)), true "
                "FROM generate_series(1, CAST(:changes AS int)) n"
            ),
            {"wallet_id": home.wallet_id, "changes": changes},
        )


class TestPaying:
    async def test_spends_from_the_wallet(self, stranger: Browser, database: Database) -> None:
        owner = await visit(stranger, home := await open_household(database, balance="80"))
        once = once_of((await owner.get(f"/wallets/{home.wallet_id}")).text)

        answer = await owner.send(f"/wallets/{home.wallet_id}/pay", amount=" 30.5 ", once=once, do="pay")

        assert answer.headers["location"] == f"/wallets/{home.wallet_id}?done=paid"
        assert await home.balance() == "49.50"

    async def test_pays_once_for_one_form_however_often_it_is_sent(
        self, stranger: Browser, database: Database
    ) -> None:
        owner = await visit(stranger, home := await open_household(database, balance="80"))
        page = f"/wallets/{home.wallet_id}"
        once = once_of((await owner.get(page)).text)

        answers = [await owner.send(f"{page}/pay", amount="10", once=once, do="pay") for _ in range(3)]
        other = await owner.send(f"{page}/pay", amount="11", once=once, do="pay")

        assert {answer.status_code for answer in answers} == {303}
        assert await home.balance() == "70.00"
        assert other.status_code == 422
        assert "This form was used already" in words_of(other.text)
        assert once_of(other.text) != once

    @pytest.mark.parametrize(
        ("amount", "said"),
        [
            ("", "The amount must be a plain decimal"),
            ("ten", "The amount must be a plain decimal"),
            ("-1", "The amount must be a plain decimal"),
            ("0", "The amount must be more than zero."),
            ("1.1234567", "The amount has 7 decimals, USDT has at most 6."),
            (
                "80.01",
                "Insufficient balance: the wallet holds 80.00 USDT, less than 80.01 USDT. Nothing was paid.",
            ),
        ],
    )
    async def test_says_at_the_field_why_it_was_refused(
        self, amount: str, said: str, stranger: Browser, database: Database
    ) -> None:
        owner = await visit(stranger, home := await open_household(database, balance="80"))

        answer = await owner.send(f"/wallets/{home.wallet_id}/pay", amount=amount, once="o", do="pay")

        assert answer.status_code == 422
        assert said in words_of(answer.text)
        assert f'value="{amount}"' in answer.text
        assert 'aria-describedby="amount-error"' in answer.text
        assert await home.balance() == "80.00"

    async def test_adds_money_by_hand(self, stranger: Browser, database: Database) -> None:
        owner = await visit(stranger, home := await open_household(database, balance="80"))

        answer = await owner.send(f"/wallets/{home.wallet_id}/pay", amount="20", once="o", do="add")

        assert answer.headers["location"].endswith("?done=funds-added")
        assert await home.balance() == "100.00"

    async def test_needs_the_pages_own_form(self, stranger: Browser, database: Database) -> None:
        owner = await visit(stranger, home := await open_household(database, balance="80"))

        forged = await replace(owner, csrf="").send(f"/wallets/{home.wallet_id}/pay", amount="1", once="o")

        assert forged.status_code == 403
        assert await home.balance() == "80.00"

    async def test_is_not_there_in_production(
        self, stranger: Browser, database: Database, database_url: str
    ) -> None:
        home = await open_household(database, balance="80")
        owner = await visit(stranger, home)
        app = build(database, url=database_url)
        async with serve(app) as address:
            app.state.console = replace(app.state.console, public_url=address, development=False)
            live = replace(owner, origin=address)

            page = await live.client.get(f"{address}/wallets/{home.wallet_id}", headers=live._cookie())
            paid = await live.client.post(
                f"{address}/wallets/{home.wallet_id}/pay",
                data={"csrf": live.csrf, "amount": "1", "once": "o"},
                headers={**live._cookie(), "Origin": address},
            )

        assert "Try it out" not in page.text
        assert paid.status_code == 404
        assert await home.balance() == "80.00"
