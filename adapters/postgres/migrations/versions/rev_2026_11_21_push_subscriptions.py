"""The browsers an owner's push notifications go to, and money in and out in one round trip."""

from pathlib import Path
from typing import Any

from alembic import op

revision = "2026_11_21_push_subscriptions"
down_revision = "2026_11_21_wallets_and_caps"


def upgrade() -> None:
    """Make the table, the index, the column and the procedure."""
    driver: Any = op.get_bind().connection.driver_connection
    driver.execute((Path(__file__).parent / "push_subscriptions_2026_11_21.sql").read_text())
