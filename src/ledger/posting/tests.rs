use proptest::prelude::*;

use super::*;
use crate::ledger::samples::{Sample, grant_id, part};
use crate::units::Amount;

/// The purses of a sample's account, and all updates so far.
#[derive(Default)]
struct Kept {
    shared: Purse,
    own: Purse,
    updates: Vec<Update>,
}

impl Kept {
    fn post(&mut self, record: &Record) -> Result<usize, Contradiction> {
        let mut booked = 0;
        for record in numbered(record) {
            let mut purses = Purses { shared: &mut self.shared, own: &mut self.own };
            let updates = plan(record, &mut purses)?.carry_out(&mut purses);
            booked += updates.len();
            self.updates.extend(updates);
        }
        Ok(booked)
    }

    fn left(&self, n: u8) -> i64 {
        let remainders = self.shared.balances.iter().flat_map(|balance| &balance.remainders);
        remainders.filter(|other| other.grant == grant_id(n)).map(|other| other.remaining.micros()).sum()
    }
}

fn end(end: EndRecord) -> Record {
    Record::End(Box::new(end))
}

/// Two layers may draw from one grant; an update's key is its cause, kind, balance and grant.
#[test]
fn draws_of_one_call_from_one_grant_are_one_update() {
    let (mut kept, mut sample) = (Kept::default(), Sample::new(1));
    kept.post(&Record::Grant(sample.grant(1, 100, 0))).unwrap();
    kept.post(&Record::Grant(sample.grant(2, 100, 0))).unwrap();
    let draws = [(Some(1), 10), (Some(2), 20), (Some(1), 30)];
    assert_eq!(kept.post(&end(sample.end(&draws, 0))), Ok(2));
    assert_eq!((kept.left(1), kept.left(2)), (60, 80));
}

/// Design §3: paid first by the next grant. I5: nor is the bound passed between the updates of one record.
#[test]
fn a_repayment_lowers_the_debt_before_it_takes_from_the_grant() {
    let (mut kept, mut sample) = (Kept::default(), Sample::new(1));
    kept.post(&Record::Grant(sample.grant(1, 100, 0))).unwrap();
    kept.post(&end(sample.end(&[(None, 50)], 0))).unwrap();
    let mut repaying = sample.end(&[(None, 50)], 0);
    repaying.repaid = vec![part(1, 40), part(1, 10)];
    kept.post(&end(repaying)).unwrap();
    let told: Vec<_> =
        kept.updates.iter().map(|update| (update.grant.is_some(), update.after.micros())).collect();
    assert_eq!(told, [(true, 100), (false, 50), (false, 0), (false, 50), (true, 0)]);
    assert_eq!(kept.shared.balances[0].debt.micros(), 50);
    assert_eq!(kept.left(1), 50);
}

/// What was decided has happened: more than there was is booked, and the audit tells.
#[test]
fn a_draw_beyond_what_is_left_is_booked_below_zero() {
    let (mut kept, mut sample) = (Kept::default(), Sample::new(1));
    kept.post(&Record::Grant(sample.grant(1, 5, 0))).unwrap();
    assert_eq!(kept.post(&end(sample.end(&[(Some(1), 8)], 0))), Ok(1));
    assert_eq!(kept.left(1), -3);
}

#[test]
fn what_would_leave_the_range_of_amounts_is_refused_before_anything_changes() {
    let (mut kept, mut sample) = (Kept::default(), Sample::new(1));
    kept.post(&Record::Grant(sample.grant(1, Credits::MAX.micros(), 0))).unwrap();
    let before = format!("{:?}", kept.shared);
    assert_eq!(kept.post(&Record::Grant(sample.grant(2, 1, 0))), Err(Contradiction::Overflow));
    let mut too_large = sample.end(&[(Some(1), 1)], 0);
    too_large.draws[1].amount = Amount::MAX;
    too_large.draws.push(too_large.draws[1].clone());
    assert_eq!(kept.post(&end(too_large)), Err(Contradiction::Overflow));
    assert_eq!(format!("{:?}", kept.shared), before);
}

#[test]
fn counters_are_set_to_what_the_newest_record_says_and_forgotten_at_zero() {
    let (mut kept, mut sample) = (Kept::default(), Sample::new(1));
    let used = |purse: &Purse| purse.slots.iter().map(|slot| (slot.key.0, slot.used)).collect::<Vec<_>>();
    kept.post(&end(sample.end(&[], 3))).unwrap();
    assert_eq!((used(&kept.own), used(&kept.shared)), (vec![(1, 3)], vec![]));
    kept.post(&end(sample.end(&[], 3))).unwrap();
    assert_eq!(used(&kept.own), [(1, 6)]);
    kept.own.slots_changed = false;
    kept.post(&end(sample.end(&[], 0))).unwrap();
    assert_eq!(used(&kept.own), []);
    assert!(kept.own.slots_changed);
}

#[test]
fn a_digest_tells_every_record_from_every_other() {
    let records = Sample::new(1).life();
    let mut scratch = Vec::new();
    let digest = |record: &Record, scratch: &mut Vec<u8>| -> Vec<_> {
        numbered(record).map(|record| record.digest(scratch)).collect()
    };
    let mut all: Vec<_> = records.iter().flat_map(|record| digest(record, &mut scratch)).collect();
    assert_eq!(all, records.iter().flat_map(|record| digest(record, &mut Vec::new())).collect::<Vec<_>>());
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 9);
}

proptest! {
    /// I8, I12: whatever is posted, a balance is the sum of its updates, of its grants and its debt.
    #[test]
    fn sums_hold_after_any_records(steps in proptest::collection::vec((0u8..4, 1u8..5, 0u64..100), 0..40)) {
        let (mut kept, mut sample) = (Kept::default(), Sample::new(1));
        let mut next_grant = 1;
        for (step, n, amount) in steps {
            let record = match step {
                0 => {
                    next_grant += 1;
                    Record::Grant(sample.grant(next_grant, amount, amount / 3))
                }
                1 => end(sample.end(&[(Some(n), amount), (None, amount / 2)], amount)),
                2 => {
                    let mut void = sample.void();
                    void.repaid = vec![part(n, amount)];
                    void.expired = vec![part(n, amount / 2)];
                    end(void)
                }
                _ => Record::Expiry(sample.expiry(&[(n, amount)])),
            };
            let before = kept.updates.len();
            if let Err(contradiction) = kept.post(&record) {
                prop_assert!(matches!(contradiction, Contradiction::NoGrant(_)));
                prop_assert_eq!(kept.updates.len(), before);
            }
        }
        for balance in &kept.shared.balances {
            let sum: i64 = kept.updates.iter().map(|update| update.amount.micros()).sum();
            let remaining: i64 = balance.remainders.iter().map(|other| other.remaining.micros()).sum();
            prop_assert_eq!(balance.standing.micros(), sum);
            prop_assert_eq!(balance.standing.micros(), remaining - balance.debt.micros());
            prop_assert!(kept.updates.windows(2).all(|pair| pair[0].after == pair[1].before));
        }
    }
}
