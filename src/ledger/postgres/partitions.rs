//! Partitions of the event tables: a month each, made before anything is booked in it.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};

use deadpool_postgres::Client;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::ledger::LedgerError;
use crate::units::Timestamp;

/// From here on, and before 1970, everything stands in partitions that are always there: the beginning of the year 9999.
const BEYOND: i64 = 253_370_764_800_000;

/// The months whose partitions are known to be there.
#[derive(Debug, Default)]
pub(super) struct Partitions(Mutex<HashSet<Date>>);

impl Partitions {
    /// Makes the partitions that these instants need, and those of the months behind them: whoever books first in a
    /// month finds its partitions made.
    pub(super) async fn make(
        &self,
        client: &Client,
        instants: &BTreeSet<Timestamp>,
    ) -> Result<(), LedgerError> {
        let months: BTreeSet<Date> = instants.iter().filter_map(|at| month_of(*at)).collect();
        for month in months {
            if self.known().contains(&month) {
                continue;
            }
            let make = client.prepare_cached("SELECT make_month($1)").await?;
            let ahead = month.saturating_add(jiff::Span::new().months(1));
            for month in [month, ahead] {
                if let Some(first) = first_of(month).filter(|first| *first < BEYOND) {
                    client.execute(&make, &[&first]).await?;
                }
            }
            self.known().insert(month);
        }
        Ok(())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<Date>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first day of the month in UTC; none where everything always has its place.
fn month_of(at: Timestamp) -> Option<Date> {
    let at = Some(at.ms()).filter(|ms| (0..BEYOND).contains(ms))?;
    Some(jiff::Timestamp::from_millisecond(at).ok()?.to_zoned(TimeZone::UTC).date().first_of_month())
}

/// Its first millisecond.
fn first_of(month: Date) -> Option<i64> {
    Some(month.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond())
}
