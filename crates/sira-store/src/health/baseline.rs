//! How long operations of a backend usually take.

use std::collections::VecDeque;

/// Windows that are remembered. One a minute, that is twelve hours of work.
const WINDOWS_MAX: usize = 720;

/// Windows without which there is nothing to compare with.
const WINDOWS_MIN: usize = 15;

/// Of windows that stand out, one in so many is learned, so that a change that lasts becomes the
/// usual in the end, and an outage does not.
const OUTLIERS_LEARNED: u32 = 10;

/// Smallest spread that is believed, as a natural logarithm: a machine that was very even for a
/// while is not slow for a tenth more.
const SPREAD_MIN: f64 = 0.1;

/// What makes the median of absolute deviations the standard deviation of a normal distribution.
const MAD_TO_SIGMA: f64 = 1.4826;

/// Deviation, in robust standard deviations, from which a window stands out.
const STANDS_OUT: f64 = 4.0;

/// Times of windows of operations, as logarithms: times differ by factors.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Baseline {
    /// Natural logarithms of milliseconds, oldest first.
    windows: VecDeque<f32>,
    /// Windows that stood out since one of them was learned.
    #[serde(default)]
    outliers: u32,
}

/// How a window compares with what is usual.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Deviation {
    /// What is usual, in milliseconds: the median of the windows.
    pub usual_ms: f64,
    /// How many times as long this one took.
    pub factor: f64,
    /// How far it is from the median, in robust standard deviations (median of absolute deviations).
    pub score: f64,
}

impl Baseline {
    /// Windows that are known.
    #[must_use]
    pub fn windows(&self) -> usize {
        self.windows.len()
    }

    /// Compares a window, by the time that stands for it in milliseconds; `None` while too few are
    /// known.
    #[must_use]
    pub fn compare(&self, window_ms: f64) -> Option<Deviation> {
        if self.windows.len() < WINDOWS_MIN {
            return None;
        }
        let mut sorted: Vec<f64> = self.windows.iter().copied().map(f64::from).collect();
        let middle = median(&mut sorted);
        let mut distances: Vec<f64> =
            self.windows.iter().map(|window| (f64::from(*window) - middle).abs()).collect();
        let spread = (median(&mut distances) * MAD_TO_SIGMA).max(SPREAD_MIN);
        let distance = logarithm(window_ms) - middle;
        Some(Deviation { usual_ms: middle.exp(), factor: distance.exp(), score: distance / spread })
    }

    /// Learns a window.
    pub fn learn(&mut self, window_ms: f64) {
        let stands_out = self.compare(window_ms).is_some_and(|it| it.score.abs() > STANDS_OUT);
        if stands_out {
            self.outliers += 1;
            if self.outliers < OUTLIERS_LEARNED {
                return;
            }
        }
        self.outliers = 0;
        if self.windows.len() == WINDOWS_MAX {
            self.windows.pop_front();
        }
        self.windows.push_back(logarithm(window_ms) as f32);
    }
}

fn logarithm(ms: f64) -> f64 {
    // A microsecond is as short as it gets.
    ms.max(1e-3).ln()
}

/// The median, of the upper two where their number is even; 0 of none.
pub(super) fn median(values: &mut [f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}
