//! Revisions: why the money of an ended call becomes another.

use super::account::Account;
use super::correct::{Prior, Repriced, Uncorrectable};
use super::demand::Demand;
use super::ledgered::BookedGrant;
use super::record::{CorrectionRecord, EndRecord, Ending, Record, RevisionOrder};
use super::refund::{RefundOrder, Unrefundable};
use super::terms::Terms;
use crate::units::{Credits, Timestamp};

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

impl Prior {
    /// What an end says, of the grants that its draws name.
    pub fn of(end: &EndRecord, terms: Terms, grants: Vec<BookedGrant>) -> Self {
        Self {
            decision: end.decision,
            user: end.user,
            terms,
            held_at: end.held_at,
            revision: 1,
            priced_by: end.policy,
            ended_at: end.ended_at,
            ending: end.ending.clone(),
            used: end.used.clone(),
            draws: end.draws.clone(),
            charge: end.charge,
            refunded: Credits::ZERO,
            grants,
        }
    }

    /// Goes on to what a revision of it says; any other record says nothing of it.
    pub fn revised(&mut self, record: &Record) {
        let Some(correction) = record.revision() else { return };
        let mut settles = true;
        if let Record::Revision(revision) = record {
            self.refunded = revision.refunded;
            settles = !matches!(revision.order, RevisionOrder::Refund { .. });
        }
        if settles {
            self.ended_at = correction.corrected_at;
        }
        self.revision = correction.revision;
        self.priced_by = correction.policy;
        self.ending = correction.ending.clone();
        self.used = correction.used.clone();
        self.draws.clone_from(&correction.draws);
        self.charge = correction.charge;
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
