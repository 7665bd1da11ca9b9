"""Whether the role that a program has logged in as could rewrite what is written down once."""

from sqlalchemy import text

from adapters.postgres.database import Database

_MAY_REWRITE = text(
    "SELECT has_table_privilege('entry', 'UPDATE') OR has_table_privilege('entry', 'DELETE') "
    "OR has_table_privilege('entry', 'TRUNCATE') "
    "OR EXISTS (SELECT FROM pg_class WHERE oid = 'entry'::regclass AND pg_has_role(relowner, 'MEMBER'))"
)


async def may_rewrite(database: Database) -> bool:
    """Whether this role may change the ledger's entries or owns them. Raises DatabaseOutOfReach."""
    async with database.call() as connection:
        return bool((await connection.execute(_MAY_REWRITE)).scalar_one())
