//! The journal by itself: how long a record takes to be durable, and what CPU that costs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use overfall::journal::{self, Frame, Journal, Tag};

use super::SECTION;
use crate::support::process::own_cpu;
use crate::support::report::{Figure, quantile};
use crate::support::settings::{Settings, folder};

const PAYLOAD_BYTES: usize = 300;
const WAITING: usize = 64;

pub(super) fn figures(settings: &Settings) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let rounds = settings.rounds;
    let lone: Vec<_> =
        (0..rounds).map(|_| appended(1, settings.trickle / 5)).collect::<anyhow::Result<_>>()?;
    let many: Vec<_> =
        (0..rounds).map(|_| appended(WAITING, settings.trickle / 5)).collect::<anyhow::Result<_>>()?;
    for (who, samples) in [("one after the other", lone), ("64 at a time", many)] {
        let all = |value: fn(&Sample) -> f64| samples.iter().map(value).collect::<Vec<_>>();
        let tell =
            |what: &str, unit, values| Figure::told(SECTION, format!("journal, {who}: {what}"), unit, values);
        figures.extend([
            tell("durable after, p50", "ms", all(|sample| sample.p50_ms)),
            tell("durable after, p99", "ms", all(|sample| sample.p99_ms)),
            tell("CPU of a record", "µs", all(|sample| sample.cpu_us)),
            tell("records", "/s", all(|sample| sample.rate)),
        ]);
    }
    Ok(figures)
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    p50_ms: f64,
    p99_ms: f64,
    cpu_us: f64,
    rate: f64,
}

/// As many as `waiting` wait for their record at a time, for so long.
fn appended(waiting: usize, length: Duration) -> anyhow::Result<Sample> {
    let folder = folder()?;
    let each = |_, _: Frame<'_>| Ok(());
    let (journal, _) = Journal::open::<()>(folder.path(), journal::Options::default(), each)?;
    let journal = Arc::new(journal);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let before = own_cpu()?;
    let start = Instant::now();
    let latencies: Vec<f64> = runtime.block_on(async {
        let tasks: Vec<_> = (0..waiting)
            .map(|_| {
                let journal = Arc::clone(&journal);
                tokio::spawn(async move {
                    let mut latencies = Vec::new();
                    while start.elapsed() < length {
                        let appended = Instant::now();
                        let frame = Frame { tag: Tag::Other, id: [0; 16], payload: &[7; PAYLOAD_BYTES] };
                        journal.append(frame)?.await?;
                        latencies.push(appended.elapsed().as_secs_f64() * 1e3);
                        // Nobody settles here: what is durable is done with.
                        journal.applied(journal.stats().durable);
                    }
                    anyhow::Ok(latencies)
                })
            })
            .collect();
        let mut latencies = Vec::new();
        for task in tasks {
            latencies.extend(task.await??);
        }
        anyhow::Ok(latencies)
    })?;
    let count = f64::from(u32::try_from(latencies.len())?);
    let sample = Sample {
        p50_ms: quantile(&latencies, 50),
        p99_ms: quantile(&latencies, 99),
        cpu_us: (own_cpu()?.all_us() - before.all_us()) / count,
        rate: count / start.elapsed().as_secs_f64(),
    };
    journal.close()?;
    Ok(sample)
}
