//! Evenly spaced samples of use, over more than a year.

use std::collections::VecDeque;

use super::error::CapacityError;
use super::forecast::SAMPLES_MIN;

/// Samples that are kept as they come: six weeks of one an hour.
const FINE_SAMPLES_MAX: usize = 1_024;

/// Days that are kept.
const DAYS_MAX: usize = 400;

/// Milliseconds of an hour, a day and a week.
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
const WEEK_MS: u64 = 7 * DAY_MS;

/// Days without which a forecast is made from the samples as they come.
const DAYS_MIN: usize = 28;

/// A forecast that looks no further is made from the samples as they come.
const NEAR_MS: u64 = WEEK_MS;

/// What was in use at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(from = "(u64, Option<u64>, u64)", into = "(u64, Option<u64>, u64)")]
pub struct UsageSample {
    /// Bytes in use.
    pub used_bytes: u64,
    /// Objects, where they were counted.
    pub objects: Option<u64>,
    /// Operations since the sample before.
    pub operations: u64,
}

impl From<(u64, Option<u64>, u64)> for UsageSample {
    fn from((used_bytes, objects, operations): (u64, Option<u64>, u64)) -> Self {
        Self { used_bytes, objects, operations }
    }
}

impl From<UsageSample> for (u64, Option<u64>, u64) {
    fn from(sample: UsageSample) -> Self {
        (sample.used_bytes, sample.objects, sample.operations)
    }
}

/// How far samples are apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// As they came.
    Fine,
    /// A day.
    Days,
}

/// Samples at one distance. Each slot of time has the last sample that came in it.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
struct Slots {
    /// Length of a slot.
    step_ms: u64,
    /// Number of the first slot: its begin since the Unix epoch, in slots.
    first: u64,
    /// What came in each, `None` where nothing did.
    samples: VecDeque<Option<UsageSample>>,
}

impl Slots {
    fn record(&mut self, step_ms: u64, at_ms: u64, sample: UsageSample, samples_max: usize) {
        if self.step_ms != step_ms {
            self.regrid(step_ms, samples_max);
        }
        let slot = at_ms / step_ms;
        let is_apart = slot
            .checked_sub(self.first)
            .is_none_or(|at| at >= (self.samples.len() + samples_max) as u64);
        if self.samples.is_empty() || is_apart {
            self.samples.clear();
            self.first = slot;
        }
        let place = (slot - self.first) as usize;
        // A clock that was set back begins again where it is.
        self.samples.resize(place + 1, None);
        if let Some(kept) = self.samples.back_mut() {
            let before = kept.map_or(0, |kept| kept.operations);
            let operations = before.saturating_add(sample.operations);
            let objects = sample.objects.or(kept.and_then(|kept| kept.objects));
            *kept = Some(UsageSample { objects, operations, ..sample });
        }
        while self.samples.len() > samples_max {
            self.samples.pop_front();
            self.first = self.first.saturating_add(1);
        }
    }

    /// The same samples in slots of another length.
    fn regrid(&mut self, step_ms: u64, samples_max: usize) {
        let before = std::mem::replace(self, Self { step_ms, ..Self::default() });
        for (place, sample) in before.samples.iter().enumerate() {
            if let Some(sample) = sample {
                self.record(step_ms, before.begin_ms(place), *sample, samples_max);
            }
        }
    }

    /// When the slot of this place begins.
    fn begin_ms(&self, place: usize) -> u64 {
        self.first.saturating_add(place as u64).saturating_mul(self.step_ms)
    }
}

/// Samples of what was in use: as they came for weeks, and one a day for more than a year.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct UsageSeries {
    fine: Slots,
    days: Slots,
}

/// Evenly spaced values.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Values {
    /// How far they are apart.
    pub(super) step_ms: u64,
    /// When the last one was.
    pub(super) last_ms: u64,
    /// The values, `None` where one is not known.
    pub(super) values: Vec<Option<f64>>,
    /// Lengths of seasons that may be there, in values.
    pub(super) seasons: Vec<usize>,
}

impl UsageSeries {
    /// Adds what is in use now to samples that are to be `step_ms` apart. A sample replaces one of
    /// the same slot, and adds its operations to it. Samples that were further or less apart are
    /// taken over; a clock that was set back begins a new history where it is.
    pub fn record(&mut self, step_ms: u64, now_ms: u64, sample: UsageSample) {
        self.fine.record(step_ms.max(1), now_ms, sample, FINE_SAMPLES_MAX);
        self.days.record(DAY_MS, now_ms, sample, DAYS_MAX);
    }

    /// The newest sample.
    #[must_use]
    pub fn newest(&self) -> Option<UsageSample> {
        self.fine.samples.back().copied().flatten()
    }

    /// Known samples of a resolution.
    #[must_use]
    pub fn samples(&self, resolution: Resolution) -> usize {
        let slots = match resolution {
            Resolution::Fine => &self.fine,
            Resolution::Days => &self.days,
        };
        slots.samples.iter().flatten().count()
    }

    /// Bytes that came a day over the last week, or over as much of it as is known; `None` for less
    /// than a day.
    #[must_use]
    pub fn grown_bytes_per_day(&self) -> Option<f64> {
        let slots = match self.fine.step_ms {
            0..=DAY_MS => &self.fine,
            _ => &self.days,
        };
        let newest = self.newest()?;
        let last = slots.samples.len().checked_sub(1)?;
        let week = usize::try_from(WEEK_MS / slots.step_ms.max(1)).unwrap_or(usize::MAX);
        let from = last.saturating_sub(week);
        let known = slots.samples.iter().enumerate().skip(from);
        let (at, oldest) = known.filter_map(|(at, it)| Some((at, (*it)?))).next()?;
        let days = (last - at) as f64 * slots.step_ms as f64 / DAY_MS as f64;
        (days >= 1.0).then(|| (newest.used_bytes as f64 - oldest.used_bytes as f64) / days)
    }

    /// The bytes in use as a forecast that looks so far takes them: samples as they came, where it
    /// looks a week ahead at most or little else is known, else days, of which the one under way is
    /// left out.
    pub(super) fn used_bytes(&self, ahead_ms: u64, now_ms: u64) -> Result<Values, CapacityError> {
        let is_over = self.days.begin_ms(self.days.samples.len()) <= now_ms;
        let days = self.days.samples.len().saturating_sub(usize::from(!is_over));
        let by_days = days >= DAYS_MIN && (ahead_ms > NEAR_MS || self.fine.step_ms >= DAY_MS);
        // A day has its last sample, others are taken when their slot begins.
        let (slots, count, ends) = match by_days {
            true => (&self.days, days, 1),
            false => (&self.fine, self.fine.samples.len(), 0),
        };
        let Some(last) = count.checked_sub(1).filter(|_| slots.step_ms > 0) else {
            return Err(CapacityError::TooLittleHistory { samples: 0, needed: SAMPLES_MIN });
        };
        let used = |sample: &Option<UsageSample>| sample.map(|sample| sample.used_bytes as f64);
        // A season is a whole number of slots, and more than one.
        let slots_of = |ms: u64| {
            let whole = ms.is_multiple_of(slots.step_ms) && ms > slots.step_ms;
            whole.then(|| usize::try_from(ms / slots.step_ms).ok()).flatten()
        };
        Ok(Values {
            step_ms: slots.step_ms,
            last_ms: slots.begin_ms(last + ends),
            values: slots.samples.iter().take(count).map(used).collect(),
            seasons: [DAY_MS, WEEK_MS].into_iter().filter_map(slots_of).collect(),
        })
    }
}
