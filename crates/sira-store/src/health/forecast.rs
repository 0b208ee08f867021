//! When a backend will be full.

use super::baseline::median;

/// Samples that are kept. When there are more, every second one of the older half goes.
const SAMPLES_MAX: usize = 512;

/// Samples closer than this to the one before replace it.
const SAMPLE_EVERY_MS: u64 = 5 * 60 * 1000;

/// What is older says nothing of the next weeks.
const TREND_MS: u64 = 28 * 24 * 60 * 60 * 1000;

/// Samples without which there is no trend.
const SAMPLES_MIN: usize = 6;

/// Samples that a trend is reckoned from, spread over the time: the work grows with their square.
const TREND_SAMPLES: usize = 96;

const DAY_MS: f64 = 24.0 * 60.0 * 60.0 * 1000.0;

/// A trend is believed for this many times as long as it was watched.
const BELIEVED: f64 = 30.0;

/// How much of a backend was in use, and when.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct UsageHistory {
    /// Milliseconds since the Unix epoch and bytes in use, oldest first.
    samples: Vec<(u64, u64)>,
}

/// Where the use of a backend is heading.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Forecast {
    /// Bytes that come to it a day; less than 0 where it shrinks.
    pub bytes_per_day: f64,
    /// Days until it is full, if it goes on so; `None` where it will not be, or not within the time
    /// that the trend is believed for.
    pub days_until_full: Option<f64>,
    /// Days over which the trend was watched.
    pub days_watched: f64,
}

impl UsageHistory {
    /// Samples that are kept.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.samples.len()
    }

    /// Adds what is in use now. A clock that was set back begins a new history where it is.
    pub fn record(&mut self, now_ms: u64, used_bytes: u64) {
        self.samples.retain(|(at, _)| *at <= now_ms);
        let last_two = self.samples.len().checked_sub(2).and_then(|at| self.samples.get(at));
        if let Some((before, _)) = last_two
            && now_ms - before < SAMPLE_EVERY_MS
        {
            self.samples.pop();
        }
        self.samples.push((now_ms, used_bytes));
        if self.samples.len() > SAMPLES_MAX {
            let older = SAMPLES_MAX / 2;
            let mut place = 0;
            self.samples.retain(|_| {
                place += 1;
                place > older || place % 2 == 1
            });
        }
    }

    /// The trend: the median of the slopes between all pairs of samples (Theil and Sen), which a
    /// third of wrong samples, such as a migration's peak, does not move. `available_bytes` is what
    /// can still be written now. `None` while there are too few samples.
    #[must_use]
    pub fn forecast(&self, available_bytes: Option<u64>) -> Option<Forecast> {
        let (newest, _) = *self.samples.last()?;
        let recent: Vec<(u64, u64)> =
            self.samples.iter().filter(|(at, _)| newest - at <= TREND_MS).copied().collect();
        if recent.len() < SAMPLES_MIN {
            return None;
        }
        let step = recent.len().div_ceil(TREND_SAMPLES);
        // The newest one is always among them.
        let chosen: Vec<(u64, u64)> = recent.iter().rev().step_by(step).copied().collect();
        let mut slopes = Vec::with_capacity(chosen.len() * chosen.len() / 2);
        for (at, (later, more)) in chosen.iter().enumerate() {
            for (earlier, less) in chosen.iter().skip(at + 1) {
                let days = later.saturating_sub(*earlier) as f64 / DAY_MS;
                if days > 0.0 {
                    slopes.push((*more as f64 - *less as f64) / days);
                }
            }
        }
        if slopes.is_empty() {
            return None;
        }
        let bytes_per_day = median(&mut slopes);
        let oldest = recent.first().map_or(newest, |(at, _)| *at);
        let days_watched = (newest - oldest) as f64 / DAY_MS;
        let days_until_full = available_bytes
            .filter(|_| bytes_per_day > 0.0)
            .map(|available| available as f64 / bytes_per_day)
            .filter(|days| *days <= days_watched * BELIEVED);
        Some(Forecast { bytes_per_day, days_until_full, days_watched })
    }
}
