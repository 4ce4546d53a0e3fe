-- People, and what they are called together.
CREATE TABLE user_account (
    name $text PRIMARY KEY,
    password_hash $text NOT NULL,
    is_admin $number NOT NULL,
    is_disabled $number NOT NULL,
    created_at $time NOT NULL,
    password_changed_at $time NOT NULL,
    last_login_at $time
);

CREATE TABLE user_group (
    name $text PRIMARY KEY
);

-- A member may have no account here: the htpasswd file has users too.
CREATE TABLE group_member (
    group_name $text NOT NULL REFERENCES user_group (name),
    user_name $text NOT NULL,
    PRIMARY KEY (group_name, user_name)
);
CREATE INDEX group_member_user ON group_member (user_name);

CREATE TABLE robot (
    name $text PRIMARY KEY,
    description $text NOT NULL,
    created_by $text NOT NULL,
    created_at $time NOT NULL,
    is_disabled $number NOT NULL
);

-- Secrets of robots and personal access tokens of users; `limits` is JSON, null for all of the owner's rights.
CREATE TABLE api_token (
    id $text PRIMARY KEY,
    owner_kind $text NOT NULL,
    owner_name $text NOT NULL,
    secret_hash $bytes NOT NULL UNIQUE,
    description $text NOT NULL,
    limits $text,
    created_at $time NOT NULL,
    expires_at $time,
    last_used_at $time,
    revoked_at $time
);
CREATE INDEX api_token_owner ON api_token (owner_kind, owner_name);

-- Of a refresh token only the hash is kept. `handle` names the credential that it stands for.
CREATE TABLE refresh_token (
    hash $bytes PRIMARY KEY,
    id $text NOT NULL UNIQUE,
    principal $text NOT NULL,
    handle $text NOT NULL,
    service $text NOT NULL,
    client_id $text NOT NULL,
    created_at $time NOT NULL,
    expires_at $time NOT NULL,
    last_used_at $time,
    revoked_at $time
);
CREATE INDEX refresh_token_principal ON refresh_token (principal);

-- The newest key without retires_at signs; the others verify until then.
CREATE TABLE signing_key (
    kid $text PRIMARY KEY,
    algorithm $text NOT NULL,
    private_key $bytes NOT NULL,
    created_at $time NOT NULL,
    retires_at $time
);

-- Allow-only rules; `who` and `actions` are texts of the policy's grammar.
CREATE TABLE policy_rule (
    id $id,
    who $text NOT NULL,
    repository $text NOT NULL,
    actions $text NOT NULL,
    created_by $text NOT NULL,
    created_at $time NOT NULL
);

CREATE TABLE immutable_rule (
    id $id,
    repository $text NOT NULL,
    tag_pattern $text NOT NULL
);

-- Null is no limit.
CREATE TABLE quota (
    repository $text PRIMARY KEY,
    bytes $number,
    tags $number
);

-- ID tokens that were used, until they expire: by whom is the source that showed it, empty for an exchange.
CREATE TABLE oidc_token (
    provider $text NOT NULL,
    jti $text NOT NULL,
    source $text NOT NULL,
    expires_at $time NOT NULL,
    PRIMARY KEY (provider, jti)
);
CREATE INDEX oidc_token_expires ON oidc_token (expires_at);

-- Counts every change of the tables above that may take a right away: what workers keep in memory carries it.
CREATE TABLE access_version (
    name $text PRIMARY KEY,
    number $number NOT NULL
);
INSERT INTO access_version (name, number) VALUES ('access', 0);

-- Bytes of an open upload that count for its repository's quota: the acknowledged ones and those announced.
ALTER TABLE upload ADD COLUMN reserved $number NOT NULL DEFAULT 0;
UPDATE upload SET reserved = size;
CREATE INDEX upload_repository ON upload (repository);
