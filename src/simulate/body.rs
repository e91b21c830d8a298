//! The body of an answer: a whole JSON text, or events that leave one by one, at a pace, until a cut.

use std::io::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::behaviour::{Behaviour, Cut};
use super::seen::Ticket;
use super::wire::Drain;

/// The events of a stream, in order.
pub(super) type Events = Box<dyn Iterator<Item = Bytes> + Send>;

/// An answer's body on its way. Dropped before its end, it tells that the client is gone.
pub(super) struct Reply {
    parts: Parts,
    cut: Option<Cut>,
    /// Events taken from `parts`.
    taken: u64,
    pace: Option<Interval>,
    drain: Drain,
    gzip: Option<GzEncoder<Vec<u8>>>,
    ticket: Ticket,
}

/// The answer breaks off here, as it was asked to.
#[derive(Debug, thiserror::Error)]
#[error("the answer is cut here")]
pub(super) struct CutHere;

enum Parts {
    Whole(Bytes),
    /// The next event is at hand, so that the last one is known to be the last when it leaves.
    Events {
        next: Bytes,
        rest: Events,
    },
    Nothing,
}

impl Parts {
    fn take(&mut self) -> Option<Bytes> {
        match std::mem::replace(self, Self::Nothing) {
            Self::Whole(bytes) => Some(bytes),
            Self::Events { next, mut rest } => {
                if let Some(after) = rest.next() {
                    *self = Self::Events { next: after, rest };
                }
                Some(next)
            }
            Self::Nothing => None,
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::Nothing)
    }
}

impl Reply {
    /// A body of known length. `gzip` compresses it.
    pub(super) fn whole(
        bytes: Bytes,
        behaviour: &Behaviour,
        gzip: bool,
        drain: Drain,
        ticket: Ticket,
    ) -> Self {
        let bytes = if gzip { compressed(&bytes) } else { bytes };
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        // Once all of its announced length is out, an answer is whole: only an earlier cut is one.
        let cut = behaviour.cut.filter(|cut| {
            length > 0 && (cut.event == 0 || cut.event == 1 && cut.bytes.is_some_and(|bytes| bytes < length))
        });
        let parts = if bytes.is_empty() { Parts::Nothing } else { Parts::Whole(bytes) };
        Self { parts, cut, taken: 0, pace: None, drain, gzip: None, ticket }.begun()
    }

    /// A stream of events. `gzip` compresses each of them so that it can be read at once.
    pub(super) fn events(
        mut events: Events,
        behaviour: &Behaviour,
        gzip: bool,
        drain: Drain,
        ticket: Ticket,
    ) -> Self {
        let pace = (behaviour.pace_ms > 0).then(|| {
            let mut pace = interval(Duration::from_millis(behaviour.pace_ms));
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            pace
        });
        let gzip = gzip.then(|| GzEncoder::new(Vec::new(), Compression::fast()));
        let parts = match events.next() {
            Some(next) => Parts::Events { next, rest: events },
            None => Parts::Nothing,
        };
        // The header leaves by itself, ahead of the first event.
        drain.arm();
        Self { parts, cut: behaviour.cut, taken: 0, pace, drain, gzip, ticket }.begun()
    }

    fn begun(mut self) -> Self {
        if self.cut_is_due() {
            self.drain.arm();
        } else if self.parts.is_empty() {
            self.ticket.answered();
        }
        self
    }

    fn cut_is_due(&self) -> bool {
        self.cut.is_some_and(|cut| cut.event <= self.taken)
    }

    fn next_part(&mut self) -> Option<Result<Bytes, CutHere>> {
        if self.cut_is_due() {
            self.ticket.cut();
            return Some(Err(CutHere));
        }
        let part = self.parts.take()?;
        self.taken += 1;
        self.ticket.wrote_event();
        let is_last = self.parts.is_empty() && !self.cut_is_due();
        if is_last {
            self.ticket.answered();
        }
        let sent = match self.cut {
            Some(Cut { event, bytes: Some(bytes) }) if event == self.taken => {
                let kept = usize::try_from(bytes).unwrap_or(usize::MAX).min(part.len());
                part.slice(..kept)
            }
            _ => part,
        };
        Some(Ok(self.encoded(sent, is_last)))
    }

    /// Writing into a `Vec` does not fail; if it ever did, the event goes out plain and the reader tells.
    fn encoded(&mut self, part: Bytes, is_last: bool) -> Bytes {
        let Some(mut gzip) = self.gzip.take() else { return part };
        let written = if is_last {
            gzip.write_all(&part).and_then(|()| gzip.finish())
        } else {
            let flushed = gzip.write_all(&part).and_then(|()| gzip.flush());
            let written = flushed.map(|()| std::mem::take(gzip.get_mut()));
            self.gzip = Some(gzip);
            written
        };
        written.map_or(part, Bytes::from)
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = CutHere;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutHere>>> {
        ready!(self.drain.poll_left());
        if let Some(pace) = &mut self.pace {
            ready!(pace.poll_tick(cx));
        }
        let part = self.next_part();
        if matches!(&part, Some(Ok(_))) {
            self.drain.arm();
        }
        Poll::Ready(part.map(|part| part.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty() && !self.cut_is_due()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.parts {
            Parts::Whole(bytes) => SizeHint::with_exact(bytes.len().try_into().unwrap_or(u64::MAX)),
            Parts::Events { .. } => SizeHint::default(),
            Parts::Nothing => SizeHint::with_exact(0),
        }
    }
}

fn compressed(bytes: &Bytes) -> Bytes {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    let written = gzip.write_all(bytes).and_then(|()| gzip.finish());
    written.map_or_else(|_| bytes.clone(), Bytes::from)
}
