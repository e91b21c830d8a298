//! What records do to the books.

use super::{Shared, booked, state, told, with_account};
use crate::access::draw::{Draws, GuardCharges};
use crate::access::record::{GrantOrigin, HoldRecord, Record};
use crate::ledger::chain::{self, Link};
use crate::ledger::rows::{Applied, Cause, Page, Restored, UpdateKind};
use crate::ledger::samples::{Sample, credits, grant_id, part};
use crate::units::{DecisionId, Seq, SignedCredits, Timestamp};

/// I6, I8, I12: every kind of record leaves balances, grants and debts as its sums say.
pub(crate) async fn every_kind_of_record_is_booked_and_adds_up(ledger: Shared) {
    let mut sample = with_account(&ledger, 1).await;
    let life = sample.life();
    assert_eq!(ledger.apply(life.clone()).await.unwrap(), booked(9));

    let grants = ledger.grants(sample.account.id).await.unwrap();
    let left: Vec<_> = grants.iter().map(|grant| (grant.grant, grant.remaining.micros())).collect();
    assert_eq!(left, [(grant_id(1), 0), (grant_id(51), 0), (grant_id(101), 840)]);

    let updates = ledger.balance_updates(sample.account.id, None, Page(100)).await.unwrap();
    let told: Vec<_> = updates
        .iter()
        .rev()
        .map(|update| (update.kind, update.grant, update.amount.micros(), update.after.micros()))
        .collect();
    let (first, second, third) = (Some(grant_id(1)), Some(grant_id(51)), Some(grant_id(101)));
    assert_eq!(
        told,
        [
            (UpdateKind::Grant, first, 1_000, 1_000),
            (UpdateKind::Grant, second, 500, 1_500),
            (UpdateKind::Debit, first, -400, 1_100),
            (UpdateKind::Debit, first, -600, 500),
            (UpdateKind::Debit, second, -100, 400),
            (UpdateKind::Debit, None, -300, 100),
            (UpdateKind::Expiry, second, -20, 80),
            (UpdateKind::Adjustment, None, 250, 330),
            (UpdateKind::Adjustment, second, -250, 80),
            (UpdateKind::Grant, third, 900, 980),
            (UpdateKind::Adjustment, None, 50, 1_030),
            (UpdateKind::Adjustment, third, -50, 980),
            (UpdateKind::Expiry, second, -130, 850),
            (UpdateKind::Expiry, third, -10, 840),
        ]
    );
    let Record::End(end) = &life[5] else { panic!("a call") };
    let row = ledger.decision(end.decision).await.unwrap().unwrap();
    assert_eq!((row.seq, row.account, row.user), (end.seq, end.account, end.user));
    assert_eq!((row.charge, row.price, row.used), (end.charge, end.used.price, end.used.quantities.clone()));
    assert_eq!((&row.held, &row.draws, &row.estimate), (&end.held, &end.draws, &end.estimate.quantities));
    assert_eq!((row.held_at, row.ended_at, row.policy), (end.held_at, end.ended_at, end.policy));
    assert_eq!(
        (row.outcome, row.grade, row.status),
        (end.ending.outcome, end.ending.grade, end.ending.status)
    );
    assert_eq!(
        (row.feature, row.plan, row.model),
        (end.feature.clone(), end.plan.clone(), end.model.clone())
    );
    assert_eq!((row.size, row.tier, row.unit), (end.size.clone(), end.ending.tier.clone(), end.unit));
}

/// I7: any redelivery has the effect of one application.
pub(crate) async fn what_is_booked_again_changes_nothing(ledger: Shared) {
    let mut sample = with_account(&ledger, 1).await;
    let life = sample.life();
    ledger.apply(life.clone()).await.unwrap();
    let before = state(&ledger).await;
    let applied = ledger.apply(life.clone()).await.unwrap();
    assert_eq!(applied, Applied { repeated: 9, ..Applied::default() });
    let twice_in_one: Vec<_> = vec![Record::End(Box::new(sample.end(&[], 1))); 2];
    let applied = ledger.apply(twice_in_one).await.unwrap();
    assert_eq!(applied, Applied { booked: 1, repeated: 1, ..Applied::default() });
    assert_ne!(state(&ledger).await, before);
    assert_eq!(ledger.balance_updates(sample.account.id, None, Page(100)).await.unwrap().len(), 14);
}

