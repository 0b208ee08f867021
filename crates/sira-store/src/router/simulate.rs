//! Replays an access log against policies and models of backends: what each policy would cost, and
//! how long callers would wait.
//!
//! A backend is modelled as so many workers with one queue: an operation waits for a worker, then
//! takes its service time. Outcomes reach the policy when they would be there, so a policy that
//! learns pays for what it does not know yet.

mod load;
mod log;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::env::{SeededRandom, SimEnv};
use crate::error::{Result, StorageError};
use crate::options::StorageOptions;

use super::StorageRouter;
use super::hash::unit;
use super::profile::BackendProfile;
use super::request::{Operation, RouteOutcome, RouteRequest};
use super::stats::StatsRecorder;
use super::strategy::RoutingStrategy;

pub use load::SkewedLoad;
pub use log::{Access, from_prefix_trace, read_log};

/// How a backend behaves in the simulation.
#[derive(Debug, Clone, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackendModel {
    /// What the policy is told of the backend, prices among it.
    pub profile: BackendProfile,
    /// Median time of service of an operation without its bytes, in milliseconds.
    pub service_ms: f64,
    /// Deviation of the logarithm of that time (log-normal).
    pub spread: f64,
    /// Time of service for each 10^6 bytes, in milliseconds.
    pub ms_per_mb: f64,
    /// Operations that are served at once.
    pub workers: usize,
    /// Part of the operations, from 0 to 1, that fail.
    pub failures: f64,
    /// Times in which service takes longer.
    pub slow: Vec<Slowdown>,
}

impl Default for BackendModel {
    fn default() -> Self {
        Self {
            profile: BackendProfile::default(),
            service_ms: 1.0,
            spread: 0.3,
            ms_per_mb: 10.0,
            workers: 8,
            failures: 0.0,
            slow: Vec::new(),
        }
    }
}

/// A time in which a backend takes longer.
#[derive(Debug, Clone, Copy, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Slowdown {
    /// Begin, in the log's milliseconds.
    pub from_ms: u64,
    /// End, in the log's milliseconds.
    pub to_ms: u64,
    /// What the time of service is multiplied by.
    pub factor: f64,
}

/// Where reads may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reads {
    /// Where the last write put the object; the policy decides on writes, and on the first access
    /// to an object that the log never wrote.
    #[default]
    WhereWritten,
    /// Where the policy says: every backend has a copy, as of caches and replicas.
    Anywhere,
}

/// What came out of a replay.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Report {
    /// Name of the policy.
    pub policy: String,
    /// Operations that were replayed.
    pub operations: u64,
    /// Operations that failed.
    pub failures: u64,
    /// Mean time that a caller waits, in milliseconds.
    pub mean_ms: f64,
    /// Time that 95 of 100 keep within, in milliseconds.
    pub p95_ms: f64,
    /// Time that 99 of 100 keep within, in milliseconds.
    pub p99_ms: f64,
    /// Price of the operations and of the storage over the time of the log.
    pub cost: f64,
    /// Operations on each backend.
    pub backends: BTreeMap<String, u64>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<24} {:>9} ops {:>7} failed  mean {:>9.3} ms  p95 {:>9.3} ms  p99 {:>9.3} ms  cost {:.6}",
            self.policy,
            self.operations,
            self.failures,
            self.mean_ms,
            self.p95_ms,
            self.p99_ms,
            self.cost
        )?;
        for (name, count) in &self.backends {
            let share = *count as f64 * 100.0 / self.operations.max(1) as f64;
            write!(f, "  {name} {share:.1}%")?;
        }
        Ok(())
    }
}

/// The backends that a log is replayed against, and how.
#[derive(Debug, Clone, Default)]
pub struct Simulation {
    /// Backends by name.
    pub backends: BTreeMap<String, BackendModel>,
    /// Where reads may go.
    pub reads: Reads,
    /// Seed of everything that is left to chance.
    pub seed: u64,
}

/// Makes a policy's strategies with the simulation's clock and random numbers.
pub type MakeStrategies<'a> = &'a dyn Fn(&Arc<SimEnv>) -> Vec<Box<dyn RoutingStrategy>>;

/// One backend while the log is replayed.
struct Server<'a> {
    model: &'a BackendModel,
    /// When each worker is free, in microseconds; the earliest first.
    free_us: BinaryHeap<Reverse<u64>>,
    random: SeededRandom,
    count: u64,
}

