use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::units::Seq;

const NOW: Timestamp = Timestamp::from_ms(1_795_365_295_123);

fn account(id: u8, plan: &str, status: AccountStatus) -> AccountRow {
    let id = AccountId::from_bytes([id; 16]);
    AccountRow { id, name: "an account".into(), plan: plan.into(), status, created_at: NOW }
}

fn user(id: u8, account: u8) -> UserRow {
    let account = AccountId::from_bytes([account; 16]);
    UserRow { id: UserId::from_bytes([id; 16]), account, name: "a user".into(), created_at: NOW }
}

fn key(id: u8, user: u8, account: u8) -> KeyRow {
    KeyRow {
        id: KeyId::from_bytes([id; 16]),
        user: UserId::from_bytes([user; 16]),
        account: AccountId::from_bytes([account; 16]),
        hash: [id; 32],
        hint: "ofk_000000".into(),
        created_at: NOW,
        expires_at: None,
        revoked_at: None,
    }
}

/// One active account on `plus` with one user and one key.
fn directory() -> Directory {
    let directory = Directory::new();
    directory.restore(&Restored::Account(account(1, "plus", AccountStatus::Active), Seq(7)));
    directory.restore(&Restored::User(user(2, 1)));
    directory.restore(&Restored::Key(key(3, 2, 1)));
    directory
}

#[test]
fn what_is_restored_identifies() {
    let caller = directory().identify(&[3; 32], NOW).unwrap();
    assert_eq!(
        caller,
        Caller {
            key: KeyId::from_bytes([3; 16]),
            account: AccountId::from_bytes([1; 16]),
            user: UserId::from_bytes([2; 16]),
            plan: "plus".into(),
            status: AccountStatus::Active,
            sole_user: true,
        }
    );
}

#[test]
fn a_key_that_shares_its_beginning_is_another_key() {
    let directory = directory();
    let mut twin = key(4, 2, 1);
    twin.hash = [3; 32];
    twin.hash[8] = 0;
    directory.put_key(&twin);
    assert_eq!(directory.identify(&twin.hash, NOW).unwrap().key, twin.id);
    assert_eq!(directory.identify(&[3; 32], NOW).unwrap().key, KeyId::from_bytes([3; 16]));
    let mut stranger = [3; 32];
    stranger[8] = 1;
    assert_eq!(directory.identify(&stranger, NOW), Err(Unidentified::Unknown));
}

#[test]
fn a_revoked_key_lets_nobody_in_from_the_next_request_on() {
    let directory = directory();
    assert!(directory.revoke(KeyId::from_bytes([3; 16])));
    assert_eq!(directory.identify(&[3; 32], NOW), Err(Unidentified::Unknown));
    assert!(!directory.revoke(KeyId::from_bytes([3; 16])));
    assert_eq!(directory.counts(), Counts { accounts: 1, users: 1, keys: 0 });
}

#[test]
fn a_row_that_says_revoked_takes_the_key_out() {
    let directory = directory();
    directory.put_key(&KeyRow { revoked_at: Some(NOW), ..key(3, 2, 1) });
    assert_eq!(directory.identify(&[3; 32], NOW), Err(Unidentified::Unknown));
}

#[test]
fn a_key_expires_at_its_instant() {
    let directory = directory();
    directory.put_key(&KeyRow { expires_at: Some(NOW), ..key(3, 2, 1) });
    let before = Timestamp::from_ms(NOW.ms() - 1);
    assert!(directory.identify(&[3; 32], before).is_ok());
    assert_eq!(directory.identify(&[3; 32], NOW), Err(Unidentified::Expired));
}

#[test]
fn a_suspended_account_is_told_as_such() {
    let directory = directory();
    directory.put_account(&account(1, "plus", AccountStatus::Suspended));
    assert_eq!(directory.identify(&[3; 32], NOW).unwrap().status, AccountStatus::Suspended);
}

#[test]
fn a_change_of_plan_holds_at_once_and_keeps_the_users() {
    let directory = directory();
    directory.put_user(&user(5, 1));
    directory.put_account(&account(1, "enterprise", AccountStatus::Active));
    let caller = directory.identify(&[3; 32], NOW).unwrap();
    assert_eq!((&*caller.plan, caller.sole_user), ("enterprise", false));
    assert_eq!(directory.account_of(UserId::from_bytes([5; 16])), Some(caller.account));
    assert_eq!(directory.account(caller.account), Some(("enterprise".into(), AccountStatus::Active)));
}

#[test]
fn a_user_put_twice_is_one_user() {
    let directory = directory();
    directory.put_user(&user(2, 1));
    assert!(directory.identify(&[3; 32], NOW).unwrap().sole_user);
    assert_eq!(directory.counts(), Counts { accounts: 1, users: 1, keys: 1 });
}

#[test]
fn a_key_lets_nobody_in_before_its_user_and_account_are_there() {
    let directory = Directory::new();
    directory.put_key(&key(3, 2, 1));
    assert_eq!(directory.identify(&[3; 32], NOW), Err(Unidentified::Unknown));
    directory.put_user(&user(2, 1));
    assert_eq!(directory.identify(&[3; 32], NOW), Err(Unidentified::Unknown));
    directory.put_account(&account(1, "plus", AccountStatus::Active));
    assert!(directory.identify(&[3; 32], NOW).is_ok());
}

