-- The chain of an account's records: each hash is over what its row says and the hash of the record before it, in the
-- order of `seq`; `heads` keeps the newest. What was booked before there was a chain has no hash; the chain begins
-- behind it.
ALTER TABLE usage_events ADD COLUMN hash BLOB;
ALTER TABLE heads ADD COLUMN hash BLOB;

-- The numbered records that are no usage event, corrections now among them, in the order of booking. With the usage
-- events they fill each account's sequence without a gap.
CREATE TABLE records_in_order (
    place   INTEGER PRIMARY KEY NOT NULL,
    account BLOB NOT NULL,
    seq     INTEGER NOT NULL,
    kind    TEXT NOT NULL CHECK (kind IN ('void', 'grant', 'expiry', 'correction', 'adjustment')),
    digest  BLOB NOT NULL,
    hash    BLOB,
    UNIQUE (account, seq)
) STRICT;
INSERT INTO records_in_order (account, seq, kind, digest)
    SELECT account, seq, kind, digest FROM records UNION ALL
    SELECT account, seq, 'correction', digest FROM monetization_events WHERE seq IS NOT NULL ORDER BY 1, 2;
DROP TABLE records;
ALTER TABLE records_in_order RENAME TO records;

CREATE TRIGGER records_no_update BEFORE UPDATE ON records
BEGIN SELECT RAISE(ABORT, 'records are append-only'); END;
CREATE TRIGGER records_no_delete BEFORE DELETE ON records
BEGIN SELECT RAISE(ABORT, 'records are append-only'); END;
CREATE TRIGGER records_no_replace BEFORE INSERT ON records
WHEN EXISTS (SELECT 1 FROM records WHERE account = NEW.account AND seq = NEW.seq)
    OR EXISTS (SELECT 1 FROM records WHERE place = NEW.place)
BEGIN SELECT RAISE(ABORT, 'records are append-only'); END;
