//! Settlement by itself: records that wait in the journal go to books that are already large.

pub(crate) mod books;

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use overfall::ledger::postgres::PostgresLedger;
use overfall::settle::{Settler, SettlerStats};
use tokio::sync::watch;

use crate::support::gateway::POLICY;
use crate::support::postgres::PostgresServer;
use crate::support::process::own_cpu;
use crate::support::report::{Figure, Goal};
use crate::support::settings::Settings;
use books::Books;

const SECTION: &str =
    "Settlement, the gateway idle; each request is a usage event, a monetization event and a balance update";
const ACCOUNTS: u64 = 1_000;
/// So many rounds' requests are on a server before one is measured.
const SERVER_PARTS: usize = 4;
/// A small server's, and nothing that makes a commit cheaper.
const SERVER_SETTINGS: &[&str] =
    &["shared_buffers=512MB", "max_wal_size=4GB", "fsync=on", "synchronous_commit=on", "full_page_writes=on"];
/// How many requests are journalled at a time before the books are filled.
const PART: usize = 50_000;

/// One round.
#[derive(Clone, Copy, Debug)]
struct Sample {
    rate: f64,
    cpu_us: f64,
}

/// All figures of settlement.
pub(crate) fn figures(settings: &Settings) -> anyhow::Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let policy = POLICY.replace("paying:", "plus:");
    let samples = runtime.block_on(async {
        settled(Books::open(&policy, ACCOUNTS).await?, settings, settings.booked).await
    })?;
    // A server's tables grow no slower with their size, as its file does; so it need not be as large.
    let before = settings.settled * SERVER_PARTS;
    let on_server = runtime.block_on(async {
        let server = PostgresServer::start_in(&std::env::temp_dir(), SERVER_SETTINGS).await;
        let ledger = Arc::new(PostgresLedger::open(&server.address()).await?);
        settled(Books::on(ledger, &policy, ACCOUNTS).await?, settings, before).await
    })?;
    let rates = |samples: &[Sample]| samples.iter().map(|sample| sample.rate).collect::<Vec<_>>();
    let all = |value: fn(&Sample) -> f64| samples.iter().map(value).collect::<Vec<_>>();
    let into = format!("into {} usage events and more", settings.booked);
    Ok(vec![
        Figure::aimed(
            SECTION,
            format!("paid requests, {into}"),
            "/s",
            Goal::AtLeast(8_000.0),
            all(|sample| sample.rate),
        ),
        Figure::aimed(
            SECTION,
            format!("paid requests into PostgreSQL, into {before} usage events and more, synced to disk"),
            "/s",
            Goal::AtLeast(5_000.0),
            rates(&on_server),
        ),
        Figure::told(
            SECTION,
            "CPU of a request, reader and writer together",
            "µs",
            all(|sample| sample.cpu_us),
        ),
    ])
}

async fn settled(mut books: Books, settings: &Settings, before: usize) -> anyhow::Result<Vec<Sample>> {
    let settler = Settler::new(books.journal.clone(), books.ledger.clone(), |_| {});
    let stats = settler.stats();
    let (_shutdown, stopping) = watch::channel(false);
    // Settles only while it is polled: records are made first, and then nothing else runs.
    let mut settling = pin!(settler.run(stopping));
    let mut left = before;
    while left > 0 {
        let part = left.min(PART);
        books.call(part).await?;
        drain(settling.as_mut(), &books, &stats).await?;
        left -= part;
    }
    let mut samples = Vec::new();
    for _ in 0..settings.rounds {
        books.call(settings.settled).await?;
        let (start, cpu) = (Instant::now(), own_cpu()?);
        drain(settling.as_mut(), &books, &stats).await?;
        let requests = f64::from(u32::try_from(settings.settled)?);
        samples.push(Sample {
            rate: requests / start.elapsed().as_secs_f64(),
            cpu_us: (own_cpu()?.all_us() - cpu.all_us()) / requests,
        });
    }
    let wrong = stats.conflicts.load(Ordering::Relaxed) + stats.waiting.load(Ordering::Relaxed);
    anyhow::ensure!(wrong == 0, "{wrong} records were not booked");
    Ok(samples)
}

/// Lets settlement run until it has given all that is journalled to the books.
async fn drain(
    settling: Pin<&mut impl Future<Output = ()>>,
    books: &Books,
    stats: &SettlerStats,
) -> anyhow::Result<()> {
    let end = books.journal.stats().next.value();
    let reached = async {
        while stats.position.load(Ordering::Acquire) < end {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        () = reached => Ok(()),
        () = settling => anyhow::bail!("settlement has ended"),
    }
}
