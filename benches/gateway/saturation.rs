//! CPU of each request at saturation: 64 connections, admitted and refused.

use crate::gateway::alternate;
use crate::gateway::stage::{CONNECTIONS, Stage, json_request};
use crate::support::gateway::Shares;
use crate::support::load::{Driver, Load};
use crate::support::report::{Figure, Goal};
use crate::support::settings::Settings;

const SECTION: &str =
    "JSON requests of 600 bytes, 64 connections, saturated; 4 guards and layers, strict, all paid";
/// More output than an empty window gives.
const UNAFFORDABLE_TOKENS: u64 = 100_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Bare,
    Nginx,
    Admitted,
    Refused,
}

/// One peer in one round.
#[derive(Clone, Debug)]
struct Sample {
    peer: Peer,
    serving_us: f64,
    settling_us: f64,
    load: Load,
}

pub(super) fn figures(settings: &Settings, stage: &Stage) -> anyhow::Result<Vec<Figure>> {
    let mut peers = vec![Peer::Bare, Peer::Admitted, Peer::Refused];
    if stage.nginx.is_some() {
        peers.insert(1, Peer::Nginx);
    }
    let mut samples = Vec::new();
    alternate(settings.rounds, &peers, |peer| {
        samples.push(sample(settings, stage, peer)?);
        Ok(())
    })?;
    Ok(told(&samples))
}

fn sample(settings: &Settings, stage: &Stage, peer: Peer) -> anyhow::Result<Sample> {
    let (addr, expected) = match (peer, &stage.nginx) {
        (Peer::Bare, _) => (stage.bare_addr, 200),
        (Peer::Nginx, Some(nginx)) => (nginx.addr, 200),
        (Peer::Nginx | Peer::Admitted, _) => (stage.gateway.addr, 200),
        (Peer::Refused, _) => (stage.gateway.addr, 429),
    };
    let requests = (0..CONNECTIONS).map(|connection| match peer {
        Peer::Refused => json_request(&stage.broke, UNAFFORDABLE_TOKENS),
        _ => json_request(&stage.keys[connection % stage.keys.len()], 256),
    });
    let mut driver = Driver::connect(addr, requests.collect(), expected)?;
    driver.closed(settings.load / 10)?;
    let booked = stage.gateway.settle()?;
    let shares = || match (peer, &stage.nginx) {
        (Peer::Bare, _) => Ok(Shares::of(&stage.bare.cpu()?)),
        (Peer::Nginx, Some(nginx)) => Ok(Shares::of(&nginx.process.cpu()?)),
        _ => anyhow::Ok(Shares::of(&stage.gateway.process.cpu()?)),
    };
    let before = shares()?;
    let load = driver.closed(settings.load)?;
    let serving_us = shares()?.since(before).serving_us;
    // What is still on its way to the books is paid for by these requests too.
    let booked = stage.gateway.settle()? - booked;
    let settling_us = shares()?.since(before).settling_us;
    let answers = f64::from(u32::try_from(load.answers)?);
    anyhow::ensure!(
        peer != Peer::Admitted || booked >= answers,
        "{booked} records booked of {answers} answers"
    );
    Ok(Sample { peer, serving_us: serving_us / answers, settling_us: settling_us / answers, load })
}

fn told(samples: &[Sample]) -> Vec<Figure> {
    let of = |peer: Peer, value: fn(&Sample) -> f64| -> Vec<f64> {
        samples.iter().filter(|sample| sample.peer == peer).map(value).collect()
    };
    let serving = |peer| of(peer, |sample| sample.serving_us);
    let everything = |peer| of(peer, |sample| sample.serving_us + sample.settling_us);
    let cpu = |what: &str, values| Figure::told(SECTION, format!("CPU, {what}"), "µs", values);
    let at_most = |what: &str, most, values| Figure::aimed(SECTION, what, "×", Goal::AtMost(most), values);
    let mut figures = vec![cpu("bare Pingora", serving(Peer::Bare))];
    let with_nginx = samples.iter().any(|sample| sample.peer == Peer::Nginx);
    if with_nginx {
        figures.push(cpu("nginx", serving(Peer::Nginx)));
    }
    figures.extend([
        cpu("Overfall without settlement", serving(Peer::Admitted)),
        cpu("Overfall, everything", everything(Peer::Admitted)),
        at_most(
            "Overfall without settlement ÷ bare",
            1.5,
            ratios(&serving(Peer::Admitted), &serving(Peer::Bare)),
        ),
        at_most(
            "Overfall, everything ÷ bare",
            2.2,
            ratios(&everything(Peer::Admitted), &serving(Peer::Bare)),
        ),
        cpu("Overfall, a refusal, everything", everything(Peer::Refused)),
        at_most("refusal ÷ admission", 0.5, ratios(&everything(Peer::Refused), &everything(Peer::Admitted))),
    ]);
    for (name, peer) in [("bare Pingora", Peer::Bare), ("nginx", Peer::Nginx), ("Overfall", Peer::Admitted)] {
        if peer == Peer::Nginx && !with_nginx {
            continue;
        }
        let tell = |what: &str, unit, values| Figure::told(SECTION, format!("{what}, {name}"), unit, values);
        figures.extend([
            tell("answers", "/s", of(peer, |sample| sample.load.rate())),
            tell("p50", "ms", of(peer, |sample| sample.load.latency_ms(50))),
            tell("p99", "ms", of(peer, |sample| sample.load.latency_ms(99))),
        ]);
    }
    let failures =
        samples.iter().map(|sample| f64::from(u32::try_from(sample.load.failures).unwrap_or(u32::MAX)));
    let wrong = "answers with another status than expected, all peers";
    figures.push(Figure::aimed(SECTION, wrong, "", Goal::Exactly(0.0), failures.collect()));
    figures
}

/// Round by round: noise between rounds is left out.
fn ratios(of: &[f64], to: &[f64]) -> Vec<f64> {
    of.iter().zip(to).map(|(of, to)| of / to).collect()
}
