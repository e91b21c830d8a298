//! The audit by itself, over books that were made in bulk: every record decided by the access core and booked by the
//! ledger, so that they must hold.
//!
//! A million usage events; `OVERFALL_AUDIT_EVENTS` asks for another number.

use std::sync::Arc;
use std::time::Instant;

use overfall::audit::checkpoint::Checkpoint;
use overfall::audit::{Scope, audit};
use overfall::ledger::sqlite::{SqliteBooks, SqliteLedger};
use overfall::policy::load;

use crate::support::life::{START, fill};
use crate::support::process::own_cpu;
use crate::support::report::{Figure, Goal};
use crate::support::settings::{Settings, folder};

const SECTION: &str = "Audit of the whole books, the gateway idle";
const ACCOUNTS: u64 = 1_000;

/// All figures of the audit.
pub(crate) fn figures(settings: &Settings) -> anyhow::Result<Vec<Figure>> {
    let wanted = std::env::var("OVERFALL_AUDIT_EVENTS").ok().and_then(|text| text.parse().ok());
    let wanted = wanted.unwrap_or(settings.audited);
    let folder = folder()?;
    let path = folder.path().join("ledger.sqlite");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { fill(&SqliteLedger::open(&path)?, ACCOUNTS, wanted).await })?;
    let read = |text: &str| load::parse("books", text).ok().map(Arc::new);
    let (mut rates, mut cpu_us, mut heads) = (Vec::new(), Vec::new(), Vec::new());
    let mut booked = 0;
    for _ in 0..settings.rounds {
        let books = SqliteBooks::open_ahead(&path)?;
        let (start, cpu) = (Instant::now(), own_cpu()?);
        let report = audit(&books, &read, Scope::default(), &mut |_| {})?;
        anyhow::ensure!(report.holds(), "{report}");
        booked = report.checked.usage_events;
        let events = f64::from(u32::try_from(booked)?);
        rates.push(events / start.elapsed().as_secs_f64());
        cpu_us.push((own_cpu()?.all_us() - cpu.all_us()) / events);
        let start = Instant::now();
        let checkpoint = Checkpoint::take(&books, START)?;
        heads.push(start.elapsed().as_secs_f64() * 1e6 / f64::from(u32::try_from(checkpoint.leaves)?));
    }
    Ok(vec![
        Figure::aimed(
            SECTION,
            format!("usage events, of {booked} with all that belongs to them"),
            "/s",
            Goal::AtLeast(100_000.0),
            rates,
        ),
        Figure::told(SECTION, "CPU of a usage event", "µs", cpu_us),
        Figure::told(SECTION, "a head in a checkpoint", "µs", heads),
    ])
}
