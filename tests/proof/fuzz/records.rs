//! Records of the journal: what can be read can be written again, and nothing that can be read makes booking panic.

use overfall::access::Account;
use overfall::access::record::Record;
use overfall::ledger::posting::{self, Purse, Purses};
use overfall::policy::compiled::CounterKey;

use super::{Target, came_to};

#[test]
fn fuzz_records() {
    let words = &["wallet", "plus", "codex", "\x10", "\u{7f}", "\0\0\0\0\0\0\0\0", "\x01"];
    Target { name: "records", rounds: 20_000, words, check }.run();
}

fn check(input: &[u8]) -> u64 {
    let record: Record = match postcard::from_bytes(input) {
        Ok(record) => record,
        Err(error) => return came_to(&error.to_string()),
    };
    let bytes = postcard::to_allocvec(&record).unwrap();
    assert_eq!(postcard::from_bytes::<Record>(&bytes).as_ref(), Ok(&record), "read, written and read again");
    replay(&record);
    came_to(&(std::mem::discriminant(&record), book(&record)))
}

/// Into an account that knows nothing of it, as after a restart.
fn replay(record: &Record) {
    let mut account = Account::new(record.account());
    for _ in 0..2 {
        let _replayed = match record {
            Record::Hold(hold) => hold
                .issued
                .iter()
                .try_for_each(|grant| account.replay_grant(grant, CounterKey::of_balance(&grant.balance))),
            Record::End(end) => account.replay_end(end, CounterKey::of_balance),
            Record::Grant(grant) => account.replay_grant(grant, CounterKey::of_balance(&grant.balance)),
            Record::Expiry(expiry) => account.replay_expiry(expiry),
            Record::Correction(correction) => account.replay_correction(correction, CounterKey::of_balance),
            _ => Ok(()),
        };
    }
}

/// Into books that know nothing of it: a contradiction, or updates of which each follows from the one before.
fn book(record: &Record) -> Vec<String> {
    let mut outcomes = Vec::new();
    let (mut shared, mut own, mut scratch) = (Purse::default(), Purse::default(), Vec::new());
    for numbered in posting::numbered(record) {
        let _digest = numbered.digest(&mut scratch);
        let mut purses = Purses { shared: &mut shared, own: &mut own };
        match posting::plan(numbered, &mut purses) {
            Err(contradiction) => {
                let kind = format!("{contradiction:?}");
                outcomes.push(kind.split('(').next().unwrap_or_default().to_owned());
            }
            Ok(plan) => {
                for update in plan.carry_out(&mut purses) {
                    assert_eq!(update.before.checked_add(update.amount), Some(update.after), "I8");
                    outcomes.push(update.kind.as_str().to_owned());
                }
            }
        }
    }
    outcomes.truncate(6);
    outcomes
}
