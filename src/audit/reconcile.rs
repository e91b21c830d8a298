//! Reconciliation: what a provider says was used, against the usage events.
//!
//! A provider's export is summed over time and model, so single calls cannot be told apart: both sides are summed by
//! UTC day and model, and compared number by number. What only one side has, and what differs, is told; what agrees is
//! counted.
//!
//! Ours are the calls that the upstream took on and that ended within the time that the export covers, videos left out,
//! with their newest revision. Of a dated model such as `gpt-5.5-2026-04-23` the date is left out on both sides: a
//! request names the one, an answer the other.
//!
//! Two harmless causes of a difference are counted beside it: calls whose usage is not exact, and calls that were under
//! way at the end of a day or at an edge of the export, which the provider may count on the other side of it.
//!
//! Bounds: [`ROWS`] days and models; the file is read as a stream.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::access::record::{Grade, Outcome};
use crate::ledger::LedgerError;
use crate::ledger::recorded::Recorded;
use crate::ledger::rows::DecisionRow;
use crate::units::Timestamp;

pub mod export;

pub use export::{Export, ExportError};

/// Days and models at most: ten years of thirty models.
const ROWS: usize = 100_000;
const DAY_MS: i64 = 86_400_000;
/// The model where an export does not tell them apart.
const ALL_MODELS: &str = "(all)";

/// What was used, as one side counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Requests.
    pub requests: u64,
    /// Input tokens, cached ones included.
    pub input_tokens: u64,
    /// Cached input tokens.
    pub cached_input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.cached_input_tokens = self.cached_input_tokens.saturating_add(other.cached_input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
    }

    fn parts(&self) -> [(&'static str, u64); 4] {
        [
            ("requests", self.requests),
            ("input tokens", self.input_tokens),
            ("cached input tokens", self.cached_input_tokens),
            ("output tokens", self.output_tokens),
        ]
    }
}

/// A day and a model on both sides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReconciledRow {
    /// The UTC day.
    pub day: String,
    /// The model, without a date.
    pub model: String,
    /// What the books say; none where they have no such call.
    pub ours: Option<Counts>,
    /// What the export says; none where it has nothing.
    pub theirs: Option<Counts>,
    /// Of ours, those whose usage is not exact.
    pub ours_inexact: u64,
    /// Of ours, those that were under way at the day's end or the export's edge.
    pub ours_across_edge: u64,
}

/// How both sides compare.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reconciliation {
    /// The beginning of what the export covers.
    pub from: String,
    /// Its end.
    pub until: String,
    /// Days and models that agree.
    pub agreeing: u64,
    /// Those that only the books have.
    pub only_ours: Vec<ReconciledRow>,
    /// Those that only the export has.
    pub only_theirs: Vec<ReconciledRow>,
    /// Those that both have, with other numbers.
    pub different: Vec<ReconciledRow>,
}

/// Why both sides cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The books cannot be read.
    #[error("the books cannot be read")]
    Books(#[from] LedgerError),
    /// There are more days and models than are compared at once.
    #[error("there are more than {ROWS} days and models: reconcile a shorter time")]
    TooMany,
}

