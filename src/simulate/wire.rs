//! The connection under hyper, and a word from it when everything handed over has left.
//!
//! A stream's body must know when its last event is out: the next event belongs in a segment of its own, and a cut
//! must come after exactly the bytes before it, however slowly the other side reads. hyper tells a body nothing of the
//! kind, but it flushes the connection when, and only when, its buffers are empty.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A connection that tells its [`Drain`] when it was flushed.
pub(super) struct Wire {
    stream: TcpStream,
    drain: Drain,
}

/// Tells the body on this connection whether what it handed over has left.
#[derive(Clone, Default)]
pub(super) struct Drain(Arc<AtomicBool>);

impl Drain {
    /// Bytes have been handed over: [`Drain::poll_left`] waits until they have left.
    pub(super) fn arm(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether all bytes have left. It needs no waker of its own: body and connection live in one task, and the flush
    /// that is waited for wakes it.
    pub(super) fn poll_left(&self) -> Poll<()> {
        if self.0.load(Ordering::Relaxed) { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> (Self, Drain) {
        let drain = Drain::default();
        (Self { stream, drain: drain.clone() }, drain)
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        if self.drain.0.swap(false, Ordering::Relaxed) {
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
