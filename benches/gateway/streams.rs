//! Streams of 300 events, one every 3 ms, six at a time: time to the first event, events read one by one, CPU.

use std::net::SocketAddr;
use std::time::Instant;

use tokio::task::LocalSet;

use crate::gateway::alternate;
use crate::gateway::stage::Stage;
use crate::support::client::{Connection, post};
use crate::support::report::{Figure, Goal, median};
use crate::support::settings::Settings;

const SECTION: &str = "Streams of 300 events, one every 3 ms, six at a time";
const AT_A_TIME: usize = 6;
const BODY: &str = r#"{"model":"gpt-5.5-sim-out=300+events=300+pace=3","input":"Say hello, slowly.","stream":true,"max_output_tokens":400}"#;

/// What a client sees of one stream.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    first_event_ms: f64,
    events: u32,
    /// Those that no other event came with.
    alone: u32,
}

/// One peer in one round.
#[derive(Clone, Copy, Debug)]
struct Sample {
    first_event_ms: f64,
    alone: f64,
    cpu_ms: f64,
}

pub(super) fn figures(settings: &Settings, stage: &Stage) -> anyhow::Result<Vec<Figure>> {
    let (mut bare, mut overfall) = (Vec::new(), Vec::new());
    alternate(settings.rounds, &[true, false], |is_bare| {
        let (addr, process) = if is_bare {
            (stage.bare_addr, &stage.bare)
        } else {
            (stage.gateway.addr, &stage.gateway.process)
        };
        let sample = sample(settings.streams, &stage.keys, addr, || Ok(process.cpu()?.all_us()))?;
        if is_bare {
            bare.push(sample);
        } else {
            overfall.push(sample);
        }
        Ok(())
    })?;
    let all = |samples: &[Sample], value: fn(&Sample) -> f64| samples.iter().map(value).collect::<Vec<_>>();
    let pairs =
        |value: fn(&Sample, &Sample) -> f64| overfall.iter().zip(&bare).map(|(o, b)| value(o, b)).collect();
    let tell = |what: &str, unit, values| Figure::told(SECTION, what, unit, values);
    let aim = |what: &str, unit, goal, values| Figure::aimed(SECTION, what, unit, goal, values);
    Ok(vec![
        tell("first event, bare Pingora", "ms", all(&bare, |sample| sample.first_event_ms)),
        tell("first event, Overfall", "ms", all(&overfall, |sample| sample.first_event_ms)),
        aim("first event, added", "ms", Goal::AtMost(1.0), pairs(|o, b| o.first_event_ms - b.first_event_ms)),
        tell("events read by themselves, bare Pingora", "%", all(&bare, |sample| sample.alone)),
        aim(
            "events read by themselves, Overfall",
            "%",
            Goal::AtLeast(90.0),
            all(&overfall, |sample| sample.alone),
        ),
        tell("CPU of a stream, bare Pingora", "ms", all(&bare, |sample| sample.cpu_ms)),
        tell("CPU of a stream, Overfall, everything", "ms", all(&overfall, |sample| sample.cpu_ms)),
        aim("CPU, Overfall ÷ bare", "×", Goal::AtMost(1.5), pairs(|o, b| o.cpu_ms / b.cpu_ms)),
    ])
}

fn sample(
    streams: usize,
    keys: &[String],
    addr: SocketAddr,
    cpu_us: impl Fn() -> anyhow::Result<f64>,
) -> anyhow::Result<Sample> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let set = LocalSet::new();
    let connections = runtime.block_on(async {
        let mut connections = Vec::new();
        for key in keys.iter().cycle().take(AT_A_TIME) {
            connections.push((Connection::open(addr).await?, post("/v1/responses", key, BODY)));
        }
        anyhow::Ok(connections)
    })?;
    let before = cpu_us()?;
    let turns = streams.div_ceil(AT_A_TIME);
    let tasks: Vec<_> = connections
        .into_iter()
        .map(|(mut connection, request)| {
            set.spawn_local(async move {
                let mut all = Vec::new();
                for _ in 0..turns {
                    all.push(stream(&mut connection, &request).await?);
                }
                anyhow::Ok(all)
            })
        })
        .collect();
    let seen: Vec<Seen> = set.block_on(&runtime, async {
        let mut seen = Vec::new();
        for task in tasks {
            seen.extend(task.await??);
        }
        anyhow::Ok(seen)
    })?;
    let cpu_us = cpu_us()? - before;
    let firsts: Vec<f64> = seen.iter().map(|seen| seen.first_event_ms).collect();
    let sum = |value: fn(&Seen) -> u32| f64::from(seen.iter().map(value).sum::<u32>());
    let alone = 100.0 * sum(|seen| seen.alone) / sum(|seen| seen.events);
    let count = f64::from(u32::try_from(seen.len())?);
    Ok(Sample { first_event_ms: median(&firsts), alone, cpu_ms: cpu_us / 1e3 / count })
}

async fn stream(connection: &mut Connection, request: &[u8]) -> anyhow::Result<Seen> {
    let sent = Instant::now();
    let mut looked_at = connection.begin(request).await?;
    let answer = connection.answer(looked_at)?;
    anyhow::ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
    let mut seen = Seen::default();
    loop {
        let events = memchr::memmem::find_iter(&connection.received()[looked_at..], b"\n\n").count();
        if events > 0 {
            if seen.events == 0 {
                seen.first_event_ms = sent.elapsed().as_secs_f64() * 1e3;
            }
            seen.events += u32::try_from(events)?;
            seen.alone += u32::from(events == 1);
            // The mark of the last event may be followed by the end of its chunk only.
            looked_at = connection.received().len();
        }
        if connection.is_complete() {
            anyhow::ensure!(seen.events >= 300, "a stream of {} events", seen.events);
            return Ok(seen);
        }
        connection.read().await?;
    }
}
