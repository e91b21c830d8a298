//! What is promised in time: retries that pass when they were told to, and events that leave as they come.

use std::time::Duration;

use tokio::time::Instant;

use crate::harness::client::ask_stream;
use crate::harness::{Answer, Client, Gateway};

/// What a busy machine may add to a wait.
const LATENESS: Duration = Duration::from_millis(900);

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_true_to_the_second_for_a_window_and_for_a_guard() {
    let gateway = Gateway::start();
    for plan in ["short", "burst"] {
        let (caller, client) = gateway.caller(plan);
        gateway.admin.grant(&caller, "10");
        client.respond("one").await.expect(200);
        let blocked = client.respond("one").await.expect(429);
        let wait = Duration::from_millis(number(&blocked, "retry-after-ms"));
        let seconds = number(&blocked, "retry-after");
        assert_eq!(seconds, u64::try_from(wait.as_millis()).expect("small").div_ceil(1000), "{plan}");
        assert!(wait > LATENESS, "{plan}: there is something to wait for: {wait:?}");
        // A second before its time it does not pass …
        tokio::time::sleep_until(blocked.at + wait - LATENESS).await;
        if Instant::now() < blocked.at + wait - Duration::from_millis(200) {
            client.respond("one").await.expect(429);
        }
        // … and at its time it does.
        tokio::time::sleep_until(blocked.at + wait).await;
        client.respond("one").await.expect(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_passes_in_the_same_turn() {
    const EVENTS: usize = 40;
    const PACE: Duration = Duration::from_millis(25);
    let gateway = Gateway::start();
    let (_, client) = gateway.caller("free");
    for path in ["/v1/responses", "/v1/chat/completions"] {
        let arrivals = arrivals(&client, path, EVENTS, PACE).await;
        let pieces = arrivals.len();
        assert!(pieces * 10 >= EVENTS * 9, "{path}: {EVENTS} events and more came in {pieces} pieces");
        let whole = arrivals[pieces - 1] - arrivals[0];
        assert!(whole >= PACE * 30, "{path}: they were not kept back and sent at once: {whole:?}");
        // The upstream's own pace is seen at this end: no two events were put together for longer than it lasts.
        let late = arrivals.windows(2).filter(|pair| pair[1] - pair[0] > PACE * 4).count();
        assert!(late * 10 <= pieces, "{path}: {late} of {pieces} pieces came late");
    }
}

/// When each piece of a stream came.
async fn arrivals(client: &Client, path: &str, events: usize, pace: Duration) -> Vec<Instant> {
    let model = format!("one-sim-out={events}+events={events}+pace={}", pace.as_millis());
    let mut body = ask_stream(&model);
    body["messages"] = serde_json::json!([{"role": "user", "content": "Say hello."}]);
    let mut stream = client.stream(path, &body).await;
    let mut arrivals = Vec::new();
    while let Some(chunk) = stream.chunk().await {
        chunk.expect("a whole stream");
        arrivals.push(Instant::now());
    }
    arrivals
}

fn number(answer: &Answer, header: &str) -> u64 {
    answer.header(header).unwrap_or_else(|| panic!("no {header}")).parse().expect("a number")
}
