CREATE TABLE repository (
    id $id,
    name $text NOT NULL UNIQUE,
    created_at $time NOT NULL
);

-- Bytes are owned by digest. state: live, or quarantined (HEAD answers 404, the next push heals it).
CREATE TABLE blob (
    digest $text PRIMARY KEY,
    size $number NOT NULL,
    location $text NOT NULL,
    state $text NOT NULL,
    lease_until $time NOT NULL,
    created_at $time NOT NULL
);
CREATE INDEX blob_lease ON blob (lease_until);
CREATE UNIQUE INDEX blob_location ON blob (location);

-- Which repository may read a blob. Knowing a digest is no permission.
CREATE TABLE repository_blob (
    repository_id $number NOT NULL REFERENCES repository (id),
    digest $text NOT NULL REFERENCES blob (digest),
    PRIMARY KEY (repository_id, digest)
);
CREATE INDEX repository_blob_digest ON repository_blob (digest);

CREATE TABLE manifest (
    digest $text PRIMARY KEY,
    media_type $text NOT NULL,
    size $number NOT NULL,
    subject $text,
    artifact_type $text,
    annotations $text NOT NULL,
    created_at $time NOT NULL
);

CREATE TABLE manifest_body (
    digest $text PRIMARY KEY REFERENCES manifest (digest),
    body $bytes NOT NULL
);

-- What a manifest names: config, layers, children. The subject is no reference; it may be missing.
CREATE TABLE manifest_reference (
    parent $text NOT NULL REFERENCES manifest (digest),
    child $text NOT NULL,
    PRIMARY KEY (parent, child)
);
CREATE INDEX manifest_reference_child ON manifest_reference (child);

CREATE TABLE repository_manifest (
    repository_id $number NOT NULL REFERENCES repository (id),
    digest $text NOT NULL REFERENCES manifest (digest),
    subject $text,
    pushed_at $time NOT NULL,
    PRIMARY KEY (repository_id, digest)
);
CREATE INDEX repository_manifest_digest ON repository_manifest (digest);
CREATE INDEX repository_manifest_subject ON repository_manifest (repository_id, subject, digest);

CREATE TABLE tag (
    repository_id $number NOT NULL REFERENCES repository (id),
    name $text NOT NULL,
    digest $text NOT NULL,
    moved_at $time NOT NULL,
    PRIMARY KEY (repository_id, name),
    FOREIGN KEY (repository_id, digest) REFERENCES repository_manifest (repository_id, digest)
);
CREATE INDEX tag_digest ON tag (repository_id, digest);

-- Every move of a tag; digest is null when it was deleted.
CREATE TABLE tag_history (
    id $id,
    repository_id $number NOT NULL REFERENCES repository (id),
    name $text NOT NULL,
    digest $text,
    principal $text NOT NULL,
    moved_at $time NOT NULL
);
CREATE INDEX tag_history_name ON tag_history (repository_id, name, id);

-- The offset here is the truth: bytes behind it were never acknowledged.
CREATE TABLE upload (
    id $text PRIMARY KEY,
    repository $text NOT NULL,
    principal $text NOT NULL,
    algorithm $text NOT NULL,
    size $number NOT NULL,
    digest_so_far $text,
    touched_at $time NOT NULL
);
CREATE INDEX upload_touched ON upload (touched_at);

-- Changes of names and locations on their way to the journal.
CREATE TABLE outbox (
    id $id,
    event $text NOT NULL
);

CREATE TABLE secret (
    name $text PRIMARY KEY,
    value $bytes NOT NULL
);
