-- The books of many machines: the same rows, keys and hashes as in the embedded store, so that books can be moved and
-- compared. Instants are milliseconds since 1970 UTC, money is micro-credits, policy versions are the 64 bits of their
-- hash. The nil id stands where there is no user: what it is in is the account's own.
--
-- Run by whoever owns the tables. The gateway works as `overfall_writer`, who reads, adds, and changes only what the
-- books add up to; the audit works as `overfall_reader`.

DO $$
BEGIN
    CREATE ROLE overfall_writer NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$;
DO $$
BEGIN
    CREATE ROLE overfall_reader NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$;

-- The directory.

CREATE TABLE accounts (
    id         uuid PRIMARY KEY,
    name       text NOT NULL UNIQUE,
    plan       text NOT NULL,
    status     text NOT NULL CHECK (status IN ('active', 'suspended')),
    created_at bigint NOT NULL
);

CREATE TABLE users (
    account    uuid NOT NULL REFERENCES accounts (id),
    id         uuid NOT NULL UNIQUE,
    name       text NOT NULL,
    created_at bigint NOT NULL,
    PRIMARY KEY (account, id),
    UNIQUE (account, name)
);

CREATE TABLE keys (
    account    uuid NOT NULL,
    id         uuid NOT NULL UNIQUE,
    "user"     uuid NOT NULL,
    hash       bytea NOT NULL UNIQUE,
    hint       text NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint,
    revoked_at bigint,
    PRIMARY KEY (account, id),
    FOREIGN KEY (account, "user") REFERENCES users (account, id)
);

-- What calls have made upstream. `decision` is the call that became a job, of what it makes.
CREATE TABLE resources (
    id             text PRIMARY KEY,
    account        uuid NOT NULL,
    "user"         uuid NOT NULL,
    context_tokens bigint NOT NULL,
    upstream       text,
    kind           text NOT NULL DEFAULT 'response' CHECK (kind IN ('response', 'video', 'character')),
    made_at        bigint NOT NULL,
    model          text,
    seconds        bigint,
    size           text,
    decision       uuid
);
CREATE INDEX videos_by_user ON resources ("user", made_at, id) WHERE kind = 'video';
CREATE INDEX resources_by_age ON resources (made_at);
CREATE INDEX jobs_by_decision ON resources (decision) WHERE decision IS NOT NULL;

CREATE TABLE policies (
    version bigint PRIMARY KEY,
    text    text NOT NULL
);

-- The books. Events stand in partitions of a month each: calls and their money by the instant inside the decision's
-- id, which is the beginning of it; balance updates by their own. No event table has an index by account: each row
-- names the account's row before it (`previous`), and `heads` names the newest.

-- Dataset 1: one row for every call that reached the upstream.
CREATE TABLE usage_events (
    place               bigint NOT NULL,
    decision            uuid NOT NULL,
    account             uuid NOT NULL,
    seq                 bigint NOT NULL,
    previous            bigint,
    "user"              uuid NOT NULL,
    feature             text NOT NULL,
    plan                text NOT NULL,
    model               text NOT NULL,
    size                text,
    tier                text,
    policy              bigint NOT NULL,
    unit                text NOT NULL,
    held_at             bigint NOT NULL,
    ended_at            bigint NOT NULL,
    outcome             text NOT NULL,
    grade               text NOT NULL,
    status              bigint,
    input_tokens        bigint NOT NULL,
    cached_input_tokens bigint NOT NULL,
    cache_write_tokens  bigint NOT NULL,
    output_tokens       bigint NOT NULL,
    seconds             bigint NOT NULL,
    tool_calls          text,
    estimate            text NOT NULL,
    held                text NOT NULL,
    draws               text NOT NULL,
    digest              bytea NOT NULL,
    hash                bytea,
    PRIMARY KEY (decision)
) PARTITION BY RANGE (decision);
CREATE INDEX usage_events_by_place ON usage_events (place);
-- What a deadline has ended: few, and a truth may come after them.
CREATE INDEX expired_by_age ON usage_events (ended_at) WHERE outcome = 'expired';

