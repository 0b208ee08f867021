//! A forecast by the model that would have done best.

use super::backtest::Backtest;
use super::error::CapacityError;
use super::model::{ModelKind, SeasonalModel, Shape, Smoothing, Trend};

/// Samples without which there is no forecast.
pub const SAMPLES_MIN: usize = 16;

/// Samples that models are fitted to; older ones say little of what comes.
const SAMPLES_MAX: usize = 1_024;

/// Places of a series that a forecast is tried at: more of short forecasts, so that enough samples
/// are compared.
const ORIGINS_MIN: usize = 8;
const ORIGINS_MAX: usize = 24;
const COMPARED: usize = 48;

/// Places by which a model is chosen.
const CHOICE_ORIGINS: usize = 6;

/// A model with more parts is chosen only where it is better by this share.
const BETTER: f64 = 0.02;

/// Of a normal distribution, four fifths lie within so many standard deviations.
const WITHIN_80_PERCENT: f64 = 1.281_551_6;

/// What is asked of a forecast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForecastOptions {
    /// Samples to look ahead: the model is chosen by how it does so far ahead.
    pub horizon: usize,
    /// Samples that are forecast by it; no fewer than `horizon`.
    pub points: usize,
    /// Lengths of seasons that may be there, in samples. That there is none is always tried.
    pub seasons: Vec<usize>,
}

/// What is forecast of one sample.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct ForecastPoint {
    /// What is expected.
    pub expected: f64,
    /// It will be below this once in ten times, and above `high` once, if errors stay as they were.
    pub low: f64,
    /// See `low`.
    pub high: f64,
}

/// Where a series is heading.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct SeriesForecast {
    /// Parts of the model that was chosen.
    #[serde(flatten)]
    pub model: ModelKind,
    /// Its parameters.
    pub smoothing: Smoothing,
    /// Known samples that it rests on.
    pub samples: usize,
    /// How forecasts of this series, each with a choice of its own, would have done.
    pub backtest: Backtest,
    /// The samples to come.
    pub points: Vec<ForecastPoint>,
}

/// Forecasts a series of evenly spaced samples, `None` where one is not known. What was never below
/// 0 is not forecast to be.
///
/// The model is the one that would have forecast best in the last quarter of the series: without a
/// season or with one of those asked for, whose ups and downs add up or are factors, without a trend,
/// with a damped one or a linear one. Its error is that of the whole way, the choice included, at places that it had not seen.
///
/// # Errors
/// [`CapacityError::TooLittleHistory`] below [`SAMPLES_MIN`] known samples,
/// [`CapacityError::NotFinite`], and [`CapacityError::NoHorizon`] for a horizon of 0.
pub fn forecast(
    values: &[Option<f64>],
    options: &ForecastOptions,
) -> Result<SeriesForecast, CapacityError> {
    if options.horizon == 0 {
        return Err(CapacityError::NoHorizon);
    }
    let is_wrong = |value: &Option<f64>| value.is_some_and(|value| !value.is_finite());
    if let Some(at) = values.iter().position(is_wrong) {
        return Err(CapacityError::NotFinite { at });
    }
    let first = values.iter().position(Option::is_some).unwrap_or(values.len());
    let begin = first.max(values.len().saturating_sub(SAMPLES_MAX));
    let values = values.get(begin..).unwrap_or_default();
    let samples = values.iter().flatten().count();
    let too_little = CapacityError::TooLittleHistory { samples, needed: SAMPLES_MIN };
    if samples < SAMPLES_MIN {
        return Err(too_little);
    }
    // By a power of two, so that squares stay finite and nothing is rounded.
    let largest = values.iter().flatten().fold(0.0_f64, |most, value| most.max(value.abs()));
    let scale = if largest > 0.0 { 2.0_f64.powi(largest.log2().floor() as i32) } else { 1.0 };
    let scaled: Vec<Option<f64>> =
        values.iter().map(|value| value.map(|value| value / scale)).collect();
    let floor = floor(values);
    let seasons = &options.seasons;
    let predict = |before: &[Option<f64>], horizon: usize| {
        let (model, floor) = (choose(before, horizon, seasons)?, self::floor(before));
        Some(model.ahead(horizon).into_iter().map(|value| value.max(floor)).collect())
    };
    let model = choose(&scaled, options.horizon, seasons).ok_or_else(|| too_little.clone())?;
    let tried = options.horizon.min(scaled.len() / 4).max(1);
    let naive_season = match model.kind().season {
        1 => seasons.iter().copied().find(|it| (2..=scaled.len() / 2).contains(it)).unwrap_or(1),
        season => season,
    };
    let train_min = (scaled.len() / 2).max(SAMPLES_MIN / 2);
    let origins = (COMPARED / tried).clamp(ORIGINS_MIN, ORIGINS_MAX);
    let backtest = Backtest::run(&scaled, train_min, tried, origins, naive_season, predict);
    let backtest = backtest.ok_or(too_little)?;
    let points =
        (1..).zip(model.ahead(options.points.max(options.horizon))).map(|(step, expected)| {
            let off = backtest.deviation(step) * WITHIN_80_PERCENT;
            let at = |value: f64| (value * scale).clamp(floor, f64::MAX);
            ForecastPoint {
                expected: at(expected),
                low: at(expected - off),
                high: at(expected + off),
            }
        });
    Ok(SeriesForecast {
        model: model.kind(),
        smoothing: model.smoothing(),
        samples,
        points: points.collect(),
        backtest,
    })
}

/// What is never below 0 is not expected to be.
fn floor(values: &[Option<f64>]) -> f64 {
    match values.iter().flatten().any(|value| *value < 0.0) {
        true => f64::MIN,
        false => 0.0,
    }
}

/// The model that would have forecast best in the last quarter of a series, fitted to all of it. What
/// is tried is fitted to what was before that quarter.
fn choose(values: &[Option<f64>], horizon: usize, seasons: &[usize]) -> Option<SeasonalModel> {
    let known = values.len() - values.len() / 4;
    let (before, after) = values.split_at(known);
    let none = ModelKind { season: 1, trend: Trend::None, shape: Shape::Additive };
    let mut best = (none, f64::INFINITY);
    let mut tried: Vec<usize> = seasons.iter().copied().filter(|season| *season > 1).collect();
    tried.sort_unstable();
    tried.dedup();
    for season in [1].into_iter().chain(tried) {
        for kind in ModelKind::of_season(season) {
            let Some(model) = SeasonalModel::fit(before, kind) else { continue };
            let error = error(model, after, horizon);
            if error < best.1 * (1.0 - BETTER) || best.1.is_infinite() {
                best = (kind, error);
            }
        }
    }
    SeasonalModel::fit(values, best.0)
}

/// The mean absolute error of a model's forecasts of up to `horizon` samples from several places of
/// what came, of which it sees those before each.
fn error(mut model: SeasonalModel, after: &[Option<f64>], horizon: usize) -> f64 {
    let apart = after.len().div_ceil(CHOICE_ORIGINS).max(1);
    let (mut sum, mut count) = (0.0, 0_usize);
    for (at, value) in after.iter().enumerate() {
        if at % apart == 0 {
            let rest = after.get(at..).unwrap_or_default();
            let said = model.ahead(horizon.min(rest.len()));
            for (said, came) in said.iter().zip(rest) {
                if let Some(came) = came {
                    sum += (said - came).abs();
                    count += 1;
                }
            }
        }
        model.observe(*value);
    }
    if count == 0 { f64::INFINITY } else { sum / count as f64 }
}
