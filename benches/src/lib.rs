//! What all comparisons share: arguments, rounds, medians, tables.

pub mod args;
pub mod data;
pub mod report;
pub mod servers;

use std::time::{Duration, Instant};

/// Runs `task(thread)` on `threads` threads that start together; returns the time until all ended.
pub fn timed_threads(threads: usize, task: impl Fn(usize) + Sync) -> Duration {
    let barrier = std::sync::Barrier::new(threads + 1);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (barrier, task) = (&barrier, &task);
            scope.spawn(move || {
                barrier.wait();
                task(thread);
                barrier.wait();
            });
        }
        barrier.wait();
        let start = Instant::now();
        barrier.wait();
        start.elapsed()
    })
}

/// Places `0..count` in the order of this round: forward in even rounds, backward in odd ones.
pub fn order(count: usize, round: usize) -> Vec<usize> {
    if round % 2 == 0 { (0..count).collect() } else { (0..count).rev().collect() }
}
