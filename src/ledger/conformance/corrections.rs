//! What corrections do to the books: truths that come late, and what operators order.

use super::{Shared, booked, state, with_account};
use crate::access::record::{
    AdjustmentRecord, Charge, CorrectionRecord, EndRecord, Ending, GrantRecord, MoveEntry, Outcome, Record,
    RevisionOrder, RevisionRecord,
};
use crate::ledger::rows::{Applied, Cause, Page, RevisedBy, UpdateKind};
use crate::ledger::samples::credits;
use crate::policy::compiled::Scope;
use crate::units::{OrderId, PolicyVersion, Seq, SignedCredits, Timestamp};

/// I6, I7: a correction adds to what is booked; again it is nothing, and what does not follow is left out.
pub(crate) async fn a_correction_is_the_next_revision_and_is_booked_once(ledger: Shared) {
    let mut sample = with_account(&ledger, 1).await;
    let grant = sample.grant(1, 100, 0);
    let end = sample.end(&[(Some(1), 100)], 0);
    let seq = end.seq.next();
    let back = MoveEntry {
        scope: Scope::Account,
        balance: grant.balance.clone(),
        grant: Some(grant.grant),
        amount: credits(30).signed(),
        priority: grant.priority,
        expires_at: None,
    };
    let correction = CorrectionRecord {
        seq,
        decision: end.decision,
        account: end.account,
        user: end.user,
        corrected_at: Timestamp::from_ms(end.ended_at.ms() + 5),
        policy: end.policy,
        revision: 2,
        ending: Ending { outcome: Outcome::Incomplete, ..end.ending.clone() },
        used: end.used.clone(),
        draws: Vec::new(),
        charge: Charge { gross: credits(70), charged: credits(70), ..Charge::default() },
        charged_before: credits(100),
        moves: vec![back],
        repaid: Vec::new(),
        expired: Vec::new(),
        counters: Vec::new(),
    };
    let of = |correction: &CorrectionRecord| vec![Record::Correction(Box::new(correction.clone()))];
    let decision = end.decision;
    ledger.apply(vec![Record::Grant(grant), Record::End(Box::new(end))]).await.unwrap();
    for wrong in [
        CorrectionRecord { charged_before: credits(99), ..correction.clone() },
        CorrectionRecord { moves: Vec::new(), ..correction.clone() },
        CorrectionRecord { revision: 3, ..correction.clone() },
        CorrectionRecord { decision: sample.decision(Seq(77)), ..correction.clone() },
    ] {
        let conflicts = vec![(correction.account, seq)];
        assert_eq!(ledger.apply(of(&wrong)).await.unwrap(), Applied { conflicts, ..Applied::default() });
    }
    assert_eq!(ledger.apply(of(&correction)).await.unwrap(), booked(1));
    let row = ledger.decision(decision).await.unwrap().unwrap();
    assert_eq!((row.revision, row.outcome, row.charge), (2, Outcome::Incomplete, correction.charge));
    let grants = ledger.grants(correction.account).await.unwrap();
    assert_eq!(grants[0].remaining, credits(30), "a grant that was spent has something again");
    let before = state(&ledger).await;
    let repeated = Applied { repeated: 1, ..Applied::default() };
    assert_eq!(ledger.apply(of(&correction)).await.unwrap(), repeated);
    let other = CorrectionRecord { corrected_at: Timestamp::from_ms(1), ..correction.clone() };
    assert_eq!(ledger.apply(of(&other)).await.unwrap().conflicts, [(correction.account, seq)]);
    assert_eq!(state(&ledger).await, before);
    let updates = ledger.balance_updates(correction.account, None, Page(1)).await.unwrap();
    assert_eq!((updates[0].kind, updates[0].amount), (UpdateKind::Refund, credits(30).signed()));
}

