"""What a program of the product may do in the database, tried as one: PostgreSQL itself refuses everything else."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import count
from typing import LiteralString

import psycopg
import pytest
import pytest_asyncio
from psycopg import errors, sql
from sqlalchemy import make_url
from structlog.testing import capture_logs

from adapters.postgres.__main__ import main
from adapters.postgres.database import Database
from adapters.postgres.grants import GRANTS, PROGRAM_ROLE, RoleMissing, let_in
from adapters.postgres.migrations.reach import upgrade
from adapters.postgres.rights import may_rewrite
from runtime.embedded_postgres import PROGRAM_USER
from runtime.rights import warn_of_rights
from runtime.settings import Settings
from tests.builders import Household, open_household
from tests.conftest import owner_address
from tests.hands import owner_of
from tests.plain_logs import log_plainly

Connection = psycopg.AsyncConnection

ONCE = ("entry", "transfer", "decision", "rule_revision", "push_receipt", "push_key", "asset")
"""What is written down once."""
_numbers = count(1)

TABLES = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
"""
HELD = """
SELECT c.relname, p.privilege_type, NULL AS column FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public'
CROSS JOIN LATERAL aclexplode(c.relacl) p JOIN pg_roles r ON r.oid = p.grantee
WHERE r.rolname = ANY(%(roles)s)
UNION ALL
SELECT c.relname, p.privilege_type, a.attname FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public'
JOIN pg_attribute a ON a.attrelid = c.oid CROSS JOIN LATERAL aclexplode(a.attacl) p
JOIN pg_roles r ON r.oid = p.grantee WHERE r.rolname = ANY(%(roles)s)
"""


@pytest_asyncio.fixture
async def program(database_url: str) -> AsyncIterator[Connection]:
    """A connection as a program of the product has it."""
    async with await Connection.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest_asyncio.fixture
async def home(database: Database) -> Household:
    home = await open_household(database, balance="10")
    await home.draw_up_rule()
    return home


async def rows(database: Database, statement: LiteralString, **arguments: object) -> list[tuple[object, ...]]:
    """What the owner of the tables reads."""
    async with await Connection.connect(owner_of(database)) as connection:
        return await (await connection.execute(statement, arguments)).fetchall()


class TestTheGrants:
    async def test_name_every_table_there_is(self, database: Database) -> None:
        there = {str(name) for (name,) in await rows(database, TABLES)}

        assert set(GRANTS) == there

    async def test_are_held_as_they_are_written_and_by_nobody_else(self, database: Database) -> None:
        held: dict[str, set[str]] = {}
        roles = [PROGRAM_ROLE, PROGRAM_USER]
        for table, privilege, column in await rows(database, HELD, roles=roles):
            held.setdefault(str(table), set()).add(f"{privilege} {column or ''}".strip())

        assert held == {table: _spelled(written) for table, written in GRANTS.items()}

    async def test_are_the_logins_by_its_membership_and_it_owns_nothing(self, program: Connection) -> None:
        cursor = await program.execute(
            "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication, "
            "pg_has_role(current_user, %s, 'MEMBER'), "
            "(SELECT count(*) FROM pg_class WHERE relowner = r.oid)::int FROM pg_roles r WHERE rolname = current_user",
            (PROGRAM_ROLE,),
        )

        assert await cursor.fetchone() == (False, True, 0)


def _spelled(written: str) -> set[str]:
    """The grants of one table, one for each privilege and column."""
    columns = re.search(r"UPDATE \(([^)]*)\)", written)
    spelled = {word.strip() for word in re.sub(r"UPDATE \([^)]*\)", "", written).split(",") if word.strip()}
    if columns is not None:
        spelled |= {f"UPDATE {column.strip()}" for column in columns[1].split(",")}
    return spelled