/// Design §4: same key, other content is a conflict; nothing of it is applied.
pub(crate) async fn other_content_in_a_booked_place_is_a_conflict(ledger: Shared) {
    let mut sample = with_account(&ledger, 1).await;
    let life = sample.life();
    ledger.apply(life.clone()).await.unwrap();
    let before = state(&ledger).await;
    for (place, record) in life.into_iter().enumerate() {
        let other = match record {
            Record::End(mut end) => {
                end.model = "another".into();
                Record::End(end)
            }
            Record::Grant(mut grant) => {
                grant.priority += 1;
                Record::Grant(grant)
            }
            Record::Expiry(mut expiry) => {
                expiry.expired_at = Timestamp::from_ms(1);
                Record::Expiry(expiry)
            }
            Record::Hold(_)
            | Record::Job(_)
            | Record::Correction(_)
            | Record::Made(_)
            | Record::Revision(_)
            | Record::Adjustment(_) => panic!("not in it"),
        };
        let applied = ledger.apply(vec![other]).await.unwrap();
        let seq = Seq(u64::try_from(place).unwrap() + 1);
        let conflicts = vec![(sample.account.id, seq)];
        assert_eq!(applied, Applied { conflicts, ..Applied::default() });
    }
    assert_eq!(state(&ledger).await, before);
}

/// I6: a decision, and a grant, has one place.
pub(crate) async fn a_decision_is_booked_once_wherever_it_stands(ledger: Shared) {
    let mut sample = with_account(&ledger, 1).await;
    let grant = sample.grant(1, 100, 0);
    let end = sample.end(&[(Some(1), 10)], 0);
    ledger.apply(vec![Record::Grant(grant.clone()), Record::End(Box::new(end.clone()))]).await.unwrap();
    let before = state(&ledger).await;
    let mut again = end;
    again.seq = Seq(3);
    let mut granted_again = grant;
    granted_again.seq = Seq(3);
    for record in [Record::End(Box::new(again)), Record::Grant(granted_again)] {
        let applied = ledger.apply(vec![record]).await.unwrap();
        assert_eq!(applied.conflicts, [(sample.account.id, Seq(3))]);
    }
    assert_eq!(state(&ledger).await, before);
}

/// I7: a gap waits, and any order of arrival ends the same.
pub(crate) async fn a_gap_waits_and_is_filled_in_any_order(ledger: Shared) {
    let (mut sample, mut other) = (with_account(&ledger, 1).await, with_account(&ledger, 2).await);
    let life = sample.life();
    let theirs = Record::Grant(other.grant(2, 5, 0));
    let mut first = life[2..].to_vec();
    first.push(theirs);
    let applied = ledger.apply(first).await.unwrap();
    let waiting = (3..=9).map(|seq| (sample.account.id, Seq(seq))).collect();
    assert_eq!(applied, Applied { booked: 1, waiting, ..Applied::default() });
    for record in life[..2].iter().rev().chain(&life) {
        ledger.apply(vec![record.clone()]).await.unwrap();
    }
    let applied = ledger.apply(life).await.unwrap();
    assert_eq!(applied, Applied { repeated: 9, ..Applied::default() });
}

/// What contradicts itself or the books changes nothing, and others of the batch are booked.
pub(crate) async fn what_does_not_add_up_is_left_out_whole(ledger: Shared) {
    let (mut sample, mut other) = (with_account(&ledger, 1).await, with_account(&ledger, 2).await);
    ledger.apply(vec![Record::Grant(sample.grant(1, 100, 0))]).await.unwrap();
    let before = state(&ledger).await;
    let next = sample.clone();
    let end = || next.clone().end(&[(Some(1), 10)], 5);
    let mut gross = end();
    gross.charge.gross = credits(14);
    let mut charged = end();
    charged.charge.charged = credits(9);
    charged.charge.gross = credits(14);
    let mut never_left = end();
    never_left.ending.reached_upstream = false;
    let mut excess = end();
    excess.charge.excess = credits(1);
    let mut unknown_grant = end();
    unknown_grant.expired = vec![part(9, 1)];
    let mut too_much = next.clone().grant(3, 1, 2);
    too_much.amount = credits(1);
    let wrong = [gross, charged, never_left, excess, unknown_grant].map(|end| Record::End(Box::new(end)));
    let expiry = Record::Expiry(next.clone().expiry(&[(9, 1)]));
    for record in wrong.into_iter().chain([expiry, Record::Grant(too_much)]) {
        let theirs = Record::End(Box::new(other.end(&[], 1)));
        let applied = ledger.apply(vec![record, theirs]).await.unwrap();
        let conflicts = vec![(sample.account.id, Seq(2))];
        assert_eq!(applied, Applied { booked: 1, conflicts, ..Applied::default() });
    }
    let applied = ledger.apply(vec![Record::End(Box::new(end()))]).await.unwrap();
    assert_eq!(applied, booked(1));
    assert_ne!(state(&ledger).await, before);
}

