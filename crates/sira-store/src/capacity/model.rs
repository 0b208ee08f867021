//! A model of a series: level, trend and season, each smoothed exponentially.
//!
//! The additive forms of Holt and Winters in their error correction form, with a trend that may be
//! damped (Gardner and McKenzie); see Hyndman and Athanasopoulos, "Forecasting: principles and
//! practice", chapter 8.

/// Samples whose line begins a damped trend.
const BEGIN: usize = 10;

/// Samples that the slope of a whole series is reckoned from: the work grows with their square.
const SLOPE_SAMPLES: usize = 96;

/// Least share of a season's samples that must be known for the season to say what is usual.
const KNOWN_MIN: f64 = 0.5;

/// Largest sample that factors make; samples are scaled to about 1.
const SAMPLE_MAX: f64 = 1e100;

/// Damping at the ends of its range.
const DAMPING: (f64, f64) = (0.8, 0.98);

/// Where the search for parameters begins, each from 0 to 1.
const LEVELS: [f64; 5] = [0.05, 0.2, 0.5, 0.8, 1.0];
const SLOPES: [f64; 3] = [0.0, 0.1, 0.5];
const SEASONS: [f64; 3] = [0.0, 0.15, 0.5];
const DAMPINGS: [f64; 2] = [0.3, 0.9];

/// Steps by which the best of these is then moved, the last ones the finest.
const STEPS: [f64; 4] = [0.15, 0.08, 0.04, 0.02];

/// How a model takes growth to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trend {
    /// There is none.
    None,
    /// It goes on, less with each step.
    Damped,
    /// It goes on as it is.
    Linear,
}

impl Trend {
    /// All of them, the simplest first.
    pub const ALL: [Self; 3] = [Self::None, Self::Damped, Self::Linear];

    /// Stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Damped => "damped",
            Self::Linear => "linear",
        }
    }
}

/// How level, trend and season make a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// They add up: ups and downs stay as large as they are.
    Additive,
    /// Their logarithms add up: ups and downs grow with the level.
    Multiplicative,
}

impl Shape {
    /// Stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Additive => "additive",
            Self::Multiplicative => "multiplicative",
        }
    }

    /// A sample as its parts add up to it; `None` for one that they cannot.
    fn taken(self, value: f64) -> Option<f64> {
        match self {
            Self::Additive => Some(value),
            Self::Multiplicative => (value > 0.0).then(|| value.ln()),
        }
    }

    /// The sample that parts add up to.
    fn given(self, sum: f64) -> f64 {
        match self {
            Self::Additive => sum,
            Self::Multiplicative => sum.exp().min(SAMPLE_MAX),
        }
    }
}

/// Which parts a model has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct ModelKind {
    /// Samples of a season; 1 for none.
    pub season: usize,
    /// How growth goes on.
    pub trend: Trend,
    /// How the parts make a sample.
    pub shape: Shape,
}

impl ModelKind {
    /// The kinds that are worth a try with a season, the simplest first. Growth by factors is damped,
    /// or else it would leave all bounds, and without a season it is none of its own.
    pub fn of_season(season: usize) -> impl Iterator<Item = Self> {
        let additive = Trend::ALL.map(|trend| (trend, Shape::Additive));
        let factors = [Trend::None, Trend::Damped].map(|trend| (trend, Shape::Multiplicative));
        let factors = factors.into_iter().filter(move |_| season > 1);
        let kinds = additive.into_iter().chain(factors);
        kinds.map(move |(trend, shape)| Self { season, trend, shape })
    }
}

/// How much each part follows what is new.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Smoothing {
    /// Of the level, from 0 to 1 (alpha).
    pub level: f64,
    /// Of the trend, from 0 to that of the level (beta).
    pub trend: f64,
    /// Of the season, from 0 to what the level leaves (gamma).
    pub season: f64,
    /// What is left of the trend after a step (phi); 1 where it is not damped.
    pub damping: f64,
}

impl Smoothing {
    /// From a place in the unit cube: level, trend, season, damping.
    fn at(place: [f64; 4], kind: ModelKind) -> Self {
        let [level, trend, season, damping] = place;
        Self {
            level,
            trend: if kind.trend == Trend::None { 0.0 } else { level * trend },
            season: if kind.season > 1 { (1.0 - level) * season } else { 0.0 },
            damping: match kind.trend {
                Trend::Damped => DAMPING.0 + (DAMPING.1 - DAMPING.0) * damping,
                Trend::None | Trend::Linear => 1.0,
            },
        }
    }
}

