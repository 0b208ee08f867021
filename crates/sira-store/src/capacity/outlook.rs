//! When something is full.

use std::time::Duration;

use super::backtest::Backtest;
use super::error::CapacityError;
use super::forecast::{ForecastOptions, SeriesForecast, forecast};
use super::model::{ModelKind, Shape, Smoothing, Trend};
use super::series::UsageSeries;

const DAY_MS: f64 = 24.0 * 3_600_000.0;

/// A forecast looks so many times as far ahead as the history goes back at most, and when something
/// is full is looked for no further than [`LOOK_AHEAD_DAYS_MAX`].
const LOOK_AHEAD: usize = 10;
const LOOK_AHEAD_DAYS_MAX: f64 = 5.0 * 365.0;

/// Samples that a forecast looks ahead at most.
const STEPS_MAX: usize = 20_000;

/// Where use is heading.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Outlook {
    /// Bytes that come a day, as the mean over the horizon; less than 0 where it shrinks.
    pub growth_bytes_per_day: f64,
    /// When it is full; `None` where it is not told how much room there is.
    pub days_until_full: Option<DaysUntilFull>,
    /// How far the points look, in days: to the horizon, or ten times as far as the history goes back.
    pub ahead_days: f64,
    /// How far the samples, and the points, are apart.
    pub step_ms: u64,
    /// The model and how it did in the past; points are in `points` of this.
    pub forecast: ModelReport,
    /// What is expected.
    pub points: Vec<OutlookPoint>,
}

/// When something is full, in days from now.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct DaysUntilFull {
    /// When it is expected; `None` where it is not within `looked_ahead`.
    pub expected: Option<f64>,
    /// It will be full before this once in ten times.
    pub earliest: Option<f64>,
    /// It will be full after this once in ten times; `None` where it may well not be.
    pub latest: Option<f64>,
    /// How far was looked.
    pub looked_ahead: f64,
}

/// The model that was chosen, and how it would have done.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ModelReport {
    /// Samples of a season; 1 for none.
    pub season: usize,
    /// `none`, `damped` or `linear`.
    pub trend: Trend,
    /// `additive` or `multiplicative`.
    pub shape: Shape,
    /// Its parameters.
    pub smoothing: Smoothing,
    /// Known samples that it rests on.
    pub samples: usize,
    /// What it would have said in the past.
    pub backtest: Backtest,
}

impl From<SeriesForecast> for ModelReport {
    fn from(forecast: SeriesForecast) -> Self {
        let SeriesForecast { model, smoothing, samples, backtest, .. } = forecast;
        let ModelKind { season, trend, shape } = model;
        Self { season, trend, shape, smoothing, samples, backtest }
    }
}

/// What is expected at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct OutlookPoint {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Bytes in use that are expected.
    pub expected_bytes: u64,
    /// It will be less once in ten times, and more than `high_bytes` once.
    pub low_bytes: u64,
    /// See `low_bytes`.
    pub high_bytes: u64,
}

/// Where the use of something is heading that can hold `available_bytes` more than it does now.
///
/// # Errors
/// As [`forecast`].
pub fn outlook(
    series: &UsageSeries,
    available_bytes: Option<u64>,
    horizon: Duration,
    now_ms: u64,
) -> Result<Outlook, CapacityError> {
    let horizon_ms = u64::try_from(horizon.as_millis()).unwrap_or(u64::MAX);
    let history = series.used_bytes(horizon_ms, now_ms)?;
    let step_days = history.step_ms as f64 / DAY_MS;
    // From the last sample, not from now.
    let until_ms = now_ms.saturating_add(horizon_ms).saturating_sub(history.last_ms);
    let steps = usize::try_from(until_ms.div_ceil(history.step_ms.max(1))).unwrap_or(usize::MAX);
    let believed = history.values.len().saturating_mul(LOOK_AHEAD).clamp(1, STEPS_MAX);
    let steps = steps.clamp(1, believed);
    let far = believed.min((LOOK_AHEAD_DAYS_MAX / step_days) as usize).clamp(steps, STEPS_MAX);
    // The model is chosen for the horizon, and then asked for what lies further.
    let seasons = history.seasons.clone();
    let options = ForecastOptions { horizon: steps, points: far, seasons };
    let forecast = forecast(&history.values, &options)?;
    let at_ms = |step: usize| {
        let ahead = history.step_ms.saturating_mul(step as u64 + 1);
        history.last_ms.saturating_add(ahead)
    };
    let days_from_now = |at_ms: f64| (at_ms - now_ms as f64) / DAY_MS;
    let newest = series.newest().map_or(0, |sample| sample.used_bytes);
    let days_until_full = available_bytes.map(|available| {
        let full = newest.saturating_add(available) as f64;
        let when = |of: &dyn Fn(usize) -> Option<f64>| {
            let mut before = newest as f64;
            for step in 0..far {
                let bytes = of(step)?;
                if bytes >= full {
                    // In between, as on a line.
                    let part =
                        if bytes > before { (full - before) / (bytes - before) } else { 1.0 };
                    let at = at_ms(step) as f64 - (1.0 - part) * history.step_ms as f64;
                    return Some(days_from_now(at).max(0.0));
                }
                before = bytes;
            }
            None
        };
        DaysUntilFull {
            expected: when(&|step| forecast.points.get(step).map(|it| it.expected)),
            earliest: when(&|step| forecast.points.get(step).map(|it| it.high)),
            latest: when(&|step| forecast.points.get(step).map(|it| it.low)),
            looked_ahead: days_from_now(at_ms(far - 1) as f64).max(0.0),
        }
    });
    let bytes = |value: f64| value.round() as u64;
    let points: Vec<OutlookPoint> = forecast
        .points
        .iter()
        .take(steps)
        .enumerate()
        .map(|(step, point)| OutlookPoint {
            at_ms: at_ms(step),
            expected_bytes: bytes(point.expected),
            low_bytes: bytes(point.low),
            high_bytes: bytes(point.high),
        })
        .collect();
    let last_known = history.values.iter().rev().find_map(|value| *value).unwrap_or(0.0);
    let expected = |step: usize| forecast.points.get(step).map_or(last_known, |it| it.expected);
    // Over whole seasons, so that their ups and downs are no growth.
    let span = (steps - 1) / forecast.model.season * forecast.model.season;
    let growth = match span {
        0 => (expected(steps - 1) - last_known) / steps as f64,
        span => (expected(steps - 1) - expected(steps - 1 - span)) / span as f64,
    };
    Ok(Outlook {
        growth_bytes_per_day: growth / step_days,
        days_until_full,
        ahead_days: days_from_now(at_ms(steps - 1) as f64).max(0.0),
        step_ms: history.step_ms,
        forecast: forecast.into(),
        points,
    })
}
