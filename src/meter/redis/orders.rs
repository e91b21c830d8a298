//! What sets the books right: revisions of ended calls, and adjustments of balances.

use super::RedisMeter;
use super::keys::RowKey;
use super::sheet::Sheet;
use crate::access::record::{CorrectionRecord, Record};
use crate::access::{AdjustmentOrder, Prior, Revision, Unadjustable, Unrevisable};
use crate::meter::{Adjusting, MeterError, Revised};
use crate::units::AccountId;

/// The record that came of an order; none where it was carried out before.
type Ordered<E> = Result<Option<Record>, E>;

fn revise(sheet: &mut Sheet, by: u64, prior: &Prior, revision: &Revision) -> Ordered<Unrevisable> {
    let row = RowKey::Revision(prior.decision);
    if let Some(known) = sheet.kept.get(&row) {
        if known.by == by {
            return Ok(Some(known.record.clone()));
        }
        if known.record.revision().is_some_and(|newest| newest.revision > prior.revision) {
            return Ok(None);
        }
    }
    let order = order_of(revision);
    if order.is_some_and(|order| sheet.kept.contains_key(&order)) {
        return Ok(None);
    }
    let record = sheet.account.revise(prior, revision.clone(), sheet.now)?;
    let rows: Vec<_> = order.into_iter().chain([row]).collect();
    Ok(Some(sheet.keep(&rows, by, record)))
}

fn adjust(sheet: &mut Sheet, by: u64, order: &AdjustmentOrder) -> Ordered<Unadjustable> {
    let row = RowKey::Order(order.id);
    if let Some(known) = sheet.kept.get(&row) {
        return Ok((known.by == by).then(|| known.record.clone()));
    }
    let adjustment = sheet.account.adjust(order, sheet.now)?;
    sheet.account.adjusted(&adjustment, order.key);
    Ok(Some(sheet.keep(&[row], by, Record::Adjustment(adjustment))))
}

/// The row of an order that is carried out once.
fn order_of(revision: &Revision) -> Option<RowKey> {
    match revision {
        Revision::Refund(order) => Some(RowKey::Order(order.id)),
        Revision::Truth { .. } | Revision::Price(_) => None,
    }
}

impl RedisMeter {
    pub(super) async fn revise_there(
        &self,
        account: AccountId,
        prior: Prior,
        revision: Revision,
    ) -> Result<Revised, MeterError> {
        let rows = [RowKey::User(prior.user), RowKey::Revision(prior.decision)];
        let rows: Vec<_> = rows.into_iter().chain(order_of(&revision)).collect();
        let by = rand::random();
        let asked = self.ask(account, &rows, move |sheet| revise(sheet, by, &prior, &revision)).await?;
        let record = match asked {
            Err(why) => return Ok(Revised::Not(why)),
            Ok(None) => return Ok(Revised::Behind),
            Ok(Some(record)) => record,
        };
        let ticket = self.log.append(&record)?;
        Ok(match record.revision() {
            Some(correction) => Revised::Now(Box::new(correction.clone()), ticket),
            None => Revised::Behind,
        })
    }

    pub(super) async fn rehearse_there(
        &self,
        account: AccountId,
        revisions: Vec<(Prior, Revision)>,
    ) -> Result<Vec<Result<CorrectionRecord, Unrevisable>>, MeterError> {
        let rows: Vec<_> = revisions.iter().map(|(prior, _)| RowKey::User(prior.user)).collect();
        let copy = |sheet: &mut Sheet| (sheet.account.clone(), sheet.now);
        let (mut account, now) = self.ask(account, &rows, copy).await?;
        let rehearsed = revisions.into_iter().map(|(prior, revision)| {
            let record = account.revise(&prior, revision, now)?;
            Ok(record.revision().cloned())
        });
        Ok(rehearsed.filter_map(Result::transpose).collect())
    }

    pub(super) async fn adjust_there(
        &self,
        account: AccountId,
        order: AdjustmentOrder,
    ) -> Result<Adjusting, MeterError> {
        let rows: Vec<_> =
            order.user.map(RowKey::User).into_iter().chain([RowKey::Order(order.id)]).collect();
        let by = rand::random();
        let record = match self.ask(account, &rows, move |sheet| adjust(sheet, by, &order)).await? {
            Err(why) => return Ok(Adjusting::Not(why)),
            Ok(None) => return Ok(Adjusting::Behind),
            Ok(Some(record)) => record,
        };
        let ticket = self.log.append(&record)?;
        let Record::Adjustment(adjustment) = record else { return Ok(Adjusting::Behind) };
        Ok(Adjusting::Now(adjustment, ticket))
    }
}
