//! A request of the gateway's own to the upstream, and its whole answer.
//!
//! Pingora hands an answer on as it comes, its head first. Where the body decides what the head says, or whether the
//! client may have it at all – a video's id has to be on record before anybody is told – the gateway asks by itself,
//! over Pingora's own connections. Answers here are small; an upload is passed on piece by piece, and read on the way.
//!
//! What is not a GET gets a connection of its own: on one that has just been closed it would be lost, or made twice.
//! Bounds: an answer of [`ANSWER_MAX`]; the timeouts of the upstream's settings.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING};
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::client::HttpSession;
use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};

use super::body::{Bodies, BodyError, Encoding};
use super::metrics;
use super::multipart::{Form, FormError};
use super::upstream::Upstream;

/// The longest answer, in bytes.
pub const ANSWER_MAX: usize = 1 << 20;
/// Idle connections that are kept.
const POOL: usize = 64;
/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(50);
/// A connection that could not be made is tried once more.
const ATTEMPTS: u8 = 2;

/// Asks upstreams.
pub struct Exchange {
    ca_file: Option<PathBuf>,
    /// Made at first use: it reads certificates.
    connector: OnceLock<Connector>,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// Its head; its framing is taken out.
    pub header: ResponseHeader,
    /// Its body, decoded.
    pub body: Bytes,
}

/// What is sent.
pub enum Sending<'a> {
    /// These bytes.
    Whole(Bytes),
    /// What a client sends.
    Upload(Upload<'a>),
}

