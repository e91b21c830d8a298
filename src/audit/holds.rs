//! I9 and I10: what is in flight, from the node's journal.
//!
//! A hold that is open there has not ended. It must end by its deadline, and none may be open whose usage event is in
//! the books: ends are in the journal before they are booked. The books are looked at first, so that what ends
//! meanwhile is not taken for that.
//!
//! Where nodes share a meter, any of them may end a hold, and the end goes to the books without the journal of the node
//! that took it, which hears of it when it ends the hold itself. There such holds are counted.
//!
//! A request's hold is renewed while it runs, in the memory of its gateway. So while one runs, such holds are counted
//! and not judged by the deadline that they were made with; those of jobs are, since nothing renews them. Where no
//! gateway runs, nothing does.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;

use serde::Serialize;

use super::invariant::Invariant;
use super::report::AuditReport;
use crate::access::record::{Entry, Record};
use crate::journal::{self, Frame};
use crate::ledger::LedgerError;
use crate::ledger::books::Books;
use crate::telemetry::chain;
use crate::units::{AccountId, DecisionId, IdMap, Span, Timestamp};

/// How long after its deadline a hold may still be open: the gateway looks every second, and may be busy.
pub const GRACE: Span = Span::from_seconds(60);

/// How many holds are open, as a report tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(tag = "looked_at", rename_all = "kebab-case")]
pub enum OpenHolds {
    /// No journal was named.
    #[default]
    No,
    /// There is no journal where it was named.
    NoJournal,
    /// It could not be read.
    Unreadable,
    /// They were looked at.
    Yes {
        /// How many are open.
        open: u64,
        /// Those that a running gateway renews in its memory, which were not judged by their deadlines.
        renewed: u64,
        /// Those that are in the books of all nodes, of which this node has not heard yet.
        ended_elsewhere: u64,
    },
}

/// Who ends the holds of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// Itself alone.
    Here,
    /// Any node on its meter.
    Anywhere,
}

/// What was open in the journal of a data folder.
#[derive(Debug)]
pub struct InFlight {
    ends: Ends,
    holds: Result<Holds, journal::OpenError>,
    /// Whether a gateway runs on the folder.
    gateway_runs: bool,
    /// When it was looked at.
    at: Timestamp,
}

type Holds = IdMap<DecisionId, Open>;

#[derive(Clone, Copy, Debug)]
struct Open {
    account: AccountId,
    expires_at: Timestamp,
    is_job: bool,
}

impl InFlight {
    /// Looks at the journal of a data folder at `now`, beside its gateway if one runs.
    pub fn look(data: &Path, ends: Ends, now: Timestamp) -> std::io::Result<Self> {
        let gateway_runs = gateway_runs(data)?;
        let holds = journal::look(&data.join("journal"), note).map(|look| {
            let mut holds: Holds = look.found;
            holds.retain(|decision, _| look.recovery.open.contains(decision.as_bytes()));
            holds
        });
        Ok(Self { ends, holds, gateway_runs, at: now })
    }

    /// Judges what is open against the books, which were opened before the journal was looked at; only those of an
    /// account where one is given.
    pub fn check(
        &self,
        books: &dyn Books,
        account: Option<AccountId>,
        report: &mut AuditReport,
    ) -> Result<(), LedgerError> {
        let holds = match &self.holds {
            Ok(holds) => holds,
            Err(journal::OpenError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                report.open_holds = OpenHolds::NoJournal;
                return Ok(());
            }
            Err(error) => {
                let subject = || "journal".to_owned();
                report.violated(Invariant::I10, subject, "what it holds", "readable", chain(error));
                report.open_holds = OpenHolds::Unreadable;
                return Ok(());
            }
        };
        let (mut open, mut renewed, mut ended_elsewhere) = (0, 0, 0);
        let mut holds: Vec<_> = holds.iter().collect();
        holds.sort_unstable_by_key(|(decision, _)| **decision);
        for (decision, hold) in holds {
            if account.is_some_and(|only| only != hold.account) {
                continue;
            }
            let is_booked = books.cells(*decision)?.is_some();
            if is_booked && self.ends == Ends::Anywhere {
                ended_elsewhere += 1;
                continue;
            }
            open += 1;
            let subject = || format!("{decision} of {}", hold.account);
            if is_booked {
                let what = "hold whose usage event is in the books";
                report.violated(Invariant::I9, subject, what, "ended", "open in the journal");
            }
            if self.gateway_runs && !hold.is_job {
                renewed += 1;
            } else if hold.expires_at.plus(GRACE) < self.at {
                let what = "hold past its deadline";
                let expected = format_args!("ended by {}", hold.expires_at);
                let late_seconds = self.at.since(hold.expires_at).ms() / 1_000;
                report.violated(
                    Invariant::I9,
                    subject,
                    what,
                    expected,
                    format_args!("open {late_seconds} s after it"),
                );
            }
        }
        report.open_holds = OpenHolds::Yes { open, renewed, ended_elsewhere };
        Ok(())
    }
}

/// Notes what a frame opens, moves or ends.
fn note(holds: &mut Holds, frame: Frame<'_>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let record = match Entry::read(frame.id, frame.payload)? {
        Entry::Record(record) => record,
        Entry::Over(decision) => {
            holds.remove(&decision);
            return Ok(());
        }
        Entry::Began(_) | Entry::DoneAgain(_) => return Ok(()),
    };
    match record {
        Record::Hold(hold) => {
            let open = Open { account: hold.account, expires_at: hold.expires_at, is_job: false };
            holds.insert(hold.decision, open);
        }
        Record::Job(job) => {
            if let Some(open) = holds.get_mut(&job.decision) {
                (open.expires_at, open.is_job) = (job.expires_at, true);
            }
        }
        Record::End(end) => {
            holds.remove(&end.decision);
        }
        Record::Correction(_)
        | Record::Made(_)
        | Record::Grant(_)
        | Record::Expiry(_)
        | Record::Revision(_)
        | Record::Adjustment(_) => {}
    }
    Ok(())
}

/// Whether a gateway has the folder. A gateway that starts at this very moment may find it taken.
fn gateway_runs(data: &Path) -> std::io::Result<bool> {
    let file = match File::open(data.join("lock")) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests;
