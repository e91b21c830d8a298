//! `kill -9` at random under load (I9, I10): whatever it interrupts, every call that reached the upstream is on the
//! books once, exactly or at its floor, and nothing that was voided is charged.
//!
//! Each call names a model of its own (`out=SERIAL` is a word that the next one overrules), so that what the upstream saw,
//! what the client was told and what the books say can be put side by side. `OVERFALL_KILLS` sets the number of kills,
//! `OVERFALL_SEED` the order of events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::harness::books::{self, Booked};
use crate::harness::client::{ask, ask_stream};
use crate::harness::{Client, Gateway, PATIENCE};

const CALLERS: usize = 6;
const KILLS: u64 = 30;
/// Output tokens of a call; each costs 750 credits a million, its 19 tokens of input 125 a million.
const TOKENS: u64 = 8;

/// What the client knows of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// The whole answer of a call that succeeded.
    Whole,
    /// An error of the upstream, or an answer without content: nothing is charged.
    Free,
    /// Refused by the gateway before anything was sent.
    Refused,
    /// Nothing, or a part.
    Unknown,
}

/// What is shared by all who call.
struct Load {
    clients: Mutex<Vec<Client>>,
    told: Mutex<BTreeMap<String, Told>>,
    serial: AtomicU64,
    stop: AtomicBool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_when_every_call_is_booked_once() {
    let kills = number("OVERFALL_KILLS").unwrap_or(KILLS);
    let seed = number("OVERFALL_SEED").unwrap_or_else(rand::random);
    println!("{kills} kills; OVERFALL_SEED={seed} repeats their order");
    let mut random = StdRng::seed_from_u64(seed);
    let mut gateway = Gateway::start();
    let callers: Vec<_> = (0..CALLERS).map(|_| gateway.admin.caller("prepaid")).collect();
    for caller in &callers {
        gateway.admin.grant(caller, "1000000");
    }
    let clients = |gateway: &Gateway| callers.iter().map(|caller| gateway.client(caller)).collect::<Vec<_>>();
    let load = Arc::new(Load {
        clients: Mutex::new(clients(&gateway)),
        told: Mutex::default(),
        serial: AtomicU64::new(1),
        stop: AtomicBool::new(false),
    });
    let mut calling = tokio::task::JoinSet::new();
    for caller in 0..CALLERS {
        for _ in 0..2 {
            calling.spawn(call_on(Arc::clone(&load), caller, random.random()));
        }
    }
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(random.random_range(5..200))).await;
        gateway.process.quiet();
        tokio::task::block_in_place(|| {
            gateway.kill();
            gateway.restart();
        });
        *load.clients.lock().unwrap_or_else(PoisonError::into_inner) = clients(&gateway);
    }
    load.stop.store(true, Ordering::SeqCst);
    calling.join_all().await;
    gateway.upstream.seen.wait_for_idle(PATIENCE).await.expect("everything ends");
    gateway.stop();
    gateway.audit();
    check(&gateway, &load);
}