-- Dataset 2: the money of each of them. A correction is the next revision; the highest is the live one.
CREATE TABLE monetization_events (
    decision     uuid NOT NULL,
    revision     bigint NOT NULL CHECK (revision >= 1),
    policy       bigint NOT NULL,
    price        text NOT NULL,
    gross        bigint NOT NULL,
    covered      bigint NOT NULL CHECK (covered >= 0),
    forgiven     bigint NOT NULL CHECK (forgiven >= 0),
    excess       bigint NOT NULL CHECK (excess BETWEEN 0 AND forgiven),
    charged      bigint NOT NULL CHECK (charged >= 0),
    account      uuid,
    seq          bigint,
    corrected_at bigint,
    true_outcome text,
    true_grade   text,
    true_tier    text,
    true_used    text,
    true_draws   text,
    digest       bytea,
    -- Of a revision that an operator ordered: the part of `forgiven` that operators have given back so far, and the order.
    -- What makes a refund the same is `order_id`; another price is the same by its policy.
    refunded        bigint CHECK (refunded BETWEEN 0 AND forgiven),
    ordered         text CHECK (ordered IN ('refund', 'rerate')),
    order_id        uuid,
    idempotency_key text,
    reason          text,
    PRIMARY KEY (decision, revision),
    CHECK (gross = covered + forgiven + charged)
) PARTITION BY RANGE (decision);
CREATE INDEX revisions_by_place ON monetization_events (account, seq) WHERE seq IS NOT NULL;
CREATE INDEX refunds_by_order ON monetization_events (order_id) WHERE order_id IS NOT NULL;

-- Dataset 3: every change of a balance. Its key is cause, kind, balance, grant and, of corrections, seq: unique because
-- a decision and a grant are booked once, so it needs no index of its own; `overfall audit` proves it.
CREATE TABLE balance_updates (
    place      bigint NOT NULL,
    balance    bigint NOT NULL,
    seq        bigint NOT NULL,
    previous   bigint,
    kind       text NOT NULL CHECK (kind IN ('grant', 'debit', 'refund', 'expiry', 'adjustment')),
    cause_kind text NOT NULL CHECK (cause_kind IN ('decision', 'grant', 'adjustment')),
    cause      uuid NOT NULL,
    grant_id   uuid,
    amount     bigint NOT NULL,
    before     bigint NOT NULL,
    after      bigint NOT NULL,
    at         bigint NOT NULL,
    hash       bytea NOT NULL,
    CHECK (after = before + amount)
) PARTITION BY RANGE (at);
CREATE INDEX balance_updates_by_place ON balance_updates (place);

-- What was granted, as it was granted.
CREATE TABLE grants (
    id              uuid PRIMARY KEY,
    balance         bigint NOT NULL,
    seq             bigint NOT NULL,
    amount          bigint NOT NULL CHECK (amount >= 0),
    repaid          bigint NOT NULL CHECK (repaid BETWEEN 0 AND amount),
    priority        bigint NOT NULL,
    expires_at      bigint,
    granted_at      bigint NOT NULL,
    decision        uuid,
    idempotency_key text,
    note            text,
    CHECK ((decision IS NULL) <> (idempotency_key IS NULL))
);
CREATE INDEX grants_by_balance ON grants (balance);

-- What an operator added to a balance, or took out of it, as it was ordered. `grant_id` is empty where it is the debt.
CREATE TABLE adjustments (
    id              uuid PRIMARY KEY,
    balance         bigint NOT NULL,
    seq             bigint NOT NULL,
    grant_id        uuid,
    amount          bigint NOT NULL CHECK (amount <> 0),
    repaid          bigint NOT NULL CHECK (repaid >= 0),
    adjusted_at     bigint NOT NULL,
    idempotency_key text NOT NULL,
    reason          text NOT NULL
);
CREATE INDEX adjustments_by_balance ON adjustments (balance);