/// Books never hold what a restart would not find.
pub(crate) async fn records_of_unknown_accounts_are_left_out(ledger: Shared) {
    let mut sample = Sample::new(1);
    let applied = ledger.apply(vec![Record::Grant(sample.grant(1, 5, 0))]).await.unwrap();
    assert_eq!(applied.conflicts, [(sample.account.id, Seq(1))]);
}

/// A hold in flight is the journal's; what it issues is the books'.
pub(crate) async fn a_hold_books_what_it_issues_and_nothing_else(ledger: Shared) {
    let mut sample = with_account(&ledger, 1).await;
    let mut issued = sample.grant(1, 200, 0);
    issued.user = Some(sample.user.id);
    issued.balance = "launch".into();
    issued.origin = GrantOrigin::Issue { decision: DecisionId::MIN };
    let end = sample.end(&[], 1);
    let hold = HoldRecord {
        decision: end.decision,
        account: end.account,
        user: end.user,
        held_at: end.held_at,
        expires_at: end.ended_at,
        policy: end.policy,
        plan: end.plan.clone(),
        feature: end.feature.clone(),
        model: end.model.clone(),
        tier: None,
        size: None,
        demand: end.estimate.clone(),
        draws: Draws::new(),
        charges: GuardCharges::new(),
        issued: vec![issued.clone()],
    };
    let hold = Record::Hold(Box::new(hold));
    assert_eq!(ledger.apply(vec![hold.clone()]).await.unwrap(), booked(1));
    let repeated = Applied { repeated: 1, ..Applied::default() };
    assert_eq!(ledger.apply(vec![hold]).await.unwrap(), repeated);
    assert_eq!(ledger.apply(vec![Record::Grant(issued.clone())]).await.unwrap(), repeated);
    assert_eq!(ledger.decision(end.decision).await.unwrap(), None);
    let grant = ledger.grant(issued.grant).await.unwrap().unwrap();
    assert_eq!((grant.user, grant.remaining, grant.origin), (issued.user, issued.amount, issued.origin));
}

/// Design §4: usage events are calls that reached the upstream. A void still has its place and its counters.
pub(crate) async fn a_call_that_never_left_is_no_usage(ledger: Shared) {
    let mut sample = with_account(&ledger, 1).await;
    let mut void = sample.void();
    void.counters[0].slot.used = 3;
    assert_eq!(ledger.apply(vec![Record::End(Box::new(void.clone()))]).await.unwrap(), booked(1));
    assert_eq!(ledger.decision(void.decision).await.unwrap(), None);
    assert_eq!(ledger.decisions(sample.account.id, None, Page(9)).await.unwrap(), []);
    let told = told(&ledger).await;
    assert!(told.iter().any(|restored| matches!(restored, Restored::Account(_, Seq(1)))));
    assert!(
        told.iter()
            .any(|restored| matches!(restored, Restored::Counter(_, _, entry) if *entry == void.counters[0]))
    );
}

/// I8: before, after and hash of every update follow from the one before it.
pub(crate) async fn the_chain_of_a_balance_can_be_verified_from_its_updates(ledger: Shared) {
    let mut sample = with_account(&ledger, 1).await;
    ledger.apply(sample.life()).await.unwrap();
    let mut updates = ledger.balance_updates(sample.account.id, None, Page(100)).await.unwrap();
    updates.reverse();
    let (mut standing, mut hash) = (SignedCredits::ZERO, chain::START);
    for update in updates {
        assert_eq!(update.before, standing);
        assert_eq!(update.before.checked_add(update.amount), Some(update.after));
        let link = Link {
            account: update.account,
            user: update.user,
            balance: &update.balance,
            seq: update.seq,
            kind: update.kind,
            cause: update.cause,
            grant: update.grant,
            amount: update.amount,
            before: update.before,
            after: update.after,
            at: update.at,
        };
        hash = link.hash(&hash);
        assert_eq!(update.hash, hash);
        standing = update.after;
        let by_decision = matches!(update.cause, Cause::Decision(_));
        assert_eq!(by_decision, [3, 6, 7].contains(&update.seq.0), "{update:?}");
    }
}

