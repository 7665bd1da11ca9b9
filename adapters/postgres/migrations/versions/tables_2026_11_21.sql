-- The first tables. Amounts are whole minor units in guarded numerics: an integer, no NaN, no infinity, below 1e38.

CREATE DOMAIN minor_units AS numeric CHECK (VALUE >= 0 AND VALUE < 1e38 AND scale(VALUE) = 0);
CREATE DOMAIN signed_units AS numeric CHECK (VALUE > -1e38 AND VALUE < 1e38 AND scale(VALUE) = 0);

CREATE TABLE owner (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    email TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (id)
);

CREATE TABLE wallet (
    id TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    currency TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY(owner_id) REFERENCES owner (id)
);
CREATE INDEX ix_wallet_owner_id ON wallet (owner_id);

CREATE TABLE account (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    kind TEXT NOT NULL,
    owner_id TEXT,
    wallet_id TEXT,
    asset TEXT NOT NULL,
    posted signed_units DEFAULT 0 NOT NULL,
    held minor_units DEFAULT 0 NOT NULL,
    version BIGINT DEFAULT 0 NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT account_named_once UNIQUE NULLS NOT DISTINCT (kind, owner_id, wallet_id, asset),
    CONSTRAINT account_of_wallet UNIQUE (wallet_id),
    CONSTRAINT account_kind_known CHECK (kind IN ('wallet', 'funding', 'trading', 'house', 'world')),
    CONSTRAINT account_not_overdrawn CHECK (kind IN ('house', 'world') OR posted - held >= 0),
    FOREIGN KEY(owner_id) REFERENCES owner (id),
    FOREIGN KEY(wallet_id) REFERENCES wallet (id)
)
 WITH (fillfactor = 50);

CREATE TABLE transfer (
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    request_hash TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT,
    debited minor_units DEFAULT 0 NOT NULL,
    credited minor_units DEFAULT 0 NOT NULL,
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT transfer_status_known CHECK (status IN ('moved', 'short', 'refused', 'void')),
    CONSTRAINT transfer_moved_both CHECK ((status IN ('moved', 'short')) = (debited > 0 AND credited > 0))
);

CREATE TABLE entry (
    account_id BIGINT NOT NULL,
    account_version BIGINT NOT NULL,
    transfer_id TEXT NOT NULL,
    amount signed_units NOT NULL,
    balance_after signed_units NOT NULL,
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (account_id, account_version),
    CONSTRAINT entry_not_empty CHECK (amount <> 0),
    FOREIGN KEY(account_id) REFERENCES account (id)
);

CREATE TABLE balance_event (
    seq BIGINT GENERATED ALWAYS AS IDENTITY,
    id TEXT NOT NULL,
    wallet_id TEXT NOT NULL,
    change TEXT NOT NULL,
    balance minor_units NOT NULL,
    version BIGINT NOT NULL,
    occurred_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    stale BOOLEAN DEFAULT false NOT NULL,
    judged BOOLEAN DEFAULT false NOT NULL,
    PRIMARY KEY (seq),
    CONSTRAINT balance_event_told_once UNIQUE (id)
);
CREATE INDEX balance_event_unjudged ON balance_event (wallet_id, seq) WHERE NOT judged;

CREATE TABLE rule (
    id TEXT NOT NULL,
    wallet_id TEXT NOT NULL,
    threshold minor_units NOT NULL,
    amount minor_units NOT NULL,
    account TEXT NOT NULL,
    sources TEXT[] NOT NULL,
    enabled BOOLEAN NOT NULL,
    armed BOOLEAN NOT NULL,
    locked_by TEXT,
    spent_while_locked BOOLEAN DEFAULT false NOT NULL,
    version BIGINT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT rule_one_per_wallet UNIQUE (wallet_id),
    CONSTRAINT rule_amounts_positive CHECK (threshold > 0 AND amount > 0),
    CONSTRAINT rule_one_to_three_sources CHECK (cardinality(sources) BETWEEN 1 AND 3),
    FOREIGN KEY(wallet_id) REFERENCES wallet (id)
);

CREATE TABLE rule_revision (
    rule_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    wallet_id TEXT NOT NULL,
    change TEXT NOT NULL,
    terms JSONB NOT NULL,
    enabled BOOLEAN NOT NULL,
    by TEXT NOT NULL,
    proof JSONB,
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (rule_id, version)
);
CREATE INDEX ix_rule_revision_wallet_id ON rule_revision (wallet_id);

