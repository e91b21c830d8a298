-- What calls have made is forgotten when its time is over; a response's begins with the end of its call. When the older
-- ones were made is not on record: their time begins now.
UPDATE resources SET made_at = unixepoch() * 1000 WHERE made_at = 0;
CREATE INDEX resources_by_age ON resources (made_at);

-- The call that became a job, of what it makes: it stays as long as that call has no usage event.
ALTER TABLE resources ADD COLUMN decision BLOB;
CREATE INDEX jobs_by_decision ON resources (decision) WHERE decision IS NOT NULL;

-- What a deadline has ended: few, and a truth may come after them.
CREATE INDEX expired_by_age ON usage_events (ended_at) WHERE outcome = 'expired';
