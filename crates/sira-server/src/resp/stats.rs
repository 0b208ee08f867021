//! Counters of the RESP door.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::table::{self, Number};

/// Buckets of the latency histogram: bucket `n` counts times below `2^n` microseconds, the last
/// one all others.
pub const LATENCY_BUCKETS: usize = 24;

/// One command's counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandStats {
    /// Name, subcommands as `container|name`.
    pub name: &'static str,
    /// Calls that ran.
    pub calls: u64,
    /// Calls that answered an error.
    pub failed: u64,
    /// Calls that were refused before they ran.
    pub rejected: u64,
    /// Time in the command, in microseconds, extrapolated from the calls that were timed.
    pub usec: u64,
}

/// A snapshot of the RESP door's counters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RespStats {
    /// Clients that are connected.
    pub connected_clients: u64,
    /// Connections that were accepted.
    pub connections_received: u64,
    /// Connections that were refused because there were too many.
    pub connections_rejected: u64,
    /// Commands that ran.
    pub commands_processed: u64,
    /// Commits of commands that wrote.
    pub writes: u64,
    /// Replies that were errors.
    pub error_replies: u64,
    /// Bytes received.
    pub input_bytes: u64,
    /// Bytes sent.
    pub output_bytes: u64,
    /// Event loops that serve clients.
    pub loops: u64,
    /// Time from having read a client's requests to having their replies encoded, for all requests
    /// that were read at once; see [`LATENCY_BUCKETS`].
    pub latency: [u64; LATENCY_BUCKETS],
    /// Sum of those times, in microseconds.
    pub latency_sum_usec: u64,
    /// Commands that were called.
    pub commands: Vec<CommandStats>,
}

/// One in this many calls is timed.
const TIMED_EVERY: u64 = 64;

#[derive(Debug, Default)]
struct Counters {
    calls: AtomicU64,
    failed: AtomicU64,
    rejected: AtomicU64,
    timed: AtomicU64,
    timed_nanos: AtomicU64,
}

/// Counters of one event loop; only that loop writes them.
#[derive(Debug)]
pub(crate) struct LoopStats {
    commands: Box<[Counters]>,
    pub(crate) processed: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) accepted: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) input_bytes: AtomicU64,
    pub(crate) output_bytes: AtomicU64,
    latency: [AtomicU64; LATENCY_BUCKETS],
    latency_nanos: AtomicU64,
}

/// Adds to a counter that only this thread writes.
#[inline]
pub(crate) fn add(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

impl LoopStats {
    pub(crate) fn new() -> Self {
        Self {
            commands: (0..table::count()).map(|_| Counters::default()).collect(),
            processed: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            input_bytes: AtomicU64::new(0),
            output_bytes: AtomicU64::new(0),
            latency: Default::default(),
            latency_nanos: AtomicU64::new(0),
        }
    }

    /// Counts a call; says whether it is one to be timed.
    #[inline]
    pub(crate) fn called(&self, number: Number) -> bool {
        let Some(counters) = self.commands.get(usize::from(number)) else { return false };
        let calls = counters.calls.load(Ordering::Relaxed);
        counters.calls.store(calls + 1, Ordering::Relaxed);
        calls % TIMED_EVERY == 0
    }

    pub(crate) fn timed(&self, number: Number, time: Duration) {
        if let Some(counters) = self.commands.get(usize::from(number)) {
            add(&counters.timed, 1);
            add(&counters.timed_nanos, time.as_nanos() as u64);
        }
    }

    pub(crate) fn failed(&self, number: Number) {
        add(&self.errors, 1);
        if let Some(counters) = self.commands.get(usize::from(number)) {
            add(&counters.failed, 1);
        }
    }

    pub(crate) fn rejected(&self, number: Option<Number>) {
        add(&self.errors, 1);
        if let Some(counters) = number.and_then(|number| self.commands.get(usize::from(number))) {
            add(&counters.rejected, 1);
        }
    }

    /// Counts a batch of requests that took `time`.
    #[inline]
    pub(crate) fn batch(&self, commands: u64, time: Duration) {
        add(&self.processed, commands);
        let nanos = time.as_nanos() as u64;
        add(&self.latency_nanos, nanos);
        let bucket = (u64::BITS - (nanos / 1000).leading_zeros()) as usize;
        if let Some(bucket) = self.latency.get(bucket.min(LATENCY_BUCKETS - 1)) {
            add(bucket, 1);
        }
    }

    /// Back to zero, as `CONFIG RESETSTAT` asks; a count of the moment may survive.
    pub(crate) fn reset(&self) {
        for counters in &self.commands {
            for counter in [
                &counters.calls,
                &counters.failed,
                &counters.rejected,
                &counters.timed,
                &counters.timed_nanos,
            ] {
                counter.store(0, Ordering::Relaxed);
            }
        }
        for counter in [
            &self.processed,
            &self.writes,
            &self.errors,
            &self.accepted,
            &self.refused,
            &self.input_bytes,
            &self.output_bytes,
            &self.latency_nanos,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
        for bucket in &self.latency {
            bucket.store(0, Ordering::Relaxed);
        }
    }
}

impl RespStats {
    /// The sum of all loops' counters.
    pub(crate) fn collect(loops: &[LoopStats], connected_clients: u64) -> Self {
        let sum = |counter: fn(&LoopStats) -> &AtomicU64| {
            loops.iter().map(|stats| counter(stats).load(Ordering::Relaxed)).sum::<u64>()
        };
        let mut latency = [0; LATENCY_BUCKETS];
        for stats in loops {
            for (total, bucket) in latency.iter_mut().zip(&stats.latency) {
                *total += bucket.load(Ordering::Relaxed);
            }
        }
        let commands = (0..table::count())
            .filter_map(|number| {
                let command = table::by_number(number as Number)?;
                let sum = |counter: fn(&Counters) -> &AtomicU64| {
                    loops
                        .iter()
                        .filter_map(|stats| stats.commands.get(number))
                        .map(|counters| counter(counters).load(Ordering::Relaxed))
                        .sum::<u64>()
                };
                let (calls, rejected) = (sum(|c| &c.calls), sum(|c| &c.rejected));
                let (timed, nanos) = (sum(|c| &c.timed), sum(|c| &c.timed_nanos));
                let usec = u128::from(nanos) * u128::from(calls) / u128::from(timed.max(1)) / 1000;
                (calls + rejected > 0).then(|| CommandStats {
                    name: command.name,
                    calls,
                    failed: sum(|c| &c.failed),
                    rejected,
                    usec: u64::try_from(usec).unwrap_or(u64::MAX),
                })
            })
            .collect();
        Self {
            connected_clients,
            connections_received: sum(|s| &s.accepted),
            connections_rejected: sum(|s| &s.refused),
            commands_processed: sum(|s| &s.processed),
            writes: sum(|s| &s.writes),
            error_replies: sum(|s| &s.errors),
            input_bytes: sum(|s| &s.input_bytes),
            output_bytes: sum(|s| &s.output_bytes),
            loops: loops.len() as u64,
            latency,
            latency_sum_usec: sum(|s| &s.latency_nanos) / 1000,
            commands,
        }
    }
}