CREATE TABLE decision (
    seq BIGINT GENERATED ALWAYS AS IDENTITY,
    rule_id TEXT NOT NULL,
    wallet_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    balance minor_units NOT NULL,
    threshold minor_units NOT NULL,
    currency TEXT NOT NULL,
    fired BOOLEAN NOT NULL,
    reason TEXT NOT NULL,
    top_up_id TEXT,
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (seq),
    CONSTRAINT decision_once_per_event UNIQUE (rule_id, event_id)
);
CREATE INDEX decision_of_rule ON decision (rule_id, seq);

CREATE TABLE top_up (
    id TEXT NOT NULL,
    rule_id TEXT NOT NULL,
    rule_version BIGINT NOT NULL,
    wallet_id TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    currency TEXT NOT NULL,
    threshold minor_units NOT NULL,
    amount minor_units NOT NULL,
    account TEXT NOT NULL,
    sources TEXT[] NOT NULL,
    trigger_event_id TEXT NOT NULL,
    trigger_balance minor_units NOT NULL,
    state TEXT NOT NULL,
    outcome TEXT,
    reason TEXT,
    credited minor_units DEFAULT 0 NOT NULL,
    checked JSONB,
    started_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    handed_over_at TIMESTAMP WITH TIME ZONE,
    ended_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (id),
    CONSTRAINT top_up_one_per_trigger UNIQUE (trigger_event_id),
    CONSTRAINT top_up_state_known CHECK (state IN ('in_progress', 'ended')),
    CONSTRAINT top_up_ended_with_outcome CHECK ((state = 'ended') = (outcome IS NOT NULL)),
    CONSTRAINT top_up_never_over_its_amount CHECK (credited <= amount),
    FOREIGN KEY(wallet_id) REFERENCES wallet (id),
    FOREIGN KEY(owner_id) REFERENCES owner (id)
);
CREATE INDEX ix_top_up_owner_id ON top_up (owner_id);
CREATE INDEX top_up_not_handed_over ON top_up (id) WHERE handed_over_at IS NULL;
CREATE INDEX top_up_of_rule ON top_up (rule_id, id);
CREATE INDEX top_up_of_wallet ON top_up (wallet_id, id);
CREATE UNIQUE INDEX top_up_one_in_progress ON top_up (rule_id) WHERE state = 'in_progress';

CREATE TABLE draw (
    top_up_id TEXT NOT NULL,
    rank INTEGER NOT NULL,
    asset TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT,
    debited minor_units DEFAULT 0 NOT NULL,
    credited minor_units DEFAULT 0 NOT NULL,
    PRIMARY KEY (top_up_id, rank),
    FOREIGN KEY(top_up_id) REFERENCES top_up (id)
);

CREATE TABLE delivery (
    id TEXT NOT NULL,
    top_up_id TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    channel TEXT NOT NULL,
    subject TEXT NOT NULL,
    status TEXT NOT NULL,
    attempts INTEGER DEFAULT 0 NOT NULL,
    last_failure TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    sent_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (id),
    CONSTRAINT delivery_once_per_channel UNIQUE (top_up_id, kind, channel),
    CONSTRAINT delivery_status_known CHECK (status IN ('pending', 'sent', 'undeliverable')),
    FOREIGN KEY(top_up_id) REFERENCES top_up (id),
    FOREIGN KEY(owner_id) REFERENCES owner (id)
);
CREATE INDEX delivery_pending ON delivery (created_at) WHERE status = 'pending';
CREATE INDEX ix_delivery_owner_id ON delivery (owner_id);

CREATE TABLE rate (
    asset TEXT NOT NULL,
    currency TEXT NOT NULL,
    rate NUMERIC NOT NULL,
    PRIMARY KEY (asset, currency),
    CONSTRAINT rate_positive CHECK (rate > 0 AND rate < 'Infinity')
);

CREATE TABLE fault (
    owner_id TEXT NOT NULL,
    account TEXT NOT NULL,
    asset TEXT NOT NULL,
    fault TEXT NOT NULL,
    times INTEGER NOT NULL,
    PRIMARY KEY (owner_id, account, asset),
    FOREIGN KEY(owner_id) REFERENCES owner (id)
);

CREATE TABLE api_key (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    hash TEXT NOT NULL,
    scopes TEXT[] NOT NULL,
    owner_id TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE,
    revoked_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (id),
    UNIQUE (hash),
    FOREIGN KEY(owner_id) REFERENCES owner (id)
);

CREATE TABLE kept_answer (
    api_key_id TEXT NOT NULL,
    route TEXT NOT NULL,
    key TEXT NOT NULL,
    request_hash TEXT NOT NULL,
    status INTEGER,
    headers JSONB,
    body TEXT,
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (api_key_id, route, key)
);
