"""Which revision the database is at, and which is the newest."""

from functools import cache
from pathlib import Path

from alembic.script import ScriptDirectory
from psycopg.errors import UndefinedTable
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from adapters.postgres import migrations
from adapters.postgres.database import Database

_CURRENT = text("SELECT version_num FROM alembic_version")


@cache
def newest_revision() -> str | None:
    """The revision this program was written for."""
    return ScriptDirectory(str(Path(migrations.__file__).parent)).get_current_head()


async def current_revision(database: Database) -> str | None:
    """The revision the database is at; None when it has never been upgraded. Raises DatabaseOutOfReach."""
    async with database.call() as connection:
        try:
            return (await connection.execute(_CURRENT)).scalar_one_or_none()
        except ProgrammingError as refused:
            if isinstance(refused.orig, UndefinedTable):
                return None
            raise
