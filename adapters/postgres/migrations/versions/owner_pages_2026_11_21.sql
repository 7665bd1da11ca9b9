-- Who signs in to the pages, and with what: people, their passkeys, recovery codes, links to register by, sessions, and
-- the terms that a person was asked to confirm.

CREATE TABLE person (
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    owner_id TEXT,
    name TEXT NOT NULL,
    handle BYTEA NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT person_kind_known CHECK (kind IN ('owner', 'operator')),
    CONSTRAINT person_owner_is_one CHECK ((kind = 'owner') = (owner_id IS NOT NULL)),
    CONSTRAINT person_one_per_owner UNIQUE (owner_id),
    CONSTRAINT person_handle_once UNIQUE (handle),
    FOREIGN KEY(owner_id) REFERENCES owner (id)
);

CREATE TABLE passkey (
    id TEXT NOT NULL,
    person_id TEXT NOT NULL,
    name TEXT NOT NULL,
    credential_id BYTEA NOT NULL,
    public_key BYTEA NOT NULL,
    sign_count BIGINT NOT NULL,
    transports TEXT[] NOT NULL,
    backed_up BOOLEAN NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    last_used_at TIMESTAMP WITH TIME ZONE,
    suspect_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (id),
    CONSTRAINT passkey_credential_once UNIQUE (credential_id),
    FOREIGN KEY(person_id) REFERENCES person (id)
);
CREATE INDEX passkey_of_person ON passkey (person_id, id);

CREATE TABLE recovery_code (
    hash TEXT NOT NULL,
    person_id TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    used_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (hash),
    FOREIGN KEY(person_id) REFERENCES person (id)
);
CREATE INDEX recovery_code_of_person ON recovery_code (person_id);

CREATE TABLE registration_link (
    hash TEXT NOT NULL,
    person_id TEXT NOT NULL,
    made_by TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    used_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (hash),
    FOREIGN KEY(person_id) REFERENCES person (id)
);

CREATE TABLE ceremony (
    hash TEXT NOT NULL,
    purpose TEXT NOT NULL,
    challenge BYTEA NOT NULL,
    person_id TEXT,
    link_hash TEXT,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (hash),
    CONSTRAINT ceremony_purpose_known CHECK (
        purpose IN ('sign_in', 'register', 'add_passkey', 'recovery_codes')
    ),
    FOREIGN KEY(person_id) REFERENCES person (id)
);
CREATE INDEX ceremony_by_end ON ceremony (expires_at);

CREATE TABLE page_session (
    hash TEXT NOT NULL,
    id TEXT NOT NULL,
    person_id TEXT NOT NULL,
    csrf TEXT NOT NULL,
    passkey_id TEXT,
    recovering BOOLEAN NOT NULL,
    browser TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    last_seen_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (hash),
    CONSTRAINT page_session_named_once UNIQUE (id),
    FOREIGN KEY(person_id) REFERENCES person (id)
);
CREATE INDEX page_session_of_person ON page_session (person_id);

CREATE TABLE confirmation (
    id TEXT NOT NULL,
    person_id TEXT NOT NULL,
    wallet_id TEXT NOT NULL,
    rule_id TEXT,
    action TEXT NOT NULL,
    base_version BIGINT,
    snapshot TEXT NOT NULL,
    challenge BYTEA NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    used_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (id),
    CONSTRAINT confirmation_action_known CHECK (action IN ('create', 'edit', 'enable')),
    CONSTRAINT confirmation_names_its_rule CHECK ((action = 'create') = (rule_id IS NULL)),
    CONSTRAINT confirmation_has_its_version CHECK ((rule_id IS NULL) = (base_version IS NULL)),
    FOREIGN KEY(person_id) REFERENCES person (id),
    FOREIGN KEY(wallet_id) REFERENCES wallet (id)
);
CREATE INDEX confirmation_of_person ON confirmation (person_id);
