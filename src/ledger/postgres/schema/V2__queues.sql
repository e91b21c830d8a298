-- Queues of records that workers share: who has which, and how far each is booked. No part of the books.

-- Workers that take part, and until when they count as alive.
CREATE TABLE workers (
    name        text PRIMARY KEY,
    alive_until timestamptz NOT NULL
);

-- One row for each of the queues there are. `fence` counts its leases; what it is booked up to is a place in its stream.
CREATE TABLE queues (
    queue  smallint PRIMARY KEY,
    worker text,
    fence  bigint NOT NULL DEFAULT 0,
    ms     bigint NOT NULL DEFAULT 0,
    nth    bigint NOT NULL DEFAULT 0
);
INSERT INTO queues (queue) SELECT generate_series(0, 255);

GRANT SELECT ON workers, queues TO overfall_writer, overfall_reader;
GRANT INSERT, UPDATE, DELETE ON workers TO overfall_writer;
GRANT UPDATE ON queues TO overfall_writer;

-- What has changed in the directory, for nodes to follow. A row stays for a day: a node that asks no more reads all anew.
CREATE TABLE changes (
    id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    row  uuid NOT NULL,
    at   timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE FUNCTION note_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
    INSERT INTO changes (kind, row) VALUES (TG_ARGV[0], NEW.id);
    RETURN NULL;
END $$;

CREATE TRIGGER accounts_are_followed AFTER INSERT OR UPDATE ON accounts
    FOR EACH ROW EXECUTE FUNCTION note_change('account');
CREATE TRIGGER users_are_followed AFTER INSERT OR UPDATE ON users
    FOR EACH ROW EXECUTE FUNCTION note_change('user');
CREATE TRIGGER keys_are_followed AFTER INSERT OR UPDATE ON keys
    FOR EACH ROW EXECUTE FUNCTION note_change('key');

GRANT SELECT ON changes TO overfall_writer, overfall_reader;
GRANT DELETE ON changes TO overfall_writer;
