//! Memory at rest, and the time from the start of the process to the first answer.

use std::time::{Duration, Instant};

use crate::gateway::stage::{Stage, json_request};
use crate::support::client::Connection;
use crate::support::gateway::{Deployment, POLICY};
use crate::support::report::{Figure, Goal};
use crate::support::settings::Settings;

const SECTION: &str = "At rest and at the start";
const MB: f64 = 1e6;

pub(super) fn figures(settings: &Settings, stage: Stage) -> anyhow::Result<Vec<Figure>> {
    let Stage { deployment: used, gateway, keys, .. } = stage;
    gateway.settle()?;
    let loaded = megabytes(gateway.process.resident_bytes()?);
    gateway.process.stop()?;
    let (mut idle, mut fresh_start, mut used_start) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..settings.rounds {
        // Where nobody has an account yet, the first answer is a refusal of the key.
        let fresh = Deployment::new(used.addr(), POLICY)?;
        let (time, megabytes) = first_answer(&fresh, "ofk_nobody", 401)?;
        fresh_start.push(time);
        idle.push(megabytes);
        let (time, _) = first_answer(&used, &keys[0], 200)?;
        used_start.push(time);
    }
    Ok(vec![
        Figure::aimed(SECTION, "resident memory, idle", "MB", Goal::AtMost(40.0), idle),
        Figure::told(SECTION, "resident memory after the load above", "MB", vec![loaded]),
        Figure::aimed(SECTION, "start to first answer, new folder", "s", Goal::AtMost(0.3), fresh_start),
        Figure::aimed(
            SECTION,
            "start to first answer, folder of the load above",
            "s",
            Goal::AtMost(0.3),
            used_start,
        ),
    ])
}

/// Seconds until a request is answered, and megabytes a second later.
fn first_answer(deployment: &Deployment, key: &str, expected: u16) -> anyhow::Result<(f64, f64)> {
    const PATIENCE: Duration = Duration::from_mins(1);
    const TRY_EVERY: Duration = Duration::from_millis(1);

    let request = json_request(key, 256);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let start = Instant::now();
    let process = deployment.launch()?;
    let seconds = runtime.block_on(async {
        loop {
            if let Ok(mut connection) = Connection::open(deployment.addr()).await {
                let answer = connection.exchange(&request).await?;
                anyhow::ensure!(answer.status == expected, "{}: {}", answer.status, answer.text());
                return Ok(start.elapsed().as_secs_f64());
            }
            anyhow::ensure!(start.elapsed() < PATIENCE, "the gateway does not start");
            tokio::time::sleep(TRY_EVERY).await;
        }
    })?;
    std::thread::sleep(Duration::from_secs(1));
    let megabytes = megabytes(process.resident_bytes()?);
    process.stop()?;
    Ok((seconds, megabytes))
}

fn megabytes(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) / MB
}
