-- The public events, each written in the commit of the change it tells of, and the endpoints they are sent to.
--
-- An event's place in the feed is (xact, seq): which commit wrote it, and where in it. Neither is the order of commits,
-- since one that began earlier may end later. So the feed is read only up to the oldest commit still under way
-- (xact < pg_snapshot_xmin(pg_current_snapshot())): before that point nothing can appear any more.

CREATE TABLE asset (
    code TEXT NOT NULL,
    scale INTEGER NOT NULL,
    PRIMARY KEY (code),
    CONSTRAINT asset_scale_possible CHECK (scale BETWEEN 0 AND 18)
);
INSERT INTO asset (code, scale) VALUES
    ('USDT', 6), ('USDC', 6), ('USDG', 6), ('BTC', 8), ('ETH', 18), ('SOL', 9), ('EUR', 2), ('USD', 2), ('JPY', 0);
CREATE TRIGGER asset_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON asset
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewriting();

CREATE TABLE event (
    xact XID8 DEFAULT pg_current_xact_id() NOT NULL,
    seq BIGINT GENERATED ALWAYS AS IDENTITY,
    id TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    type TEXT NOT NULL,
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    payload JSONB NOT NULL,
    PRIMARY KEY (xact, seq)
);
CREATE INDEX event_of_owner ON event (owner_id, xact, seq);

-- Two places in the feed: up to where deliveries have been made, and up to where events have been dropped for their age.
CREATE TABLE event_mark (
    name TEXT NOT NULL,
    xact XID8 NOT NULL,
    seq BIGINT NOT NULL,
    PRIMARY KEY (name),
    CONSTRAINT event_mark_known CHECK (name IN ('handed_out', 'dropped'))
);
INSERT INTO event_mark (name, xact, seq) VALUES ('handed_out', '0', 0), ('dropped', '0', 0);

CREATE TABLE webhook_endpoint (
    id TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    url TEXT NOT NULL,
    events TEXT[] NOT NULL,
    description TEXT,
    secret TEXT NOT NULL,
    previous_secret TEXT,
    previous_secret_until TIMESTAMP WITH TIME ZONE,
    enabled BOOLEAN DEFAULT true NOT NULL,
    disabled_reason TEXT,
    failing_since TIMESTAMP WITH TIME ZONE,
    since XID8 DEFAULT pg_current_xact_id() NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT webhook_endpoint_off_with_reason CHECK (enabled = (disabled_reason IS NULL)),
    CONSTRAINT webhook_endpoint_previous_with_end
        CHECK ((previous_secret IS NULL) = (previous_secret_until IS NULL)),
    FOREIGN KEY(owner_id) REFERENCES owner (id)
);
CREATE INDEX ix_webhook_endpoint_owner_id ON webhook_endpoint (owner_id);

CREATE TABLE webhook_delivery (
    id TEXT NOT NULL,
    endpoint_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    type TEXT NOT NULL,
    body TEXT NOT NULL,
    status TEXT DEFAULT 'pending' NOT NULL,
    attempts INTEGER DEFAULT 0 NOT NULL,
    last_status INTEGER,
    last_failure TEXT,
    last_attempt_at TIMESTAMP WITH TIME ZONE,
    next_attempt_at TIMESTAMP WITH TIME ZONE NOT NULL,
    queued_at TIMESTAMP WITH TIME ZONE NOT NULL,
    delivered_at TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT webhook_delivery_once_per_event UNIQUE (endpoint_id, event_id),
    CONSTRAINT webhook_delivery_status_known CHECK (status IN ('pending', 'delivered', 'failed')),
    FOREIGN KEY(endpoint_id) REFERENCES webhook_endpoint (id) ON DELETE CASCADE
);
CREATE INDEX webhook_delivery_due ON webhook_delivery (next_attempt_at, endpoint_id) WHERE status = 'pending';
CREATE INDEX webhook_delivery_of_endpoint ON webhook_delivery (endpoint_id, id);
CREATE INDEX webhook_delivery_pending ON webhook_delivery (endpoint_id, next_attempt_at) WHERE status = 'pending';

-- Plain decimal text, exactly as `topup.money` writes it: at least two decimals where there are any, no needless zeros.
CREATE FUNCTION units_text(p_units numeric, p_scale integer)
RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE WHEN p_scale = 0 THEN p_units::text ELSE
        left(digits, -p_scale) || '.'
            || rpad(rtrim(right(digits, p_scale), '0'),
                greatest(length(rtrim(right(digits, p_scale), '0')), least(2, p_scale)), '0') END
    FROM (SELECT lpad(p_units::text, greatest(length(p_units::text), p_scale + 1), '0') AS digits) AS padded
$$;

CREATE FUNCTION amount_text(p_units numeric, p_asset text) RETURNS text LANGUAGE sql STABLE STRICT AS $$
    SELECT units_text(p_units, scale) FROM asset WHERE code = p_asset
$$;

