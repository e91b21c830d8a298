//! Rows that name others which are not there, as queries that tell the ids of such rows. What a pass over the events
//! finds by itself is not among them.

/// What is looked for, and how.
pub(super) const KINDS: [(&str, &str); 14] = [
    (
        "account without a head",
        "SELECT CAST(hex(id) AS TEXT) FROM accounts WHERE id NOT IN (SELECT account FROM heads)",
    ),
    (
        "head without an account",
        "SELECT CAST(hex(account) AS TEXT) FROM heads WHERE account NOT IN (SELECT id FROM accounts)",
    ),
    (
        "balance without an account",
        "SELECT CAST(id AS TEXT) FROM balances WHERE account NOT IN (SELECT account FROM heads)",
    ),
    (
        "balance of a user who is not there",
        "SELECT CAST(id AS TEXT) FROM balances WHERE user <> x'' AND (account, user) NOT IN \
         (SELECT account, id FROM users)",
    ),
    (
        "grant without a balance",
        "SELECT CAST(hex(id) AS TEXT) FROM grants WHERE balance NOT IN (SELECT id FROM balances)",
    ),
    (
        "remainder without a grant of its balance",
        "SELECT CAST(hex(grant_id) AS TEXT) FROM remainders WHERE NOT EXISTS (SELECT 1 FROM grants \
         WHERE grants.id = grant_id AND grants.balance = remainders.balance)",
    ),
    (
        "record without an account",
        "SELECT CAST(hex(account) || ' seq ' || seq AS TEXT) FROM records \
         WHERE account NOT IN (SELECT account FROM heads)",
    ),
    (
        "record of a grant without the grant",
        "SELECT CAST(hex(account) || ' seq ' || seq AS TEXT) FROM records WHERE kind = 'grant' AND (account, seq) \
         NOT IN (SELECT account, grants.seq FROM grants JOIN balances ON balances.id = balance)",
    ),
    (
        "record of an adjustment without the adjustment",
        "SELECT CAST(hex(account) || ' seq ' || seq AS TEXT) FROM records WHERE kind = 'adjustment' \
         AND (account, seq) NOT IN (SELECT account, adjustments.seq FROM adjustments \
         JOIN balances ON balances.id = balance)",
    ),
    (
        "adjustment without a balance",
        "SELECT CAST(hex(id) AS TEXT) FROM adjustments WHERE balance NOT IN (SELECT id FROM balances)",
    ),
    (
        "adjustment of what is no grant of its balance",
        "SELECT CAST(hex(id) AS TEXT) FROM adjustments WHERE grant_id IS NOT NULL AND NOT EXISTS \
         (SELECT 1 FROM grants WHERE grants.id = grant_id AND grants.balance = adjustments.balance)",
    ),
    (
        "user without an account",
        "SELECT CAST(hex(id) AS TEXT) FROM users WHERE account NOT IN (SELECT id FROM accounts)",
    ),
    (
        "key without a user of its account",
        "SELECT CAST(hex(id) AS TEXT) FROM keys WHERE (account, user) NOT IN (SELECT account, id FROM users)",
    ),
    (
        "counters without an account",
        "SELECT CAST(hex(account) AS TEXT) FROM counters WHERE account NOT IN (SELECT id FROM accounts)",
    ),
];

/// What is looked for where a pass did not meet every row.
pub(super) const LOST: [(&str, &str); 4] = [
    (
        "monetization event without a usage event",
        "SELECT CAST(hex(decision) AS TEXT) FROM monetization_events \
         WHERE decision NOT IN (SELECT decision FROM usage_events)",
    ),
    (
        "grant without an update that grants it",
        "SELECT CAST(hex(id) AS TEXT) FROM grants WHERE id NOT IN \
         (SELECT grant_id FROM balance_updates WHERE kind = 'grant' AND grant_id IS NOT NULL)",
    ),
    (
        "adjustment without an update that it causes",
        "SELECT CAST(hex(id) AS TEXT) FROM adjustments WHERE id NOT IN \
         (SELECT cause FROM balance_updates WHERE cause_kind = 'adjustment')",
    ),
    (
        "balance update without a balance",
        "SELECT CAST(place AS TEXT) FROM balance_updates WHERE balance NOT IN (SELECT id FROM balances)",
    ),
];
