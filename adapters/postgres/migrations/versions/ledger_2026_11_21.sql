-- The ledger's deeds: one procedure for each, one round trip, all accounts locked in the order of their ids.
-- Errors of their own class: TM001 a key was used again for another request, TM002 an account does not exist.

CREATE FUNCTION new_id(prefix text) RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT prefix || '_' || lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0')
        || substr(replace(gen_random_uuid()::text, '-', ''), 1, 20)
$$;

-- What is remembered under a key, or nothing. A key belongs to one request for ever.
CREATE FUNCTION ledger_remembered(p_key text, p_hash text)
RETURNS SETOF transfer LANGUAGE plpgsql STABLE AS $$
DECLARE
    known transfer;
BEGIN
    SELECT * INTO known FROM transfer WHERE id = p_key;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF known.status <> 'void' AND known.request_hash <> p_hash THEN
        RAISE EXCEPTION 'transfer % was another request', p_key USING ERRCODE = 'TM001';
    END IF;
    RETURN NEXT known;
END
$$;

-- Write the entries of one transfer, move the balances, and tell of a wallet's change in the same commit. The caller
-- holds the accounts' locks. One plain statement for each step: a joined one is planned anew at every call.
CREATE FUNCTION ledger_write(p_transfer text, p_accounts bigint[], p_amounts numeric[], p_change text)
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
        IF wallet IS NOT NULL THEN
            INSERT INTO balance_event (id, wallet_id, change, balance, version)
            VALUES (new_id('event'), wallet, p_change, available, moved);
        END IF;
    END LOOP;
END
$$;

-- Move an amount of one asset from one account to another, or remember that the account lacked it.
CREATE FUNCTION ledger_post(
    p_key text, p_hash text, p_kind text, p_debit bigint, p_credit bigint, p_amount minor_units, p_change text)
RETURNS SETOF transfer LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    payer account;
    payee account;
    outcome transfer;
BEGIN
    PERFORM 1 FROM account WHERE id IN (p_debit, p_credit) ORDER BY id FOR NO KEY UPDATE;
    RETURN QUERY SELECT * FROM ledger_remembered(p_key, p_hash);
    IF FOUND THEN
        RETURN;
    END IF;
    SELECT * INTO payer FROM account WHERE id = p_debit;
    SELECT * INTO payee FROM account WHERE id = p_credit;
    IF payer.id IS NULL OR payee.id IS NULL OR payer.asset <> payee.asset OR p_amount = 0 THEN
        RAISE EXCEPTION 'transfer % has no two accounts of one asset, or no amount', p_key USING ERRCODE = 'TM002';
    END IF;
    IF payer.kind NOT IN ('house', 'world') AND payer.posted - payer.held < p_amount THEN
        INSERT INTO transfer (id, kind, request_hash, status, reason)
        VALUES (p_key, p_kind, p_hash, 'refused', 'insufficient') RETURNING * INTO outcome;
    ELSE
        INSERT INTO transfer (id, kind, request_hash, status, debited, credited)
        VALUES (p_key, p_kind, p_hash, 'moved', p_amount, p_amount) RETURNING * INTO outcome;
        PERFORM ledger_write(p_key, ARRAY[p_debit, p_credit], ARRAY[-p_amount, p_amount]::numeric[], p_change);
    END IF;
    RETURN NEXT outcome;
END
$$;

-- Draw at most p_credit for a wallet from one asset of its owner's account, at p_num/p_den wallet units per asset unit.
-- Gives what is there and says so. The debit is rounded up, the credit down; never more than is held or asked (R22).
CREATE FUNCTION ledger_draw(
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
    credit numeric := p_credit;
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
    debit := div(p_credit * p_den + p_num - 1, p_num);
    IF debit > available THEN
        credit := div(available * p_num, p_den);
        debit := div(credit * p_den + p_num - 1, p_num);
    END IF;
    RETURN QUERY INSERT INTO transfer (id, kind, request_hash, status, reason, debited, credited)
    VALUES (p_key, 'draw', p_hash,
        CASE WHEN credit = 0 THEN 'refused' WHEN credit < p_credit THEN 'short' ELSE 'moved' END,
        CASE WHEN credit < p_credit THEN 'insufficient' END, debit, credit)
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

-- Take draws' keys so that they can never move money; then say who had each first (R21). Waits for draws under way.
CREATE FUNCTION ledger_fence(p_keys text[]) RETURNS SETOF transfer LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    INSERT INTO transfer (id, kind, request_hash, status)
    SELECT key, 'draw', '', 'void' FROM unnest(p_keys) AS key ORDER BY key
    ON CONFLICT DO NOTHING;
    RETURN QUERY SELECT * FROM transfer WHERE id = ANY(p_keys) ORDER BY id;
END
$$;

-- What is written stays written.
CREATE FUNCTION refuse_rewriting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of % is refused: what is written stays written', tg_op, tg_table_name USING ERRCODE = 'TM003';
END
$$;

CREATE TRIGGER entry_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON entry
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewriting();
CREATE TRIGGER transfer_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON transfer
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewriting();
