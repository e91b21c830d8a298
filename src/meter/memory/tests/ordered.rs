//! What operators order, at the meter: once, numbered in turn, and there again after a crash (I7, I10).

use super::*;
use crate::access::balance::GrantState;
use crate::access::{Adjusted, RefundOrder};
use crate::meter::{Adjusting, Revised};
use crate::policy::compiled::CounterKey;
use crate::policy::live::Policies;
use crate::settle::Truths;
use crate::units::SignedCredits;

fn refund(nth: u8, credits: &str) -> Revision {
    Revision::Refund(RefundOrder {
        id: OrderId::from_bytes([nth; 16]),
        amount: Some(credits.parse().unwrap()),
        idempotency_key: format!("r-{nth}").into(),
        reason: "an outage".into(),
    })
}

fn adjustment(nth: u8, credits: &str) -> AdjustmentOrder {
    let grant = GrantState {
        id: GrantId::from_bytes([7; 16]),
        priority: DEFAULT_PRIORITY,
        expires_at: Timestamp::NEVER,
        remaining: Credits::ZERO,
        held: Credits::ZERO,
    };
    AdjustmentOrder {
        id: OrderId::from_bytes([nth; 16]),
        user: None,
        balance: "wallet".into(),
        key: CounterKey::of_balance("wallet"),
        what: Adjusted::Grant(grant),
        amount: credits.parse::<SignedCredits>().unwrap(),
        idempotency_key: format!("a-{nth}").into(),
        reason: "a complaint".into(),
    }
}

impl Rig {
    /// What the books tell of a call.
    async fn prior(&self, decision: DecisionId) -> Prior {
        let row = self.ledger.decision(decision).await.unwrap().unwrap();
        let granted = self.ledger.grants(self.account).await.unwrap();
        let policies = Arc::new(Policies::new(Arc::clone(&self.policy)));
        let truths = Truths { ledger: self.ledger.clone(), policies };
        truths.prior(&row, &granted).await.unwrap().unwrap()
    }

    /// A call of 80 credits: 50 of the window, 30 of a wallet of 100.
    async fn booked_call(&self) -> DecisionId {
        assert!(self.grant(7, "100").await);
        let decision = self.hold(1, 80).await.unwrap();
        self.finish(decision, 80).await;
        self.settle().await;
        decision
    }
}

/// I7: while the books do not have the newest revision, nothing is made from an older one.
#[tokio::test]
async fn each_revision_of_a_call_is_made_once_whatever_was_read_of_the_books() {
    let folder = tempfile::tempdir().unwrap();
    let (rig, _) = Rig::open(folder.path(), rig_clock()).await;
    let decision = rig.booked_call().await;
    let stale = rig.prior(decision).await;
    let revised = |prior, revision| rig.meter.revise(rig.account, prior, revision);
    let rehearsed = rig.meter.rehearse(rig.account, vec![(stale.clone(), refund(1, "10"))]).await.unwrap();
    assert_eq!(rehearsed[0].as_ref().unwrap().charge.charged.to_string(), "20");
    assert_eq!(rig.left().await.1, "70", "nothing is changed by a rehearsal");
    let Revised::Now(told, ticket) = revised(stale.clone(), refund(1, "10")).await.unwrap() else {
        panic!("it is made");
    };
    ticket.await.unwrap();
    assert_eq!((told.revision, rig.left().await.1.as_str()), (2, "80"));
    for nth in [1, 2] {
        let again = revised(stale.clone(), refund(nth, "10")).await.unwrap();
        assert!(matches!(again, Revised::Behind), "{again:?}");
    }
    assert!(rig.meter.is_ordered(rig.account, OrderId::from_bytes([1; 16])).await.unwrap());
    assert_eq!(rig.left().await.1, "80");
    rig.settle().await;
    assert!(matches!(revised(stale, refund(2, "10")).await.unwrap(), Revised::Behind));
    let newest = rig.prior(decision).await;
    assert_eq!(newest.revision, 2);
    let Revised::Not(why) = revised(newest.clone(), refund(2, "20.5")).await.unwrap() else {
        panic!("I6: no more than was charged");
    };
    assert_eq!(why.to_string(), "no more than 20 credits are charged");
    assert!(
        matches!(revised(newest, refund(2, "20")).await.unwrap(), Revised::Now(told, _) if told.revision == 3)
    );
    assert_eq!(rig.left().await.1, "100");
}

