//! Revisions: why the money of an ended call becomes another.

use super::account::Account;
use super::correct::{Prior, Repriced, Uncorrectable};
use super::demand::Demand;
use super::record::{CorrectionRecord, Ending, Record};
use super::refund::{RefundOrder, Unrefundable};
use crate::units::Timestamp;

/// Why the money of a call becomes another.
#[derive(Clone, Debug)]
pub enum Revision {
    /// The truth was told after its deadline.
    Truth {
        /// What was used.
        used: Demand,
        /// How it ended.
        ending: Ending,
    },
    /// An operator prices it by another policy.
    Price(Repriced),
    /// An operator gives back a part of it.
    Refund(RefundOrder),
}

/// Why the money of a call stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unrevisable {
    /// It cannot be settled again.
    #[error(transparent)]
    Uncorrectable(#[from] Uncorrectable),
    /// It cannot be given back.
    #[error(transparent)]
    Unrefundable(#[from] Unrefundable),
}

impl Account {
    /// Makes the next revision of a call's money. Nothing is changed by an error.
    pub fn revise(
        &mut self,
        prior: &Prior,
        revision: Revision,
        now: Timestamp,
    ) -> Result<Record, Unrevisable> {
        Ok(match revision {
            Revision::Truth { used, ending } => Record::Correction(self.correct(prior, used, ending, now)?),
            Revision::Price(repriced) => Record::Revision(self.reprice(prior, repriced, now)?),
            Revision::Refund(order) => Record::Revision(self.refund(prior, &order, now)?),
        })
    }
}

impl Record {
    /// The revision of a call's money that it is, if it is one.
    pub fn revision(&self) -> Option<&CorrectionRecord> {
        match self {
            Self::Correction(correction) => Some(correction),
            Self::Revision(revision) => Some(&revision.correction),
            Self::Hold(_)
            | Self::End(_)
            | Self::Grant(_)
            | Self::Expiry(_)
            | Self::Job(_)
            | Self::Made(_)
            | Self::Adjustment(_) => None,
        }
    }
}
