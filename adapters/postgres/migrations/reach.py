"""Run migrations on a given connection; imported by Alembic's `env.py` and by whoever upgrades."""

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine

from adapters.postgres import tables
from adapters.postgres.url import engine_url

_MIGRATION_LOCK = 7_411_903
"""Key of the advisory lock that lets only one upgrade run at a time."""


def upgrade(database_url: str) -> None:
    """Bring the database to the newest revision, all of it or none. Safe to run from several places at once."""
    engine = create_engine(engine_url(database_url))
    with engine.begin() as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
        command.upgrade(alembic_config(connection), "head")
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