/// I12: what comes back to a spent grant expires with it, also where a crash came between.
#[tokio::test]
async fn what_was_given_back_to_a_spent_grant_expires_after_a_crash_too() {
    let folder = tempfile::tempdir().unwrap();
    let clock = rig_clock();
    let (rig, _) = Rig::open(folder.path(), clock.clone()).await;
    let order = GrantOrder {
        grant: GrantId::from_bytes([7; 16]),
        user: None,
        balance: "wallet".into(),
        key: CounterKey::of_balance("wallet"),
        amount: "30".parse().unwrap(),
        priority: DEFAULT_PRIORITY,
        expires_at: Some(clock.now().plus(Span::from_seconds(3_600))),
        origin: GrantOrigin::Operator { idempotency_key: "order".into(), note: None },
    };
    let (_, ticket) = rig.meter.grant(rig.account, order).await.unwrap().unwrap();
    ticket.await.unwrap();
    let decision = rig.hold(1, 80).await.unwrap();
    rig.finish(decision, 80).await;
    rig.settle().await;
    let prior = rig.prior(decision).await;
    let Revised::Now(_, ticket) = rig.meter.revise(rig.account, prior, refund(1, "10")).await.unwrap() else {
        panic!("it is made");
    };
    ticket.await.unwrap();
    rig.journal.close().unwrap();
    drop(rig);
    let (rig, _) = Rig::open(folder.path(), clock.clone()).await;
    assert_eq!(rig.left().await.1, "10");
    clock.advance(Span::from_seconds(3_600));
    assert_eq!(rig.meter.sweep().await.unwrap().expired, 1);
}

/// I10: what was ordered and journalled is there after a crash, once, and the books get it then.
#[tokio::test]
async fn what_was_ordered_survives_a_crash_between_the_meter_and_the_books() {
    let folder = tempfile::tempdir().unwrap();
    let clock = rig_clock();
    let (rig, _) = Rig::open(folder.path(), clock.clone()).await;
    let decision = rig.booked_call().await;
    let prior = rig.prior(decision).await;
    let Revised::Now(_, ticket) =
        rig.meter.revise(rig.account, prior.clone(), refund(1, "10")).await.unwrap()
    else {
        panic!("it is made");
    };
    ticket.await.unwrap();
    let Adjusting::Now(_, ticket) = rig.meter.adjust(rig.account, adjustment(2, "5")).await.unwrap() else {
        panic!("it is made");
    };
    ticket.await.unwrap();
    let again = rig.meter.adjust(rig.account, adjustment(2, "5")).await.unwrap();
    assert!(matches!(again, Adjusting::Behind), "{again:?}");
    assert_eq!(rig.left().await.1, "85");
    rig.journal.close().unwrap();
    drop(rig);
    let (rig, _) = Rig::open(folder.path(), clock.clone()).await;
    assert_eq!(rig.left().await.1, "85");
    let again = rig.meter.revise(rig.account, prior, refund(1, "10")).await.unwrap();
    assert!(matches!(again, Revised::Behind), "{again:?}");
    assert!(matches!(rig.meter.adjust(rig.account, adjustment(2, "5")).await.unwrap(), Adjusting::Behind));
    rig.settle().await;
    assert_eq!(rig.ledger.grants(rig.account).await.unwrap()[0].remaining.to_string(), "85");
    for nth in [1, 2] {
        rig.meter.booked(Booked::Order(OrderId::from_bytes([nth; 16])));
        assert!(!rig.meter.is_ordered(rig.account, OrderId::from_bytes([nth; 16])).await.unwrap());
    }
    rig.journal.close().unwrap();
    drop(rig);
    let (rig, _) = Rig::open(folder.path(), clock).await;
    assert_eq!(rig.left().await.1, "85", "I7: booked and journalled is there once");
}
