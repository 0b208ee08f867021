use std::time::Duration;

use super::*;

mod model;
mod real;
mod usage;

/// Numbers that look random, from 0 to 1.
fn noise(n: usize) -> f64 {
    let mixed = (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 11) as f64 / (1u64 << 53) as f64
}

fn known(values: impl IntoIterator<Item = f64>) -> Vec<Option<f64>> {
    values.into_iter().map(Some).collect()
}

fn ask(horizon: usize, seasons: &[usize]) -> ForecastOptions {
    ForecastOptions { horizon, points: horizon, seasons: seasons.to_vec() }
}

/// A day's shape of 24 samples over a growth, with noise of a share of it.
fn daily(at: usize, off: f64) -> f64 {
    let hour = at as f64 % 24.0;
    let day =
        (hour / 24.0 * std::f64::consts::TAU).sin() * 30.0 + if hour > 18.0 { 20.0 } else { 0.0 };
    (200.0 + 0.5 * at as f64 + day) * (1.0 + off * (noise(at) - 0.5))
}

fn days(count: u64) -> Duration {
    Duration::from_secs(count * 86_400)
}
