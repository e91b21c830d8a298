//! Asks an upstream now and then whether it is there, so that nobody's request has to find out.
//!
//! A check is a GET with the upstream's key. What it answers is of no interest but for its status: 2xx, or 401 and 403,
//! which a server that is there says too. An upstream is given up after two checks in a row that failed, and taken up
//! again by the first that did not. This is beside the breaker: an upstream may well list its models while it serves
//! none of them, so a check closes no breaker.

use std::sync::Arc;

use pingora::Error;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::upstreams::peer::HttpPeer;
use tokio::sync::watch;

use super::upstream::Upstream;
use crate::config::Health;
use crate::telemetry::chain;

/// So many failed checks in a row mean that it is not there.
const FAILED_MAX: u32 = 2;

/// Checks an upstream until `shutdown` is true.
pub(super) async fn watch(upstream: Arc<Upstream>, settings: Health, mut shutdown: watch::Receiver<bool>) {
    let connector = Connector::new(None);
    let mut failed = 0;
    loop {
        // A name that does not resolve is seen by whoever resolves it.
        if let Some(peer) = upstream.peer() {
            let asked = ask(&connector, &upstream, &peer, &settings.path);
            let status = match tokio::time::timeout(settings.timeout, asked).await {
                Ok(Ok(status)) => Some(status),
                Ok(Err(error)) => {
                    tracing::debug!(upstream.name = %upstream.name(), error = %chain(&*error), "a health check failed");
                    None
                }
                Err(_) => None,
            };
            failed = if status.is_some_and(is_alive) { 0 } else { failed + 1 };
            upstream.set_alive(failed < FAILED_MAX);
        }
        tokio::select! {
            () = tokio::time::sleep(settings.every) => {}
            _ = shutdown.wait_for(|stop| *stop) => return,
        }
    }
}

/// Whether an answer with this status says that the upstream is there.
const fn is_alive(status: u16) -> bool {
    matches!(status, 200..=299 | 401 | 403)
}

/// The status that the upstream answers with. Each check has a connection of its own.
async fn ask(
    connector: &Connector,
    upstream: &Upstream,
    peer: &HttpPeer,
    path: &str,
) -> Result<u16, Box<Error>> {
    let connected = connector.get_http_session(peer).await;
    let (mut session, _) = connected.inspect_err(|_| upstream.avoid(peer))?;
    let mut request = RequestHeader::build("GET", path.as_bytes(), Some(2))?;
    request.insert_header(http::header::HOST, upstream.host())?;
    request.insert_header(http::header::AUTHORIZATION, upstream.bearer())?;
    session.write_request_header(Box::new(request)).await?;
    session.finish_request_body().await?;
    session.read_response_header().await?;
    let status = session.response_header().map_or(0, |answer| answer.status.as_u16());
    session.shutdown().await;
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_and_a_refused_key_tell_that_it_is_there() {
        for (status, alive) in [
            (200, true),
            (204, true),
            (401, true),
            (403, true),
            (404, false),
            (429, false),
            (500, false),
            (503, false),
            (0, false),
        ] {
            assert_eq!(is_alive(status), alive, "{status}");
        }
    }
}
