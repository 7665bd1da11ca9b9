"""Wallets whose balance is kept elsewhere, and caps on what a rule may move."""

from pathlib import Path
from typing import Any

from alembic import op

revision = "2026_11_21_wallets_and_caps"
down_revision = "2026_11_21_events_and_webhooks"


def upgrade() -> None:
    """Add to the tables, and let the ledger keep quiet about wallets kept elsewhere."""
    driver: Any = op.get_bind().connection.driver_connection
    driver.execute((Path(__file__).parent / "wallets_elsewhere_and_caps_2026_11_21.sql").read_text())