/// I6, I7: what an operator orders of a call is its next revision, once; what does not follow is left out.
pub(crate) async fn a_refund_and_another_price_are_the_next_revisions(ledger: Shared) {
    let mut sample = with_account(&ledger, 1).await;
    let grant = sample.grant(1, 100, 0);
    let end = sample.end(&[(Some(1), 100)], 0);
    let (decision, account) = (end.decision, end.account);
    ledger.apply(vec![Record::Grant(grant.clone()), Record::End(Box::new(end.clone()))]).await.unwrap();
    let (id, key): (_, std::sync::Arc<str>) = (OrderId::from_bytes([9; 16]), "r-1".into());
    let order = RevisionOrder::Refund { id, idempotency_key: key.clone(), reason: "an outage".into() };
    let refund = revision(&end, &grant, 2, (100, 70), 30, order.clone());
    let of = |told: &RevisionRecord| vec![Record::Revision(Box::new(told.clone()))];
    let conflict = vec![(account, refund.correction.seq)];
    for wrong in [
        RevisionRecord { refunded: credits(29), ..refund.clone() },
        RevisionRecord { refunded: credits(31), ..refund.clone() },
        revision(&end, &grant, 3, (100, 70), 30, order.clone()),
        revision(&end, &grant, 2, (99, 70), 29, order.clone()),
    ] {
        let applied = ledger.apply(of(&wrong)).await.unwrap();
        assert_eq!(applied, Applied { conflicts: conflict.clone(), ..Applied::default() }, "{wrong:?}");
    }
    assert_eq!(ledger.apply(of(&refund)).await.unwrap(), booked(1));
    let repeated = Applied { repeated: 1, ..Applied::default() };
    assert_eq!(ledger.apply(of(&refund)).await.unwrap(), repeated);
    let known = ledger.refund(id).await.unwrap().unwrap();
    assert_eq!((known.decision, known.revision, known.amount), (decision, 2, credits(30)));
    assert_eq!((known.charged, known.idempotency_key), (credits(70), key));
    let rerate = RevisionOrder::Rerate { reason: "a wrong price".into() };
    let mut cheaper = revision(&end, &grant, 3, (70, 20), 30, rerate);
    cheaper.correction.seq = cheaper.correction.seq.next();
    cheaper.correction.policy = PolicyVersion(5);
    cheaper.correction.charge =
        Charge { gross: credits(50), forgiven: credits(30), charged: credits(20), ..Charge::default() };
    // The same order twice, in another place.
    let mut again = revision(&end, &grant, 3, (70, 60), 40, order);
    again.correction.seq = cheaper.correction.seq;
    assert_eq!(ledger.apply(of(&again)).await.unwrap().conflicts, [(account, cheaper.correction.seq)]);
    assert_eq!(ledger.apply(of(&cheaper)).await.unwrap(), booked(1));
    let row = ledger.decision(decision).await.unwrap().unwrap();
    assert_eq!((row.revision, row.priced_by, row.policy), (3, PolicyVersion(5), end.policy));
    assert_eq!((row.refunded, row.settled_at), (credits(30), cheaper.correction.corrected_at));
    let revised = row.revised.unwrap();
    assert_eq!((revised.by, revised.reason.as_deref()), (RevisedBy::Rerate, Some("a wrong price")));
    assert_eq!(ledger.grants(account).await.unwrap()[0].remaining, credits(80));
}

/// A revision that changes what is charged, and gives the difference back to the grant.
fn revision(
    end: &EndRecord,
    grant: &GrantRecord,
    revision: u32,
    (before, after): (u64, u64),
    refunded: u64,
    order: RevisionOrder,
) -> RevisionRecord {
    let back = credits(before).signed().checked_sub(credits(after).signed()).unwrap();
    let correction = CorrectionRecord {
        seq: end.seq.next(),
        decision: end.decision,
        account: end.account,
        user: end.user,
        corrected_at: Timestamp::from_ms(end.ended_at.ms() + i64::from(revision)),
        policy: end.policy,
        revision,
        ending: end.ending.clone(),
        used: end.used.clone(),
        draws: Vec::new(),
        charge: Charge {
            gross: credits(100),
            forgiven: credits(100 - after),
            charged: credits(after),
            ..Charge::default()
        },
        charged_before: credits(before),
        moves: vec![MoveEntry {
            scope: Scope::Account,
            balance: grant.balance.clone(),
            grant: Some(grant.grant),
            amount: back,
            priority: grant.priority,
            expires_at: None,
        }],
        repaid: Vec::new(),
        expired: Vec::new(),
        counters: Vec::new(),
    };
    RevisionRecord { correction, refunded: credits(refunded), order }
}