/// A model that has seen a series up to a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct SeasonalModel {
    kind: ModelKind,
    smoothing: Smoothing,
    level: f64,
    slope: f64,
    /// What each sample of a season is above or below the level.
    season: Vec<f64>,
    /// Place in the season of the next sample.
    next: usize,
}

impl SeasonalModel {
    /// Fits a model to a series, whose gaps are `None`: the parameters are those with the least mean
    /// absolute error one step ahead, found on a grid and then nearer. `None` for a series without
    /// two whole seasons, or without a known sample, and for factors of what is not above 0.
    #[must_use]
    pub fn fit(values: &[Option<f64>], kind: ModelKind) -> Option<Self> {
        let taken: Vec<Option<f64>> =
            values.iter().map(|value| value.and_then(|value| kind.shape.taken(value))).collect();
        if taken.iter().flatten().count() < values.iter().flatten().count() {
            return None;
        }
        let values = &taken[..];
        let begin = Self::begin(values, kind)?;
        let error = |place: [f64; 4]| begin.error(values, Smoothing::at(place, kind));
        let mut best = ([LEVELS[2], 0.0, 0.0, DAMPINGS[1]], f64::INFINITY);
        let slopes = if kind.trend == Trend::None { &SLOPES[..1] } else { &SLOPES[..] };
        let seasons = if kind.season > 1 { &SEASONS[..] } else { &SEASONS[..1] };
        let dampings = if kind.trend == Trend::Damped { &DAMPINGS[..] } else { &DAMPINGS[..1] };
        for level in LEVELS {
            for slope in slopes {
                for season in seasons {
                    for damping in dampings {
                        let place = [level, *slope, *season, *damping];
                        let found = error(place);
                        if found < best.1 {
                            best = (place, found);
                        }
                    }
                }
            }
        }
        let moved = [true, slopes.len() > 1, seasons.len() > 1, dampings.len() > 1];
        for step in STEPS {
            for (part, _) in moved.iter().enumerate().filter(|(_, moves)| **moves) {
                for way in [step, -step] {
                    let mut place = best.0;
                    if let Some(value) = place.get_mut(part) {
                        *value = (*value + way).clamp(0.0, 1.0);
                    }
                    let found = error(place);
                    if found < best.1 {
                        best = (place, found);
                    }
                }
            }
        }
        let mut model = Self { smoothing: Smoothing::at(best.0, kind), ..begin };
        for value in values {
            model.step(*value);
        }
        Some(model)
    }

    /// Which parts it has.
    #[must_use]
    pub fn kind(&self) -> ModelKind {
        self.kind
    }

    /// How much each part follows what is new.
    #[must_use]
    pub fn smoothing(&self) -> Smoothing {
        self.smoothing
    }

    /// Takes in the next sample, `None` where it is not known, and answers by how much it was above
    /// what was forecast.
    pub fn observe(&mut self, value: Option<f64>) -> Option<f64> {
        let said = self.ahead(1).first().copied();
        self.step(value.and_then(|value| self.kind.shape.taken(value)));
        Some(value? - said?)
    }

    /// As [`SeasonalModel::observe`], of what the parts add up to.
    fn step(&mut self, value: Option<f64>) -> Option<f64> {
        let Smoothing { level, trend, season, damping } = self.smoothing;
        let slope = damping * self.slope;
        let usual = self.season.get(self.next).copied().unwrap_or(0.0);
        let error = value.map(|value| value - (self.level + slope + usual));
        let off = error.unwrap_or(0.0);
        self.level += slope + level * off;
        self.slope = slope + trend * off;
        if let Some(part) = self.season.get_mut(self.next) {
            *part += season * off;
        }
        self.next = if self.next + 1 < self.season.len() { self.next + 1 } else { 0 };
        error
    }

    /// The next samples.
    #[must_use]
    pub fn ahead(&self, steps: usize) -> Vec<f64> {
        let (mut grown, mut slope) = (0.0, self.slope);
        let length = self.season.len();
        (0..steps)
            .map(|step| {
                slope *= self.smoothing.damping;
                grown += slope;
                let place = if length > 0 { (self.next + step) % length } else { 0 };
                let usual = self.season.get(place).copied().unwrap_or(0.0);
                self.kind.shape.given(self.level + grown + usual)
            })
            .collect()
    }

