"""PostgreSQL: the embedded ledger, the store of rules and top-ups, and their migrations."""