/// I10: what a restart finds is what was applied.
pub(crate) async fn a_restore_tells_what_was_applied(ledger: Shared) {
    let (mut sample, mut other) = (with_account(&ledger, 1).await, with_account(&ledger, 2).await);
    ledger.add_key(&sample.key(1)).await.unwrap();
    let mut debtor = other.end(&[(None, 70)], 0);
    debtor.counters.clear();
    let last = Record::End(Box::new(debtor));
    ledger.apply([sample.life(), vec![last]].concat()).await.unwrap();
    let told = told(&ledger).await;
    let accounts: Vec<_> = told
        .iter()
        .filter_map(|restored| match restored {
            Restored::Account(account, seq) => Some((account.clone(), *seq)),
            _ => None,
        })
        .collect();
    assert_eq!(accounts, [(sample.account.clone(), Seq(9)), (other.account.clone(), Seq(1))]);
    let first_of_others = told.iter().position(|restored| !matches!(restored, Restored::Account(..)));
    assert_eq!(first_of_others, Some(2));
    assert!(told.iter().any(|restored| matches!(restored, Restored::User(user) if *user == sample.user)));
    assert!(told.iter().any(|restored| matches!(restored, Restored::Key(key) if *key == sample.key(1))));
    let counters: Vec<_> = told
        .iter()
        .filter_map(|restored| match restored {
            Restored::Counter(account, user, entry) => Some((*account, *user, entry.scope, entry.slot.used)),
            _ => None,
        })
        .collect();
    // The account's counter stood at 1,000 after the sixth record, and the seventh emptied it.
    assert_eq!(counters, []);
    let debts: Vec<_> = told
        .iter()
        .filter_map(|restored| match restored {
            Restored::Debt(account, None, balance, debt) => Some((*account, &**balance, debt.micros())),
            _ => None,
        })
        .collect();
    assert_eq!(debts, [(other.account.id, "wallet", 70)]);
    let mut call = sample.end(&[(Some(101), 40)], 3);
    call.counters.truncate(1);
    ledger.apply(vec![Record::End(Box::new(call.clone()))]).await.unwrap();
    let told = super::told(&ledger).await;
    assert!(told.iter().any(|restored| matches!(restored,
        Restored::Counter(_, user, entry) if *user == call.user && *entry == call.counters[0])));
    assert!(told.iter().any(|restored| matches!(restored,
        Restored::Grant(grant) if grant.grant == grant_id(101) && grant.remaining == credits(800))));
}

/// Restores grow with what is alive, not with history.
pub(crate) async fn a_restore_tells_of_no_revoked_key_and_no_spent_grant(ledger: Shared) {
    let mut sample = with_account(&ledger, 1).await;
    ledger.add_key(&sample.key(1)).await.unwrap();
    ledger.revoke_key(sample.key(1).id, Timestamp::from_ms(5)).await.unwrap();
    let mut issued = sample.grant(2, 10, 0);
    issued.origin = GrantOrigin::Issue { decision: DecisionId::MIN };
    let granted = sample.grant(1, 10, 0);
    let spent = sample.end(&[(Some(1), 10), (Some(2), 10)], 0);
    let records = vec![Record::Grant(issued.clone()), Record::Grant(granted), Record::End(Box::new(spent))];
    assert_eq!(ledger.apply(records).await.unwrap(), booked(3));
    let mut grants = Vec::new();
    for restored in told(&ledger).await {
        match restored {
            Restored::Key(key) => panic!("revoked: {key:?}"),
            Restored::Grant(grant) => grants.push((grant.grant, grant.remaining, grant.origin)),
            _ => {}
        }
    }
    assert_eq!(grants, [(issued.grant, credits(0), issued.origin)]);
}

/// Newest first, and never another account's.
pub(crate) async fn histories_are_read_newest_first_in_pages(ledger: Shared) {
    let (mut sample, mut other) = (with_account(&ledger, 1).await, with_account(&ledger, 2).await);
    let mut records = Vec::new();
    for (mine, theirs) in sample.life().into_iter().zip(other.life()) {
        records.extend([mine, theirs]);
    }
    ledger.apply(records).await.unwrap();
    let id = sample.account.id;
    let mut updates = ledger.balance_updates(id, None, Page(3)).await.unwrap();
    while let Some(last) = updates.last()
        && let page = ledger.balance_updates(id, Some(last.place), Page(3)).await.unwrap()
        && !page.is_empty()
    {
        updates.extend(page);
    }
    assert_eq!(updates, ledger.balance_updates(id, None, Page(100)).await.unwrap());
    assert_eq!(updates.len(), 14);
    assert!(updates.is_sorted_by_key(|update| std::cmp::Reverse(update.place)));
    assert!(updates.iter().all(|update| update.account == id));
    let first = ledger.decisions(id, None, Page(2)).await.unwrap();
    let rest = ledger.decisions(id, Some(first[1].decision), Page(9)).await.unwrap();
    let seqs: Vec<_> = first.iter().chain(&rest).map(|row| row.seq.0).collect();
    assert_eq!(seqs, [6, 5, 3]);
    let foreign = ledger.decisions(id, None, Page(1)).await.unwrap()[0].decision;
    assert_eq!(ledger.decisions(other.account.id, Some(foreign), Page(9)).await.unwrap(), []);
}
