"""Run migrations on a given connection; imported by Alembic's `env.py` and by whoever upgrades."""

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine

from adapters.postgres import tables
from adapters.postgres.database import CONNECTION_BOUNDS
from adapters.postgres.grants import grant_all, let_in
from adapters.postgres.url import engine_url

_MIGRATION_LOCK = 7_411_903
"""Key of the advisory lock that lets only one upgrade run at a time."""

_LOCK_PATIENCE = "15s"
"""How long a step waits for a table in use. While it waits, everybody after it waits too: better it fails, and is run
again, than that it holds up those at work. The wait for another upgrade has no bound."""
_BOUNDS = {name: value for name, value in CONNECTION_BOUNDS.items() if name != "options"}


def upgrade(database_url: str, *, program_url: str | None = None) -> None:
    """Bring the database to the newest revision, all of it or none. Safe to run from several places at once.

    The address is that of the tables' owner. Whoever `program_url` names is let in as a program of the product, with
    the grants of one; both are seen to each time, as a database restored from a dump comes without roles.
    Raises RoleMissing.
    """
    engine = create_engine(engine_url(database_url), connect_args=_BOUNDS)
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_PATIENCE}'")
            command.upgrade(alembic_config(connection), "head")
            driver: Any = connection.connection.driver_connection
            grant_all(driver)
            if program_url is not None:
                let_in(driver, program_url)
    finally:
        engine.dispose()


def alembic_config(connection: Connection) -> Config:
    """Alembic's settings, bound to one open connection."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config


def migrate(context: Any) -> None:
    """Configure Alembic and run what was asked for."""
    connection = context.config.attributes["connection"]
    context.configure(connection=connection, target_metadata=tables.Owner.metadata, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()
