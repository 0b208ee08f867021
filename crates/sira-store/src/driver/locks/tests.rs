use std::sync::atomic::AtomicBool;
use std::task::Poll;

use tokio::sync::Notify;

use super::*;

/// Polls a future once and drops it.
async fn leave(future: impl Future<Output = Result<()>>) {
    let mut future = Box::pin(future);
    std::future::poll_fn(|cx| {
        assert!(future.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
}

/// A write that waits to be let go, and says when it is done.
fn held_up() -> (Arc<Notify>, Arc<AtomicBool>, impl Future<Output = Result<()>> + Send + 'static) {
    let (go, done) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    let write = {
        let (go, done) = (Arc::clone(&go), Arc::clone(&done));
        async move {
            go.notified().await;
            done.store(true, Ordering::Release);
            Ok(())
        }
    };
    (go, done, write)
}

#[tokio::test]
async fn a_write_whose_caller_left_ends_before_what_comes_later() {
    let locks = Arc::new(KeyLocks::new());
    let (go, done, write) = held_up();
    leave(run_locked(&locks, "n", ["k"], write)).await;
    assert!(!done.load(Ordering::Acquire));

    let later = {
        let (locks, done) = (Arc::clone(&locks), Arc::clone(&done));
        tokio::spawn(async move {
            locks.settle("n", "k").await;
            done.load(Ordering::Acquire)
        })
    };
    tokio::task::yield_now().await;
    assert!(!later.is_finished());
    go.notify_one();
    assert!(later.await.unwrap());

    // Nothing is waited for any more.
    let held = locks.stripes[locks.stripe("n", "k")].lock.lock().await;
    locks.settle("n", "k").await;
    drop(held);
}

#[tokio::test]
async fn a_write_beside_others_ends_before_what_comes_later_when_its_caller_left() {
    let locks = Arc::new(KeyLocks::new());
    let (go, done, write) = held_up();
    // While the caller is there, nobody waits for the write, polled or not.
    let mut attended = Box::pin(run_beside(&locks, "n", "k", write));
    let first = std::future::poll_fn(|cx| Poll::Ready(attended.as_mut().poll(cx))).await;
    assert!(first.is_pending());
    locks.settle("n", "k").await;
    run_beside(&locks, "n", "k", async { Ok(()) }).await.unwrap();

    drop(attended);
    let later = {
        let (locks, done) = (Arc::clone(&locks), Arc::clone(&done));
        tokio::spawn(async move {
            let done = async move { Ok(done.load(Ordering::Acquire)) };
            run_beside(&locks, "n", "k", done).await
        })
    };
    tokio::task::yield_now().await;
    assert!(!later.is_finished());
    go.notify_one();
    assert!(later.await.unwrap().unwrap());
    assert_eq!(locks.stripes[locks.stripe("n", "k")].abandoned.load(Ordering::Acquire), 0);
}

#[tokio::test]
async fn readers_do_not_wait_for_writers_that_are_there() {
    let locks = Arc::new(KeyLocks::new());
    let go = Arc::new(Notify::new());
    let write = {
        let go = Arc::clone(&go);
        async move {
            go.notified().await;
            Ok(())
        }
    };
    let running = {
        let locks = Arc::clone(&locks);
        tokio::spawn(async move { run_locked(&locks, "n", ["k"], write).await })
    };
    tokio::task::yield_now().await;
    locks.settle("n", "k").await;
    assert!(!running.is_finished());
    go.notify_one();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_panic_is_an_ambiguous_error_and_frees_the_key() {
    let locks = Arc::new(KeyLocks::new());
    let result: Result<()> = run_locked(&locks, "n", ["k"], async { panic!("of the test") }).await;
    assert_eq!(result.unwrap_err().retry(), crate::error::Retry::Ambiguous);
    run_locked(&locks, "n", ["k"], async { Ok(()) }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_taken_in_one_order() {
    let locks = Arc::new(KeyLocks::new());
    let tasks: Vec<_> = (0..200)
        .map(|number| {
            let locks = Arc::clone(&locks);
            tokio::spawn(async move {
                let keys = if number % 2 == 0 { ["a", "b"] } else { ["b", "a"] };
                let pause = async {
                    tokio::task::yield_now().await;
                    Ok(())
                };
                run_locked(&locks, "n", keys, pause).await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
}
