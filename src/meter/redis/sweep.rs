//! The sweeper's part: deadlines of holds, expiry of grants. Any node may do it for all; each finds what is still due.

use redis::Value;

use super::keys::{Fixed, Member, Partition, RowKey};
use super::sheet::Sheet;
use super::verbs::finish;
use super::{RedisMeter, StoreError};
use crate::access::record::Record;
use crate::meter::{MeterError, Swept};
use crate::units::{AccountId, DecisionId, Timestamp, UserId};

/// What is swept of a partition at a time.
const TOGETHER_MAX: u32 = 256;

/// What came of a hold that was due.
enum End {
    Voided(Record),
    Floored(Record),
    NotDue,
}

pub(super) async fn sweep(meter: &RedisMeter) -> Result<Swept, MeterError> {
    let mut swept = Swept::default();
    let now = meter.office.time.now();
    for partition in Partition::all() {
        for Member { account, of } in meter.due(partition, Fixed::Deadlines, now, Some(TOGETHER_MAX)).await? {
            meter.expire_hold(account, DecisionId::from_bytes(of), &mut swept).await?;
        }
        for Member { account, of } in meter.due(partition, Fixed::Expiries, now, Some(TOGETHER_MAX)).await? {
            let owner = Some(UserId::from_bytes(of)).filter(|user| *user != UserId::MIN);
            meter.expire_grants(account, owner, &mut swept).await?;
        }
    }
    Ok(swept)
}

impl RedisMeter {
    /// What an index says is due by an instant.
    pub(super) async fn due(
        &self,
        partition: Partition,
        index: Fixed,
        by: Timestamp,
        limit: Option<u32>,
    ) -> Result<Vec<Member>, MeterError> {
        let mut range = redis::cmd("ZRANGEBYSCORE");
        range.arg(partition.key(index)).arg("-inf").arg(by.ms());
        if let Some(limit) = limit {
            range.arg("LIMIT").arg(0).arg(limit);
        }
        let Value::Array(members) = self.office.store.call(&range).await.map_err(MeterError::Store)? else {
            let what = format!("index {index:?} of partition {}", partition.number());
            return Err(MeterError::Store(StoreError::Unreadable { what }));
        };
        let members = members.into_iter().filter_map(|member| match member {
            Value::BulkString(bytes) => Member::read(&bytes),
            _ => None,
        });
        Ok(members.collect())
    }

    async fn expire_hold(
        &self,
        account: AccountId,
        decision: DecisionId,
        swept: &mut Swept,
    ) -> Result<(), MeterError> {
        let by = rand::random();
        let end = move |sheet: &mut Sheet| {
            let now = sheet.now;
            let due = sheet.account.hold_of(decision).filter(|hold| hold.expires_at <= now);
            let Some(hold) = due else { return End::NotDue };
            let floors = hold.dispatched && !hold.makes_video();
            let (used, ending) = hold.at_deadline();
            match finish(sheet, by, decision, used, ending) {
                Ok(record) if floors => End::Floored(Record::End(record)),
                Ok(record) => End::Voided(Record::End(record)),
                Err(_) => End::NotDue,
            }
        };
        let record = match self.ask(account, &[RowKey::Hold(decision)], end).await? {
            End::NotDue => return Ok(()),
            End::Voided(record) => {
                swept.voided += 1;
                record
            }
            End::Floored(record) => {
                swept.floored += 1;
                record
            }
        };
        let _unawaited = self.log.append(&record)?;
        Ok(())
    }

    async fn expire_grants(
        &self,
        account: AccountId,
        owner: Option<UserId>,
        swept: &mut Swept,
    ) -> Result<(), MeterError> {
        let expire = |sheet: &mut Sheet| {
            let records = sheet.account.expire_grants(sheet.now);
            sheet.records.extend(records.iter().cloned().map(Record::Expiry));
            records
        };
        let rows: Vec<_> = owner.map(RowKey::User).into_iter().collect();
        for record in self.ask(account, &rows, expire).await? {
            swept.expired += record.grants.len() as u64;
            let _unawaited = self.log.append(&Record::Expiry(record))?;
        }
        Ok(())
    }
}