-- The numbered records that are no usage event. With those they fill each account's sequence without a gap.
CREATE TABLE records (
    place   bigint NOT NULL UNIQUE,
    account uuid NOT NULL,
    seq     bigint NOT NULL,
    kind    text NOT NULL CHECK (kind IN ('void', 'grant', 'expiry', 'correction', 'adjustment')),
    digest  bytea NOT NULL,
    hash    bytea,
    PRIMARY KEY (account, seq)
);

-- What the books add up to. Room is left on the pages, since rows change where they stand.

-- The newest of each account: its record's seq and hash, its usage event, its balance update. Whoever books for an
-- account holds its row meanwhile.
CREATE TABLE heads (
    account uuid PRIMARY KEY,
    seq     bigint NOT NULL,
    event   bigint,
    change  bigint,
    hash    bytea
) WITH (fillfactor = 50);

-- `hash` is that of the newest update.
CREATE TABLE balances (
    id       bigint PRIMARY KEY,
    account  uuid NOT NULL,
    "user"   uuid NOT NULL,
    name     text NOT NULL,
    standing bigint NOT NULL,
    debt     bigint NOT NULL,
    hash     bytea NOT NULL,
    UNIQUE (account, "user", name)
) WITH (fillfactor = 50);

-- What is left of each grant; a spent one has no row.
CREATE TABLE remainders (
    balance   bigint NOT NULL,
    grant_id  uuid NOT NULL,
    remaining bigint NOT NULL,
    PRIMARY KEY (balance, grant_id)
) WITH (fillfactor = 50);

-- What windows and guards stand at: for each 8 bytes of its key, of the instant, of the amount used, big endian. A
-- cache of the newest records' words, so that a restart reads no events.
CREATE TABLE counters (
    account uuid NOT NULL,
    "user"  uuid NOT NULL,
    slots   bytea NOT NULL,
    PRIMARY KEY (account, "user")
) WITH (fillfactor = 50);

-- The decision log of blocks: bounded, and no part of the books.
CREATE TABLE blocks (
    place    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    decision uuid NOT NULL UNIQUE,
    at       bigint NOT NULL,
    account  uuid NOT NULL,
    "user"   uuid NOT NULL,
    feature  text NOT NULL,
    model    text NOT NULL,
    policy   bigint NOT NULL,
    estimate text NOT NULL,
    block    text NOT NULL,
    count    bigint NOT NULL
);
CREATE INDEX blocks_by_account ON blocks (account, decision);

-- Places: the order of booking. A batch takes all of its own in one piece while it holds its accounts, so that the
-- places of an account rise with its seq; what it does not use stays empty.
CREATE SEQUENCE event_places;
CREATE SEQUENCE update_places;
CREATE SEQUENCE record_places;
CREATE SEQUENCE balance_rows;

