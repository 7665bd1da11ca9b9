"""Who signs in to the pages, and the terms they are asked to confirm."""

from pathlib import Path
from typing import Any

from alembic import op

revision = "2026_11_21_owner_pages"
down_revision = "2026_11_21_push_subscriptions"


def upgrade() -> None:
    """Make the tables."""
    driver: Any = op.get_bind().connection.driver_connection
    driver.execute((Path(__file__).parent / "owner_pages_2026_11_21.sql").read_text())
