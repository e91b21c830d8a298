//! A request of the gateway's own to the upstream, and its whole answer.
//!
//! Pingora hands an answer on as it comes, its head first. Where the body decides what the head says, or whether the
//! client may have it at all – a video's id has to be on record before anybody is told – the gateway asks by itself,
//! over Pingora's own connections. Answers here are small; an upload is passed on piece by piece, and read on the way.
//!
//! What is not a GET gets a connection of its own: on one that has just been closed it would be lost, or made twice. It
//! goes to upstreams as any request does ([`super::upstreams`]); an upload, once it has begun to leave, to one only.
//! Bounds: an answer of [`ANSWER_MAX`]; the timeouts of the upstream's settings.

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
use super::passing::{self, Outgoing};
use super::upstreams::{Same, Upstreams, Way};
use crate::policy::compiled::Name;

/// The longest answer, in bytes.
pub const ANSWER_MAX: usize = 1 << 20;
/// Idle connections that are kept.
const POOL: usize = 64;
/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(50);

/// Asks upstreams.
#[derive(Default)]
pub struct Exchange {
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
    /// The upstream that gave it; none where the gateway made it by itself.
    pub upstream: Option<Name>,
}

/// A request.
pub struct Asking<'a> {
    /// Its head, as it came or as it was made.
    pub header: RequestHeader,
    /// What leaves, and where it may go.
    pub outgoing: Outgoing,
    /// Its body.
    pub sending: Sending<'a>,
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
    /// Its length in all.
    pub length: u64,
    /// Whether it has begun to leave, and is gone.
    pub has_left: bool,
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
    /// Sends a request and reads the whole answer.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it closes the connection; the upstream may have got the request.
    pub async fn ask(
        &self,
        upstreams: &Upstreams,
        bodies: &Bodies,
        asking: Asking<'_>,
    ) -> Result<Reply, ExchangeError> {
        let Asking { header, outgoing, mut sending } = asking;
        let goal = outgoing.goal;
        let mut way = Way::default();
        loop {
            let peer = upstreams.enter(&mut way, goal).ok_or_else(nowhere)?;
            let Some(target) = upstreams.present(&way).cloned() else { return Err(nowhere()) };
            let mut leaving = header.clone();
            passing::outward(&mut leaving, &outgoing, &target).map_err(ExchangeError::Upstream)?;
            if let Sending::Upload(upload) = &sending {
                leaving.insert_header(CONTENT_LENGTH, upload.length).map_err(ExchangeError::Upstream)?;
            }
            let asked = self.attempt(&peer, leaving, &mut sending).await;
            let again = sending.is_at_hand();
            match asked {
                Err(ExchangeError::Upstream(error)) if is_connect(error.etype()) => {
                    metrics::upstream_error("connect");
                    upstreams.failed(&mut way);
                    if !upstreams.goes_on(&way, goal, Same::Again) {
                        return Err(ExchangeError::Upstream(error));
                    }
                }
                Err(error) => {
                    if let ExchangeError::Upstream(_) | ExchangeError::Answer(_) = error {
                        upstreams.failed(&mut way);
                    }
                    return Err(error);
                }
                Ok((header, body)) => {
                    let busy = matches!(header.status.as_u16(), 502 | 503);
                    if matches!(header.status.as_u16(), 502..=504) {
                        upstreams.failed(&mut way);
                    } else {
                        upstreams.succeeded(&mut way);
                    }
                    if !(busy && again && upstreams.goes_elsewhere(&mut way, goal)) {
                        return decoded(bodies, header, body, target.name().clone()).await;
                    }
                }
            }
        }
    }

    fn connector(&self) -> &Connector {
        self.connector.get_or_init(|| Connector::new(Some(ConnectorOptions::new(POOL))))
    }

    /// Sends it to one upstream. A GET on a connection that was closed while it was idle is sent once more.
    async fn attempt(
        &self,
        peer: &HttpPeer,
        header: RequestHeader,
        sending: &mut Sending<'_>,
    ) -> Result<(ResponseHeader, Bytes), ExchangeError> {
        let repeatable = header.method == http::Method::GET;
        let own = fresh(peer);
        let (mut session, reused) = self
            .connector()
            .get_http_session(if repeatable { peer } else { &own })
            .await
            .map_err(upstream)?;
        let mut asked = exchanged(&mut session, header.clone(), sending).await;
        if reused && matches!(asked, Err(ExchangeError::Upstream(_))) {
            session.shutdown().await;
            session = self.connector().get_http_session(&own).await.map_err(upstream)?.0;
            asked = exchanged(&mut session, header, sending).await;
        }
        match asked {
            Ok(answer) => {
                if repeatable {
                    self.connector().release_http_session(session, peer, Some(IDLE)).await;
                }
                Ok(answer)
            }
            Err(error) => {
                session.shutdown().await;
                Err(error)
            }
        }
    }
}

impl Sending<'_> {
    /// Whether all of it is still here, to be sent again.
    fn is_at_hand(&self) -> bool {
        match self {
            Self::Whole(_) => true,
            Self::Upload(upload) => !upload.has_left,
        }
    }
}

async fn exchanged(
    session: &mut HttpSession,
    header: RequestHeader,
    sending: &mut Sending<'_>,
) -> Result<(ResponseHeader, Bytes), ExchangeError> {
    session.write_request_header(Box::new(header)).await.map_err(upstream)?;
    let sent = match sending {
        Sending::Whole(body) => whole(session, body.clone()).await,
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

impl Upload<'_> {
    /// Passes the form on. Each piece leaves when the next one has come, and is read before it leaves: of a form that
    /// turns out to be refused, the upstream never has the end.
    async fn pass(&mut self, upstream_session: &mut HttpSession) -> Result<(), ExchangeError> {
        self.has_left = true;
        let mut behind = std::mem::take(&mut self.begun);
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
async fn decoded(
    bodies: &Bodies,
    mut header: ResponseHeader,
    body: Bytes,
    upstream: Name,
) -> Result<Reply, ExchangeError> {
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
    Ok(Reply { header, body, upstream: Some(upstream) })
}

/// The same peer, with connections that are shared with nobody.
fn fresh(peer: &HttpPeer) -> HttpPeer {
    let mut peer = peer.clone();
    peer.group_key = rand::random();
    peer
}

fn nowhere() -> ExchangeError {
    ExchangeError::Upstream(Error::explain(ErrorType::ConnectNoRoute, "no upstream is usable").into_up())
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
