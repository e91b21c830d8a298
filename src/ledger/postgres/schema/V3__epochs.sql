-- Epochs of the store of live counts, and the nodes that count by it. No part of the books.

-- The present one: its number, how far it has come (0 closing, 1 building, 2 granting, 3 holding, 4 open), and the servers
-- that it was built on.
CREATE TABLE epoch (
    one           boolean PRIMARY KEY DEFAULT true CHECK (one),
    number        bigint NOT NULL,
    phase         smallint NOT NULL CHECK (phase BETWEEN 0 AND 4),
    store         text NOT NULL DEFAULT '',
    why           text NOT NULL,
    begun_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    builder       text,
    builder_until timestamptz
);
INSERT INTO epoch (number, phase, why) VALUES (0, 4, 'none yet');

-- Nodes, until when each counts as alive, and how far it has come itself.
CREATE TABLE nodes (
    name        text PRIMARY KEY,
    alive_until timestamptz NOT NULL,
    number      bigint NOT NULL,
    phase       smallint NOT NULL
);

-- Takes part as a node that has come so far; tells the epoch, whether this node is to build it, and whether every node that
-- is alive has come as far as it has.
CREATE FUNCTION attend(node text, alive_ms bigint, at_number bigint, at_phase smallint)
    RETURNS TABLE (number bigint, phase smallint, store text, is_builder boolean, is_joined boolean)
    LANGUAGE plpgsql SET search_path = public AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO nodes AS known (name, alive_until, number, phase)
        VALUES (node, clock_timestamp() + alive_ms * interval '1 millisecond', at_number, at_phase)
        ON CONFLICT (name) DO UPDATE SET alive_until = excluded.alive_until, number = excluded.number, phase = excluded.phase;
    DELETE FROM nodes WHERE alive_until < clock_timestamp();
    UPDATE epoch SET builder = node, builder_until = clock_timestamp() + interval '10 s'
        WHERE phase < 4 AND (builder IS NULL OR builder = node OR builder_until < clock_timestamp());
    RETURN QUERY SELECT epoch.number, epoch.phase, epoch.store, coalesce(epoch.builder = node, false), NOT EXISTS
        (SELECT 1 FROM nodes WHERE (nodes.number, nodes.phase) < (epoch.number, epoch.phase)) FROM epoch;
END $$;

-- The next phase, unless somebody was faster. With the end of closing nothing of before is booked any more: queues belong to
-- nobody, and begin anew.
CREATE FUNCTION move_epoch(from_number bigint, from_phase smallint, on_store text) RETURNS boolean
    LANGUAGE plpgsql SET search_path = public AS $$
BEGIN
    UPDATE epoch SET phase = phase + 1, store = on_store WHERE number = from_number AND phase = from_phase AND phase < 4;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF from_phase = 0 THEN
        UPDATE queues SET worker = NULL, fence = fence + 1, ms = 0, nth = 0;
    ELSIF from_phase = 3 THEN
        UPDATE epoch SET builder = NULL, builder_until = NULL;
    END IF;
    RETURN true;
END $$;

-- Nodes that may give something while the store of live counts is away. One keeps its place until it leaves in order: what it
-- gave may not be counted yet.
CREATE TABLE slots (
    home     text PRIMARY KEY,
    taken_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Takes a place where fewer than so many are taken; tells whether it is among the first so many.
CREATE FUNCTION take_slot(node text, most bigint) RETURNS boolean
    LANGUAGE plpgsql SET search_path = public AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7380);
    INSERT INTO slots (home) SELECT node WHERE (SELECT count(*) FROM slots) < most ON CONFLICT DO NOTHING;
    RETURN node IN (SELECT home FROM slots ORDER BY taken_at, home LIMIT most);
END $$;

GRANT SELECT ON slots TO overfall_writer, overfall_reader;
GRANT INSERT, DELETE ON slots TO overfall_writer;
GRANT SELECT ON epoch, nodes TO overfall_writer, overfall_reader;
GRANT UPDATE ON epoch TO overfall_writer;
GRANT INSERT, UPDATE, DELETE ON nodes TO overfall_writer;
