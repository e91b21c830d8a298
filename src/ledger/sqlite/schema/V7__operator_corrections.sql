-- What an operator ordered to set the books right.

-- Of a revision of a call's money that an operator ordered: the part of `forgiven` that operators have given back so far,
-- and the order. The columns are empty for revision 1 and for a truth that came late. What makes a refund the same is
-- `order_id`; another price is the same by its policy.
ALTER TABLE monetization_events ADD COLUMN refunded INTEGER CHECK (refunded BETWEEN 0 AND forgiven);
ALTER TABLE monetization_events ADD COLUMN ordered TEXT CHECK (ordered IN ('refund', 'rerate'));
ALTER TABLE monetization_events ADD COLUMN order_id BLOB;
ALTER TABLE monetization_events ADD COLUMN idempotency_key TEXT;
ALTER TABLE monetization_events ADD COLUMN reason TEXT;
CREATE UNIQUE INDEX revisions_by_place ON monetization_events (account, seq) WHERE seq IS NOT NULL;
CREATE UNIQUE INDEX refunds_by_order ON monetization_events (order_id) WHERE order_id IS NOT NULL;

-- What was added to a balance, or taken out of it, as it was ordered. `grant_id` is empty where it is the debt.
CREATE TABLE adjustments (
    id              BLOB PRIMARY KEY NOT NULL,
    balance         INTEGER NOT NULL,
    seq             INTEGER NOT NULL,
    grant_id        BLOB,
    amount          INTEGER NOT NULL CHECK (amount <> 0),
    repaid          INTEGER NOT NULL CHECK (repaid >= 0),
    adjusted_at     INTEGER NOT NULL,
    idempotency_key TEXT NOT NULL,
    reason          TEXT NOT NULL
) WITHOUT ROWID, STRICT;
CREATE INDEX adjustments_by_balance ON adjustments (balance);

CREATE TRIGGER adjustments_no_update BEFORE UPDATE ON adjustments
BEGIN SELECT RAISE(ABORT, 'adjustments are append-only'); END;
CREATE TRIGGER adjustments_no_delete BEFORE DELETE ON adjustments
BEGIN SELECT RAISE(ABORT, 'adjustments are append-only'); END;
CREATE TRIGGER adjustments_no_replace BEFORE INSERT ON adjustments
WHEN EXISTS (SELECT 1 FROM adjustments WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'adjustments are append-only'); END;

-- An adjustment is a cause of its own. A check cannot be changed in place, so the table is written once more.
CREATE TABLE balance_updates_by_cause (
    place      INTEGER PRIMARY KEY NOT NULL,
    balance    INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    previous   INTEGER,
    kind       TEXT NOT NULL CHECK (kind IN ('grant', 'debit', 'refund', 'expiry', 'adjustment')),
    cause_kind TEXT NOT NULL CHECK (cause_kind IN ('decision', 'grant', 'adjustment')),
    cause      BLOB NOT NULL,
    grant_id   BLOB,
    amount     INTEGER NOT NULL,
    before     INTEGER NOT NULL,
    after      INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    hash       BLOB NOT NULL,
    CHECK (after = before + amount)
) STRICT;
INSERT INTO balance_updates_by_cause SELECT place, balance, seq, previous, kind, cause_kind, cause, grant_id, amount,
    before, after, at, hash FROM balance_updates ORDER BY place;
DROP TABLE balance_updates;
ALTER TABLE balance_updates_by_cause RENAME TO balance_updates;

CREATE TRIGGER balance_updates_no_update BEFORE UPDATE ON balance_updates
BEGIN SELECT RAISE(ABORT, 'balance updates are append-only'); END;
CREATE TRIGGER balance_updates_no_delete BEFORE DELETE ON balance_updates
BEGIN SELECT RAISE(ABORT, 'balance updates are append-only'); END;
CREATE TRIGGER balance_updates_no_replace BEFORE INSERT ON balance_updates
WHEN EXISTS (SELECT 1 FROM balance_updates WHERE place = NEW.place)
BEGIN SELECT RAISE(ABORT, 'balance updates are append-only'); END;
