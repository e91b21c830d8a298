//! Videos: jobs that outlive their request, and bodies that are larger than memory.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::harness::Setup;
use crate::harness::admin::text;
use crate::harness::client::Client;
use crate::harness::wait::until;

const POLICY: &str = r#"
version: 1
prices:
  - model: "sora-2*"
    per_second: {720x1280: 2.5, 1280x720: 2.5}
balances:
  wallet: {per: account}
features:
  sora: {apis: [videos], unit: second, deadlines: {job: 1h}}
plans:
  video:
    sora:
      guards: [{name: jobs, concurrent: 4, per: user}]
      waterfall:
        - {name: daily, kind: free_tier, per: user, windows: [{allow: 2, every: 5h, starts: first_use}]}
        - {name: credits, kind: prepaid, balance: wallet}
"#;

/// What the gateway's memory may grow by, in KiB.
const GROWTH_MAX_KIB: u64 = 64 << 10;

async fn make(client: &Client, model: &str) -> String {
    let made = client.post("/v1/videos", &json!({"model": model, "prompt": "a cat"})).await.expect(200);
    text(&made.json(), "id")
}

async fn status(client: &Client, id: &str) -> Value {
    client.get(&format!("/v1/videos/{id}")).await.expect(200).json()["status"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_video_survives_a_kill_with_its_owner_its_hold_and_its_place_in_the_list() {
    let mut gateway = Setup::default().policy(POLICY).start();
    let (caller, client) = gateway.caller("video");
    gateway.admin.grant(&caller, "100");
    let id = make(&client, "sora-2-sim-runs=4000").await;
    gateway.kill();
    gateway.restart();
    let client = gateway.client(&caller);
    let (_, stranger) = gateway.caller("video");
    assert_eq!(status(&client, &id).await, "in_progress");
    stranger.get(&format!("/v1/videos/{id}")).await.expect(404);
    stranger.get(&format!("/v1/videos/{id}/content")).await.expect(404);
    let listed = client.get("/v1/videos").await.expect(200).json();
    assert_eq!((&listed["first_id"], &listed["has_more"]), (&json!(id), &json!(false)), "{listed}");
    assert_eq!(stranger.get("/v1/videos").await.expect(200).json()["data"], json!([]));
    let access = client.get("/v1/access").await.expect(200).json();
    assert!(access.to_string().contains("\"95\""), "5 of 100 credits are held: {access}");
    let remix = json!({"prompt": "again"});
    let again = client.post(&format!("/v1/videos/{id}/remix"), &remix).await.expect(200);
    assert!(
        again.header("x-access-sources").expect("sources").contains("take=\"10\""),
        "its length is known"
    );
    until("the video is there", || {
        let status = wait_for(status(&client, &id));
        (status == "completed").then_some(())
    });
    client.get(&format!("/v1/videos/{id}/content")).await.expect(200);
    client.send("DELETE", &format!("/v1/videos/{id}"), "").await.expect(200);
    until("both are booked", || {
        let booked = gateway.admin.booked_count(&caller.account, 1);
        booked.iter().any(|row| row.to_string().contains("\"completed\"")).then_some(())
    });
    gateway.stop();
    gateway.audit();
}

/// Runs a future from inside a condition that is polled.
fn wait_for<F: Future>(future: F) -> F::Output {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(future))
}

/// An upload of 200 MB and a download of 1 GB pass through a gateway whose memory does not notice.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_larger_than_memory_passes_through_little_of_it() {
    let gateway = Setup::default().policy(POLICY).start();
    let (caller, client) = gateway.caller("video");
    gateway.admin.grant(&caller, "1000");
    let id = make(&client, "sora-2-sim-content=1048576").await;
    status(&client, &id).await;
    let pid = gateway.process.pid();
    let idle = memory_kib(pid, "VmRSS");
    // From here on the peak counts.
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("the peak is forgotten");

    let before = gateway.upstream.seen.count();
    let (addr, lines) = (gateway.addr, client.header_lines());
    let uploading = lines.clone();
    tokio::task::spawn_blocking(move || upload(TcpStream::connect(addr).expect("connected"), &uploading))
        .await
        .expect("uploaded");
    let seen = gateway.upstream.seen.request(before).expect("it came");
    assert_eq!(seen.headers["content-length"], seen.body_bytes.to_string());
    assert!(seen.body_bytes > 200_000_000, "{}", seen.body_bytes);

    let path = format!("/v1/videos/{id}/content");
    tokio::task::spawn_blocking(move || {
        download(TcpStream::connect(addr).expect("connected"), &lines, &path);
    })
    .await
    .expect("downloaded");
    let peak = memory_kib(pid, "VmHWM");
    println!("idle {idle} KiB, peak {peak} KiB");
    assert!(peak < idle + GROWTH_MAX_KIB, "idle {idle} KiB, peak {peak} KiB");
}

fn memory_kib(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).expect("a number of KiB")
}

/// Sends a form with 200 MB in it, as the SDKs send one.
fn upload(mut stream: TcpStream, lines: &str) {
    const PIECE: usize = 1 << 20;
    const PIECES: usize = 200;
    let field = |name: &str, extra: &str, value: &str| {
        format!("--b0undary\r\nContent-Disposition: form-data; name=\"{name}\"{extra}\r\n\r\n{value}")
    };
    let begin = [
        field("prompt", "", "a cat\r\n"),
        field("model", "", "sora-2\r\n"),
        field("seconds", "", "8\r\n"),
        field("input_reference", "; filename=\"a.mp4\"\r\nContent-Type: video/mp4", ""),
    ];
    let (begin, end) = (begin.concat(), "\r\n--b0undary--\r\n");
    let length = begin.len() + PIECE * PIECES + end.len();
    let head = format!(
        "POST /v1/videos HTTP/1.1\r\nhost: x\r\n{lines}content-type: multipart/form-data; boundary=b0undary\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(begin.as_bytes())).expect("sent");
    let piece = vec![b'\r'; PIECE];
    for _ in 0..PIECES {
        stream.write_all(&piece).expect("sent");
    }
    stream.write_all(end.as_bytes()).expect("sent");
    let mut told = String::new();
    stream.read_to_string(&mut told).expect("an answer");
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    assert!(told.contains("take=\"20\""), "8 s: {told}");
}

/// Reads 1 GB, and looks at every byte of it.
fn download(mut stream: TcpStream, lines: &str, path: &str) {
    const TOTAL: usize = 1 << 30;
    /// After so many the bytes come again.
    const PERIOD: usize = 65_521;
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\n{lines}connection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    let mut stream = BufReader::with_capacity(1 << 20, stream);
    let mut told = String::new();
    while !told.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut told).expect("a head") > 0, "{told}");
    }
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    assert!(told.to_lowercase().contains(&format!("content-length: {TOTAL}")), "{told}");
    let mut first = vec![0; PERIOD];
    stream.read_exact(&mut first).expect("the beginning");
    let mut piece = vec![0; PERIOD];
    let mut left = TOTAL - PERIOD;
    while left > 0 {
        let length = PERIOD.min(left);
        stream.read_exact(&mut piece[..length]).expect("the next bytes");
        assert!(piece[..length] == first[..length], "the same bytes, {left} before the end");
        left -= length;
    }
    assert_eq!(stream.read(&mut piece).expect("the end"), 0);
}
