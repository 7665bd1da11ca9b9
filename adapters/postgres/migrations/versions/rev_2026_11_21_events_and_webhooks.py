"""The public events, written in the commits they tell of, and the endpoints they are sent to."""

from pathlib import Path
from typing import Any

from alembic import op

revision = "2026_11_21_events_and_webhooks"
down_revision = "2026_11_21_the_first_tables"


def upgrade() -> None:
    """Make the tables, and the triggers that tell of balances and draws whoever moves the money."""
    script = Path(__file__).parent / "events_and_webhooks_2026_11_21.sql"
    driver: Any = op.get_bind().connection.driver_connection
    driver.execute(script.read_text())
