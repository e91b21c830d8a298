-- The books of one machine.
--
-- Ids are 16 bytes, instants milliseconds since 1970 UTC, money micro-credits, policy versions the 64 bits of their
-- hash (printf('%016x', policy)). Events and balance updates are booked in the order of `place` and never change;
-- what they add up to (heads, balances, remainders, counters) is kept beside them and changes in the same transaction.
--
-- Event tables have no index by account: one would dirty a random page for every record. Instead each row names the
-- account's row before it (`previous`), and `heads` names the newest, so "newest first" is a walk of single look-ups.

-- The directory.

CREATE TABLE accounts (
    id         BLOB PRIMARY KEY NOT NULL,
    name       TEXT NOT NULL UNIQUE,
    plan       TEXT NOT NULL,
    status     TEXT NOT NULL CHECK (status IN ('active', 'suspended')),
    created_at INTEGER NOT NULL
) WITHOUT ROWID, STRICT;

CREATE TABLE users (
    account    BLOB NOT NULL REFERENCES accounts (id),
    id         BLOB NOT NULL UNIQUE,
    name       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (account, id),
    UNIQUE (account, name)
) WITHOUT ROWID, STRICT;

CREATE TABLE keys (
    account    BLOB NOT NULL,
    id         BLOB NOT NULL UNIQUE,
    user       BLOB NOT NULL,
    hash       BLOB NOT NULL UNIQUE,
    hint       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    PRIMARY KEY (account, id),
    FOREIGN KEY (account, user) REFERENCES users (account, id)
) WITHOUT ROWID, STRICT;

-- What calls have made upstream.
CREATE TABLE resources (
    id             TEXT PRIMARY KEY NOT NULL,
    account        BLOB NOT NULL,
    user           BLOB NOT NULL,
    context_tokens INTEGER NOT NULL
) WITHOUT ROWID, STRICT;

CREATE TABLE policies (
    version INTEGER PRIMARY KEY NOT NULL,
    text    TEXT NOT NULL
) STRICT;

-- The books.

-- Dataset 1: one row for every call that reached the upstream.
CREATE TABLE usage_events (
    place               INTEGER PRIMARY KEY NOT NULL,
    decision            BLOB NOT NULL UNIQUE,
    account             BLOB NOT NULL,
    seq                 INTEGER NOT NULL,
    previous            INTEGER,
    user                BLOB NOT NULL,
    feature             TEXT NOT NULL,
    plan                TEXT NOT NULL,
    model               TEXT NOT NULL,
    size                TEXT,
    tier                TEXT,
    policy              INTEGER NOT NULL,
    unit                TEXT NOT NULL,
    held_at             INTEGER NOT NULL,
    ended_at            INTEGER NOT NULL,
    outcome             TEXT NOT NULL,
    grade               TEXT NOT NULL,
    status              INTEGER,
    input_tokens        INTEGER NOT NULL,
    cached_input_tokens INTEGER NOT NULL,
    cache_write_tokens  INTEGER NOT NULL,
    output_tokens       INTEGER NOT NULL,
    seconds             INTEGER NOT NULL,
    tool_calls          TEXT,
    estimate            TEXT NOT NULL,
    held                TEXT NOT NULL,
    draws               TEXT NOT NULL,
    digest              BLOB NOT NULL
) STRICT;

-- Dataset 2: the money of each of them. A correction is the next revision; the highest is the live one.
CREATE TABLE monetization_events (
    decision BLOB NOT NULL,
    revision INTEGER NOT NULL CHECK (revision >= 1),
    policy   INTEGER NOT NULL,
    price    TEXT NOT NULL,
    gross    INTEGER NOT NULL,
    covered  INTEGER NOT NULL CHECK (covered >= 0),
    forgiven INTEGER NOT NULL CHECK (forgiven >= 0),
    excess   INTEGER NOT NULL CHECK (excess BETWEEN 0 AND forgiven),
    charged  INTEGER NOT NULL CHECK (charged >= 0),
    PRIMARY KEY (decision, revision),
    CHECK (gross = covered + forgiven + charged)
) WITHOUT ROWID, STRICT;

