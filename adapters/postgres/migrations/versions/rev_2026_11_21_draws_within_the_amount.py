"""The ledger itself keeps all draws of one top-up within its amount."""

from pathlib import Path
from typing import Any

from alembic import op

revision = "2026_11_21_draws_within"
down_revision = "2026_11_21_given_up"


def upgrade() -> None:
    """Replace the procedure that draws."""
    driver: Any = op.get_bind().connection.driver_connection
    driver.execute((Path(__file__).parent / "draws_within_the_amount_2026_11_21.sql").read_text())