/// An outcome on its way to the policy.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Pending {
    done_us: u64,
    access: usize,
    began_us: u64,
    backend: usize,
    success: bool,
}

impl Server<'_> {
    /// Serves an operation that comes at `now_us`; when it is done and whether it succeeded.
    fn serve(&mut self, now_us: u64, size: u64) -> (u64, bool) {
        let model = self.model;
        let free_us = self.free_us.pop().map_or(0, |Reverse(free_us)| free_us);
        let begin_us = free_us.max(now_us);
        let (a, b) = (unit(self.random.next_u64()), unit(self.random.next_u64()));
        let normal = (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos();
        let now_ms = begin_us / 1000;
        let slow = model.slow.iter().filter(|s| (s.from_ms..s.to_ms).contains(&now_ms));
        let factor: f64 = slow.map(|slow| slow.factor).product();
        let service_ms =
            model.service_ms * (normal * model.spread).exp() + model.ms_per_mb * size as f64 / 1e6;
        let done_us = begin_us.saturating_add((service_ms * factor * 1000.0).max(1.0) as u64);
        self.free_us.push(Reverse(done_us));
        self.count += 1;
        (done_us, unit(self.random.next_u64()) >= model.failures)
    }
}

impl Simulation {
    /// Replays a log, which is in the order of time, against a policy.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] where there is no backend,
    /// a model cannot be right, or the log goes back in time.
    pub fn run(&self, policy: &str, log: &[Access], make: MakeStrategies<'_>) -> Result<Report> {
        self.check(log)?;
        let start_ms = log.first().map_or(0, |access| access.time_ms);
        let env = Arc::new(SimEnv::new(self.seed, start_ms));
        let recorder = StatsRecorder::with_env(env.clone(), StatsRecorder::HALF_LIFE);
        let mut router = StorageRouter::with_recorder(env.clone(), Arc::new(recorder));
        for (name, model) in &self.backends {
            router.register_backend(name, model.profile.clone());
        }
        for strategy in make(&env) {
            router.add_strategy(strategy);
        }
        let names: Vec<&String> = self.backends.keys().collect();
        let mut servers: Vec<Server<'_>> = self
            .backends
            .values()
            .enumerate()
            .map(|(i, model)| Server {
                model,
                free_us: (0..model.workers).map(|_| Reverse(0)).collect(),
                // The same chances for every policy.
                random: SeededRandom::new(self.seed ^ (i as u64 + 1).wrapping_mul(0xD134_2543)),
                count: 0,
            })
            .collect();
        let mut places: BTreeMap<&str, Stored> = BTreeMap::new();
        let mut pending: BinaryHeap<Reverse<Pending>> = BinaryHeap::new();
        let mut waits_us = Vec::with_capacity(log.len());
        let (mut failures, mut cost) = (0, 0.0);
        let options = StorageOptions::default();
        let end_ms = log.last().map_or(0, |access| access.time_ms);
        let price = |place: Stored, until_ms: u64, servers: &[Server<'_>]| {
            let kept = Duration::from_millis(until_ms.saturating_sub(place.since_ms));
            let server = servers.get(place.backend);
            server.map_or(0.0, |s| s.model.profile.prices.storage(place.size, kept))
        };
        for (i, access) in log.iter().enumerate() {
            let now_us = access.time_ms.saturating_mul(1000);
            let tell = |pending: Pending, router: &StorageRouter| {
                let (Some(access), Some(name)) =
                    (log.get(pending.access), names.get(pending.backend))
                else {
                    return;
                };
                router.record(&access.outcome(name, &pending));
            };
            while pending.peek().is_some_and(|Reverse(next)| next.done_us <= now_us) {
                if let Some(Reverse(done)) = pending.pop() {
                    advance(&env, done.done_us / 1000);
                    tell(done, &router);
                }
            }
            advance(&env, access.time_ms);
            let place = places.get(access.key.as_str()).copied();
            let held = place.filter(|_| {
                self.reads == Reads::WhereWritten && access.operation != Operation::Write
            });
            let backend = match held {
                Some(place) => place.backend,
                None => {
                    let request = RouteRequest {
                        operation: access.operation,
                        size: Some(access.size),
                        region: access.region.as_deref(),
                        now_ms: access.time_ms,
                        ..RouteRequest::new(&access.key, &options)
                    };
                    let route = router.route(&request);
                    let known = |name: &String| names.iter().position(|other| *other == name);
                    route.backends.iter().find_map(known).unwrap_or(0)
                }
            };
            let Some(server) = servers.get_mut(backend) else { continue };
            let (done_us, success) = server.serve(now_us, access.size);
            let profile = &server.model.profile;
            let abroad = access.region.is_some()
                && profile.region.is_some()
                && access.region != profile.region;
            cost += profile.prices.operation(access.operation, access.size, abroad);
            failures += u64::from(!success);
            waits_us.push(done_us - now_us);
            let (access_at, began_us) = (i, now_us);
            pending.push(Reverse(Pending {
                done_us,
                access: access_at,
                began_us,
                backend,
                success,
            }));
            let removed = access.operation == Operation::Delete;
            let placed = access.operation == Operation::Write || place.is_none();
            if removed || placed {
                let before = place.map(|place| price(place, access.time_ms, &servers));
                cost += before.unwrap_or(0.0);
            }
            if removed {
                places.remove(access.key.as_str());
            } else if placed && access.operation != Operation::List {
                let stored = Stored { backend, size: access.size, since_ms: access.time_ms };
                places.insert(&access.key, stored);
            }
        }
        cost += places.values().map(|place| price(*place, end_ms, &servers)).sum::<f64>();
        let counts = names.iter().zip(&servers);
        Ok(report(policy, waits_us, failures, cost, counts.map(|(n, s)| ((*n).clone(), s.count))))
    }

