"""The audit on a real PostgreSQL: it holds while everything happens, and names exactly what was broken on purpose."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql

from activities.messages import DrawOrder, Patience, SettleOrder
from activities.results import result_of
from adapters.postgres.audit import EXAMPLES_MAX, audit
from adapters.postgres.claims import Claims
from adapters.postgres.database import Database
from adapters.postgres.invariants import COUNTS, INVARIANTS
from adapters.postgres.ledger import LedgerAccounts
from adapters.postgres.rules import Author, TermsDraft, create_rule, delete_rule
from adapters.postgres.tables import TopUpRow
from adapters.postgres.top_ups import TopUpRecords
from runtime.parts import CHECKOUT
from runtime.settings import Settings
from starter.__main__ import look_at_the_books
from starter.audit import run_audit
from tests.adapters.crowd import report
from tests.builders import Household, open_household
from tests.conftest import address, owner_address
from topup.keys import draw_key
from topup.money import Money
from topup.outcome import DrawResult, conclude
from topup.quote import Quote, quote_at, read_rate
from topup.trigger import Kept

AUTHOR = Author("key audit", None)
BOOKS = "audited_books"
_copies = count(1)


@dataclass(frozen=True, slots=True)
class Breach:
    """What a hand in the tables does, and the invariants that are not so after it; the first is the one meant."""

    names: tuple[str, ...]
    statement: str


# As a superuser whose triggers are switched off; a constraint in the way is dropped, which the audit names too.
BREACHES = (
    Breach(
        ("conserved", "summed"),
        "UPDATE account SET posted = posted + 1 WHERE kind = 'world' AND asset = 'USDT'",
    ),
    Breach(
        ("conserving",),
        "UPDATE entry e SET transfer_id = CASE e.transfer_id WHEN two.first THEN two.last ELSE two.first END FROM ("
        "SELECT e.account_id, min(e.transfer_id) AS first, max(e.transfer_id) AS last FROM entry e "
        "JOIN transfer x ON x.id = e.transfer_id AND x.kind = 'deposit' JOIN account a ON a.id = e.account_id "
        "AND a.kind = 'funding' GROUP BY 1 HAVING count(DISTINCT e.amount) > 1 LIMIT 1"
        ") two WHERE e.account_id = two.account_id AND e.transfer_id IN (two.first, two.last)",
    ),
    Breach(
        ("not_negative", "guarded"),
        "ALTER TABLE account DROP CONSTRAINT account_not_overdrawn; "
        "UPDATE account SET held = posted + 1 WHERE id = (SELECT min(id) FROM account WHERE kind = 'wallet')",
    ),
    Breach(
        ("chained",),
        "UPDATE entry SET balance_after = balance_after + 1 WHERE (account_id, account_version) = ("
        "SELECT account_id, account_version FROM entry ORDER BY 1, 2 LIMIT 1)",
    ),
    Breach(
        ("summed",),
        "UPDATE account SET posted = posted + CASE kind WHEN 'world' THEN 1 ELSE -1 END "
        "WHERE kind IN ('world', 'house') AND asset = 'EUR'",
    ),
    Breach(
        ("written_once",),
        "INSERT INTO transfer (id, kind, request_hash, status, debited, credited) "
        "VALUES ('deposit_never', 'deposit', '', 'moved', 5, 5)",
    ),
    Breach(
        ("written_once",),
        "DELETE FROM transfer WHERE id = (SELECT min(id) FROM transfer WHERE kind = 'deposit')",
    ),
    Breach(("own_source",), "UPDATE top_up SET account = 'trading' WHERE outcome = 'partial'"),
    Breach(("never_more",), "UPDATE top_up SET amount = 1 WHERE state = 'in_progress'"),
    Breach(("one_sum",), "UPDATE top_up SET credited = credited - 1 WHERE outcome = 'partial'"),
    Breach(
        ("results",),
        "UPDATE draw SET status = 'being_checked' WHERE rank = 1 "
        "AND top_up_id = (SELECT id FROM top_up WHERE outcome = 'partial')",
    ),
    Breach(
        ("fenced",), "DELETE FROM transfer WHERE id = (SELECT min(id) FROM transfer WHERE status = 'void')"
    ),
    Breach(("outcome",), "UPDATE top_up SET outcome = 'failed' WHERE outcome = 'partial'"),
    Breach(
        ("one_per_trigger", "explained", "guarded"),
        "ALTER TABLE top_up DROP CONSTRAINT top_up_one_per_trigger; "
        "UPDATE top_up SET trigger_event_id = (SELECT trigger_event_id FROM top_up WHERE outcome = 'partial')",
    ),
    Breach(
        ("explained",),
        "UPDATE decision SET fired = false WHERE seq = (SELECT min(seq) FROM decision WHERE fired)",
    ),
    Breach(
        ("fired_rightly",),
        "UPDATE balance_event SET change = 'added' WHERE id = (SELECT min(trigger_event_id) FROM top_up)",
    ),
    Breach(
        ("fired_rightly",),
        "UPDATE decision SET threshold = balance WHERE seq = (SELECT min(seq) FROM decision WHERE fired)",
    ),
    Breach(
        ("decided",),
        "DELETE FROM decision WHERE seq = (SELECT max(seq) FROM decision WHERE reason = 'not_below')",
    ),
    Breach(  # The first decision of all: that of the event which the rule's creation queued.
        ("decided",),
        "DELETE FROM decision d USING balance_event e, rule r WHERE e.id = d.event_id AND r.id = d.rule_id "
        "AND e.change = 'saved'",
    ),
    Breach(
        ("decided",),
        "UPDATE balance_event SET judged = true WHERE NOT judged",
    ),
    Breach(
        ("recorded",),
        "DELETE FROM balance_event WHERE seq = (SELECT min(seq) FROM balance_event WHERE change = 'added')",
    ),
    Breach(("locked",), "UPDATE rule SET locked_by = NULL WHERE locked_by IS NOT NULL"),
    Breach(
        ("locked",),
        "UPDATE rule SET locked_by = 'topup_gone', armed = false "
        "WHERE id = (SELECT min(id) FROM rule WHERE locked_by IS NULL)",
    ),
    Breach(("disarmed",), "UPDATE rule SET armed = true WHERE locked_by IS NOT NULL"),
    Breach(("told_once",), "DELETE FROM delivery WHERE kind = 'ended' AND channel = 'push'"),
    Breach(("noticed_once",), "DELETE FROM delivery WHERE kind = 'low_balance' AND channel = 'push'"),
    Breach(("guarded",), "ALTER TABLE entry DISABLE TRIGGER entry_immutable"),
)


@contextmanager
def by_hand(url: str) -> Iterator[psycopg.Connection]:
    """A superuser's connection that no trigger and no foreign key holds back."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        yield connection


