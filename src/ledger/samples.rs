//! Records for tests: one account with one user, whose records follow each other.

use super::rows::{AccountRow, AccountStatus, KeyRow, UserRow};
use crate::access::counter::Slot;
use crate::access::demand::Demand;
use crate::access::record::{
    Charge, CounterEntry, DrawEntry, EndRecord, Ending, ExpiryRecord, Grade, GrantEntry, GrantOrigin,
    GrantRecord, OriginEntry, Outcome, Record, Resource,
};
use crate::policy::compiled::{CounterKey, Scope};
use crate::units::{
    AccountId, Amount, Credits, DecisionId, GrantId, KeyId, PolicyVersion, Price, Quantities, Seq, Timestamp,
    Unit, UserId,
};

/// The policy that all sample records name.
pub(crate) const POLICY: PolicyVersion = PolicyVersion(0x9f2c_41d0_0000_0001);

/// `micros` micro-credits.
pub(crate) fn credits(micros: u64) -> Credits {
    Credits::from_micros(micros).unwrap()
}

/// The grant of this number.
pub(crate) fn grant_id(n: u8) -> GrantId {
    GrantId::from_bytes([n; 16])
}

/// An account and its next place.
#[derive(Clone)]
pub(crate) struct Sample {
    pub account: AccountRow,
    pub user: UserRow,
    pub seq: Seq,
}

impl Sample {
    /// The account of this number, without records.
    pub(crate) fn new(n: u8) -> Self {
        let created_at = Timestamp::from_ms(1_000);
        let id = AccountId::from_bytes([n; 16]);
        let (name, plan) = (format!("account {n}").into(), "plus".into());
        let account = AccountRow { id, name, plan, status: AccountStatus::Active, created_at };
        let user = UserRow { id: UserId::from_bytes([n; 16]), account: id, name: "ada".into(), created_at };
        Self { account, user, seq: Seq(0) }
    }

    /// A key of its user.
    pub(crate) fn key(&self, n: u8) -> KeyRow {
        KeyRow {
            id: KeyId::from_bytes([n; 16]),
            user: self.user.id,
            account: self.account.id,
            hash: [n; 32],
            hint: "ofk_1234".into(),
            created_at: Timestamp::from_ms(1_000),
            expires_at: None,
            revoked_at: None,
        }
    }

    fn next(&mut self) -> (Seq, Timestamp) {
        self.seq = self.seq.next();
        (self.seq, Timestamp::from_ms(10_000 + i64::try_from(self.seq.0).unwrap()))
    }

    /// The next record: a grant to the account's wallet.
    pub(crate) fn grant(&mut self, n: u8, amount: u64, repaid: u64) -> GrantRecord {
        let (seq, granted_at) = self.next();
        GrantRecord {
            seq,
            grant: grant_id(n),
            account: self.account.id,
            user: None,
            balance: "wallet".into(),
            amount: credits(amount),
            repaid: credits(repaid),
            priority: 100,
            expires_at: Some(Timestamp::from_ms(1_000_000)),
            granted_at,
            origin: GrantOrigin::Operator { idempotency_key: format!("order {n}").into(), note: None },
        }
    }

