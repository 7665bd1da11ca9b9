"""One warning at a program's start in production, where its login may do more than it should."""

import structlog
from sqlalchemy.exc import SQLAlchemyError

from adapters.postgres.database import Database, DatabaseOutOfReach
from adapters.postgres.rights import may_rewrite
from runtime.settings import Settings

_LOG = structlog.get_logger()


async def warn_of_rights(settings: Settings, database: Database) -> None:
    """Warn when the ledger's entries could be rewritten by this login; a database that is away is not waited for."""
    if settings.environment != "production":
        return
    try:
        warned = await may_rewrite(database)
    except (DatabaseOutOfReach, SQLAlchemyError, OSError):
        return
    if warned:
        _LOG.warning(
            "database.login_may_rewrite_entries",
            advice="log in as a member of tidemark_service, and keep the owner of the tables for the upgrade",
        )