async def judge(database: Database) -> None:
    while (await Claims(database).judge_waiting()).events:
        pass


async def open_top_up(home: Household) -> TopUpRow:
    return next(row for row in await home.top_ups() if row.state == "in_progress")


async def draw(home: Household, rank: int, credit: str, quote: Quote) -> DrawResult:
    """Draw for the wallet's open top-up."""
    top_up = await open_top_up(home)
    order = DrawOrder(
        top_up_id=top_up.id,
        rank=rank,
        key=draw_key(top_up.id, rank),
        owner_id=home.owner_id,
        account="funding",
        asset=quote.asset,
        currency=home.currency,
        wallet_id=home.wallet_id,
        credit=Money.parse(credit, home.currency),
        quote=quote,
    )
    return result_of(order, await LedgerAccounts(home.database).draw(order))


async def settle(home: Household, draws: Sequence[DrawResult]) -> None:
    top_up = await open_top_up(home)
    ending = conclude(Money(home.currency, top_up.amount), draws)
    order = SettleOrder(top_up_id=top_up.id, draws=tuple(draws), ending=ending)
    await TopUpRecords(home.database, Patience()).settle(order)


async def keep_books(database: Database) -> None:
    """Write what a live database holds: top-ups ended and under way, notices, old rules, and events not judged yet."""
    at_par, in_btc = Quote("USDT", "USDT", 1, 1), quote_at("BTC", "USDT", read_rate("60000"))
    ada = await open_household(database, balance="80")
    for amount in ("40", "20"):
        await ada.fund(amount, "USDT")
    await ada.fund("0.0005", "BTC")
    await ada.draw_up_rule(amount="100", sources=("USDT", "BTC", "ETH"))
    await ada.spend("45")
    await judge(database)
    await settle(ada, [await draw(ada, 1, "60", at_par), await draw(ada, 2, "40", in_btc)])
    await ada.add("1")
    bob = await open_household(database, balance="80", name="Bob")
    await bob.fund("500", "USDT")
    await bob.draw_up_rule(amount="100")
    await bob.spend("45")
    off = await open_household(database, balance="80", name="Cyd")
    await off.draw_up_rule(enabled=False)
    await off.spend("45")
    await judge(database)
    await draw(bob, 1, "100", at_par)
    await with_former_rules(database)
    await off.spend("1")


