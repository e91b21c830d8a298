-- What is known of a correction beside its money: the columns are empty for revision 1, whose usage event says it. With
-- its `seq` it fills the account's sequence, as usage events and `records` do. Of its balance updates the key is cause,
-- kind, balance, grant and `seq`.
ALTER TABLE monetization_events ADD COLUMN account BLOB;
ALTER TABLE monetization_events ADD COLUMN seq INTEGER;
ALTER TABLE monetization_events ADD COLUMN corrected_at INTEGER;
ALTER TABLE monetization_events ADD COLUMN true_outcome TEXT;
ALTER TABLE monetization_events ADD COLUMN true_grade TEXT;
ALTER TABLE monetization_events ADD COLUMN true_tier TEXT;
ALTER TABLE monetization_events ADD COLUMN true_used TEXT;
ALTER TABLE monetization_events ADD COLUMN true_draws TEXT;
ALTER TABLE monetization_events ADD COLUMN digest BLOB;
