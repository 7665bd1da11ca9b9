"""Alembic's entry: the models' metadata on one connection that the caller opened."""

from alembic import context

from adapters.postgres.migrations.reach import migrate

migrate(context)
