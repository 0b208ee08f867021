//! How use grows, when it fills what there is, and what it costs.
//!
//! What is here is reckoning without clocks, tasks or requests. A [`UsageSeries`] keeps evenly spaced
//! samples, an hour apart for weeks and a day apart for more than a year; a [`UsageStore`] keeps
//! series over restarts. [`forecast`] chooses a model of exponential smoothing by what it would have
//! said in the past, and tells how far that was off ([`Backtest`]) beside forecasts that need no
//! model. [`outlook`] says when a backend is full, and [`Bill`] what storage and operations cost.

mod backtest;
mod bill;
mod error;
mod forecast;
mod model;
mod outlook;
mod series;
mod store;

pub use backtest::{Accuracy, Backtest, Fold};
pub use bill::{Bill, Consumption, CostSettings, PriceList};
pub use error::CapacityError;
pub use forecast::{ForecastOptions, ForecastPoint, SAMPLES_MIN, SeriesForecast, forecast};
pub use model::{ModelKind, SeasonalModel, Shape, Smoothing, Trend};
pub use outlook::{DaysUntilFull, ModelReport, Outlook, OutlookPoint, outlook};
pub use series::{Resolution, UsageSample, UsageSeries};
pub use store::{UsageOf, UsageStore};

#[cfg(test)]
mod tests;
