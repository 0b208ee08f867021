//! Places by the load that is about to come.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::env::Env;

use super::hash::{Dice, stable_hash};
use super::in_flight::InFlight;
use super::performance::{expected_ms, to_try};
use super::request::{Route, RouteOutcome, RouteRequest};
use super::stats::RoutingStats;
use super::strategy::{RoutingStrategy, simple_form};

/// Forecasts the load by the time of day and fills the fastest backends only as far as they carry
/// it: a backend is relieved before it is saturated.
///
/// Operations are counted in buckets of time. Their number is forecast by level, trend and season
/// (Holt 1957, Winters 1960, the additive form). Backends are then filled from the fastest on, each
/// up to a part of the [`operations_per_s_max`](super::BackendProfile::operations_per_s_max) of its
/// profile; one without that figure takes all that is left. A burst counts from its first operation
/// on, and goes to the backend that is furthest behind its share.
///
/// No forecast sees a burst that is shorter than a bucket. Where so much is under way on the chosen
/// backend that an operation would wait there, it goes where it is done first, by what each carries
/// and has under way, and by how much longer than that operations took of late.
#[derive(Debug)]
pub struct Predictive {
    dice: Dice,
    target: f64,
    forecast: Mutex<Forecast>,
    in_flight: InFlight,
    paces: Mutex<BTreeMap<String, Pace>>,
}

/// How a backend works off what it has.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// What an operation takes that does not wait, in milliseconds.
    alone_ms: f64,
    /// Operations a second, where the profile tells.
    per_second: Option<f64>,
    /// How many times as long as that operations took of late, and when that was seen.
    slowness: f64,
    at_ms: u64,
}

/// Slowness that counts.
const SLOW: f64 = 1.5;
/// Part that an observation has in the slowness.
const SLOWNESS: f64 = 0.1;
/// Time after which half of a slowness is forgotten: a backend is tried again.
const SLOWNESS_HALF_LIFE_MS: f64 = 2_000.0;

impl Pace {
    /// When an operation would be done if so many others are under way, by the profile: after what
    /// it takes alone, or after the others.
    fn told_ms(&self, others: usize) -> f64 {
        let queue_ms = self.per_second.map_or(0.0, |most| (others + 1) as f64 / most * 1000.0);
        self.alone_ms.max(queue_ms)
    }

    fn slowness_at(&self, now_ms: u64) -> f64 {
        let passed_ms = now_ms.saturating_sub(self.at_ms) as f64;
        1.0 + (self.slowness - 1.0) * (-passed_ms / SLOWNESS_HALF_LIFE_MS).exp2()
    }

    fn see(&mut self, took_ms: f64, others: usize, now_ms: u64) {
        let ratio = took_ms / self.told_ms(others).max(1e-3);
        let before = self.slowness_at(now_ms);
        (self.slowness, self.at_ms) = (before + SLOWNESS * (ratio - before), now_ms);
    }
}

/// Part of the requests that goes to a backend of which little is known.
const EXPLORE: f64 = 0.01;
/// How quickly level, trend and season follow what is seen.
const LEVEL: f64 = 0.3;
const TREND: f64 = 0.05;
const SEASON: f64 = 0.4;
/// A burst is seen for what it is in such a part of a bucket.
const BURST_PARTS: u64 = 100;
/// Empty buckets past that many are not counted one by one: the level is what matters then.
const GAP_MAX: u64 = 10_000;

#[derive(Debug)]
struct Forecast {
    bucket_ms: u64,
    /// What each bucket of a period is above the level, and whether it was seen.
    season: Vec<Option<f64>>,
    level: Option<f64>,
    trend: f64,
    /// Number of the bucket that is being counted.
    current: Option<u64>,
    /// Operations in it that were sent, and that have ended: others send some past this strategy.
    sent: u64,
    ended: u64,
    /// What each backend was sent of late, and when it was counted.
    shares: BTreeMap<String, (f64, u64)>,
}

impl Forecast {
    fn new(bucket_ms: u64, period: usize) -> Self {
        Self {
            bucket_ms: bucket_ms.max(1),
            season: vec![None; period.max(1)],
            level: None,
            trend: 0.0,
            current: None,
            sent: 0,
            ended: 0,
            shares: BTreeMap::new(),
        }
    }

    fn place(&self, bucket: u64) -> usize {
        (bucket % self.season.len() as u64) as usize
    }

    fn season_of(&self, bucket: u64) -> f64 {
        self.season.get(self.place(bucket)).copied().flatten().unwrap_or(0.0)
    }