    fn check(&self, log: &[Access]) -> Result<()> {
        if self.backends.is_empty() {
            return Err(StorageError::invalid_input("a simulation needs at least one backend"));
        }
        for (name, model) in &self.backends {
            let numbers = [model.service_ms, model.spread, model.ms_per_mb, model.failures];
            let fault = model.profile.fault().or_else(|| {
                if model.workers == 0 {
                    return Some("workers is 0; it must be at least 1".to_owned());
                }
                let factors = model.slow.iter().map(|slow| slow.factor);
                let wrong = |number: f64| !number.is_finite() || number < 0.0;
                let fault = numbers.into_iter().chain(factors).any(wrong);
                fault.then(|| "times, parts and factors must be numbers from 0 on".to_owned())
            });
            if let Some(fault) = fault {
                return Err(StorageError::invalid_input(format!("backend {name:?}: {fault}")));
            }
        }
        match log.windows(2).position(|pair| pair[0].time_ms > pair[1].time_ms) {
            Some(at) => Err(StorageError::invalid_input(format!(
                "access {} of the log is earlier than the one before it; sort the log by time_ms",
                at + 2
            ))),
            None => Ok(()),
        }
    }
}

/// Where an object lies, its bytes, and since when.
#[derive(Clone, Copy)]
struct Stored {
    backend: usize,
    size: u64,
    since_ms: u64,
}

impl Access {
    fn outcome<'a>(&'a self, backend: &'a str, done: &Pending) -> RouteOutcome<'a> {
        RouteOutcome {
            backend,
            namespace: "default",
            key: &self.key,
            operation: self.operation,
            size: self.size,
            region: self.region.as_deref(),
            latency: Duration::from_micros(done.done_us - done.began_us),
            success: done.success,
            now_ms: done.done_us / 1000,
        }
    }
}

fn advance(env: &SimEnv, to_ms: u64) {
    use crate::env::Env as _;
    env.advance_ms(to_ms.saturating_sub(env.now_ms()));
}

fn report(
    policy: &str,
    mut waits_us: Vec<u64>,
    failures: u64,
    cost: f64,
    backends: impl Iterator<Item = (String, u64)>,
) -> Report {
    waits_us.sort_unstable();
    let quantile = |part: f64| {
        let at = ((waits_us.len() as f64 * part).ceil() as usize).saturating_sub(1);
        waits_us.get(at).map_or(0.0, |us| *us as f64 / 1000.0)
    };
    let (p95_ms, p99_ms) = (quantile(0.95), quantile(0.99));
    let sum_us: f64 = waits_us.iter().map(|us| *us as f64).sum();
    Report {
        policy: policy.to_owned(),
        operations: waits_us.len() as u64,
        failures,
        mean_ms: sum_us / 1000.0 / waits_us.len().max(1) as f64,
        p95_ms,
        p99_ms,
        cost,
        backends: backends.collect(),
    }
}

#[cfg(test)]
mod tests;
