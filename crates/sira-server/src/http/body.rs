//! Bodies: reading what clients send within limits, and answering with slices.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use http::header::{CONTENT_LENGTH, EXPECT};
use http::{HeaderMap, Request, StatusCode, Version};
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use sira_store::ByteStream;
use sira_store::embedded::ObjectReader;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep, timeout};

use crate::limits;
use crate::metrics::HttpMetrics;
use crate::problem::Problem;

/// Bytes that one permit of the budget stands for.
const PERMIT_BYTES: usize = 4096;

/// Memory that request bodies may take, over all connections.
#[derive(Debug, Clone)]
pub struct UploadBudget(Arc<Semaphore>);

impl UploadBudget {
    /// A budget of this many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes.div_ceil(PERMIT_BYTES).min(Semaphore::MAX_PERMITS))))
    }

    fn permits(bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX)
    }

    /// Waits for a share, for a body whose size is known.
    async fn reserve(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let acquire = Arc::clone(&self.0).acquire_many_owned(Self::permits(bytes));
        match timeout(limits::HTTP_UPLOAD_WAIT, acquire).await {
            Ok(Ok(share)) => Ok(share),
            Ok(Err(_)) | Err(_) => Err(full()),
        }
    }

    /// More for a body that turns out larger. Does not wait: bodies that hold a share and wait for
    /// one another would never end.
    fn grow(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.0).try_acquire_many_owned(Self::permits(bytes)).map_err(|_| full())
    }
}

fn full() -> Problem {
    Problem::unavailable(
        "the uploads under way take all the memory that they may; try again in a moment",
    )
}

/// A body's share of the budget, held until its bytes are no longer in memory.
#[derive(Debug)]
#[must_use]
pub struct UploadShare(
    #[expect(dead_code, reason = "held, never read")] Option<OwnedSemaphorePermit>,
);

/// How far a streamed body came.
#[derive(Debug, Default)]
pub struct Streamed {
    received: AtomicU64,
    failure: Mutex<Option<Problem>>,
}

impl Streamed {
    /// Bytes that the store has taken.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// The problem that ended the body early.
    #[must_use]
    pub fn failure(&self) -> Option<Problem> {
        self.failure.lock().take()
    }
}

/// A request body as it arrives: within its limit, without long pauses, within the budget.
#[derive(Debug)]
pub struct BodyReader {
    body: Body,
    bytes_max: usize,
    /// Bytes of it that are in memory at once, at most.
    held_max: usize,
    received: usize,
    announced: Option<u64>,
    /// The client waits to be asked for the body, so nothing needs to be drained.
    asked_first: bool,
    /// HTTP/2 can end a stream alone, so nothing needs to be drained.
    multiplexed: bool,
    stall_timeout: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// The body was cut short or stalled.
    ended: bool,
    budget: UploadBudget,
    share: Option<OwnedSemaphorePermit>,
    reserved: usize,
    metrics: Arc<HttpMetrics>,
}

impl BodyReader {
    /// Reads the body of a request, of up to `bytes_max` bytes.
    #[must_use]
    pub fn new(
        request: Request<Body>,
        bytes_max: usize,
        stall_timeout: Duration,
        budget: UploadBudget,
        metrics: Arc<HttpMetrics>,
    ) -> Self {
        let announced = content_length(request.headers());
        let asked_first = request.headers().contains_key(EXPECT);
        let multiplexed = request.version() >= Version::HTTP_2;
        Self {
            body: request.into_body(),
            bytes_max,
            held_max: bytes_max,
            received: 0,
            announced,
            asked_first,
            multiplexed,
            stall_timeout,
            timer: None,
            ended: false,
            budget,
            share: None,
            reserved: limits::HTTP_BODY_FREE_BYTES,
            metrics,
        }
    }

    /// Counts the body against the budget only as far as a streamed write holds it in memory.
    #[must_use]
    pub fn streamed(mut self) -> Self {
        self.held_max = limits::HTTP_STREAM_HELD_BYTES;
        self
    }

    fn too_large(&self) -> Problem {
        Problem::too_large(format!("the body is larger than {} bytes", self.bytes_max))
    }

