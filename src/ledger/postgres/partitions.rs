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

/// The months whose partitions are known to be there, by their first milliseconds.
#[derive(Debug, Default)]
pub(super) struct Partitions(Mutex<HashSet<i64>>);

impl Partitions {
    /// Makes the partitions that these instants need, and those of the months behind them: whoever books first in a
    /// month finds its partitions made.
    pub(super) async fn make(
        &self,
        client: &Client,
        instants: &BTreeSet<Timestamp>,
    ) -> Result<(), LedgerError> {
        let months: BTreeSet<[i64; 2]> = instants.iter().filter_map(|at| months_of(*at)).collect();
        for [month, ahead] in months {
            if self.known().contains(&month) {
                continue;
            }
            let make = client.prepare_cached("SELECT make_month($1)").await?;
            for first in [month, ahead].into_iter().filter(|first| *first < BEYOND) {
                client.execute(&make, &[&first]).await?;
            }
            self.known().insert(month);
        }
        Ok(())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first milliseconds of the month in UTC that an instant lies in, and of the next; none where everything always
/// has its place.
pub(super) fn months_of(at: Timestamp) -> Option<[i64; 2]> {
    let at = Some(at.ms()).filter(|ms| (0..BEYOND).contains(ms))?;
    let day = jiff::Timestamp::from_millisecond(at).ok()?.to_zoned(TimeZone::UTC).date();
    let first = |date: Date| Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond());
    let month = day.first_of_month();
    Some([first(month)?, first(month.saturating_add(jiff::Span::new().months(1)))?])
}