#[test]
fn each_of_many_is_found_and_taken_out_again() {
    let directory = directory();
    let hash = |id: u32| crate::units::GrantId::derived(&[&id.to_le_bytes()]);
    let row = |id: u32| {
        let half = *hash(id).as_bytes();
        let mut whole = [0; 32];
        whole[..16].copy_from_slice(&half);
        KeyRow { id: KeyId::from_bytes(half), hash: whole, ..key(3, 2, 1) }
    };
    for id in 0..20_000 {
        directory.put_key(&row(id));
    }
    assert_eq!(directory.counts().keys, 20_001);
    for id in 0..20_000 {
        assert_eq!(directory.identify(&row(id).hash, NOW).unwrap().key, row(id).id, "{id}");
    }
    for id in (0..20_000).step_by(1_000) {
        assert!(directory.revoke(row(id).id));
        assert_eq!(directory.identify(&row(id).hash, NOW), Err(Unidentified::Unknown));
    }
}

#[test]
fn plans_that_nobody_is_on_are_forgotten() {
    let directory = directory();
    for plan in 0..100 {
        directory.put_account(&account(1, &format!("plan-{plan}"), AccountStatus::Active));
    }
    assert!(directory.plans.lock().unwrap().len() <= 2);
}

#[test]
fn entries_have_the_documented_sizes() {
    assert_eq!((size_of::<KeyEntry>(), size_of::<UserEntry>(), size_of::<AccountEntry>()), (72, 32, 40));
}

/// What the operator may do, with ids from a small set so that they meet.
#[derive(Clone, Debug)]
enum Change {
    Account(u8, bool),
    User(u8, u8),
    Key { id: u8, twin: bool, user: u8, account: u8, expires_in_ms: Option<i64> },
    Revoke(u8),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0u8..4, any::<bool>()).prop_map(|(id, suspended)| Change::Account(id, suspended)),
        (0u8..6, 0u8..4).prop_map(|(id, account)| Change::User(id, account)),
        (0u8..8, any::<bool>(), 0u8..6, 0u8..4, prop::option::of(-2i64..3)).prop_map(
            |(id, twin, user, account, expires_in_ms)| Change::Key { id, twin, user, account, expires_in_ms }
        ),
        (0u8..8).prop_map(Change::Revoke),
    ]
}

/// Twins have the first eight bytes in common, and the list they stand in.
fn hash_of(id: u8, twin: bool) -> [u8; 32] {
    let mut hash = [7; 32];
    hash[if twin { 20 } else { 0 }] = id;
    hash
}

proptest! {
    /// The directory answers as a plain map of what was put would.
    #[test]
    fn it_answers_as_a_plain_map_would(changes in prop::collection::vec(change(), 0..60)) {
        let directory = Directory::new();
        let mut accounts: HashMap<u8, AccountStatus> = HashMap::new();
        let mut users: HashMap<UserId, u8> = HashMap::new();
        let mut keys: HashMap<[u8; 32], KeyRow> = HashMap::new();
        for change in changes {
            match change {
                Change::Account(id, suspended) => {
                    let status = if suspended { AccountStatus::Suspended } else { AccountStatus::Active };
                    directory.put_account(&account(id, "plus", status));
                    accounts.insert(id, status);
                }
                Change::User(id, account) => {
                    let row = user(id, account);
                    directory.put_user(&row);
                    users.entry(row.id).or_insert(account);
                }
                Change::Key { id, twin, user, account, expires_in_ms } => {
                    let expires_at = expires_in_ms.map(|ms| Timestamp::from_ms(NOW.ms() + ms));
                    let hash = hash_of(id, twin);
                    // An id belongs to one hash for ever.
                    let id = if twin { id + 100 } else { id };
                    let row = KeyRow { hash, expires_at, ..key(id, user, account) };
                    directory.put_key(&row);
                    keys.insert(hash, row);
                }
                Change::Revoke(id) => {
                    let known = keys.values().find(|row| row.id == KeyId::from_bytes([id; 16])).map(|row| row.hash);
                    prop_assert_eq!(directory.revoke(KeyId::from_bytes([id; 16])), known.is_some());
                    known.map(|hash| keys.remove(&hash));
                }
            }
        }
        for (id, twin) in (0u8..8).flat_map(|id| [(id, false), (id, true)]) {
            let hash = hash_of(id, twin);
            let row = keys.get(&hash);
            let status = row.and_then(|row| users.get(&row.user)).and_then(|account| accounts.get(account));
            let expected = match (row, status) {
                (Some(row), _) if row.expires_at.is_some_and(|at| at <= NOW) => Err(Unidentified::Expired),
                (Some(row), Some(status)) => Ok((row.id, row.user, *status)),
                (None, _) | (_, None) => Err(Unidentified::Unknown),
            };
            let found = directory.identify(&hash, NOW).map(|caller| (caller.key, caller.user, caller.status));
            prop_assert_eq!(found, expected, "{} {}", id, twin);
        }
        prop_assert_eq!(directory.counts().keys, keys.len());
        prop_assert_eq!(directory.counts().accounts, accounts.len());
    }
}
