//! Accounts, users, keys, and what else is kept beside the books.

use super::{Shared, with_account};
use crate::access::reason::{Block, Reason};
use crate::access::record::{Record, Resource};
use crate::ledger::LedgerError;
use crate::ledger::rows::{AccountStatus, BlockRow, Owner, Page};
use crate::ledger::samples::{POLICY, Sample, credits, grant_id};
use crate::units::{DecisionId, KeyId, Quantities, Timestamp};

/// Names tell people apart.
pub(crate) async fn names_are_unique_where_they_must_be(ledger: Shared) {
    let (sample, other) = (with_account(&ledger, 1).await, with_account(&ledger, 2).await);
    let mut renamed = Sample::new(3).account;
    renamed.name = sample.account.name.clone();
    let mut again = sample.user.clone();
    again.id = Sample::new(3).user.id;
    ledger.add_key(&sample.key(1)).await.unwrap();
    let mut taken = other.account.clone();
    taken.name = sample.account.name.clone();
    for result in [
        ledger.add_account(&sample.account).await,
        ledger.add_account(&renamed).await,
        ledger.change_account(&taken).await,
        ledger.add_user(&sample.user).await,
        ledger.add_user(&again).await,
        ledger.add_key(&sample.key(1)).await,
    ] {
        assert!(matches!(result, Err(LedgerError::Exists { .. })), "{result:?}");
    }
    taken.name = "another".into();
    taken.plan = "enterprise".into();
    taken.status = AccountStatus::Suspended;
    ledger.change_account(&taken).await.unwrap();
    assert_eq!(ledger.accounts(Some(sample.account.id), Page(9)).await.unwrap(), [taken]);
}

/// What belongs to nothing is refused.
pub(crate) async fn what_does_not_exist_is_missing(ledger: Shared) {
    let sample = Sample::new(1);
    for result in [ledger.change_account(&sample.account).await, ledger.add_user(&sample.user).await] {
        assert!(matches!(result, Err(LedgerError::Missing { .. })), "{result:?}");
    }
    ledger.add_account(&sample.account).await.unwrap();
    for result in
        [ledger.add_key(&sample.key(1)).await, ledger.revoke_key(KeyId::MIN, Timestamp::from_ms(1)).await]
    {
        assert!(matches!(result, Err(LedgerError::Missing { .. })), "{result:?}");
    }
    assert_eq!(ledger.grant(grant_id(1)).await.unwrap(), None);
    assert_eq!(ledger.decision(DecisionId::MIN).await.unwrap(), None);
    assert_eq!(ledger.block(DecisionId::MIN).await.unwrap(), None);
    assert_eq!(ledger.owner_of("resp_1").await.unwrap(), None);
    assert_eq!(ledger.balance_updates(sample.account.id, None, Page(9)).await.unwrap(), []);
}

/// Every page begins where the one before it ended.
pub(crate) async fn directories_are_read_in_pages(ledger: Shared) {
    let mut samples = Vec::new();
    for n in [3, 1, 2] {
        samples.push(with_account(&ledger, n).await);
    }
    let first = ledger.accounts(None, Page(2)).await.unwrap();
    let second = ledger.accounts(Some(first[1].id), Page(2)).await.unwrap();
    let ids: Vec<_> = first.iter().chain(&second).map(|account| account.id.as_bytes()[0]).collect();
    assert_eq!(ids, [1, 2, 3]);
    assert_eq!(ledger.accounts(None, Page(0)).await.unwrap(), []);

    let account = samples[0].account.id;
    let mut user = samples[0].user.clone();
    (user.id, user.name) = (Sample::new(9).user.id, "grace".into());
    ledger.add_user(&user).await.unwrap();
    let first = ledger.users(account, None, Page(1)).await.unwrap();
    assert_eq!(first, [samples[0].user.clone()]);
    assert_eq!(ledger.users(account, Some(first[0].id), Page(9)).await.unwrap(), [user]);

    for n in [2, 1] {
        ledger.add_key(&samples[0].key(n)).await.unwrap();
    }
    let first = ledger.keys(account, None, Page(1)).await.unwrap();
    assert_eq!(first, [samples[0].key(1)]);
    assert_eq!(ledger.keys(account, Some(first[0].id), Page(9)).await.unwrap(), [samples[0].key(2)]);
    assert_eq!(ledger.keys(samples[1].account.id, None, Page(9)).await.unwrap(), []);
}

