"""The first tables, the ledger's procedures, its own accounts, and the rates of a first start."""

from pathlib import Path
from typing import Any

from alembic import op

revision = "2026_11_21_the_first_tables"
down_revision = None

_FIRST_RATES = """
INSERT INTO rate (asset, currency, rate)
SELECT a, c, 1 FROM unnest(ARRAY['USDT', 'USDC', 'USDG']) AS a, unnest(ARRAY['USDT', 'USDC', 'USDG']) AS c
WHERE a <> c;
INSERT INTO rate (asset, currency, rate) VALUES
    ('BTC', 'USDT', 60000), ('ETH', 'USDT', 3000), ('SOL', 'USDT', 150), ('EUR', 'USDT', 1.10);
"""

_OWN_ACCOUNTS = """
INSERT INTO account (kind, asset)
SELECT kind, asset FROM unnest(ARRAY['world', 'house']) AS kind,
    unnest(ARRAY['USDT', 'USDC', 'USDG', 'BTC', 'ETH', 'SOL', 'EUR', 'USD', 'JPY']) AS asset;
"""


def upgrade() -> None:
    """Create everything; an asset added to the registry later needs its own accounts in a new migration."""
    here = Path(__file__).parent
    driver: Any = op.get_bind().connection.driver_connection
    for script in ("tables_2026_11_21.sql", "ledger_2026_11_21.sql"):
        driver.execute((here / script).read_text())
    driver.execute(_OWN_ACCOUNTS)
    driver.execute(_FIRST_RATES)
