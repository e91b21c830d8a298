-- What calls have made upstream beside responses: videos and characters, from the moment that they are made.

ALTER TABLE resources ADD COLUMN kind TEXT NOT NULL DEFAULT 'response' CHECK (kind IN ('response', 'video', 'character'));
-- When it was made; of a response nobody asks.
ALTER TABLE resources ADD COLUMN made_at INTEGER NOT NULL DEFAULT 0;
-- What prices a video that is made out of it. The size of one that was made out of an upload may not be known.
ALTER TABLE resources ADD COLUMN model TEXT;
ALTER TABLE resources ADD COLUMN seconds INTEGER;
ALTER TABLE resources ADD COLUMN size TEXT;

-- A user's own videos, in the order in which lists show them.
CREATE INDEX videos_by_user ON resources (user, made_at, id) WHERE kind = 'video';
