//! A meter by itself, for tests and measurements without a ledger that nodes share: the first on a store builds it, and
//! all take what epoch it is in.

use super::attendant::AttendError;
use super::epochs::open_word;
use super::keys::Partition;
use super::{RedisMeter, StoreError, rebuild};

impl RedisMeter {
    /// Decides by the store from now on. One that does not know the epoch is built from the books first.
    pub async fn alone(&self, epoch: u64) -> Result<(), AttendError> {
        let (store, word) = (&self.office.store, open_word(epoch));
        match rebuild::know(store, Partition::numbered(0), &word).await {
            Ok(()) => {}
            Err(StoreError::Lost { .. }) => {
                rebuild::name_epoch(store, &word).await?;
                rebuild::build(&self.office, &word, &*self.office.policies.ledger).await?;
            }
            Err(error) => return Err(error.into()),
        }
        self.office.epochs.hold(word);
        self.hold_again(&*self.office.policies.ledger, epoch).await?;
        self.office.epochs.open(epoch);
        Ok(())
    }
}
