-- What is in `blobs/` and `layers/` is what it is by its name; these rows say what is wanted of it.

-- Manifests and indexes whose bytes are in the store.
CREATE TABLE manifest (
    digest $text PRIMARY KEY,
    media_type $text NOT NULL,
    size $number NOT NULL
);

-- What a manifest names, present or not; `kind` is manifest, config, blob (the config too) or subject.
CREATE TABLE manifest_reference (
    manifest $text NOT NULL REFERENCES manifest(digest) ON DELETE CASCADE,
    kind $text NOT NULL,
    digest $text NOT NULL,
    PRIMARY KEY (manifest, kind, digest)
);
CREATE INDEX manifest_reference_digest ON manifest_reference(digest);

-- The unpacked layers of an image, lowest first, by chainID.
CREATE TABLE image_layer (
    manifest $text NOT NULL REFERENCES manifest(digest) ON DELETE CASCADE,
    position $number NOT NULL,
    chain_id $text NOT NULL,
    PRIMARY KEY (manifest, position)
);

-- What was pulled or loaded: an image, or an index of some images.
CREATE TABLE image (
    digest $text PRIMARY KEY REFERENCES manifest(digest),
    added_at $time NOT NULL
);

CREATE TABLE tag (
    name $text PRIMARY KEY,
    digest $text NOT NULL REFERENCES image(digest),
    tagged_at $time NOT NULL
);
CREATE INDEX tag_digest ON tag(digest);

-- Images that are in use and may not be collected, at most until the machine starts again.
CREATE TABLE lease (
    id $text PRIMARY KEY,
    digest $text NOT NULL REFERENCES manifest(digest),
    purpose $text NOT NULL,
    boot $text NOT NULL,
    leased_at $time NOT NULL
);