-- Dataset 3: every change of a balance. Its key is cause, kind, balance and grant: unique because a decision is booked
-- once (usage_events) and a grant is (grants), so it needs no index of its own; `overfall audit` proves it.
CREATE TABLE balance_updates (
    place      INTEGER PRIMARY KEY NOT NULL,
    balance    INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    previous   INTEGER,
    kind       TEXT NOT NULL CHECK (kind IN ('grant', 'debit', 'refund', 'expiry', 'adjustment')),
    cause_kind TEXT NOT NULL CHECK (cause_kind IN ('decision', 'grant')),
    cause      BLOB NOT NULL,
    grant_id   BLOB,
    amount     INTEGER NOT NULL,
    before     INTEGER NOT NULL,
    after      INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    hash       BLOB NOT NULL,
    CHECK (after = before + amount)
) STRICT;

-- What was granted, as it was granted.
CREATE TABLE grants (
    id              BLOB PRIMARY KEY NOT NULL,
    balance         INTEGER NOT NULL,
    seq             INTEGER NOT NULL,
    amount          INTEGER NOT NULL CHECK (amount >= 0),
    repaid          INTEGER NOT NULL CHECK (repaid BETWEEN 0 AND amount),
    priority        INTEGER NOT NULL,
    expires_at      INTEGER,
    granted_at      INTEGER NOT NULL,
    decision        BLOB,
    idempotency_key TEXT,
    note            TEXT,
    CHECK ((decision IS NULL) <> (idempotency_key IS NULL))
) WITHOUT ROWID, STRICT;
CREATE INDEX grants_by_balance ON grants (balance);

-- The numbered records that are no usage event. With those they fill each account's sequence without a gap.
CREATE TABLE records (
    account BLOB NOT NULL,
    seq     INTEGER NOT NULL,
    kind    TEXT NOT NULL CHECK (kind IN ('void', 'grant', 'expiry')),
    digest  BLOB NOT NULL,
    PRIMARY KEY (account, seq)
) WITHOUT ROWID, STRICT;

-- What the books add up to.

-- The newest of each account: its record's seq, its usage event, its balance update.
CREATE TABLE heads (
    account BLOB PRIMARY KEY NOT NULL,
    seq     INTEGER NOT NULL,
    event   INTEGER,
    change  INTEGER
) WITHOUT ROWID, STRICT;

-- `user` is empty where the balance is the account's own. `hash` is that of the newest update.
CREATE TABLE balances (
    id       INTEGER PRIMARY KEY NOT NULL,
    account  BLOB NOT NULL,
    user     BLOB NOT NULL,
    name     TEXT NOT NULL,
    standing INTEGER NOT NULL,
    debt     INTEGER NOT NULL,
    hash     BLOB NOT NULL,
    UNIQUE (account, user, name)
) STRICT;

-- What is left of each grant; a spent one has no row.
CREATE TABLE remainders (
    balance   INTEGER NOT NULL,
    grant_id  BLOB NOT NULL,
    remaining INTEGER NOT NULL,
    PRIMARY KEY (balance, grant_id)
) WITHOUT ROWID, STRICT;

-- What windows and guards stand at: for each 8 bytes of its key, of the instant, of the amount used, big endian. `user`
-- is empty where they are the account's own. A cache of the newest records' words, so that a restart reads no events.
CREATE TABLE counters (
    account BLOB NOT NULL,
    user    BLOB NOT NULL,
    slots   BLOB NOT NULL,
    PRIMARY KEY (account, user)
) WITHOUT ROWID, STRICT;

-- The decision log of blocks: bounded, and no part of the books.
CREATE TABLE blocks (
    place    INTEGER PRIMARY KEY NOT NULL,
    decision BLOB NOT NULL UNIQUE,
    at       INTEGER NOT NULL,
    account  BLOB NOT NULL,
    user     BLOB NOT NULL,
    feature  TEXT NOT NULL,
    model    TEXT NOT NULL,
    policy   INTEGER NOT NULL,
    estimate TEXT NOT NULL,
    block    TEXT NOT NULL,
    count    INTEGER NOT NULL
) STRICT;
CREATE INDEX blocks_by_account ON blocks (account, decision);

