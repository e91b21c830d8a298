//! The demo's accounts: one with allowance left, one living on credits, one with nothing left.
//!
//! On a used folder the keys of before are revoked and the accounts brought back to their roles: a new user where
//! windows are spent (they belong to users), a grant where credits are.

use std::sync::Arc;

use rand::Rng;

use crate::access::GrantOrder;
use crate::access::balance::DEFAULT_PRIORITY;
use crate::access::record::GrantOrigin;
use crate::admin::Operator;
use crate::ledger::rows::{AccountRow, AccountStatus, KeyRow, Page, UserRow};
use crate::policy::compiled::CounterKey;
use crate::proxy::keys::Key;
use crate::units::{AccountId, Credits, GrantId, KeyId, UserId};

/// The keys, by role.
pub(super) struct Keys {
    pub(super) allowance: String,
    pub(super) credits: String,
    pub(super) nothing: String,
}

const WALLET: &str = "wallet";
const PAGE: Page = Page(1000);

/// Makes the accounts, or brings them back to their roles.
pub(super) async fn seed(operator: &Operator) -> anyhow::Result<Keys> {
    Ok(Keys {
        allowance: role(operator, "demo-allowance", "plus", "100").await?,
        credits: role(operator, "demo-credits", "payg", "100").await?,
        nothing: role(operator, "demo-nothing", "payg", "0").await?,
    })
}

/// One account with a fresh user, a fresh key and at least these credits.
async fn role(operator: &Operator, name: &str, plan: &str, credits: &str) -> anyhow::Result<String> {
    let now = operator.clock.now();
    let account = match operator.ledger.find_account(name).await? {
        Some(account) => account,
        None => add_account(operator, name, plan).await?,
    };
    for key in operator.ledger.keys(account.id, None, PAGE).await? {
        operator.directory.revoke(key.id);
        operator.ledger.revoke_key(key.id, now).await?;
    }
    let user = UserId::new(now, rand::rng().random());
    let user_name = format!("user-{:08x}", rand::rng().random::<u32>());
    let user = UserRow { id: user, account: account.id, name: user_name.into(), created_at: now };
    operator.ledger.add_user(&user).await?;
    operator.directory.put_user(&user);
    top_up(operator, &account, credits.parse()?).await?;
    add_key(operator, &user).await
}

async fn add_account(operator: &Operator, name: &str, plan: &str) -> anyhow::Result<AccountRow> {
    let now = operator.clock.now();
    let account = AccountRow {
        id: AccountId::new(now, rand::rng().random()),
        name: name.into(),
        plan: plan.into(),
        status: AccountStatus::Active,
        created_at: now,
    };
    operator.ledger.add_account(&account).await?;
    operator.directory.put_account(&account);
    Ok(account)
}

/// Grants what is missing.
async fn top_up(operator: &Operator, account: &AccountRow, wanted: Credits) -> anyhow::Result<()> {
    let grants = operator.ledger.grants(account.id).await?;
    let left = grants.iter().fold(Credits::ZERO, |sum, grant| sum.saturating_add(grant.remaining));
    let amount = wanted.saturating_sub(left);
    if amount.is_zero() {
        return Ok(());
    }
    let order = GrantOrder {
        grant: GrantId::new(operator.clock.now(), rand::rng().random()),
        user: None,
        balance: WALLET.into(),
        key: CounterKey::of_balance(WALLET),
        amount,
        priority: DEFAULT_PRIORITY,
        expires_at: None,
        origin: GrantOrigin::Operator { idempotency_key: Arc::from("demo"), note: None },
    };
    if let Some((_, ticket)) = operator.meter.grant(account.id, order).await? {
        ticket.await?;
    }
    Ok(())
}

async fn add_key(operator: &Operator, user: &UserRow) -> anyhow::Result<String> {
    let now = operator.clock.now();
    let key = Key::generate(rand::rng().random());
    let row = KeyRow {
        id: KeyId::new(now, rand::rng().random()),
        user: user.id,
        account: user.account,
        hash: key.hash(),
        hint: key.hint().into(),
        created_at: now,
        expires_at: None,
        revoked_at: None,
    };
    operator.ledger.add_key(&row).await?;
    operator.directory.put_key(&row);
    Ok(key.reveal().to_owned())
}
