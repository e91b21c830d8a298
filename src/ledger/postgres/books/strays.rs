//! Rows that name others which are not there, as queries that tell the ids of such rows. What a pass over the events
//! finds by itself is not among them.

/// What is looked for, and how.
pub(super) const KINDS: [(&str, &str); 14] = [
    (
        "account without a head",
        "SELECT upper(replace(id::text, '-', '')) FROM accounts WHERE NOT EXISTS (SELECT 1 FROM heads WHERE heads.account = accounts.id)",
    ),
    (
        "head without an account",
        "SELECT upper(replace(account::text, '-', '')) FROM heads WHERE NOT EXISTS (SELECT 1 FROM accounts WHERE accounts.id = heads.account)",
    ),
    (
        "balance without an account",
        "SELECT id::text FROM balances WHERE NOT EXISTS (SELECT 1 FROM heads WHERE heads.account = balances.account)",
    ),
    (
        "balance of a user who is not there",
        "SELECT id::text FROM balances WHERE \"user\" <> '00000000-0000-0000-0000-000000000000' AND NOT EXISTS \
         (SELECT 1 FROM users WHERE users.account = balances.account AND users.id = balances.\"user\")",
    ),
    (
        "grant without a balance",
        "SELECT upper(replace(id::text, '-', '')) FROM grants WHERE NOT EXISTS (SELECT 1 FROM balances WHERE balances.id = grants.balance)",
    ),
    (
        "remainder without a grant of its balance",
        "SELECT upper(replace(grant_id::text, '-', '')) FROM remainders WHERE NOT EXISTS (SELECT 1 FROM grants \
         WHERE grants.id = grant_id AND grants.balance = remainders.balance)",
    ),
    (
        "record without an account",
        "SELECT upper(replace(account::text, '-', '')) || ' seq ' || seq FROM records \
         WHERE NOT EXISTS (SELECT 1 FROM heads WHERE heads.account = records.account)",
    ),
    (
        "record of a grant without the grant",
        "SELECT upper(replace(account::text, '-', '')) || ' seq ' || seq FROM records WHERE kind = 'grant' AND NOT EXISTS \
         (SELECT 1 FROM grants JOIN balances ON balances.id = balance \
         WHERE balances.account = records.account AND grants.seq = records.seq)",
    ),
    (
        "user without an account",
        "SELECT upper(replace(id::text, '-', '')) FROM users WHERE NOT EXISTS (SELECT 1 FROM accounts WHERE accounts.id = users.account)",
    ),
    (
        "key without a user of its account",
        "SELECT upper(replace(id::text, '-', '')) FROM keys WHERE NOT EXISTS \
         (SELECT 1 FROM users WHERE users.account = keys.account AND users.id = keys.\"user\")",
    ),
    (
        "counters without an account",
        "SELECT upper(replace(account::text, '-', '')) FROM counters WHERE NOT EXISTS (SELECT 1 FROM accounts WHERE accounts.id = counters.account)",
    ),
    (
        "record of an adjustment without the adjustment",
        "SELECT upper(replace(account::text, '-', '')) || ' seq ' || seq FROM records WHERE kind = 'adjustment' \
         AND NOT EXISTS (SELECT 1 FROM adjustments JOIN balances ON balances.id = balance \
         WHERE balances.account = records.account AND adjustments.seq = records.seq)",
    ),
    (
        "adjustment without a balance",
        "SELECT upper(replace(id::text, '-', '')) FROM adjustments \
         WHERE NOT EXISTS (SELECT 1 FROM balances WHERE balances.id = adjustments.balance)",
    ),
    (
        "adjustment of what is no grant of its balance",
        "SELECT upper(replace(id::text, '-', '')) FROM adjustments WHERE grant_id IS NOT NULL AND NOT EXISTS \
         (SELECT 1 FROM grants WHERE grants.id = grant_id AND grants.balance = adjustments.balance)",
    ),
];

/// What is looked for where a pass did not meet every row.
pub(super) const LOST: [(&str, &str); 4] = [
    (
        "monetization event without a usage event",
        "SELECT upper(replace(decision::text, '-', '')) FROM monetization_events \
         WHERE NOT EXISTS (SELECT 1 FROM usage_events WHERE usage_events.decision = monetization_events.decision)",
    ),
    (
        "grant without an update that grants it",
        "SELECT upper(replace(id::text, '-', '')) FROM grants WHERE NOT EXISTS \
         (SELECT 1 FROM balance_updates WHERE kind = 'grant' AND grant_id = grants.id)",
    ),
    (
        "balance update without a balance",
        "SELECT place::text FROM balance_updates WHERE NOT EXISTS (SELECT 1 FROM balances WHERE balances.id = balance_updates.balance)",
    ),
    (
        "adjustment without an update that it causes",
        "SELECT upper(replace(id::text, '-', '')) FROM adjustments WHERE NOT EXISTS \
         (SELECT 1 FROM balance_updates WHERE cause_kind = 'adjustment' AND cause = adjustments.id)",
    ),
];