@pytest.mark.rule("R19")
class TestAProgram:
    @pytest.mark.parametrize("table", ONCE)
    @pytest.mark.parametrize("act", ["UPDATE {0} SET {1} = {1}", "DELETE FROM {0}", "TRUNCATE {0}"])
    async def test_cannot_rewrite_what_is_written_once(
        self, program: Connection, home: Household, table: str, act: str
    ) -> None:
        del home
        found = await program.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND attidentity = ''",
            (table,),
        )
        for (column,) in await found.fetchall():
            statement = sql.SQL(act).format(sql.Identifier(table), sql.Identifier(column))
            with pytest.raises(errors.InsufficientPrivilege):
                await program.execute(statement)

    @pytest.mark.parametrize(
        "act",
        [
            "ALTER TABLE entry DISABLE TRIGGER entry_immutable",
            "ALTER TABLE entry ADD COLUMN note text",
            "DROP TRIGGER entry_immutable ON entry",
            "DROP TABLE entry",
            "CREATE RULE no_entries AS ON INSERT TO entry DO INSTEAD NOTHING",
            "CREATE TRIGGER mine BEFORE INSERT ON entry FOR EACH ROW EXECUTE FUNCTION refuse_rewriting()",
            "CREATE OR REPLACE FUNCTION refuse_rewriting() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'",
            "CREATE TABLE mine (id integer)",
            "CREATE SCHEMA mine",
            "SET session_replication_role = replica",
            "ALTER TABLE account DROP CONSTRAINT account_not_overdrawn",
            "SET ROLE postgres",
        ],
    )
    async def test_cannot_take_down_what_guards_it(self, program: Connection, act: LiteralString) -> None:
        with pytest.raises(errors.InsufficientPrivilege):
            await program.execute(act)

    @pytest.mark.parametrize(
        "act",
        [
            "UPDATE account SET held = 0",
            "UPDATE account SET asset = 'BTC'",
            "UPDATE account SET owner_id = NULL",
            "DELETE FROM account",
            "UPDATE balance_event SET balance = 0",
            "UPDATE balance_event SET stale = true",
            "DELETE FROM balance_event",
            "UPDATE top_up SET amount = 1",
            "UPDATE top_up SET wallet_id = ''",
            "UPDATE top_up SET sources = '{}'",
            "UPDATE top_up SET trigger_event_id = ''",
            "DELETE FROM top_up",
            "UPDATE draw SET top_up_id = ''",
            "DELETE FROM draw",
            "UPDATE delivery SET owner_id = ''",
            "DELETE FROM delivery",
            "UPDATE wallet SET owner_id = ''",
            "UPDATE owner SET email = ''",
            "UPDATE passkey SET public_key = ''",
            "UPDATE confirmation SET snapshot = ''",
            "UPDATE api_key SET scopes = '{admin}'",
            "UPDATE alembic_version SET version_num = ''",
        ],
    )
    async def test_cannot_change_what_no_program_ever_changes(
        self, program: Connection, act: LiteralString
    ) -> None:
        with pytest.raises(errors.InsufficientPrivilege):
            await program.execute(act)