    /// The next record: a call that drew from these grants (`None` is debt), and from a window worth `covered`.
    pub(crate) fn end(&mut self, draws: &[(Option<u8>, u64)], covered: u64) -> EndRecord {
        let (seq, ended_at) = self.next();
        let charged = draws.iter().map(|(_, amount)| amount).sum::<u64>();
        let gross = credits(covered + charged);
        let window = OriginEntry::Windows(vec![(CounterKey(1), Timestamp::from_ms(0))]);
        let mut entries = vec![draw("included", covered, Scope::User, window)];
        entries.extend(draws.iter().map(|(grant, amount)| {
            let balance = "wallet".into();
            let origin = match grant {
                Some(n) => OriginEntry::Grant { balance, grant: grant_id(*n) },
                None => OriginEntry::Debt { balance },
            };
            draw("credits", *amount, Scope::Account, origin)
        }));
        let quantities = Quantities { input_tokens: 100, output_tokens: 20, ..Quantities::default() };
        let price = Price::times(gross.micros(), "1".parse().unwrap()).unwrap();
        let demand = Demand::new(Unit::Credit, quantities, price).unwrap();
        EndRecord {
            seq,
            decision: self.decision(seq),
            account: self.account.id,
            user: self.user.id,
            held_at: Timestamp::from_ms(ended_at.ms() - 500),
            ended_at,
            policy: POLICY,
            plan: self.account.plan.clone(),
            feature: "codex".into(),
            unit: Unit::Credit,
            model: "gpt-5.5".into(),
            size: None,
            ending: Ending {
                outcome: Outcome::Completed,
                grade: Grade::Exact,
                reached_upstream: true,
                status: Some(200),
                tier: Some("default".into()),
                resource: Some(Resource {
                    id: format!("resp_{}_{}", self.account.name, seq.0).into(),
                    upstream: None,
                }),
            },
            estimate: demand.clone(),
            used: demand,
            held: entries.clone(),
            draws: entries,
            charge: Charge {
                gross,
                covered: credits(covered),
                charged: credits(charged),
                ..Charge::default()
            },
            repaid: Vec::new(),
            expired: Vec::new(),
            counters: vec![
                self.counter(Scope::User, 1, covered * seq.0),
                self.counter(Scope::Account, 2, charged),
            ],
        }
    }

    /// The next record: a call that never left.
    pub(crate) fn void(&mut self) -> EndRecord {
        let mut end = self.end(&[], 0);
        end.ending.reached_upstream = false;
        end.ending.outcome = Outcome::NotSent;
        end.ending.resource = None;
        end.draws = Vec::new();
        end
    }

    /// The next record: what expired of the wallet's grants.
    pub(crate) fn expiry(&mut self, grants: &[(u8, u64)]) -> ExpiryRecord {
        let (seq, expired_at) = self.next();
        let grants = grants.iter().map(|(n, amount)| part(*n, *amount)).collect();
        ExpiryRecord { seq, account: self.account.id, user: None, expired_at, grants }
    }

    /// The decision of the record in this place.
    pub(crate) fn decision(&self, seq: Seq) -> DecisionId {
        let mut random = [0; 10];
        random[0] = self.account.id.as_bytes()[0];
        DecisionId::new(Timestamp::from_ms(5_000 + i64::try_from(seq.0).unwrap()), random)
    }

    fn counter(&self, scope: Scope, key: u64, used: u64) -> CounterEntry {
        let at = Timestamp::from_ms(i64::from(self.account.id.as_bytes()[0]));
        CounterEntry { scope, slot: Slot { key: CounterKey(key), at, used, held: 0 } }
    }

    /// The life of a wallet, every kind of record in it: granted, drawn, in debt, repaid, expired, voided.
    pub(crate) fn life(&mut self) -> Vec<Record> {
        let base = self.account.id.as_bytes()[0];
        let (first, second, third) = (base, base + 50, base + 100);
        let mut records = vec![
            Record::Grant(self.grant(first, 1_000, 0)),
            Record::Grant(self.grant(second, 500, 0)),
            Record::End(Box::new(self.end(&[(Some(first), 400)], 30))),
            Record::End(Box::new(self.void())),
            Record::End(Box::new(self.end(&[], 7))),
            Record::End(Box::new(self.end(&[(Some(first), 600), (Some(second), 100), (None, 300)], 0))),
        ];
        let mut repaying = self.void();
        repaying.repaid = vec![part(second, 250)];
        repaying.expired = vec![part(second, 20)];
        records.push(Record::End(Box::new(repaying)));
        records.push(Record::Grant(self.grant(third, 900, 50)));
        records.push(Record::Expiry(self.expiry(&[(second, 130), (third, 10)])));
        records
    }
}

/// A part of a grant of the account's wallet.
pub(crate) fn part(n: u8, amount: u64) -> GrantEntry {
    GrantEntry { scope: Scope::Account, balance: CounterKey(77), grant: grant_id(n), amount: credits(amount) }
}

fn draw(layer: &str, amount: u64, scope: Scope, origin: OriginEntry) -> DrawEntry {
    let amount = Amount::clamped(amount);
    DrawEntry { layer: layer.into(), amount, unit: Unit::Credit, covers: amount, scope, origin }
}
