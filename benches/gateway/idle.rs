//! Memory of a stream on which nothing happens.

use std::net::SocketAddr;

use crate::gateway::stage::Stage;
use crate::support::client::{Connection, post};
use crate::support::process::Process;
use crate::support::report::{Figure, Goal};
use crate::support::settings::Settings;

const SECTION: &str = "Idle streams";
const KIB: f64 = 1024.0;
/// The first event comes at once, the next one long after this is over.
const BODY: &str = r#"{"model":"gpt-5.5-sim-out=10+events=10+pace=600000","input":"Say hello, slowly.","stream":true,"max_output_tokens":50}"#;

pub(super) fn figures(settings: &Settings) -> anyhow::Result<Vec<Figure>> {
    // New processes: what earlier load has left behind would hide what these streams take.
    let stage = Stage::simulated()?;
    let streams = settings.idle_streams;
    let bare = grown_kib(&stage.bare, stage.bare_addr, &stage.keys, streams)?;
    let overfall = grown_kib(&stage.gateway.process, stage.gateway.addr, &stage.keys, streams)?;
    let each =
        |what: &str, value| Figure::told(SECTION, format!("{what}, each of {streams}"), "KiB", vec![value]);
    Ok(vec![
        each("bare Pingora", bare),
        each("Overfall", overfall),
        Figure::aimed(SECTION, "Overfall beyond bare", "KiB", Goal::AtMost(64.0), vec![overfall - bare]),
    ])
}

/// By how much memory grows with each stream.
fn grown_kib(process: &Process, addr: SocketAddr, keys: &[String], streams: usize) -> anyhow::Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut open = Vec::new();
        // What a first stream brings with it is not each one's.
        open.push(opened(addr, &keys[0]).await?);
        let before = process.resident_bytes()?;
        for key in keys.iter().cycle().take(streams) {
            open.push(opened(addr, key).await?);
        }
        let grown = process.resident_bytes()?.saturating_sub(before);
        Ok(f64::from(u32::try_from(grown)?) / KIB / f64::from(u32::try_from(streams)?))
    })
}

async fn opened(addr: SocketAddr, key: &str) -> anyhow::Result<Connection> {
    let mut connection = Connection::open(addr).await?;
    let head = connection.begin(&post("/v1/responses", key, BODY)).await?;
    let answer = connection.answer(head)?;
    anyhow::ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
    while memchr::memmem::find(&connection.received()[head..], b"\n\n").is_none() {
        connection.read().await?;
    }
    Ok(connection)
}