class TestTheUpgrade:
    @pytest.fixture
    def empty(self, postgres_url: str) -> Iterator[str]:
        """The owner's address of a database in which nothing is yet."""
        name = f"granted_{next(_numbers)}"
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            yield owner_address(postgres_url, name)
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    @pytest.fixture
    def newcomer(self, postgres_url: str) -> Iterator[str]:
        """The name of a role that does not exist, and is gone afterwards."""
        name = f"newcomer_{next(_numbers)}"
        yield name
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))

    def test_makes_the_login_of_the_programs_with_a_password_that_travels_sealed(
        self, empty: str, newcomer: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        url = make_url(empty).set(username=newcomer, password="s3cret'")
        monkeypatch.setenv("TIDEMARK_MIGRATION_DATABASE_URL", empty)
        monkeypatch.setenv("TIDEMARK_DATABASE_URL", url.render_as_string(hide_password=False))

        codes = [main(["upgrade"]), main(["upgrade"])]

        assert codes == [0, 0]
        assert "s3cret" not in capsys.readouterr().out
        with psycopg.connect(empty) as connection:
            kept = connection.execute("SELECT rolpassword FROM pg_authid WHERE rolname = %s", (newcomer,))
            (password,) = kept.fetchone() or ("",)
            assert password.startswith("SCRAM-SHA-256$")
        with psycopg.connect(url.render_as_string(hide_password=False)) as connection:
            assert connection.execute("SELECT count(*) FROM entry").fetchone() == (0,)

    def test_says_what_to_ask_an_administrator_for(
        self, postgres_url: str, empty: str, newcomer: str
    ) -> None:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            names = {"role": sql.Identifier(newcomer), "name": sql.Identifier(str(make_url(empty).database))}
            connection.execute(sql.SQL("CREATE ROLE {role} LOGIN").format(**names))
            connection.execute(sql.SQL("ALTER DATABASE {name} OWNER TO {role}").format(**names))
        owner = make_url(empty).set(username=newcomer).render_as_string()
        other = make_url(empty).set(username="somebody").render_as_string()

        with pytest.raises(RoleMissing, match="`CREATE ROLE somebody LOGIN"):
            upgrade(owner, program_url=other)

        upgrade(owner)  # The service role is there already, so that a common owner of a database is enough.
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(sql.SQL("ALTER DATABASE {name} OWNER TO postgres").format(**names))
        with psycopg.connect(empty, autocommit=True) as connection:
            connection.execute(sql.SQL("REASSIGN OWNED BY {role} TO postgres").format(**names))
            connection.execute(sql.SQL("DROP OWNED BY {role}").format(**names))

    async def test_may_run_in_two_databases_of_one_server_at_once(
        self, postgres_url: str, database: Database, newcomer: str
    ) -> None:
        service = make_url(owner_of(database)).set(username=newcomer).render_as_string()
        with (
            psycopg.connect(postgres_url) as first,
            psycopg.connect(owner_of(database)) as second,
            psycopg.connect(postgres_url, autocommit=True) as watching,
        ):
            let_in(first, service)
            later = asyncio.create_task(asyncio.to_thread(let_in, second, service))
            pid = second.info.backend_pid
            while (  # noqa: ASYNC110 - nobody tells of a lock that is waited for
                watching.execute("SELECT pg_blocking_pids(%s)", (pid,)).fetchone() == ([],)
            ):
                await asyncio.sleep(0.01)
            first.commit()
            await later

        with psycopg.connect(service) as program:
            assert program.execute("SELECT count(*) FROM entry").fetchone() == (0,)

    async def test_takes_back_what_was_granted_by_hand(self, database: Database) -> None:
        async with await Connection.connect(owner_of(database), autocommit=True) as owner:
            await owner.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO tidemark_service")
        before = await may_rewrite(database)

        await asyncio.to_thread(upgrade, owner_of(database))

        assert (before, await may_rewrite(database)) == (True, False)


@dataclass(frozen=True, slots=True)
class Logged:
    """A login and what is logged of it at a program's start."""

    as_owner: bool
    environment: str
    warns: bool


class TestALoginThatMayTooMuch:
    @pytest.mark.parametrize(
        "logged",
        [
            Logged(as_owner=True, environment="production", warns=True),
            Logged(as_owner=False, environment="production", warns=False),
            Logged(as_owner=True, environment="development", warns=False),
        ],
    )
    async def test_is_warned_of_once_in_production(self, database: Database, logged: Logged) -> None:
        url = owner_of(database) if logged.as_owner else str(database._engine.url)
        used = Database.open(url, pool_size=1)
        settings = Settings.model_validate(
            {"database_url": owner_of(database), "environment": logged.environment}
        )
        log_plainly()

        with capture_logs() as told:
            await warn_of_rights(settings, used)

        await used.close()
        assert [line["event"] for line in told] == ["database.login_may_rewrite_entries"] * logged.warns

    async def test_is_not_waited_for_when_the_database_is_away(self) -> None:
        away = Database.open("postgresql://tidemark@127.0.0.1:1/tidemark", pool_size=1)
        settings = Settings(database_url="postgresql://tidemark@127.0.0.1:1/tidemark")

        await warn_of_rights(settings, away)

        await away.close()
