//! A connection's socket with its timeouts.
//!
//! The parser's own header timeout would also end idle connections, so the socket does the timing:
//! a connection without a request may idle for long, a begun request head must arrive soon, and a
//! client must take its answer at some pace. Pauses within a body are the body's business.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use crate::config::HttpLimits;

/// Requests of one connection, shared between its socket and its service.
#[derive(Debug, Default)]
pub struct Activity {
    under_way: AtomicUsize,
    started: AtomicU64,
}

impl Activity {
    /// Notes that a request has begun; it ends when the guard is dropped.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> ActivityGuard {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        self.started.fetch_add(1, Ordering::Relaxed);
        ActivityGuard(Arc::clone(self))
    }
}

/// A request under way.
#[derive(Debug)]
pub struct ActivityGuard(Arc<Activity>);

impl Drop for ActivityGuard {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a connection is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// A request is under way.
    Busy,
    /// Nothing of the next request has arrived.
    Idle,
    /// A part of the next request's head has arrived.
    Head,
}

/// Looks at an idle connection within one idle timeout; it ends when nothing has happened between
/// so many of them. Looking now and then costs nothing a request, unlike a timer for each pause.
const IDLE_LOOKS: u32 = 4;

/// A socket that fails with [`io::ErrorKind::TimedOut`] when its client is too slow.
#[derive(Debug)]
pub struct TimedStream {
    stream: TcpStream,
    activity: Arc<Activity>,
    /// HTTP/2 frames are not told apart here: any byte counts as life.
    multiplexed: bool,
    head_timeout: Duration,
    idle_timeout: Duration,
    stall_timeout: Duration,
    started_seen: u64,
    head_begun: bool,
    head_timer: Option<Pin<Box<Sleep>>>,
    idle_timer: Option<Pin<Box<Sleep>>>,
    /// Requests begun and reads made at the last look.
    idle_mark: (u64, u64),
    idle_looks: u32,
    reads: u64,
    write_timer: Option<Pin<Box<Sleep>>>,
}

impl TimedStream {
    /// Times a socket.
    #[must_use]
    pub fn new(
        stream: TcpStream,
        activity: Arc<Activity>,
        multiplexed: bool,
        limits: &HttpLimits,
    ) -> Self {
        Self {
            stream,
            activity,
            multiplexed,
            head_timeout: limits.head_timeout,
            idle_timeout: limits.idle_timeout,
            stall_timeout: limits.stall_timeout,
            started_seen: 0,
            head_begun: false,
            head_timer: None,
            idle_timer: None,
            idle_mark: (0, 0),
            idle_looks: 0,
            reads: 0,
            write_timer: None,
        }
    }

    fn now_waiting(&mut self) -> Waiting {
        let started = self.activity.started.load(Ordering::Relaxed);
        if started != self.started_seen {
            self.started_seen = started;
            self.head_begun = false;
        }
        if self.activity.under_way.load(Ordering::Relaxed) > 0 {
            Waiting::Busy
        } else if self.head_begun && !self.multiplexed {
            Waiting::Head
        } else {
            Waiting::Idle
        }
    }

    /// Called when there is nothing to read: runs the timers of what the connection waits for.
    fn poll_read_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waiting = self.now_waiting();
        if waiting == Waiting::Head {
            let timeout = self.head_timeout;
            let timer = self.head_timer.get_or_insert_with(|| Box::pin(sleep(timeout)));
            ready!(timer.as_mut().poll(cx));
            return Poll::Ready(Err(timed_out("the client sent no whole request head in time")));
        }
        self.head_timer = None;
        loop {
            let pause = self.idle_timeout / IDLE_LOOKS;
            let timer = self.idle_timer.get_or_insert_with(|| Box::pin(sleep(pause)));
            ready!(timer.as_mut().poll(cx));
            timer.set(sleep(pause));
            let mark = (self.started_seen, self.reads);
            self.idle_looks = match waiting {
                Waiting::Idle if mark == self.idle_mark => self.idle_looks + 1,
                _ => 0,
            };
            self.idle_mark = mark;
            if self.idle_looks >= IDLE_LOOKS {
                return Poll::Ready(Err(timed_out("the connection was idle for too long")));
            }
        }
    }

    fn note_read(&mut self) {
        self.reads += 1;
        if self.now_waiting() != Waiting::Busy {
            self.head_begun = true;
        }
    }

    fn poll_write_deadline<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.write_timer = None;
            return polled;
        }
        let timeout = self.stall_timeout;
        let timer = self.write_timer.get_or_insert_with(|| Box::pin(sleep(timeout)));
        timer.as_mut().poll(cx).map(|()| Err(timed_out("the client does not read its answer")))
    }
}

fn timed_out(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, message)
}

impl AsyncRead for TimedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Ready(result) => {
                if buf.filled().len() > before {
                    self.note_read();
                }
                Poll::Ready(result)
            }
            Poll::Pending => self.poll_read_deadline(cx),
        }
    }
}

impl AsyncWrite for TimedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.poll_write_deadline(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.poll_write_deadline(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