async def with_former_rules(database: Database) -> None:
    """A wallet kept elsewhere that had a rule, lost it, was told of without one, and has another."""
    eve = await open_household(database, name="Eve", kept=Kept.ELSEWHERE)
    await report(eve, (1, "80"))
    await judge(database)
    for with_rule, without in ((2, 3), (4, None)):
        async with database.commit() as session:
            draft = TermsDraft(threshold="50", amount="100", account="funding", sources=("USDT",))
            rule = await create_rule(
                session, wallet_id=eve.wallet_id, draft=draft, enabled=True, author=AUTHOR
            )
        await judge(database)
        await report(eve, (with_rule, "90"))
        await judge(database)
        if without is None:
            return
        async with database.commit() as session:
            await delete_rule(session, rule.id, version=rule.version, author=AUTHOR)
        await report(eve, (without, "91"))
        await judge(database)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def books(postgres_url: str, template: str) -> str:
    """The name of a database to copy, in which much has happened."""
    copy = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(copy.format(sql.Identifier(BOOKS), sql.Identifier(template)))
    database = Database.open(address(postgres_url, BOOKS), pool_size=2)
    await keep_books(database)
    await database.close()
    return BOOKS


@asynccontextmanager
async def copied(postgres_url: str, books: str) -> AsyncIterator[tuple[Database, str]]:
    """A copy of the books to be broken, and its owner's address."""
    names = {"name": sql.Identifier(f"audited_{next(_copies)}"), "template": sql.Identifier(books)}
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY").format(**names)
        )
        name = names["name"].as_string().strip('"')
        database = Database.open(address(postgres_url, name), pool_size=1)
        yield database, owner_address(postgres_url, name)
        await database.close()
        connection.execute(sql.SQL("DROP DATABASE {name} WITH (FORCE)").format(**names))


async def breached(database: Database) -> dict[str, tuple[str, ...]]:
    return {found.invariant.name: found.examples for found in await audit(database) if found.breaches}


