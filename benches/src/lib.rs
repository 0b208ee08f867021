//! What all comparisons share: arguments, rounds, medians, tables.

pub mod args;
pub mod data;
pub mod report;
pub mod servers;
pub mod unsynced;

use std::time::{Duration, Instant};

/// Runs `task(thread)` on `threads` threads that start together; returns the time from the first
/// start to the last end, taken on the threads themselves: with as many threads as cores, this one
/// may not run before they are done.
pub fn timed_threads(threads: usize, task: impl Fn(usize) + Sync) -> Duration {
    let barrier = std::sync::Barrier::new(threads);
    let spans: Vec<(Instant, Instant)> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                let (barrier, task) = (&barrier, &task);
                scope.spawn(move || {
                    barrier.wait();
                    let start = Instant::now();
                    task(thread);
                    (start, Instant::now())
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join().expect("a task does not panic")).collect()
    });
    let start = spans.iter().map(|span| span.0).min();
    let end = spans.iter().map(|span| span.1).max();
    start.zip(end).map_or(Duration::ZERO, |(start, end)| end - start)
}

/// Places `0..count` in the order of this round: forward in even rounds, backward in odd ones.
pub fn order(count: usize, round: usize) -> Vec<usize> {
    if round % 2 == 0 { (0..count).collect() } else { (0..count).rev().collect() }
}
