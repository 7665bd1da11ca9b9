-- Wallets whose balance is kept elsewhere and told to us, caps on what a rule may move, and the indexes that counting
-- what was moved and reading a wallet's history back need.

ALTER TABLE wallet
    ADD COLUMN kept TEXT DEFAULT 'ledger' NOT NULL,
    ADD CONSTRAINT wallet_kept_known CHECK (kept IN ('ledger', 'elsewhere'));

CREATE TABLE balance_report (
    wallet_id TEXT NOT NULL,
    balance minor_units NOT NULL,
    version BIGINT NOT NULL,
    event_id TEXT NOT NULL,
    occurred_at TIMESTAMP WITH TIME ZONE NOT NULL,
    received_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (wallet_id),
    FOREIGN KEY(wallet_id) REFERENCES wallet (id)
);

ALTER TABLE rule
    ADD COLUMN cap_day_amount minor_units,
    ADD COLUMN cap_day_count INTEGER,
    ADD COLUMN cap_month_amount minor_units,
    ADD COLUMN cap_month_count INTEGER,
    ADD CONSTRAINT rule_caps_positive CHECK (
        cap_day_amount > 0 AND cap_day_count > 0 AND cap_month_amount > 0 AND cap_month_count > 0);

CREATE INDEX balance_event_of_wallet ON balance_event (wallet_id, seq);
CREATE INDEX top_up_of_wallet_by_start ON top_up (wallet_id, started_at);

-- What a wallet holds as far as we know, for a caller who holds the wallet's row: its ledger account's balance, which
-- is locked too, or the balance reported last. Nothing where nothing was reported yet.
CREATE FUNCTION hold_balance(p_wallet text) RETURNS TABLE (balance numeric, version bigint, kept text)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    SELECT w.kept INTO kept FROM wallet w WHERE w.id = p_wallet;
    IF kept = 'elsewhere' THEN
        SELECT r.balance, r.version INTO balance, version FROM balance_report r WHERE r.wallet_id = p_wallet;
    ELSE
        SELECT a.posted - a.held, a.version INTO balance, version
        FROM account a WHERE a.wallet_id = p_wallet FOR NO KEY UPDATE;
    END IF;
    IF FOUND THEN
        RETURN NEXT;
    END IF;
END
$$;

-- As before, but a wallet that is kept elsewhere is not told of: what its account holds is money handed over to it, and
-- only a report says when it has arrived.
CREATE OR REPLACE FUNCTION ledger_write(p_transfer text, p_accounts bigint[], p_amounts numeric[], p_change text)
RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    side integer;
    wallet text;
    moved bigint;
    balance numeric;
    available numeric;
BEGIN
    FOR side IN 1 .. cardinality(p_accounts) LOOP
        UPDATE account SET posted = posted + p_amounts[side], version = version + 1 WHERE id = p_accounts[side]
        RETURNING wallet_id, version, posted, posted - held INTO wallet, moved, balance, available;
        INSERT INTO entry (account_id, account_version, transfer_id, amount, balance_after)
        VALUES (p_accounts[side], moved, p_transfer, p_amounts[side], balance);
        IF wallet IS NOT NULL AND EXISTS (SELECT FROM wallet w WHERE w.id = wallet AND w.kept = 'ledger') THEN
            INSERT INTO balance_event (id, wallet_id, change, balance, version)
            VALUES (new_id('event'), wallet, p_change, available, moved);
        END IF;
    END LOOP;
END
$$;