    /// Ends the buckets before that of `now_ms`.
    fn roll(&mut self, now_ms: u64) {
        let bucket = now_ms / self.bucket_ms;
        let current = *self.current.get_or_insert(bucket);
        if bucket <= current {
            return;
        }
        self.close(current, self.count() as f64);
        let from = (current + 1).max(bucket.saturating_sub(GAP_MAX));
        for empty in from..bucket {
            self.close(empty, 0.0);
        }
        (self.current, self.sent, self.ended) = (Some(bucket), 0, 0);
    }

    fn count(&self) -> u64 {
        self.sent.max(self.ended)
    }

    /// Of what each backend's share is, the one that is furthest behind it of late; it is sent one
    /// more.
    fn send(&mut self, names: &[&str], shares: &[f64], now_ms: u64) -> Option<usize> {
        let half_life_ms = (self.bucket_ms / 10).max(1) as f64;
        let of_late = |(sent, at_ms): (f64, u64)| {
            sent * (-(now_ms.saturating_sub(at_ms) as f64) / half_life_ms).exp2()
        };
        let behind = |at: usize, share: f64| {
            let sent = names.get(at).and_then(|name| self.shares.get(*name));
            (sent.copied().map_or(0.0, of_late) + 1.0) / share
        };
        let parts = shares.iter().enumerate().filter(|(_, share)| **share > 0.0);
        let chosen = parts.map(|(at, share)| (at, behind(at, *share)));
        let (at, _) = chosen.min_by(|a, b| a.1.total_cmp(&b.1))?;
        self.shares.retain(|name, _| names.contains(&name.as_str()));
        let name = (*names.get(at)?).to_owned();
        let sent = self.shares.entry(name).or_default();
        *sent = (of_late(*sent) + 1.0, now_ms);
        self.sent += 1;
        Some(at)
    }

    fn close(&mut self, bucket: u64, seen: f64) {
        let at = self.place(bucket);
        let Some(level) = self.level else {
            self.level = Some(seen);
            return;
        };
        let season = self.season_of(bucket);
        let next = LEVEL * (seen - season) + (1.0 - LEVEL) * (level + self.trend);
        self.trend = TREND * (next - level) + (1.0 - TREND) * self.trend;
        self.level = Some(next);
        if let Some(slot) = self.season.get_mut(at) {
            *slot = Some(match *slot {
                Some(season) => SEASON * (seen - next) + (1.0 - SEASON) * season,
                None => seen - next,
            });
        }
    }

    /// Operations a second to expect in the bucket of `now_ms` or the next one, whichever has more,
    /// and at least what the current bucket has shown already.
    fn per_second(&self, now_ms: u64) -> f64 {
        let bucket = now_ms / self.bucket_ms;
        let level = self.level.unwrap_or(0.0);
        let of =
            |ahead: u64| level + self.trend * (ahead + 1) as f64 + self.season_of(bucket + ahead);
        let expected = of(0).max(of(1)).max(0.0);
        let passed_ms = (now_ms % self.bucket_ms).max(self.bucket_ms / BURST_PARTS).max(1);
        let shown = self.count() as f64 / passed_ms as f64;
        (expected / self.bucket_ms as f64).max(shown) * 1000.0
    }
}

impl Predictive {
    /// A forecast over a day in minutes, that fills backends to 7 tenths of what they carry.
    #[must_use]
    pub fn new(env: &dyn Env) -> Self {
        Self {
            dice: Dice::new(env),
            target: 0.7,
            forecast: Mutex::new(Forecast::new(60_000, 24 * 60)),
            in_flight: InFlight::default(),
            paces: Mutex::default(),
        }
    }

    /// Sets the length of a bucket, in milliseconds, and the buckets after which the load repeats.
    /// What was learned is dropped.
    #[must_use]
    pub fn with_season(mut self, bucket_ms: u64, period: usize) -> Self {
        self.forecast = Mutex::new(Forecast::new(bucket_ms, period));
        self
    }

    /// Sets the part, from 0 to 1, of what a backend carries that it is filled to.
    #[must_use]
    pub fn with_target(mut self, part: f64) -> Self {
        self.target = part.clamp(0.01, 1.0);
        self
    }

    /// Operations a second that are expected now.
    #[must_use]
    pub fn expected_per_s(&self, now_ms: u64) -> f64 {
        let mut forecast = self.forecast.lock();
        forecast.roll(now_ms);
        forecast.per_second(now_ms)
    }
}

