//! What a forecast would have said in the past, and how far it would have been off.

/// How far forecasts were from what came.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize)]
pub struct Accuracy {
    /// 1 less the weighted absolute percentage error: 1 is a forecast that was right, below 0 one that
    /// was off by more than what it forecast. `None` where everything that came was 0.
    pub accuracy: Option<f64>,
    /// Weighted absolute percentage error: the sum of the errors over the sum of what came.
    pub wape: Option<f64>,
    /// Mean absolute percentage error, of the samples that were not 0.
    pub mape: Option<f64>,
}

/// One forecast of the past.
#[derive(Debug, Clone, PartialEq)]
pub struct Fold {
    /// Samples that it was made from: those before this one.
    pub origin: usize,
    /// What it said of the samples from there on.
    pub forecast: Vec<f64>,
}

/// Forecasts from several places of a series (rolling origin), each made from what was before its
/// place alone, and compared with what came.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Backtest {
    /// Samples that each forecast looks ahead.
    pub horizon: usize,
    /// Forecasts that were made.
    pub origins: usize,
    /// Samples that they were compared with.
    pub compared: usize,
    /// How far the forecasts were off.
    #[serde(flatten)]
    pub model: Accuracy,
    /// How far the last known sample, repeated, was off.
    pub naive: Accuracy,
    /// How far the last season, repeated, was off, where there is a season.
    pub seasonal_naive: Option<Accuracy>,
    /// The forecasts.
    #[serde(skip)]
    pub folds: Vec<Fold>,
    /// Mean squared error at the first step, and what each further step adds.
    #[serde(skip)]
    spread: (f64, f64),
}

impl Backtest {
    /// Has `predict` forecast `horizon` samples from up to `origins` places of a series, the last of
    /// which is `horizon` before its end and the first after `train_min` samples. It is given the
    /// samples before the place, and how many to forecast; a place where it answers `None` is left
    /// out. `season` is that of the seasonal naive forecast; 1 for none.
    ///
    /// `None` where nothing could be compared.
    #[must_use]
    pub fn run(
        values: &[Option<f64>],
        train_min: usize,
        horizon: usize,
        origins: usize,
        season: usize,
        predict: impl Fn(&[Option<f64>], usize) -> Option<Vec<f64>>,
    ) -> Option<Self> {
        let last = values.len().checked_sub(horizon).filter(|last| *last >= train_min)?;
        let apart = (last - train_min) / origins.saturating_sub(1).max(1);
        let apart = apart.clamp(1, horizon.max(1));
        let mut sums = [Sums::default(), Sums::default(), Sums::default()];
        let mut squares = vec![(0.0, 0_usize); horizon];
        let mut folds = Vec::new();
        for back in 0..origins {
            let Some(origin) = last.checked_sub(back * apart).filter(|at| *at >= train_min) else {
                break;
            };
            let (before, after) = values.split_at(origin);
            let Some(forecast) = predict(before, horizon) else { continue };
            for (step, came) in after.iter().take(horizon).enumerate() {
                let (Some(came), Some(said)) = (came, forecast.get(step)) else { continue };
                let naive = last_known(before, 1, 0).unwrap_or(0.0);
                let seasonal = last_known(before, season, step).unwrap_or(naive);
                for (sums, said) in sums.iter_mut().zip([*said, naive, seasonal]) {
                    sums.add(said, *came);
                }
                if let Some((sum, count)) = squares.get_mut(step) {
                    *sum += (said - came) * (said - came);
                    *count += 1;
                }
            }
            folds.push(Fold { origin, forecast });
        }
        let [model, naive, seasonal] = sums;
        (model.count > 0).then(|| Self {
            horizon,
            origins: folds.len(),
            compared: model.count,
            model: model.accuracy(),
            naive: naive.accuracy(),
            seasonal_naive: (season > 1).then(|| seasonal.accuracy()),
            folds,
            spread: spread(&squares),
        })
    }

    /// The standard deviation of the error of a forecast so many steps ahead, the first of which is
    /// 1: as it was in the past, and beyond the steps that were tried as it grew over these.
    #[must_use]
    pub fn deviation(&self, step: usize) -> f64 {
        let (first, each) = self.spread;
        (first + each * step.saturating_sub(1) as f64).sqrt()
    }
}

/// The last known sample at the same place of a season as the one `step` after the end.
fn last_known(before: &[Option<f64>], season: usize, step: usize) -> Option<f64> {
    let season = season.max(1);
    let into = step % season;
    let back = season - into;
    let newest = before.len().checked_sub(back)?;
    before.get(..=newest)?.iter().rev().step_by(season).find_map(|value| *value)
}

/// The mean squared error at the first step and its growth with each, by the means of the first and
/// the second half of the steps: never less, the further ahead.
fn spread(squares: &[(f64, usize)]) -> (f64, f64) {
    let mean = |steps: &[(f64, usize)]| {
        let (sum, count) =
            steps.iter().fold((0.0, 0), |(sum, count), step| (sum + step.0, count + step.1));
        (count > 0).then(|| sum / count as f64)
    };
    let (near, far) = squares.split_at(squares.len() / 2);
    match (mean(near), mean(far)) {
        (Some(near), Some(far)) => {
            let each = ((far - near) / (squares.len() as f64 / 2.0)).max(0.0);
            // The first half's mean is that of its middle.
            let first = near - each * (squares.len() as f64 / 4.0 - 0.5).max(0.0);
            let least = squares.get(..1).and_then(mean).unwrap_or(0.0);
            (first.max(least), each)
        }
        (one, other) => (one.or(other).unwrap_or(0.0), 0.0),
    }
}

/// Errors of one way to forecast.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    count: usize,
    error: f64,
    came: f64,
    percent: f64,
    percent_count: usize,
}

impl Sums {
    fn add(&mut self, said: f64, came: f64) {
        let error = (said - came).abs();
        self.count += 1;
        self.error += error;
        self.came += came.abs();
        if came != 0.0 {
            self.percent += error / came.abs();
            self.percent_count += 1;
        }
    }

    fn accuracy(self) -> Accuracy {
        let wape = (self.came > 0.0).then(|| self.error / self.came);
        let mape = (self.percent_count > 0).then(|| self.percent / self.percent_count as f64);
        Accuracy { accuracy: wape.map(|wape| 1.0 - wape), wape, mape }
    }
}
