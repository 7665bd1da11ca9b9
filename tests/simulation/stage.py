"""The stage: a database whose clock and ids are the simulation's, empty before each seed."""

from datetime import datetime
from typing import Any

import psycopg

_PREPARE = """
CREATE SCHEMA simulated;
CREATE UNLOGGED TABLE simulated.clock (at timestamptz NOT NULL, seed text NOT NULL);
INSERT INTO simulated.clock VALUES ('2026-03-02', '');
CREATE SEQUENCE simulated.number;
CREATE FUNCTION simulated.now() RETURNS timestamptz LANGUAGE plpgsql STABLE AS
    'BEGIN RETURN (SELECT at FROM simulated.clock); END';
CREATE FUNCTION simulated.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql VOLATILE AS
    'BEGIN RETURN (SELECT at FROM simulated.clock); END';
CREATE FUNCTION simulated.gen_random_uuid() RETURNS uuid LANGUAGE plpgsql VOLATILE AS
    'BEGIN RETURN (SELECT md5(seed || nextval(''simulated.number''))::uuid FROM simulated.clock); END';
"""
_DEFAULTS = """
SELECT table_name, column_name FROM information_schema.columns
WHERE table_schema = 'public' AND column_default = 'now()'
"""
_TABLES = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relkind = 'r' ORDER BY c.relname
"""
_KEPT = frozenset({"alembic_version", "asset", "event_mark", "account"})
_SWEEP_STAGE = """
SET session_replication_role = replica;
TRUNCATE {tables} RESTART IDENTITY CASCADE;
SET session_replication_role = origin;
UPDATE event_mark SET xact = '0', seq = 0;
INSERT INTO account (kind, asset) SELECT kind, code FROM asset, (VALUES ('world'), ('house')) k (kind)
    ORDER BY kind, code;
ALTER SEQUENCE simulated.number RESTART;
"""


def prepare(url: str) -> None:
    """Put a migrated database under the simulation's clock and dice, once."""
    with psycopg.connect(url, autocommit=True) as connection:
        if connection.execute("SELECT to_regnamespace('simulated')").fetchone() != (None,):
            return
        connection.execute(_PREPARE)
        for table, column in connection.execute(_DEFAULTS).fetchall():
            connection.execute(f"ALTER TABLE {table} ALTER {column} SET DEFAULT simulated.now()".encode())
        for (table,) in connection.execute(_TABLES).fetchall():
            connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)".encode())


def sweep(connection: psycopg.Connection[Any], *, seed: int, at: datetime) -> None:
    """Empty the stage for a seed."""
    tables = [name for (name,) in connection.execute(_TABLES).fetchall() if name not in _KEPT]
    connection.execute(_SWEEP_STAGE.format(tables=", ".join([*tables, "account"])).encode())
    connection.execute("UPDATE simulated.clock SET at = %s, seed = %s", (at, str(seed)))


def set_clock(connection: psycopg.Connection[Any], at: datetime) -> None:
    """Let the database know what time it is."""
    connection.execute("UPDATE simulated.clock SET at = %s", (at,))