/// I7, I8, I12: an adjustment is booked once, with the debt that it pays; again is nothing, other content a conflict.
pub(crate) async fn an_adjustment_changes_a_grant_or_a_debt_and_is_booked_once(ledger: Shared) {
    let mut sample = with_account(&ledger, 1).await;
    let grant = sample.grant(1, 100, 0);
    let end = sample.end(&[(Some(1), 100), (None, 30)], 0);
    let (account, seq, at) = (end.account, end.seq, end.ended_at);
    ledger.apply(vec![Record::Grant(grant.clone()), Record::End(Box::new(end))]).await.unwrap();
    let adjustment = |nth: u8, amount: i64, repaid: u64, grant: Option<&GrantRecord>| AdjustmentRecord {
        seq: Seq(seq.0 + u64::from(nth)),
        id: OrderId::from_bytes([nth; 16]),
        account,
        user: None,
        balance: "wallet".into(),
        grant: grant.map(|grant| grant.grant),
        amount: SignedCredits::from_micros(amount).unwrap(),
        repaid: credits(repaid),
        priority: grant.map_or(0, |grant| grant.priority),
        expires_at: grant.and_then(|grant| grant.expires_at),
        adjusted_at: Timestamp::from_ms(at.ms() + i64::from(nth)),
        idempotency_key: format!("a-{nth}").into(),
        reason: "a complaint".into(),
    };
    let all =
        [adjustment(1, 10, 0, None), adjustment(2, 50, 20, Some(&grant)), adjustment(3, -5, 0, Some(&grant))];
    for wrong in [adjustment(1, 0, 0, None), adjustment(1, 5, 6, Some(&grant)), adjustment(1, 5, 1, None)] {
        let applied = ledger.apply(vec![Record::Adjustment(wrong)]).await.unwrap();
        assert_eq!(applied.conflicts, [(account, seq.next())]);
    }
    let records = || all.iter().cloned().map(Record::Adjustment).collect::<Vec<_>>();
    assert_eq!(ledger.apply(records()).await.unwrap(), booked(3));
    let repeated = Applied { repeated: 3, ..Applied::default() };
    assert_eq!(ledger.apply(records()).await.unwrap(), repeated);
    let other = AdjustmentRecord { reason: "another".into(), ..all[0].clone() };
    assert_eq!(
        ledger.apply(vec![Record::Adjustment(other)]).await.unwrap().conflicts,
        [(account, seq.next())]
    );
    let taken = AdjustmentRecord { seq: Seq(seq.0 + 4), ..all[1].clone() };
    assert_eq!(ledger.apply(vec![Record::Adjustment(taken)]).await.unwrap().conflicts.len(), 1);
    assert_eq!(ledger.adjustments(account).await.unwrap(), all);
    assert_eq!(ledger.adjustment(all[1].id).await.unwrap().as_ref(), Some(&all[1]));
    assert_eq!(ledger.grants(account).await.unwrap()[0].remaining, credits(25));
    let updates = ledger.balance_updates(account, None, Page(4)).await.unwrap();
    let told: Vec<_> = updates
        .iter()
        .rev()
        .map(|it| (it.cause, it.grant.is_some(), it.amount.micros(), it.after.micros()))
        .collect();
    let cause = |nth: usize| Cause::Adjustment(all[nth].id);
    assert_eq!(
        told,
        [
            (cause(0), false, 10, -20),
            (cause(1), true, 30, 10),
            (cause(1), false, 20, 30),
            (cause(2), true, -5, 25)
        ]
    );
    assert!(updates.iter().all(|update| update.kind == UpdateKind::Adjustment));
}