/// Compares an export with the books.
pub fn reconcile(export: &Export, books: &dyn Recorded) -> Result<Reconciliation, ReconcileError> {
    let mut rows: BTreeMap<(i64, String), ReconciledRow> = BTreeMap::new();
    for ((day, model), counts) in export.counts() {
        let row = rows.entry((*day, model.clone())).or_default();
        row.theirs.get_or_insert_default().add(counts);
    }
    let mut is_full = rows.len() > ROWS;
    let model_of = |call: &DecisionRow| {
        if export.tells_models() { undated(&call.model).to_owned() } else { ALL_MODELS.to_owned() }
    };
    // One day more than is covered: what ended in it may have begun before.
    let until = Timestamp::from_ms(export.until().ms().saturating_add(DAY_MS));
    books.ended(export.from(), until, &mut |call| {
        let is_video = call.used.seconds > 0 || call.estimate.seconds > 0;
        if is_full || is_video || call.outcome == Outcome::Refused {
            return;
        }
        if call.ended_at < export.until() {
            count(rows.entry((day_of(call.ended_at), model_of(&call))).or_default(), &call);
            is_full = rows.len() > ROWS;
        }
        if day_of(call.held_at) != day_of(call.ended_at)
            && let Some(row) = rows.get_mut(&(day_of(call.held_at), model_of(&call)))
        {
            row.ours_across_edge += 1;
        }
    })?;
    if is_full {
        return Err(ReconcileError::TooMany);
    }
    let mut told = Reconciliation {
        from: export.from().to_string(),
        until: export.until().to_string(),
        ..Reconciliation::default()
    };
    for ((day, model), row) in rows {
        let row = ReconciledRow { day: day_text(day), model, ..row };
        match (&row.ours, &row.theirs) {
            (Some(ours), Some(theirs)) if ours == theirs => told.agreeing += 1,
            (Some(_), Some(_)) => told.different.push(row),
            (Some(_), None) => told.only_ours.push(row),
            (None, _) => told.only_theirs.push(row),
        }
    }
    Ok(told)
}

fn count(row: &mut ReconciledRow, call: &DecisionRow) {
    row.ours.get_or_insert_default().add(&Counts {
        requests: 1,
        input_tokens: call.used.input_tokens,
        cached_input_tokens: call.used.cached_input_tokens,
        output_tokens: call.used.output_tokens,
    });
    row.ours_inexact += u64::from(call.grade != Grade::Exact);
    row.ours_across_edge += u64::from(day_of(call.held_at) != day_of(call.ended_at));
}

/// Days since 1970.
fn day_of(at: Timestamp) -> i64 {
    at.ms().div_euclid(DAY_MS)
}

fn day_text(day: i64) -> String {
    let midnight = Timestamp::from_ms(day.saturating_mul(DAY_MS)).to_string();
    midnight.split('T').next().unwrap_or_default().to_owned()
}

/// A model's name without the date of its snapshot.
fn undated(model: &str) -> &str {
    let Some(start) = model.len().checked_sub("-2026-01-01".len()) else { return model };
    let is_date = model.is_char_boundary(start)
        && model[start..].bytes().enumerate().all(|(place, byte)| match place {
            0 | 5 | 8 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    if is_date && start > 0 { &model[..start] } else { model }
}

impl Reconciliation {
    /// Whether both sides say the same.
    pub fn agrees(&self) -> bool {
        self.only_ours.is_empty() && self.only_theirs.is_empty() && self.different.is_empty()
    }
}

impl fmt::Display for Reconciliation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "from {} until {}: {} days and models agree", self.from, self.until, self.agreeing)?;
        for (title, rows) in [
            ("only ours", &self.only_ours),
            ("only theirs", &self.only_theirs),
            ("different", &self.different),
        ] {
            if rows.is_empty() {
                continue;
            }
            let heads = ["ours", "theirs", "ours - theirs"].map(|head| format!("{head:>16}")).join(" ");
            writeln!(f, "\n{title:<42} {heads}")?;
            for row in rows {
                told(row, f)?;
            }
        }
        if self.agrees() { writeln!(f, "both sides say the same") } else { Ok(()) }
    }
}

fn told(row: &ReconciledRow, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "  {} {}", row.day, row.model)?;
    let (ours, theirs) = (row.ours.unwrap_or_default(), row.theirs.unwrap_or_default());
    for ((label, ours), (_, theirs)) in ours.parts().into_iter().zip(theirs.parts()) {
        if ours != theirs {
            let difference = i128::from(ours) - i128::from(theirs);
            writeln!(f, "    {label:<38} {ours:>16} {theirs:>16} {difference:>+16}")?;
        }
    }
    if row.ours_inexact > 0 {
        writeln!(f, "    {} of ours are not exact", row.ours_inexact)?;
    }
    if row.ours_across_edge > 0 {
        writeln!(f, "    {} of ours were under way at midnight", row.ours_across_edge)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
