//! What the books say of an account, put into its live state, row by row. Every store begins with it.

use crate::access::Account;
use crate::access::balance::GrantState;
use crate::access::ledgered::BookedGrant;
use crate::access::record::GrantOrigin;
use crate::ledger::rows::{GrantRow, Restored};
use crate::policy::compiled::CounterKey;
use crate::units::{AccountId, Credits, Timestamp};

/// Whose live state a row is about.
pub(super) const fn account_of(row: &Restored) -> Option<AccountId> {
    match row {
        Restored::Account(account, _) => Some(account.id),
        Restored::Counter(account, ..) | Restored::Debt(account, ..) => Some(*account),
        Restored::Grant(row) => Some(row.account),
        Restored::User(_) | Restored::Key(_) => None,
    }
}

/// Puts a row in.
pub(super) fn restore(state: &mut Account, row: &Restored) {
    match row {
        Restored::Account(_, seq) => state.seq = *seq,
        Restored::Counter(_, user, entry) => state.restore_counter(*user, entry),
        Restored::Grant(row) => state.restore_grant(&booked(row)),
        Restored::Debt(_, user, balance, debt) => {
            state.restore_debt(*user, CounterKey::of_balance(balance), *debt);
        }
        Restored::User(_) | Restored::Key(_) => {}
    }
}

fn booked(row: &GrantRow) -> BookedGrant {
    BookedGrant {
        user: row.user,
        balance: CounterKey::of_balance(&row.balance),
        state: GrantState {
            id: row.grant,
            priority: row.priority,
            expires_at: row.expires_at.unwrap_or(Timestamp::NEVER),
            remaining: row.remaining,
            held: Credits::ZERO,
        },
        issued: matches!(row.origin, GrantOrigin::Issue { .. }),
    }
}