-- Booked is booked. A replacing insert fires no trigger on what it deletes, so it is refused for itself.

CREATE TRIGGER usage_events_no_update BEFORE UPDATE ON usage_events
BEGIN SELECT RAISE(ABORT, 'usage events are append-only'); END;
CREATE TRIGGER usage_events_no_delete BEFORE DELETE ON usage_events
BEGIN SELECT RAISE(ABORT, 'usage events are append-only'); END;
CREATE TRIGGER usage_events_no_replace BEFORE INSERT ON usage_events
WHEN EXISTS (SELECT 1 FROM usage_events WHERE decision = NEW.decision)
    OR EXISTS (SELECT 1 FROM usage_events WHERE place = NEW.place)
BEGIN SELECT RAISE(ABORT, 'usage events are append-only'); END;
CREATE TRIGGER monetization_events_no_update BEFORE UPDATE ON monetization_events
BEGIN SELECT RAISE(ABORT, 'monetization events are append-only'); END;
CREATE TRIGGER monetization_events_no_delete BEFORE DELETE ON monetization_events
BEGIN SELECT RAISE(ABORT, 'monetization events are append-only'); END;
CREATE TRIGGER monetization_events_no_replace BEFORE INSERT ON monetization_events
WHEN EXISTS (SELECT 1 FROM monetization_events WHERE decision = NEW.decision AND revision = NEW.revision)
BEGIN SELECT RAISE(ABORT, 'monetization events are append-only'); END;
CREATE TRIGGER balance_updates_no_update BEFORE UPDATE ON balance_updates
BEGIN SELECT RAISE(ABORT, 'balance updates are append-only'); END;
CREATE TRIGGER balance_updates_no_delete BEFORE DELETE ON balance_updates
BEGIN SELECT RAISE(ABORT, 'balance updates are append-only'); END;
CREATE TRIGGER balance_updates_no_replace BEFORE INSERT ON balance_updates
WHEN EXISTS (SELECT 1 FROM balance_updates WHERE place = NEW.place)
BEGIN SELECT RAISE(ABORT, 'balance updates are append-only'); END;
CREATE TRIGGER grants_no_update BEFORE UPDATE ON grants
BEGIN SELECT RAISE(ABORT, 'grants are append-only'); END;
CREATE TRIGGER grants_no_delete BEFORE DELETE ON grants
BEGIN SELECT RAISE(ABORT, 'grants are append-only'); END;
CREATE TRIGGER grants_no_replace BEFORE INSERT ON grants
WHEN EXISTS (SELECT 1 FROM grants WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'grants are append-only'); END;
CREATE TRIGGER records_no_update BEFORE UPDATE ON records
BEGIN SELECT RAISE(ABORT, 'records are append-only'); END;
CREATE TRIGGER records_no_delete BEFORE DELETE ON records
BEGIN SELECT RAISE(ABORT, 'records are append-only'); END;
CREATE TRIGGER records_no_replace BEFORE INSERT ON records
WHEN EXISTS (SELECT 1 FROM records WHERE account = NEW.account AND seq = NEW.seq)
BEGIN SELECT RAISE(ABORT, 'records are append-only'); END;
CREATE TRIGGER policies_no_update BEFORE UPDATE ON policies
BEGIN SELECT RAISE(ABORT, 'policy snapshots are append-only'); END;
CREATE TRIGGER policies_no_delete BEFORE DELETE ON policies
BEGIN SELECT RAISE(ABORT, 'policy snapshots are append-only'); END;
CREATE TRIGGER policies_no_replace BEFORE INSERT ON policies
WHEN EXISTS (SELECT 1 FROM policies WHERE version = NEW.version)
BEGIN SELECT RAISE(ABORT, 'policy snapshots are append-only'); END;
