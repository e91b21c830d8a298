//! Load on one peer: closed (the next request follows the answer) or open (requests come at their own times).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use super::client::Connection;

/// Connections to one peer, each with the one request that it repeats.
#[derive(Debug)]
pub(crate) struct Driver {
    runtime: Runtime,
    addr: SocketAddr,
    expected: u16,
    lanes: Vec<Lane>,
}

#[derive(Debug)]
struct Lane {
    connection: Connection,
    request: Vec<u8>,
}

/// What a load came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Load {
    /// Answers with the status that was expected.
    pub(crate) answers: u64,
    /// Others, broken connections included.
    pub(crate) failures: u64,
    /// How long it took.
    pub(crate) elapsed: Duration,
    /// Milliseconds of each answer.
    latencies_ms: Vec<f64>,
}

impl Driver {
    /// Connects, one connection for each request.
    pub(crate) fn connect(addr: SocketAddr, requests: Vec<Vec<u8>>, expected: u16) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let lanes = runtime.block_on(async {
            let mut lanes = Vec::new();
            for request in requests {
                lanes.push(Lane { connection: Connection::open(addr).await?, request });
            }
            anyhow::Ok(lanes)
        })?;
        Ok(Self { runtime, addr, expected, lanes })
    }

    /// Each connection sends as soon as it has its answer.
    pub(crate) fn closed(&mut self, length: Duration) -> anyhow::Result<Load> {
        let (addr, expected) = (self.addr, self.expected);
        self.all(move |mut lane| async move {
            let mut load = Load::default();
            let start = Instant::now();
            while start.elapsed() < length {
                lane.once(addr, expected, &mut load).await?;
            }
            anyhow::Ok((lane, load))
        })
    }

    /// Requests come every so often, in turns on all connections; each waits for nothing but its own answer.
    pub(crate) fn open(&mut self, every: Duration, length: Duration) -> anyhow::Result<Load> {
        let (addr, expected) = (self.addr, self.expected);
        let turn = every * u32::try_from(self.lanes.len())?;
        let mut first = Duration::ZERO;
        self.all(move |mut lane| {
            let begin = first;
            first += every;
            async move {
                let mut load = Load::default();
                let start = tokio::time::Instant::now();
                let mut at = begin;
                while at < length {
                    tokio::time::sleep_until(start + at).await;
                    lane.once(addr, expected, &mut load).await?;
                    at += turn;
                }
                anyhow::Ok((lane, load))
            }
        })
    }

    fn all<F>(&mut self, mut run: impl FnMut(Lane) -> F) -> anyhow::Result<Load>
    where
        F: Future<Output = anyhow::Result<(Lane, Load)>> + 'static,
    {
        let start = Instant::now();
        let set = LocalSet::new();
        let tasks: Vec<_> = self.lanes.drain(..).map(|lane| set.spawn_local(run(lane))).collect();
        let mut total = Load::default();
        let lanes = set.block_on(&self.runtime, async {
            let mut lanes = Vec::new();
            for task in tasks {
                let (lane, load) = task.await??;
                total.answers += load.answers;
                total.failures += load.failures;
                total.latencies_ms.extend(load.latencies_ms);
                lanes.push(lane);
            }
            anyhow::Ok(lanes)
        })?;
        self.lanes = lanes;
        total.elapsed = start.elapsed();
        Ok(total)
    }
}

impl Lane {
    async fn once(&mut self, addr: SocketAddr, expected: u16, load: &mut Load) -> anyhow::Result<()> {
        let sent = Instant::now();
        match self.connection.exchange(&self.request).await {
            Ok(answer) if answer.status == expected => {
                load.answers += 1;
                load.latencies_ms.push(sent.elapsed().as_secs_f64() * 1e3);
                if answer.header("connection").is_none_or(|value| value != "close") {
                    return Ok(());
                }
            }
            Ok(answer) => {
                load.failures += 1;
                anyhow::ensure!(load.failures < 1000, "{addr} answers {}: {}", answer.status, answer.text());
            }
            Err(_) => {
                load.failures += 1;
                anyhow::ensure!(load.failures < 1000, "{addr} breaks its connections");
            }
        }
        // A gateway closes connections now and then, after an answer that says so.
        self.connection = Connection::open(addr).await?;
        Ok(())
    }
}

impl Load {
    /// Answers in a second.
    pub(crate) fn rate(&self) -> f64 {
        f64::from(u32::try_from(self.answers).unwrap_or(u32::MAX)) / self.elapsed.as_secs_f64()
    }

    /// Milliseconds below which so many hundredths of the answers lie.
    pub(crate) fn latency_ms(&self, hundredths: usize) -> f64 {
        super::report::quantile(&self.latencies_ms, hundredths)
    }
}