    /// The mean absolute error one step ahead, after what the begin was made from.
    fn error(&self, values: &[Option<f64>], smoothing: Smoothing) -> f64 {
        let mut model = Self { smoothing, ..self.clone() };
        let (mut sum, mut count) = (0.0, 0_usize);
        for (at, value) in values.iter().enumerate() {
            if let Some(error) = model.step(*value)
                && at >= self.kind.season
            {
                sum += error.abs();
                count += 1;
            }
        }
        if count == 0 { f64::INFINITY } else { sum / count as f64 }
    }

    /// A model before the first sample.
    fn begin(values: &[Option<f64>], kind: ModelKind) -> Option<Self> {
        let first = values.iter().copied().flatten().next()?;
        let smoothing = Smoothing::at([LEVELS[2], 0.0, 0.0, DAMPINGS[1]], kind);
        let model = Self { kind, smoothing, level: first, slope: 0.0, season: Vec::new(), next: 0 };
        if kind.season <= 1 {
            let (level, slope) = match kind.trend {
                Trend::None => (first, 0.0),
                Trend::Damped => line(values.get(..BEGIN).unwrap_or(values))?,
                Trend::Linear => {
                    let slope = slope_of(values);
                    let mut above: Vec<f64> =
                        known(values).map(|(at, it)| it - slope * at).collect();
                    (median(&mut above)?, slope)
                }
            };
            // Before the first sample, which is at 0.
            return Some(Self { level: level - slope, slope, ..model });
        }
        let length = kind.season;
        if values.len() < 2 * length {
            return None;
        }
        let mut means = Vec::new();
        for season in values.chunks_exact(length) {
            let (mut sum, mut count) = (0.0, 0_usize);
            for value in season.iter().flatten() {
                sum += value;
                count += 1;
            }
            let is_known = count as f64 >= KNOWN_MIN * length as f64;
            means.push(is_known.then(|| sum / count as f64));
        }
        let slope = slope_of(&means) / length as f64;
        let mut usual = Vec::with_capacity(length);
        for place in 0..length {
            let (mut sum, mut count) = (0.0, 0_usize);
            let from_middle = place as f64 - (length as f64 - 1.0) / 2.0;
            for (season, mean) in values.chunks_exact(length).zip(&means) {
                if let (Some(Some(value)), Some(mean)) = (season.get(place), mean) {
                    sum += value - mean - slope * from_middle;
                    count += 1;
                }
            }
            usual.push(if count == 0 { 0.0 } else { sum / count as f64 });
        }
        let first = means.iter().copied().flatten().next()?;
        let before = (length as f64 + 1.0) / 2.0;
        let (level, slope) = match kind.trend {
            Trend::None => (first, 0.0),
            Trend::Damped | Trend::Linear => (first - slope * before, slope),
        };
        Some(Self { level, slope, season: usual, ..model })
    }
}

/// The samples that are known, with their places.
fn known(values: &[Option<f64>]) -> impl Iterator<Item = (f64, f64)> + '_ {
    values.iter().enumerate().filter_map(|(at, value)| Some((at as f64, (*value)?)))
}

/// The line with the least squares: its value at 0, and its slope.
fn line(values: &[Option<f64>]) -> Option<(f64, f64)> {
    let (mut count, mut at_sum, mut sum) = (0.0, 0.0, 0.0);
    for (at, value) in known(values) {
        count += 1.0;
        at_sum += at;
        sum += value;
    }
    if count == 0.0 {
        return None;
    }
    let (at_mean, mean) = (at_sum / count, sum / count);
    let (mut both, mut spread) = (0.0, 0.0);
    for (at, value) in known(values) {
        both += (at - at_mean) * (value - mean);
        spread += (at - at_mean) * (at - at_mean);
    }
    let slope = if spread > 0.0 { both / spread } else { 0.0 };
    Some((mean - slope * at_mean, slope))
}

/// The median of the slopes between all pairs (Theil and Sen), 0 where there are none.
fn slope_of(values: &[Option<f64>]) -> f64 {
    let all: Vec<(f64, f64)> = known(values).collect();
    let step = all.len().div_ceil(SLOPE_SAMPLES).max(1);
    let chosen: Vec<(f64, f64)> = all.iter().rev().step_by(step).copied().collect();
    let mut slopes = Vec::with_capacity(chosen.len() * chosen.len() / 2);
    for (place, (later, more)) in chosen.iter().enumerate() {
        for (earlier, less) in chosen.iter().skip(place + 1) {
            slopes.push((more - less) / (later - earlier));
        }
    }
    median(&mut slopes).unwrap_or(0.0)
}

/// The median, of the upper two where their number is even.
fn median(values: &mut [f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let middle = values.len() / 2;
    Some(*values.select_nth_unstable_by(middle, f64::total_cmp).1)
}
