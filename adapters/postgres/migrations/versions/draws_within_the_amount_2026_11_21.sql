-- Draw at most p_credit for a wallet from one asset of its owner's account, at p_num/p_den wallet units per asset unit.
-- Gives what is there and says so. The debit is rounded up, the credit down; never more than is held or asked (R22).
-- A key is its top-up's id, a colon and the source's rank. All draws of one top-up together never credit more than its
-- amount, whatever is asked (R19): what the others have given is read behind the wallet's lock, so none can be missed.
CREATE OR REPLACE FUNCTION ledger_draw(
    p_key text, p_hash text, p_owner text, p_account text, p_asset text, p_wallet text,
    p_credit minor_units, p_num numeric, p_den numeric)
RETURNS SETOF transfer LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    source bigint;
    wallet bigint;
    currency text;
    house_in bigint;
    house_out bigint;
    available numeric;
    debit numeric;
    credit numeric;
    amount_max numeric;
    asked numeric := p_credit;
BEGIN
    SELECT id INTO source FROM account
    WHERE kind = p_account AND owner_id = p_owner AND wallet_id IS NULL AND asset = p_asset;
    SELECT id, asset INTO wallet, currency FROM account WHERE wallet_id = p_wallet;
    IF wallet IS NULL OR p_num <= 0 OR p_den <= 0 THEN
        RAISE EXCEPTION 'draw % has no wallet or no quote', p_key USING ERRCODE = 'TM002';
    END IF;
    IF p_asset <> currency THEN
        SELECT id INTO STRICT house_in FROM account WHERE kind = 'house' AND asset = p_asset;
        SELECT id INTO STRICT house_out FROM account WHERE kind = 'house' AND asset = currency;
    ELSIF p_num <> p_den THEN
        RAISE EXCEPTION 'draw % quotes an asset against itself', p_key USING ERRCODE = 'TM002';
    END IF;
    SELECT coalesce(sum(free) FILTER (WHERE id = source), 0) INTO available FROM (
        SELECT id, posted - held AS free FROM account
        WHERE id IN (source, wallet, house_in, house_out) ORDER BY id FOR NO KEY UPDATE) AS locked;
    SELECT amount INTO amount_max FROM top_up WHERE id = split_part(p_key, ':', 1);
    IF FOUND THEN
        asked := least(asked, greatest(0, amount_max - (
            SELECT coalesce(sum(credited), 0) FROM transfer
            WHERE id IN (SELECT split_part(p_key, ':', 1) || ':' || rank FROM generate_series(1, 3) AS rank)
                AND id <> p_key)));
    END IF;
    credit := asked;
    debit := div(credit * p_den + p_num - 1, p_num);
    IF debit > available THEN
        credit := div(available * p_num, p_den);
        debit := div(credit * p_den + p_num - 1, p_num);
    END IF;
    RETURN QUERY INSERT INTO transfer (id, kind, request_hash, status, reason, debited, credited)
    VALUES (p_key, 'draw', p_hash,
        CASE WHEN credit = 0 THEN 'refused' WHEN credit < p_credit THEN 'short' ELSE 'moved' END,
        CASE WHEN credit < asked THEN 'insufficient' WHEN credit < p_credit THEN 'rejected' END, debit, credit)
    ON CONFLICT (id) DO NOTHING RETURNING *;
    IF NOT FOUND THEN
        -- The key was taken before, by this very draw or by a fence: nothing has been changed, and nothing will be.
        RETURN QUERY SELECT * FROM ledger_remembered(p_key, p_hash);
    ELSIF credit > 0 AND house_in IS NULL THEN
        PERFORM ledger_write(p_key, ARRAY[source, wallet], ARRAY[-debit, credit], 'topped_up');
    ELSIF credit > 0 THEN
        PERFORM ledger_write(p_key, ARRAY[source, house_in, house_out, wallet],
            ARRAY[-debit, debit, -credit, credit], 'topped_up');
    END IF;
END
$$;