-- Whoever writes a balance event that tells of money, the ledger or a report from outside, tells it publicly with it.
CREATE FUNCTION tell_balance_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO event (id, owner_id, type, payload)
    SELECT new_id('evt'), owner_id, 'wallet.balance_changed', jsonb_build_object(
        'wallet_id', id, 'currency', currency, 'balance', amount_text(NEW.balance, currency),
        'version', NEW.version, 'change', NEW.change)
    FROM wallet WHERE id = NEW.wallet_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER balance_event_told AFTER INSERT ON balance_event FOR EACH ROW
    WHEN (NOT NEW.stale AND NEW.change IN ('spent', 'added', 'topped_up'))
    EXECUTE FUNCTION tell_balance_changed();

-- A draw that the ledger has an answer to is told in the commit that remembers the answer; a key that was only fenced
-- is told when its top-up is settled.
CREATE FUNCTION tell_draw_settled() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    place integer := substring(NEW.id FROM ':([0-9]{1,4})$')::integer;
BEGIN
    INSERT INTO event (id, owner_id, type, payload)
    SELECT new_id('evt'), owner_id, 'top_up.draw_settled', jsonb_build_object(
        'top_up_id', id, 'rank', place, 'asset', sources[place],
        'status', CASE NEW.status WHEN 'moved' THEN 'transferred' ELSE 'short' END,
        'reason', NEW.reason,
        'debited', amount_text(NEW.debited, sources[place]), 'credited', amount_text(NEW.credited, currency))
    FROM top_up WHERE id = split_part(NEW.id, ':', 1) AND place BETWEEN 1 AND cardinality(sources);
    RETURN NULL;
END
$$;
CREATE TRIGGER draw_told AFTER INSERT ON transfer FOR EACH ROW
    WHEN (NEW.kind = 'draw' AND NEW.status <> 'void')
    EXECUTE FUNCTION tell_draw_settled();

-- Make the deliveries of the next events, each once for each endpoint that was on when the event's commit began; how
-- many events were looked at. One courier does it at a time; the others get nothing and go on to what is queued.
CREATE FUNCTION hand_out_events(p_most integer, p_now timestamptz) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    mark event_mark;
    looked_at integer;
BEGIN
    SELECT * INTO mark FROM event_mark WHERE name = 'handed_out' FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    WITH due AS MATERIALIZED (
        SELECT * FROM event
        WHERE (xact, seq) > (mark.xact, mark.seq) AND xact < pg_snapshot_xmin(pg_current_snapshot())
        ORDER BY xact, seq LIMIT p_most
    ), made AS (
        INSERT INTO webhook_delivery (id, endpoint_id, event_id, type, body, next_attempt_at, queued_at)
        SELECT new_id('msg'), e.id, d.id, d.type,
            format('{"type":%s,"timestamp":%s,"data":%s}', to_json(d.type),
                to_json(to_char(d.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')), d.payload),
            p_now, p_now
        FROM due d JOIN webhook_endpoint e ON e.owner_id = d.owner_id
        WHERE e.enabled AND d.type = ANY(e.events) AND d.xact >= e.since
        ORDER BY d.xact, d.seq
        ON CONFLICT ON CONSTRAINT webhook_delivery_once_per_event DO NOTHING
    ), moved AS (
        UPDATE event_mark m SET xact = d.xact, seq = d.seq
        FROM (SELECT xact, seq FROM due ORDER BY xact DESC, seq DESC LIMIT 1) AS d WHERE m.name = 'handed_out'
    )
    SELECT count(*) INTO looked_at FROM due;
    RETURN looked_at;
END
$$;

-- Drop events from before a moment, oldest first; how many they were. What is dropped is remembered as a place in the
-- feed, so that whoever wants to go on from before it can be told.
CREATE FUNCTION drop_events(p_before timestamptz, p_most integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    dropped integer;
BEGIN
    WITH gone AS (
        DELETE FROM event WHERE at < p_before
            AND (xact, seq) IN (SELECT xact, seq FROM event ORDER BY xact, seq LIMIT p_most)
        RETURNING xact, seq
    ), marked AS (
        UPDATE event_mark m SET xact = g.xact, seq = g.seq
        FROM (SELECT xact, seq FROM gone ORDER BY xact DESC, seq DESC LIMIT 1) AS g WHERE m.name = 'dropped'
    )
    SELECT count(*) INTO dropped FROM gone;
    RETURN dropped;
END
$$;

-- In a database restored from a dump into another server, events carry the numbers of the old one, which may lie ahead:
-- they would hide every new one. Then all of them are given this commit's number, and nobody can go on from before it.
-- True when that was so.
CREATE FUNCTION mend_events() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    ahead xid8 := pg_snapshot_xmax(pg_current_snapshot());
BEGIN
    IF NOT EXISTS (SELECT FROM event WHERE xact > ahead)
        AND NOT EXISTS (SELECT FROM event_mark WHERE xact > ahead)
        AND NOT EXISTS (SELECT FROM webhook_endpoint WHERE since > ahead) THEN
        RETURN false;
    END IF;
    UPDATE event SET xact = pg_current_xact_id();
    UPDATE event_mark SET xact = pg_current_xact_id(),
        seq = CASE name WHEN 'handed_out' THEN (SELECT coalesce(max(seq), 0) FROM event) ELSE 0 END;
    UPDATE webhook_endpoint SET since = pg_current_xact_id();
    RETURN true;
END
$$;