/// A form that a client is sending: passed on as it comes.
pub struct Upload<'a> {
    /// Where it comes from.
    pub session: &'a mut Session,
    /// What has come already.
    pub begun: Bytes,
    /// Reads it on its way; sealed.
    pub form: &'a mut Form,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// No address of the upstream is known, it took no connection, or it broke off.
    #[error("the upstream failed")]
    Upstream(#[source] Box<Error>),
    /// Its answer is longer than it may be, or in a coding that cannot be read.
    #[error("the upstream's answer cannot be read")]
    Answer(#[source] BodyError),
    /// What the client sends is refused on its way; the upstream has not got all of it.
    #[error("the form is refused on its way")]
    Form(#[source] FormError),
    /// The client broke off.
    #[error("the client broke off")]
    Client(#[source] Box<Error>),
}

impl ExchangeError {
    /// Whether anything of the request has reached the upstream.
    pub fn has_left(&self) -> bool {
        match self {
            Self::Upstream(error) => !is_connect(error.etype()),
            Self::Answer(_) | Self::Form(_) | Self::Client(_) => true,
        }
    }
}

impl Exchange {
    /// Trusts the certificates in `ca_file`, or the system's.
    pub fn new(ca_file: Option<PathBuf>) -> Self {
        Self { ca_file, connector: OnceLock::new() }
    }

    /// Sends a request and reads the whole answer. `header` says where, and how long the body is.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it closes the connection; the upstream may have got the request.
    pub async fn ask(
        &self,
        upstream: &Upstream,
        bodies: &Bodies,
        header: RequestHeader,
        sending: Sending<'_>,
    ) -> Result<Reply, ExchangeError> {
        let repeatable = header.method == http::Method::GET;
        let (mut session, peer, reused) = self.connect(upstream, repeatable).await?;
        let asked = match self.attempt(&mut session, header.clone(), sending).await {
            Err(ExchangeError::Upstream(_)) if repeatable && reused => {
                // The connection was closed while it was idle.
                session.shutdown().await;
                let fresh = self.connector().get_http_session(&fresh(&peer)).await;
                session = fresh.map_err(|error| ExchangeError::Upstream(error.into_up()))?.0;
                self.attempt(&mut session, header, Sending::Whole(Bytes::new())).await
            }
            asked => asked,
        };
        let (header, body) = match asked {
            Ok(answer) => answer,
            Err(error) => {
                session.shutdown().await;
                return Err(error);
            }
        };
        if repeatable {
            self.connector().release_http_session(session, &peer, Some(IDLE)).await;
        }
        decoded(bodies, header, body).await
    }

    fn connector(&self) -> &Connector {
        self.connector.get_or_init(|| {
            let mut options = ConnectorOptions::new(POOL);
            options.ca_file = self.ca_file.as_ref().map(|path| path.to_string_lossy().into_owned());
            Connector::new(Some(options))
        })
    }

    async fn connect(
        &self,
        upstream: &Upstream,
        repeatable: bool,
    ) -> Result<(HttpSession, HttpPeer, bool), ExchangeError> {
        let mut failed = 0;
        loop {
            let peer = upstream.peer().ok_or_else(|| {
                let error = Error::explain(ErrorType::ConnectNoRoute, "the upstream's name is not resolved");
                ExchangeError::Upstream(error.into_up())
            })?;
            let peer = if repeatable { peer } else { fresh(&peer) };
            match self.connector().get_http_session(&peer).await {
                Ok((session, reused)) => return Ok((session, peer, reused)),
                Err(error) => {
                    metrics::upstream_error("connect");
                    failed += 1;
                    if failed == ATTEMPTS {
                        return Err(ExchangeError::Upstream(error.into_up()));
                    }
                }
            }
        }
    }

    async fn attempt(
        &self,
        session: &mut HttpSession,
        header: RequestHeader,
        sending: Sending<'_>,
    ) -> Result<(ResponseHeader, Bytes), ExchangeError> {
        session.write_request_header(Box::new(header)).await.map_err(upstream)?;
        let sent = match sending {
            Sending::Whole(body) => whole(session, body).await,
            Sending::Upload(upload) => upload.pass(session).await,
        };
        match sent {
            // One that answers before it has read everything has something to say.
            Err(ExchangeError::Upstream(error)) => {
                read(session).await.map_err(|_| ExchangeError::Upstream(error))
            }
            Err(error) => Err(error),
            Ok(()) => read(session).await,
        }
    }
}

impl Upload<'_> {
    /// Passes the form on. Each piece leaves when the next one has come, and is read before it leaves: of a form that
    /// turns out to be refused, the upstream never has the end.
    async fn pass(self, upstream_session: &mut HttpSession) -> Result<(), ExchangeError> {
        let mut behind = self.begun;
        while let Some(piece) = self.session.read_request_body().await.map_err(ExchangeError::Client)? {
            self.form.feed(&piece).map_err(ExchangeError::Form)?;
            upstream_session.write_request_body(behind, false).await.map_err(upstream)?;
            behind = piece;
        }
        self.form.end().map_err(ExchangeError::Form)?;
        whole(upstream_session, behind).await
    }
}

async fn whole(session: &mut HttpSession, body: Bytes) -> Result<(), ExchangeError> {
    if !body.is_empty() {
        session.write_request_body(body, true).await.map_err(upstream)?;
    }
    session.finish_request_body().await.map_err(upstream)
}

async fn read(session: &mut HttpSession) -> Result<(ResponseHeader, Bytes), ExchangeError> {
    let header = loop {
        session.read_response_header().await.map_err(upstream)?;
        match session.response_header() {
            Some(header) if !header.status.is_informational() => break header.clone(),
            _ => {}
        }
    };
    let mut body = BytesMut::new();
    while let Some(piece) = session.read_response_body().await.map_err(upstream)? {
        if body.len() + piece.len() > ANSWER_MAX {
            return Err(ExchangeError::Answer(BodyError::TooLarge { bytes_max: ANSWER_MAX }));
        }
        body.extend_from_slice(&piece);
    }
    Ok((header, body.freeze()))
}

/// The answer as it says without its framing and coding.
async fn decoded(bodies: &Bodies, mut header: ResponseHeader, body: Bytes) -> Result<Reply, ExchangeError> {
    let encoding = Encoding::of(&header.headers).map_err(ExchangeError::Answer)?;
    let body = match encoding {
        None => body,
        Some(encoding) => {
            let decoded = bodies.decode(&body.into(), encoding).await.map_err(ExchangeError::Answer)?;
            decoded.into_bytes()
        }
    };
    for name in [CONTENT_LENGTH, TRANSFER_ENCODING, CONTENT_ENCODING] {
        header.remove_header(&name);
    }
    Ok(Reply { header, body })
}

/// The same peer, with connections that are shared with nobody.
fn fresh(peer: &HttpPeer) -> HttpPeer {
    let mut peer = peer.clone();
    peer.group_key = rand::random();
    peer
}

fn upstream(error: Box<Error>) -> ExchangeError {
    ExchangeError::Upstream(error.into_up())
}

/// Whether it failed before a connection was there.
pub fn is_connect(kind: &ErrorType) -> bool {
    use ErrorType::{
        BindError, ConnectError, ConnectNoRoute, ConnectRefused, ConnectTimedout, HandshakeError,
        InvalidCert, SocketError, TLSHandshakeFailure, TLSHandshakeTimedout,
    };
    [
        BindError,
        ConnectError,
        ConnectNoRoute,
        ConnectRefused,
        ConnectTimedout,
        HandshakeError,
        InvalidCert,
        SocketError,
        TLSHandshakeFailure,
        TLSHandshakeTimedout,
    ]
    .contains(kind)
}
