//! An upstream that has one answer: a Responses object of about 1.2 KB, its id new each time.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::client::header;
use crate::support::roles;

/// Where the id goes.
const ID_MARK: &str = "0123456789abcdef0123456789abcdef";
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// The role.
pub(crate) fn serve() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        roles::tell_port(listener.local_addr()?.port())?;
        tokio::select! {
            () = roles::orphaned() => Ok(()),
            ended = accept(listener) => ended,
        }
    })
}

async fn accept(listener: TcpListener) -> anyhow::Result<()> {
    let ids = Arc::new(AtomicU64::new(0));
    let series: u64 = rand::random();
    loop {
        let (stream, _) = listener.accept().await?;
        let ids = Arc::clone(&ids);
        // A peer that goes away ends its connection here too.
        tokio::spawn(async move { answer(stream, series, &ids).await.ok() });
    }
}

async fn answer(mut stream: TcpStream, series: u64, ids: &AtomicU64) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut answer = canned_answer().into_bytes();
    let id = memchr::memmem::find(&answer, ID_MARK.as_bytes()).context("no id")?;
    let mut received = Vec::with_capacity(16 << 10);
    loop {
        let length = loop {
            if let Some(length) = request_length(&received)? {
                break length;
            }
            if stream.read_buf(&mut received).await? == 0 {
                return Ok(());
            }
        };
        received.drain(..length);
        let number = ids.fetch_add(1, Ordering::Relaxed);
        answer[id..id + ID_MARK.len()].copy_from_slice(format!("{series:016x}{number:016x}").as_bytes());
        stream.write_all(&answer).await?;
    }
}

/// The length of the first request, once it is there whole.
fn request_length(received: &[u8]) -> anyhow::Result<Option<usize>> {
    anyhow::ensure!(received.len() < REQUEST_BYTES_MAX, "a large request");
    let Some(end) = memchr::memmem::find(received, b"\r\n\r\n") else { return Ok(None) };
    let body: usize = header(&received[..end], "content-length").map_or(Ok(0), str::parse)?;
    let length = end + 4 + body;
    Ok((received.len() >= length).then_some(length))
}

fn canned_answer() -> String {
    let text = "The quick brown fox jumps over the lazy dog. ".repeat(10);
    let body = format!(
        r#"{{"id":"resp_{ID_MARK}","object":"response","created_at":1795365295,"status":"completed","background":false,"error":null,"incomplete_details":null,"instructions":null,"max_output_tokens":256,"model":"gpt-5.5","output":[{{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[{{"type":"output_text","text":"{text}","annotations":[],"logprobs":[]}}]}}],"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{{"effort":null,"summary":null}},"service_tier":"default","store":true,"temperature":1.0,"text":{{"format":{{"type":"text"}}}},"tool_choice":"auto","tools":[],"top_p":1.0,"truncation":"disabled","usage":{{"input_tokens":120,"input_tokens_details":{{"cached_tokens":0}},"output_tokens":100,"output_tokens_details":{{"reasoning_tokens":0}},"total_tokens":220}},"user":null,"metadata":{{}}}}"#
    );
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