    /// Refuses a body that announces too many bytes, and waits for its share of the budget.
    ///
    /// # Errors
    /// A problem of 413 or 503.
    pub async fn admit(&mut self) -> Result<(), Problem> {
        let Some(announced) = self.announced else { return Ok(()) };
        let bytes = usize::try_from(announced)
            .ok()
            .filter(|bytes| *bytes <= self.bytes_max)
            .ok_or_else(|| self.too_large())?;
        let held = bytes.min(self.held_max);
        if held > self.reserved {
            self.share = Some(self.budget.reserve(held).await?);
            self.reserved = held;
        }
        Ok(())
    }

    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Problem>>> {
        loop {
            match http_body::Body::poll_frame(Pin::new(&mut self.body), cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.timer = None;
                    let Ok(part) = frame.into_data() else { continue };
                    return Poll::Ready(Some(self.take(part)));
                }
                Poll::Ready(Some(Err(error))) => {
                    self.ended = true;
                    let detail = format!(
                        "the body ended early, after {} bytes, and nothing was stored: {error}",
                        self.received
                    );
                    let problem = Problem::new(StatusCode::BAD_REQUEST, "incomplete_body", detail);
                    return Poll::Ready(Some(Err(problem)));
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    let timeout = self.stall_timeout;
                    let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(timeout)));
                    ready!(timer.as_mut().poll(cx));
                    self.ended = true;
                    let problem = Problem {
                        retryable: true,
                        ..Problem::new(
                            StatusCode::REQUEST_TIMEOUT,
                            "request_timeout",
                            format!(
                                "no byte of the body came for {} s, and nothing was stored",
                                self.stall_timeout.as_secs_f64()
                            ),
                        )
                    };
                    return Poll::Ready(Some(Err(problem)));
                }
            }
        }
    }

    fn take(&mut self, part: Bytes) -> Result<Bytes, Problem> {
        self.metrics.request_bytes.fetch_add(part.len() as u64, Ordering::Relaxed);
        self.received += part.len();
        if self.received > self.bytes_max {
            return Err(self.too_large());
        }
        if self.received.min(self.held_max) > self.reserved {
            let more = (self.received - self.reserved).max(limits::HTTP_COLLECT_BYTES_MAX);
            let grown = self.budget.grow(more)?;
            match &mut self.share {
                Some(share) => share.merge(grown),
                None => self.share = Some(grown),
            }
            self.reserved += more;
        }
        Ok(part)
    }

    async fn next(&mut self) -> Option<Result<Bytes, Problem>> {
        poll_fn(|cx| self.poll_part(cx)).await
    }

    /// Collects up to `bytes_max` bytes; says whether that was all.
    ///
    /// # Errors
    /// The problem that ended the body early.
    pub async fn collect(&mut self, bytes_max: usize) -> Result<(Bytes, bool), Problem> {
        let Some(first) = self.next().await.transpose()? else { return Ok((Bytes::new(), true)) };
        let expected = self.announced.and_then(|bytes| usize::try_from(bytes).ok());
        if expected == Some(first.len()) && http_body::Body::is_end_stream(&self.body) {
            return Ok((first, true));
        }
        let mut collected =
            BytesMut::with_capacity(expected.unwrap_or(0).min(bytes_max).max(first.len()));
        collected.extend_from_slice(&first);
        drop(first);
        while collected.len() <= bytes_max {
            match self.next().await.transpose()? {
                Some(part) => collected.extend_from_slice(&part),
                None => return Ok((collected.freeze(), true)),
            }
        }
        Ok((collected.freeze(), false))
    }

    /// The share of the budget that the collected body takes.
    pub fn into_share(self) -> UploadShare {
        UploadShare(self.share)
    }

    /// The body as a stream that begins with what was collected, and how far it came.
    #[must_use]
    pub fn into_stream(self, collected: Bytes) -> (ByteStream, Arc<Streamed>) {
        let state = Arc::<Streamed>::default();
        let stream = BodyStream { first: Some(collected), reader: self, state: Arc::clone(&state) };
        (Box::pin(stream), state)
    }

    /// Reads the rest of a body that is refused, so that the client gets to see why instead of a
    /// connection that is reset while it sends.
    pub async fn refuse(mut self, problem: Problem) -> Problem {
        let told_early = self.asked_first && self.received == 0;
        // A body that failed by itself has nothing left to send.
        if self.multiplexed || told_early || self.ended {
            return problem;
        }
        let drain = async {
            let mut drained = 0;
            while drained < limits::HTTP_DRAIN_BYTES_MAX {
                let part = poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut self.body), cx));
                match part.await {
                    Some(Ok(frame)) => drained += frame.data_ref().map_or(0, Bytes::len),
                    Some(Err(_)) | None => return,
                }
            }
        };
        let _ = timeout(limits::HTTP_DRAIN_TIMEOUT, drain).await;
        problem
    }
}

/// Size of the body that a request announces.
fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

struct BodyStream {
    first: Option<Bytes>,
    reader: BodyReader,
    state: Arc<Streamed>,
}

impl Stream for BodyStream {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = match self.first.take() {
            Some(first) => Some(Ok(first)),
            None => ready!(self.reader.poll_part(cx)),
        };
        Poll::Ready(polled.map(|part| match part {
            Ok(part) => {
                self.state.received.fetch_add(part.len() as u64, Ordering::Relaxed);
                Ok(part)
            }
            Err(problem) => {
                let error = io::Error::other(problem.detail.to_string());
                *self.state.failure.lock() = Some(problem);
                Err(error)
            }
        }))
    }
}

/// An answer's bytes, handed to the connection in slices that share their memory.
#[derive(Debug)]
pub struct SlicedBody(Bytes);

impl SlicedBody {
    /// A response body of these bytes.
    pub fn body(bytes: Bytes) -> Body {
        if bytes.len() <= limits::HTTP_SLICE_BYTES {
            return Body::from(bytes);
        }
        Body::new(Self(bytes))
    }
}

impl http_body::Body for SlicedBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.0.is_empty() {
            return Poll::Ready(None);
        }
        let slice = self.0.len().min(limits::HTTP_SLICE_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.0.split_to(slice)))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

/// A large object's bytes, verified piece by piece as the connection takes them. Bytes that fail
/// their checksum end the answer early instead.
#[derive(Debug)]
pub struct ObjectBody {
    reader: ObjectReader,
    range: std::ops::Range<u64>,
}

impl ObjectBody {
    /// A response body of a range of an object.
    pub fn body(reader: ObjectReader, range: std::ops::Range<u64>) -> Body {
        Body::new(Self { reader, range })
    }
}

impl http_body::Body for ObjectBody {
    type Data = Bytes;
    type Error = sira_store::StorageError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.range.is_empty() {
            return Poll::Ready(None);
        }
        // Pieces end where blocks end, so that no block is verified twice.
        let piece = limits::HTTP_SLICE_BYTES as u64;
        let end = (self.range.start / piece + 1).saturating_mul(piece).min(self.range.end);
        let read = self.reader.read(self.range.start..end);
        self.range.start = if read.is_ok() { end } else { self.range.end };
        Poll::Ready(Some(read.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.range.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.range.end - self.range.start)
    }
}