impl Predictive {
    /// What an operation takes alone on a backend, and when it would be done with what is under way,
    /// in milliseconds.
    fn expect(
        &self,
        measured_ms: f64,
        name: &str,
        stats: &RoutingStats,
        now_ms: u64,
    ) -> (f64, f64) {
        let profile = stats.get(name).map(|backend| &backend.profile);
        // What was measured has waited in queues: the profile tells what it takes without.
        let told = profile.map_or(0.0, |profile| profile.latency_ms);
        let alone_ms = if told > 0.0 { told } else { measured_ms };
        let per_second = profile.and_then(|profile| profile.operations_per_s_max);
        let others = self.in_flight.count(name, now_ms);
        let mut paces = self.paces.lock();
        paces.retain(|known, _| stats.get(known).is_some());
        let new = Pace { alone_ms, per_second, slowness: 1.0, at_ms: now_ms };
        let pace = paces.entry(name.to_owned()).or_insert(new);
        (pace.alone_ms, pace.per_second) = (alone_ms, per_second);
        // None is quicker than its profile, and operations differ: a little slowness is none.
        let slowness = pace.slowness_at(now_ms);
        let slowness = if slowness > SLOW { slowness } else { 1.0 };
        (alone_ms, pace.told_ms(others) * slowness)
    }
}

/// The backend that an operation goes to in place of the chosen one, if it would wait there.
fn relieved(alone_ms: &[f64], done_ms: &[f64], chosen: Option<usize>) -> Option<usize> {
    let at = chosen?;
    if done_ms.get(at)? <= alone_ms.get(at)? {
        return chosen;
    }
    let soonest = done_ms.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1));
    soonest.map(|(at, _)| at)
}

/// Each backend's part of the load, from 0 to 1, for backends in the order in which they are filled
/// and the operations a second that each takes. Where all are full, the rest is shared by size.
fn shares(load: f64, room: &[f64]) -> Vec<f64> {
    let total: f64 = room.iter().sum();
    if load >= total && total > 0.0 {
        return room.iter().map(|room| room / total).collect();
    }
    let mut left = 1.0_f64;
    room.iter()
        .map(|room| {
            let share = if load > 0.0 { (room / load).min(left) } else { left };
            left -= share;
            share
        })
        .collect()
}

impl RoutingStrategy for Predictive {
    fn name(&self) -> &str {
        "predictive"
    }

    simple_form!();

    fn route(&self, request: &RouteRequest<'_>, stats: &RoutingStats) -> Option<Route> {
        let ranked = request.ranked(stats, |_, backend| {
            let measured = expected_ms(backend, 0.0);
            backend.profile.takes(request.size).then(|| measured.max(backend.profile.latency_ms))
        });
        let room: Vec<f64> = ranked
            .iter()
            .filter_map(|(_, name)| stats.get(name))
            .map(|b| b.profile.operations_per_s_max.map_or(1e12, |max| max * self.target))
            .collect();
        let mut names: Vec<&str> = ranked.iter().map(|(_, name)| *name).collect();
        let mut forecast = self.forecast.lock();
        forecast.roll(request.now_ms);
        let load = forecast.per_second(request.now_ms);
        let shares = shares(load, &room);
        let chosen = match request.explain {
            true => shares.iter().position(|share| *share > 0.0),
            false => forecast.send(&names, &shares, request.now_ms),
        };
        drop(forecast);
        let (alone_ms, done_ms): (Vec<f64>, Vec<f64>) = ranked
            .iter()
            .map(|(measured, name)| self.expect(*measured, name, stats, request.now_ms))
            .unzip();
        let chosen = relieved(&alone_ms, &done_ms, chosen);
        let reason = || {
            let parts: Vec<String> = names
                .iter()
                .zip(&shares)
                .map(|(name, share)| format!("{name} {:.0}%", share * 100.0))
                .collect();
            format!("{load:.0} operations a second are expected: {}", parts.join(", "))
        };
        let reason = request.reason(reason);
        let tried = to_try(&ranked, request, stats, &self.dice, EXPLORE);
        names.get_mut(..=tried.or(chosen).unwrap_or(0))?.rotate_right(1);
        if let (false, Some(first)) = (request.explain, names.first()) {
            let key = stable_hash(&[request.namespace, request.key]);
            self.in_flight.begin(first, key, request.now_ms);
        }
        Some(Route::to(names).because(reason))
    }

    fn observe(&self, outcome: &RouteOutcome<'_>) {
        let mut forecast = self.forecast.lock();
        forecast.roll(outcome.now_ms);
        forecast.ended += 1;
        drop(forecast);
        let key = stable_hash(&[outcome.namespace, outcome.key]);
        let Some(others) = self.in_flight.end_known(outcome.backend, key) else { return };
        if let Some(pace) = self.paces.lock().get_mut(outcome.backend) {
            pace.see(outcome.latency.as_secs_f64() * 1000.0, others, outcome.now_ms);
        }
    }
}

#[cfg(test)]
mod tests;
