//! Writes of values that are still arriving.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use parking_lot::Mutex;

use super::attempts::Attempts;
use super::write::Next;
use super::{RetryLayer, helps};
use crate::backend::ByteStream;
use crate::error::{Result, Retry, StorageError};
use crate::limits::STREAM_MEMORY_BYTES;
use crate::options::StorageOptions;
use crate::version::Version;

impl RetryLayer {
    pub(super) async fn write_stream(
        &self,
        key: &str,
        mut body: ByteStream,
        options: StorageOptions,
    ) -> Result<Version> {
        let (mut parts, mut bytes) = (VecDeque::new(), 0);
        while bytes <= STREAM_MEMORY_BYTES {
            match poll_fn(|cx| body.as_mut().poll_next(cx)).await {
                Some(Ok(part)) => {
                    bytes += part.len();
                    parts.push_back(part);
                }
                Some(Err(error)) => {
                    return Err(StorageError::invalid_input("the body ended early")
                        .with_key(key)
                        .with_source(error));
                }
                None => return self.write(key, join(parts, bytes), options).await,
            }
        }
        let rest = Arc::new(Mutex::new(Rest { parts, body, taken: false }));
        self.write_rest(key, &rest, options).await
    }

    async fn write_rest(
        &self,
        key: &str,
        rest: &Arc<Mutex<Rest>>,
        mut options: StorageOptions,
    ) -> Result<Version> {
        let mut attempts = Attempts::begin(&self.retries);
        let mut write = self.identify(&options);
        loop {
            options.version = write.as_ref().map(|write| write.version).or(options.version);
            let body = Box::pin(Shared(Arc::clone(rest)));
            let error = match self.inner.put_stream(key, body, options.clone()).await {
                Ok(version) => {
                    self.retries.clock.observe(version);
                    return Ok(version);
                }
                Err(error) => error,
            };
            let error = match &mut write {
                Some(write) => match self.after(key, None, write, error, &mut attempts).await {
                    Next::Answer(answer) => return answer,
                    Next::Again(error) if write.pending => self.retries.unknown(error),
                    Next::Again(error) => error,
                },
                None if error.retry() == Retry::Ambiguous => return Err(error),
                None => error,
            };
            let may = helps(&error) && !rest.lock().taken;
            if !may || !attempts.again().await {
                return Err(error);
            }
        }
    }
}

fn join(mut parts: VecDeque<Bytes>, bytes: usize) -> Bytes {
    if parts.len() == 1 {
        return parts.pop_front().unwrap_or_default();
    }
    let mut joined = BytesMut::with_capacity(bytes);
    for part in parts {
        joined.extend_from_slice(&part);
    }
    joined.freeze()
}

/// A value of which the beginning is here.
struct Rest {
    parts: VecDeque<Bytes>,
    body: ByteStream,
    /// Something of it was taken: it cannot be sent again.
    taken: bool,
}

/// The value, for one attempt.
struct Shared(Arc<Mutex<Rest>>);

impl Stream for Shared {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut rest = self.0.lock();
        rest.taken = true;
        match rest.parts.pop_front() {
            Some(part) => Poll::Ready(Some(Ok(part))),
            None => rest.body.as_mut().poll_next(cx),
        }
    }
}
