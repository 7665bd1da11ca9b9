-- The key that push services know us by, which browser has had which notification, and the notice that a balance is low:
-- it is about a balance event rather than a top-up, told once for each dip, and can be turned off.

CREATE TABLE push_key (
    id INTEGER NOT NULL,
    private_key TEXT NOT NULL,
    public_key TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT push_key_only_one CHECK (id = 1)
);

CREATE TABLE push_receipt (
    delivery_id TEXT NOT NULL,
    subscription_id TEXT NOT NULL,
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (delivery_id, subscription_id),
    FOREIGN KEY(delivery_id) REFERENCES delivery (id)
);

ALTER TABLE owner ADD COLUMN low_balance_notices BOOLEAN DEFAULT true NOT NULL;

ALTER TABLE rule ADD COLUMN told_low_event_id TEXT;

ALTER TABLE delivery
    ALTER COLUMN top_up_id DROP NOT NULL,
    ADD COLUMN event_id TEXT,
    ADD COLUMN stop_token TEXT,
    ADD CONSTRAINT delivery_once_per_event UNIQUE (event_id, kind, channel),
    ADD CONSTRAINT delivery_stop_token_once UNIQUE (stop_token),
    ADD CONSTRAINT delivery_about_one_thing CHECK ((top_up_id IS NULL) <> (event_id IS NULL));
