"""The models equal the migrated schema, and the migrations are one line of named steps."""

import re

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlmodel import SQLModel

from adapters.postgres import tables
from adapters.postgres.database import Database
from adapters.postgres.migrations.reach import alembic_config, upgrade
from adapters.postgres.url import engine_url
from tests.hands import owner_of
from tests.house.building import ROOT

VERSIONS = ROOT / "adapters" / "postgres" / "migrations" / "versions"


class TestTheMigrations:
    def test_lead_to_what_the_models_say(self, database_url: str) -> None:
        assert tables.Owner.metadata is SQLModel.metadata
        engine = create_engine(engine_url(database_url))

        with engine.connect() as connection:
            context = MigrationContext.configure(
                connection, opts={"compare_type": True, "compare_server_default": True}
            )
            differences = compare_metadata(context, SQLModel.metadata)

        engine.dispose()
        assert differences == []

    def test_change_nothing_when_run_again(self, database: Database) -> None:
        upgrade(owner_of(database))

    def test_are_one_line_without_branches(self, database_url: str) -> None:
        engine = create_engine(engine_url(database_url))

        with engine.connect() as connection:
            scripts = ScriptDirectory.from_config(alembic_config(connection))

        engine.dispose()
        assert len(scripts.get_heads()) == 1
        assert len(scripts.get_bases()) == 1

    def test_are_named_by_date_and_sentence(self) -> None:
        for path in VERSIONS.glob("*.py"):
            assert re.fullmatch(r"rev_\d{4}_\d\d_\d\d_[a-z0-9_]+", path.stem), path.name
