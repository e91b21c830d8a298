//! What a lone request waits for: 200 requests a second, each sent at its time, none behind another.

use std::time::Duration;

use crate::gateway::alternate;
use crate::gateway::stage::{Stage, json_request};
use crate::support::load::{Driver, Load};
use crate::support::report::{Figure, Goal};
use crate::support::settings::Settings;

const SECTION: &str = "The same requests, 200 a second";
const EVERY: Duration = Duration::from_millis(5);
const LANES: usize = 8;

pub(super) fn figures(settings: &Settings, stage: &Stage) -> anyhow::Result<Vec<Figure>> {
    let peers = [stage.bare_addr, stage.gateway.addr];
    let (mut bare, mut overfall) = (Vec::<Load>::new(), Vec::<Load>::new());
    stage.gateway.settle()?;
    alternate(settings.rounds, &peers, |addr| {
        let requests = stage.keys.iter().take(LANES).map(|key| json_request(key, 256));
        let mut driver = Driver::connect(addr, requests.collect(), 200)?;
        driver.open(EVERY, settings.trickle / 10)?;
        let load = driver.open(EVERY, settings.trickle)?;
        anyhow::ensure!(load.failures == 0, "{addr} failed {} times", load.failures);
        if addr == stage.bare_addr {
            bare.push(load);
        } else {
            overfall.push(load);
        }
        Ok(())
    })?;
    let all =
        |loads: &[Load], hundredths| loads.iter().map(|load| load.latency_ms(hundredths)).collect::<Vec<_>>();
    let tell = |what: &str, values| Figure::told(SECTION, what, "ms", values);
    let added =
        all(&overfall, 50).iter().zip(all(&bare, 50)).map(|(overfall, bare)| overfall - bare).collect();
    Ok(vec![
        tell("p50, bare Pingora", all(&bare, 50)),
        tell("p50, Overfall, strict", all(&overfall, 50)),
        Figure::aimed(SECTION, "p50, added", "ms", Goal::AtMost(0.5), added),
        tell("p99, bare Pingora", all(&bare, 99)),
        tell("p99, Overfall, strict", all(&overfall, 99)),
    ])
}
