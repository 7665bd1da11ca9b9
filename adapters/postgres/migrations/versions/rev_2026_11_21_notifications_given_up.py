"""Finding the notifications that were given up lately, for the operators' page."""

from alembic import op

revision = "2026_11_21_given_up"
down_revision = "2026_11_21_web_push"


def upgrade() -> None:
    """Make the index."""
    op.execute("CREATE INDEX delivery_given_up ON delivery (created_at) WHERE status = 'undeliverable'")
