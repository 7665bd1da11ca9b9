"""The key for Web Push, what each browser has had, and the low-balance notice."""

from pathlib import Path
from typing import Any

from alembic import op

revision = "2026_11_21_web_push"
down_revision = "2026_11_21_owner_pages"


def upgrade() -> None:
    """Make the tables and the columns."""
    driver: Any = op.get_bind().connection.driver_connection
    driver.execute((Path(__file__).parent / "web_push_and_low_balance_2026_11_21.sql").read_text())