class TestTheAudit:
    async def test_finds_nothing_in_books_that_agree_and_looks_at_something_everywhere(
        self, postgres_url: str, books: str
    ) -> None:
        async with copied(postgres_url, books) as (database, _):
            findings = await audit(database)

        assert {found.invariant.name: found.examples for found in findings if found.breaches} == {}
        assert [found.invariant.name for found in findings if not found.looked_at] == []

    @pytest.mark.parametrize("breach", BREACHES, ids=lambda breach: breach.names[0])
    async def test_names_what_a_hand_in_the_tables_has_broken_and_nothing_else(
        self, postgres_url: str, books: str, breach: Breach
    ) -> None:
        async with copied(postgres_url, books) as (database, url):
            with by_hand(url) as connection:
                for statement in breach.statement.split("; "):
                    changed = connection.execute(statement.encode())
                    assert changed.rowcount, statement

            found = await breached(database)
            sentences, code = await run_audit(database)

        assert set(found) == set(breach.names)
        assert all(found.values())
        assert code == 1
        sentence = next(each.sentence for each in INVARIANTS if each.name == breach.names[0])
        assert f"{sentence} (" in next(line for line in sentences.splitlines() if line.startswith("BREACHED"))
        assert "What to do: stop worker and watcher" in sentences

    def test_has_each_invariant_broken_once(self) -> None:
        assert {breach.names[0] for breach in BREACHES} == {invariant.name for invariant in INVARIANTS}

    async def test_shows_the_first_breaches_and_counts_them_all(self, postgres_url: str, books: str) -> None:
        async with copied(postgres_url, books) as (database, url):
            with by_hand(url) as connection:
                connection.execute(
                    "INSERT INTO transfer (id, kind, request_hash, status, debited, credited) "
                    "SELECT 'deposit_' || n, 'deposit', '', 'moved', 5, 5 FROM generate_series(1, 500) AS n"
                )

            found = next(each for each in await audit(database) if each.breaches)

        assert (found.breaches, len(found.examples)) == (500, EXAMPLES_MAX)

    def test_counts_what_every_invariant_looks_at_and_names_rules(self) -> None:
        assert {invariant.looks_at for invariant in INVARIANTS} <= set(COUNTS)
        assert all(invariant.rules for invariant in INVARIANTS)

    @pytest.mark.rule("R19")
    async def test_holds_at_every_moment_while_top_ups_run(self, database: Database) -> None:
        at_par, done = Quote("USDT", "USDT", 1, 1), asyncio.Event()

        async def live(name: str) -> None:
            home = await open_household(database, balance="200", name=name)
            await home.draw_up_rule(amount="100", sources=("USDT", "BTC"))
            for _ in range(3):
                await home.fund("70", "USDT")
                await home.take("1", "USDT")
                while not any(row.state == "in_progress" for row in await home.top_ups()):
                    await home.spend("30")
                    await Claims(database).judge_waiting()
                await settle(home, [await draw(home, 1, "100", at_par)])
                await home.add("80")

        async def look() -> int:
            looks = 0
            while not done.is_set():
                assert await breached(database) == {}
                looks += 1
            return looks

        looking = asyncio.create_task(look())
        await asyncio.gather(*[live(name) for name in ("Ada", "Bob")])
        done.set()

        assert await looking > 1
        assert await breached(database) == {}


async def run_command(database_url: str) -> tuple[int, str, str]:
    """The command as an operator runs it: exit code, standard output, standard error."""
    said = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "starter", "audit"],
        cwd=CHECKOUT,
        env={**os.environ, "TIDEMARK_DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        check=False,
    )
    return said.returncode, said.stdout, said.stderr


class TestTheCommand:
    async def test_says_line_by_line_what_it_looked_at(self, database: Database, database_url: str) -> None:
        await keep_books(database)

        code, out, err = await run_command(database_url)

        assert (code, err) == (0, "")
        lines = out.splitlines()
        assert len(lines) == len(INVARIANTS) + 1
        assert all(line.startswith("holds: ") for line in lines[:-1])
        assert any("looked at 2 top-ups" in line for line in lines)
        assert lines[-1] == f"All {len(INVARIANTS)} invariants hold, at one moment."

    async def test_tells_a_database_it_cannot_look_at_from_books_that_disagree(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        settings = Settings(database_url="postgresql://tidemark@127.0.0.1:1/tidemark")

        code = await look_at_the_books(settings)

        said = capsys.readouterr()
        assert code == 2
        assert "invariants" not in said.out
        assert "Nothing was looked at" in said.err
