-- Idempotency keys and what was answered. No book: everything here ends by itself.
--
-- Ids are 16 bytes, instants milliseconds since 1970 UTC. A key is the hash of a user and the word that it sent.

CREATE TABLE keys (
    key         BLOB PRIMARY KEY NOT NULL,
    fingerprint BLOB NOT NULL,
    decision    BLOB NOT NULL,
    account     BLOB NOT NULL,
    at          INTEGER NOT NULL,
    -- 0 running, 1 interrupted, 2 answered, 3 not kept, 4 unanswered
    state       INTEGER NOT NULL CHECK (state BETWEEN 0 AND 4),
    -- What its answer takes up.
    bytes       INTEGER NOT NULL
) WITHOUT ROWID, STRICT;

-- For what is too old, and for the oldest answers where there is too much of them.
CREATE INDEX keys_by_age ON keys (at);
CREATE INDEX answered_by_age ON keys (at) WHERE bytes > 0;

CREATE TABLE answers (
    key    BLOB PRIMARY KEY NOT NULL,
    status INTEGER NOT NULL,
    -- "name: value" lines.
    head   BLOB NOT NULL,
    body   BLOB NOT NULL
) STRICT;