/// The first revocation is the one that is told.
pub(crate) async fn a_key_is_revoked_once(ledger: Shared) {
    let sample = with_account(&ledger, 1).await;
    let mut key = sample.key(1);
    ledger.add_key(&key).await.unwrap();
    for at in [7, 8] {
        ledger.revoke_key(key.id, Timestamp::from_ms(at)).await.unwrap();
    }
    key.revoked_at = Some(Timestamp::from_ms(7));
    assert_eq!(ledger.keys(sample.account.id, None, Page(9)).await.unwrap(), [key]);
}

/// I14: an owned resource belongs to the account that made it.
pub(crate) async fn what_was_made_upstream_has_one_owner(ledger: Shared) {
    let (mut sample, mut other) = (with_account(&ledger, 1).await, with_account(&ledger, 2).await);
    let mut end = sample.end(&[], 1);
    end.ending.resource = Some(Resource { id: "resp_1".into(), upstream: Some("backup".into()) });
    let mut theirs = other.end(&[], 1);
    theirs.ending.resource = Some(Resource { id: "resp_1".into(), upstream: None });
    ledger.apply(vec![Record::End(Box::new(end)), Record::End(Box::new(theirs))]).await.unwrap();
    let owner = Owner {
        account: sample.account.id,
        user: sample.user.id,
        context_tokens: 120,
        upstream: Some("backup".into()),
    };
    assert_eq!(ledger.owner_of("resp_1").await.unwrap(), Some(owner));
    for _ in 0..2 {
        ledger.disown("resp_1").await.unwrap();
        assert_eq!(ledger.owner_of("resp_1").await.unwrap(), None);
    }
}

/// A snapshot never changes.
pub(crate) async fn a_policy_is_kept_under_its_version(ledger: Shared) {
    assert_eq!(ledger.policy(POLICY).await.unwrap(), None);
    for text in ["version: 1", "version: 2"] {
        ledger.keep_policy(POLICY, text).await.unwrap();
        assert_eq!(ledger.policy(POLICY).await.unwrap().as_deref(), Some("version: 1"));
    }
}

/// Design §4: blocks go to a bounded log.
pub(crate) async fn the_log_of_blocks_keeps_the_newest(ledger: Shared) {
    let sample = Sample::new(1);
    let row = |n: u8| BlockRow {
        decision: DecisionId::from_bytes([n; 16]),
        at: Timestamp::from_ms(i64::from(n)),
        account: sample.account.id,
        user: sample.user.id,
        feature: "codex".into(),
        model: "gpt-5.5".into(),
        policy: POLICY,
        estimate: Quantities { input_tokens: 5, ..Quantities::default() },
        block: Block {
            next: Some(Timestamp::from_ms(9)),
            need: Some(credits(3)),
            ..Block::because(Reason::LimitReached)
        },
        count: 2,
    };
    ledger.log_blocks(vec![row(1), row(2)], 3).await.unwrap();
    ledger.log_blocks(vec![row(3), row(3), row(4), row(5)], 3).await.unwrap();
    let blocks = ledger.blocks(sample.account.id, None, Page(9)).await.unwrap();
    assert_eq!(blocks, [row(5), row(4), row(3)]);
    let older = ledger.blocks(sample.account.id, Some(row(5).decision), Page(1)).await.unwrap();
    assert_eq!(older, [row(4)]);
    assert_eq!(ledger.block(row(3).decision).await.unwrap(), Some(row(3)));
    assert_eq!(ledger.block(row(2).decision).await.unwrap(), None);
}