-- The first of so many free ones.
CREATE FUNCTION take(sequence regclass, wanted bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    first bigint := 0;
BEGIN
    IF wanted > 0 THEN
        first := nextval(sequence);
        PERFORM setval(sequence, first + wanted - 1);
    END IF;
    RETURN first;
END $$;

-- The same of each kind. One session at a time, and only for this moment.
CREATE FUNCTION take_places(INOUT events bigint, INOUT updates bigint, INOUT others bigint, INOUT new_balances bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM pg_advisory_lock(7379);
    events := take('event_places', events);
    updates := take('update_places', updates);
    others := take('record_places', others);
    new_balances := take('balance_rows', new_balances);
    PERFORM pg_advisory_unlock(7379);
END $$;

-- Booked is booked.

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% are append-only', TG_ARGV[0] USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON usage_events
    FOR EACH ROW EXECUTE FUNCTION refuse_change('usage events');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON monetization_events
    FOR EACH ROW EXECUTE FUNCTION refuse_change('monetization events');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON balance_updates
    FOR EACH ROW EXECUTE FUNCTION refuse_change('balance updates');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON grants
    FOR EACH ROW EXECUTE FUNCTION refuse_change('grants');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON adjustments
    FOR EACH ROW EXECUTE FUNCTION refuse_change('adjustments');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON records
    FOR EACH ROW EXECUTE FUNCTION refuse_change('records');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON policies
    FOR EACH ROW EXECUTE FUNCTION refuse_change('policy snapshots');
CREATE TRIGGER whole BEFORE TRUNCATE ON usage_events EXECUTE FUNCTION refuse_change('usage events');
CREATE TRIGGER whole BEFORE TRUNCATE ON monetization_events EXECUTE FUNCTION refuse_change('monetization events');
CREATE TRIGGER whole BEFORE TRUNCATE ON balance_updates EXECUTE FUNCTION refuse_change('balance updates');
CREATE TRIGGER whole BEFORE TRUNCATE ON grants EXECUTE FUNCTION refuse_change('grants');
CREATE TRIGGER whole BEFORE TRUNCATE ON adjustments EXECUTE FUNCTION refuse_change('adjustments');
CREATE TRIGGER whole BEFORE TRUNCATE ON records EXECUTE FUNCTION refuse_change('records');
CREATE TRIGGER whole BEFORE TRUNCATE ON policies EXECUTE FUNCTION refuse_change('policy snapshots');

-- Partitions. The writer makes them ahead, a month at a time; what lies outside of years with four digits has its own.

-- The smallest id of an instant.
CREATE FUNCTION first_id(ms bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex(ms), 12, '0') || repeat('0', 20))::uuid
$$;

-- Makes a partition of a table that holds what is from one bound on and before another. It is made beside the table
-- and attached, so that nobody who reads or books waits for it.
CREATE FUNCTION make_partition(of_table text, suffix text, from_bound text, until_bound text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    partition text := of_table || '_' || suffix;
BEGIN
    IF to_regclass(partition) IS NULL THEN
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', partition, of_table);
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', of_table, partition,
            from_bound, until_bound);
        EXECUTE format('CREATE TRIGGER whole BEFORE TRUNCATE ON %I EXECUTE FUNCTION refuse_change(%L)', partition,
            replace(of_table, '_', ' '));
    END IF;
END $$;

-- Makes the partitions of the month that an instant lies in.
CREATE FUNCTION make_month(ms bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    month timestamp := date_trunc('month', timestamp '1970-01-01' + ms / 1000 * interval '1 second');
    suffix text := to_char(month, 'YYYY_MM');
    from_ms bigint := extract(epoch FROM month)::bigint * 1000;
    until_ms bigint := extract(epoch FROM month + interval '1 month')::bigint * 1000;
BEGIN
    PERFORM pg_advisory_xact_lock(7380);
    PERFORM make_partition('usage_events', suffix, quote_literal(first_id(from_ms)), quote_literal(first_id(until_ms)));
    PERFORM make_partition('monetization_events', suffix, quote_literal(first_id(from_ms)),
        quote_literal(first_id(until_ms)));
    PERFORM make_partition('balance_updates', suffix, from_ms::text, until_ms::text);
END $$;

SELECT make_partition('usage_events', 'beyond', quote_literal(first_id(253370764800000)), 'MAXVALUE'),
    make_partition('monetization_events', 'beyond', quote_literal(first_id(253370764800000)), 'MAXVALUE'),
    make_partition('balance_updates', 'beyond', '253370764800000', 'MAXVALUE'),
    make_partition('balance_updates', 'before', 'MINVALUE', '0');

-- Who may do what.

REVOKE ALL ON FUNCTION take, take_places, make_partition, make_month FROM PUBLIC;
GRANT EXECUTE ON FUNCTION take_places, make_month TO overfall_writer;
GRANT USAGE ON SCHEMA public TO overfall_writer, overfall_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO overfall_writer, overfall_reader;
GRANT INSERT ON usage_events, monetization_events, balance_updates, grants, adjustments, records, policies
    TO overfall_writer;
GRANT INSERT, UPDATE ON accounts, users, keys, heads, balances TO overfall_writer;
GRANT INSERT, UPDATE, DELETE ON resources, remainders, counters, blocks TO overfall_writer;
GRANT overfall_writer, overfall_reader TO CURRENT_USER;
