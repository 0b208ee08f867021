//! Tasks that wait for a sync.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};

use parking_lot::Mutex;
use sira_log::log::SegmentLog;

use crate::error::Result;

/// Wakers of the tasks that wait, with what they wait for.
#[derive(Debug, Default)]
pub(super) struct DurableWaiters {
    waiting: Mutex<Vec<(u64, Waker)>>,
}

impl DurableWaiters {
    /// Wakes those whose ticket is durable; with `all`, everybody, to see the error.
    pub(super) fn wake(&self, durable: u64, all: bool) {
        let ready: Vec<_> = {
            let mut waiting = self.waiting.lock();
            let (ready, rest) =
                waiting.drain(..).partition(|(ticket, _)| all || *ticket <= durable);
            *waiting = rest;
            ready
        };
        for (_, waker) in ready {
            waker.wake();
        }
    }

    /// Resolves when the ticket is durable or the log has failed.
    pub(super) async fn wait(self: &Arc<Self>, log: &SegmentLog, ticket: u64) -> Result<()> {
        let mut requested = false;
        let wait = std::future::poll_fn(move |context| {
            let done = || {
                if log.durable() >= ticket {
                    return Some(Ok(()));
                }
                log.check_writable().err().map(|error| Err(error.into()))
            };
            if let Some(result) = done() {
                return Poll::Ready(result);
            }
            self.waiting.lock().push((ticket, context.waker().clone()));
            if !requested {
                requested = true;
                log.request_durable(ticket);
            }
            // The sync may have ended before the waker was in place.
            match done() {
                Some(result) => Poll::Ready(result),
                None => Poll::Pending,
            }
        });
        pin!(wait).await
    }
}
