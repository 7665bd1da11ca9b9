-- The browsers an owner's push notifications go to, an index for the count of a day's endings, when a balance event came
-- to us, and money that comes in or goes out in one round trip.

CREATE TABLE push_subscription (
    id TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    p256dh TEXT NOT NULL,
    auth TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (id),
    CONSTRAINT push_subscription_once_per_browser UNIQUE (owner_id, endpoint),
    FOREIGN KEY(owner_id) REFERENCES owner (id)
);

CREATE INDEX top_up_ended_lately ON top_up (ended_at) WHERE state = 'ended';

ALTER TABLE balance_event ADD COLUMN recorded_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL;

-- Move money between an account and the outside, and give what the account has available after it. The account is
-- named by its id or by its wallet. All of it is one round trip, since every other payment of the asset waits for the
-- outside's account meanwhile.
CREATE FUNCTION ledger_cross(
    p_key text, p_hash text, p_kind text, p_account bigint, p_wallet text, p_amount minor_units)
RETURNS TABLE (status text, available numeric) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    inside bigint;
    currency text;
    outside bigint;
BEGIN
    IF p_wallet IS NULL THEN
        SELECT id, asset INTO inside, currency FROM account WHERE id = p_account;
    ELSE
        SELECT id, asset INTO inside, currency FROM account WHERE wallet_id = p_wallet;
    END IF;
    SELECT id INTO outside FROM account
    WHERE kind = 'world' AND owner_id IS NULL AND wallet_id IS NULL AND asset = currency;
    IF inside IS NULL OR outside IS NULL THEN
        RAISE EXCEPTION 'transfer % has no account', p_key USING ERRCODE = 'TM002';
    END IF;
    IF p_kind = 'deposit' THEN
        SELECT posted.status INTO status
        FROM ledger_post(p_key, p_hash, p_kind, outside, inside, p_amount, 'added') AS posted;
    ELSE
        SELECT posted.status INTO status
        FROM ledger_post(p_key, p_hash, p_kind, inside, outside, p_amount, 'spent') AS posted;
    END IF;
    SELECT posted - held INTO available FROM account WHERE id = inside;
    RETURN NEXT;
END
$$;
