//! Waiting for as many answers as are needed.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use crate::env::Env;
use crate::error::Result;

/// Shortest time that is left to the others once enough have answered.
const PATIENCE_MIN: Duration = Duration::from_millis(1);

/// Longest such time.
const PATIENCE_MAX: Duration = Duration::from_secs(1);

type Slot<F> = (Pin<Box<F>>, Option<Result<()>>);

/// Runs some futures at once until all have ended, or `needed` have succeeded and the others took
/// twice as long; `None` stands for those that were not waited for.
pub(super) async fn enough<F: Future<Output = Result<()>>>(
    futures: impl Iterator<Item = F>,
    needed: usize,
    env: &dyn Env,
) -> Vec<Option<Result<()>>> {
    let mut slots: Vec<Slot<F>> = futures.map(|future| (Box::pin(future), None)).collect();
    let begun = env.monotonic();
    let mut patience: Option<Pin<Box<tokio::time::Sleep>>> = None;
    std::future::poll_fn(|cx| {
        for (future, answer) in slots.iter_mut().filter(|(_, answer)| answer.is_none()) {
            if let Poll::Ready(result) = future.as_mut().poll(cx) {
                *answer = Some(result);
            }
        }
        if slots.iter().all(|(_, answer)| answer.is_some()) {
            return Poll::Ready(());
        }
        let done = slots.iter().filter(|(_, answer)| matches!(answer, Some(Ok(())))).count();
        if done < needed {
            return Poll::Pending;
        }
        let sleep = patience.get_or_insert_with(|| {
            let took = env.monotonic().saturating_sub(begun);
            Box::pin(tokio::time::sleep(took.clamp(PATIENCE_MIN, PATIENCE_MAX)))
        });
        sleep.as_mut().poll(cx)
    })
    .await;
    slots.into_iter().map(|(_, answer)| answer).collect()
}