/// Calls until it is told to stop, in every way that a call can go.
async fn call_on(load: Arc<Load>, caller: usize, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    while !load.stop.load(Ordering::SeqCst) {
        let client = load.clients.lock().unwrap_or_else(PoisonError::into_inner)[caller].clone();
        let serial = load.serial.fetch_add(1, Ordering::SeqCst);
        let model = |words: &str| format!("gpt-5.5-sim-out={serial}+out={TOKENS}{words}");
        let kind = random.random_range(0..10);
        let model = match kind {
            0 => model("+status=500"),
            1 => model("+204"),
            2 => model("+cut=6"),
            3..7 => model("+pace=3"),
            _ => model(""),
        };
        let streams = (2..7).contains(&kind);
        let leaves = kind == 3;
        let told = tokio::time::timeout(PATIENCE, call(&client, &model, streams, leaves)).await;
        let told = told.unwrap_or_else(|_| panic!("{model}: no end in {PATIENCE:?}"));
        load.told.lock().unwrap_or_else(PoisonError::into_inner).insert(model, told);
        if told == Told::Unknown {
            // The gateway is away: no need to ask a hundred times what the answer is.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn call(client: &Client, model: &str, streams: bool, leaves: bool) -> Told {
    let body = if streams { ask_stream(model) } else { ask(model) };
    let Ok(mut stream) = client.open("POST", "/v1/responses", body.to_string().into()).await else {
        return Told::Unknown;
    };
    let status = stream.status;
    let mut text = Vec::new();
    let whole = loop {
        match stream.chunk().await {
            Some(Ok(chunk)) => text.extend_from_slice(&chunk),
            Some(Err(_)) => break false,
            None => break true,
        }
        if leaves && text.len() > 1000 {
            return Told::Unknown;
        }
    };
    let text = String::from_utf8_lossy(&text);
    let succeeded = text.contains("response.completed") || (!streams && status == 200);
    match status {
        200 if whole && succeeded => Told::Whole,
        204 => Told::Free,
        500 if text.contains("\"server_error\"") && !text.contains("internal_error") => Told::Free,
        429 | 503 => Told::Refused,
        _ => Told::Unknown,
    }
}

/// Puts side by side what the upstream saw, what clients were told, and what the books say.
fn check(gateway: &Gateway, load: &Load) {
    let mut booked: BTreeMap<String, Vec<Booked>> = BTreeMap::new();
    for event in books::usage_events(&gateway.ledger()) {
        booked.entry(event.model.clone()).or_default().push(event);
    }
    // A request that the kill cut short on its way has not reached the upstream.
    let whole: Vec<String> =
        gateway.upstream.seen.requests().iter().filter_map(|seen| model_of(&seen.body)).collect();
    let seen: BTreeSet<String> = whole.iter().cloned().collect();
    assert_eq!(seen.len(), whole.len(), "no call reached the upstream twice");
    let told = load.told.lock().unwrap_or_else(PoisonError::into_inner);
    let mut wrong = Vec::new();
    for (model, events) in &booked {
        if events.len() != 1 {
            wrong.push(format!("{model} is booked {} times", events.len()));
        }
        // Design, section 3: a journalled hold with no end counts as dispatched, even if it never left.
        if !seen.contains(model) && events[0].outcome != "crashed" && events[0].gross > 0 {
            wrong.push(format!("{model} never reached the upstream: {:?}", events[0]));
        }
    }
    for model in &seen {
        let Some(event) = booked.get(model).map(|events| &events[0]) else {
            wrong
                .push(format!("{model} reached the upstream and is not booked; told: {:?}", told.get(model)));
            continue;
        };
        wrong.extend(complaint(event, told.get(model).copied().unwrap_or(Told::Unknown)));
    }
    let counts = |wanted: Told| told.values().filter(|told| **told == wanted).count();
    println!(
        "{} calls: {} whole, {} free, {} refused, {} unknown; {} reached the upstream, {} booked, {} of them crashed",
        told.len(),
        counts(Told::Whole),
        counts(Told::Free),
        counts(Told::Refused),
        counts(Told::Unknown),
        seen.len(),
        booked.len(),
        booked.values().filter(|events| events[0].outcome == "crashed").count()
    );
    assert!(wrong.is_empty(), "{} calls are booked wrongly:\n{}", wrong.len(), wrong.join("\n"));
    assert!(counts(Told::Whole) > 50, "there was a load to kill under");
}

/// What is wrong with the booking of a call, given what its client was told.
fn complaint(event: &Booked, told: Told) -> Option<String> {
    let exact = event.grade == "exact" && event.outcome == "completed";
    let floor = event.grade == "floor" && event.outcome == "crashed";
    let right = match told {
        Told::Whole | Told::Unknown if exact => {
            event.output_tokens == TOKENS && event.gross == price_of(event)
        }
        Told::Whole => floor,
        Told::Free => event.gross == 0 && event.charged == 0,
        Told::Refused => false,
        Told::Unknown => event.gross <= event.charged + event.forgiven,
    };
    (!right).then(|| format!("the client was told {told:?}: {event:?}"))
}

/// In micro-credits: a token of input costs 125, one of output 750.
fn price_of(event: &Booked) -> u64 {
    event.input_tokens * 125 + event.output_tokens * 750
}

fn model_of(body: &[u8]) -> Option<String> {
    if body.is_empty() {
        return None;
    }
    let body: Value = serde_json::from_slice(body).expect("what the gateway forwards is JSON");
    Some(body["model"].as_str().expect("a model").to_owned())
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}
