//! What is forecast of series that are known.

use super::*;
use crate::capacity::model::SeasonalModel;

#[test]
fn a_season_that_is_there_is_found_and_followed() {
    let values = known((0..24 * 14).map(|at| daily(at, 0.04)));
    let found = forecast(&values, &ask(48, &[24, 168])).unwrap();
    assert_eq!(found.model.season, 24);
    assert_eq!(found.points.len(), 48);
    for (step, point) in found.points.iter().enumerate() {
        let right = daily(values.len() + step, 0.0);
        assert!((point.expected / right - 1.0).abs() < 0.03, "{step}: {point:?}, not {right}");
        assert!(point.low < point.expected && point.expected < point.high);
    }
    let backtest = &found.backtest;
    let accuracy = backtest.model.accuracy.unwrap();
    assert!(accuracy > 0.98, "{accuracy}");
    assert!(accuracy > backtest.naive.accuracy.unwrap() + 0.05);
    assert!(accuracy > backtest.seasonal_naive.unwrap().accuracy.unwrap());
    assert_eq!((backtest.origins, backtest.horizon), (8, 48));
}

#[test]
fn a_week_is_told_from_a_day() {
    let weekly = |at: usize| {
        let is_weekend = at / 24 % 7 >= 5;
        daily(at, 0.02) * if is_weekend { 0.4 } else { 1.0 }
    };
    let values = known((0..24 * 7 * 6).map(weekly));
    let found = forecast(&values, &ask(24 * 7, &[24, 168])).unwrap();
    assert_eq!(found.model.season, 168);
    // The first places of the backtest know too few weeks to see them.
    let backtest = found.backtest;
    assert!(backtest.model.accuracy.unwrap() > 0.9, "{:?}", backtest.model);
    assert!(backtest.naive.accuracy.unwrap() < 0.7, "{:?}", backtest.naive);
    for (step, point) in found.points.iter().enumerate() {
        let right = weekly(values.len() + step);
        assert!((point.expected / right - 1.0).abs() < 0.15, "{step}: {point:?}, not {right}");
    }
}

#[test]
fn ups_and_downs_that_grow_with_the_level_are_seen() {
    let value = |at: usize| {
        let month = (at as f64 / 12.0 * std::f64::consts::TAU).sin();
        (100.0 + 4.0 * at as f64) * (1.0 + 0.4 * month) * (1.0 + 0.02 * (noise(at) - 0.5))
    };
    let values = known((0..120).map(value));
    let found = forecast(&values, &ask(12, &[12])).unwrap();
    assert_eq!((found.model.season, found.model.shape), (12, Shape::Multiplicative));
    assert!(found.backtest.model.accuracy.unwrap() > 0.97, "{:?}", found.backtest.model);
    // What may be 0 has no logarithm.
    let zeros = known((0..120).map(|at| if at % 12 == 0 { 0.0 } else { value(at) }));
    let found = forecast(&zeros, &ask(12, &[12])).unwrap();
    assert_eq!((found.model.season, found.model.shape), (12, Shape::Additive));
}

#[test]
fn no_season_is_made_up() {
    let values = known((0..300).map(|at| 100.0 + 10.0 * noise(at)));
    let found = forecast(&values, &ask(24, &[24])).unwrap();
    assert_eq!((found.model.season, found.model.trend), (1, Trend::None));
    for point in &found.points {
        assert!((103.0..107.0).contains(&point.expected), "{point:?}");
        // Four fifths of what comes lies within: the noise is even, from 100 to 110.
        assert!((99.0..103.5).contains(&point.low) && (106.5..111.0).contains(&point.high));
    }
}

#[test]
fn what_stays_as_it_is_is_forecast_to() {
    for value in [0.0, 7.0, 1e18, 1e300, -3.0] {
        let found = forecast(&known([value; 40]), &ask(10, &[7])).unwrap();
        for point in &found.points {
            let near = (point.expected - value).abs() <= value.abs() * 1e-9;
            assert!(near && point.low.is_finite() && point.high.is_finite(), "{value}: {point:?}");
        }
        let accuracy = found.backtest.model.accuracy;
        assert_eq!(accuracy.is_none(), value == 0.0);
    }
}

#[test]
fn what_never_was_below_zero_is_not_forecast_to_be() {
    let shrinking = known((0..60).map(|at| (1_000.0 - 17.0 * at as f64).max(0.0)));
    let found = forecast(&shrinking, &ask(50, &[])).unwrap();
    assert!(found.points.iter().all(|point| point.low >= 0.0 && point.expected >= 0.0));
    // What was below may be again.
    let balance = known((0..60).map(|at| 100.0 - 5.0 * at as f64));
    let found = forecast(&balance, &ask(10, &[])).unwrap();
    assert!(found.points.last().unwrap().expected < -220.0, "{:?}", found.points.last());
}

#[test]
fn gaps_are_bridged() {
    let value = |at| (at % 5 != 3 && !(100..130).contains(&at)).then(|| daily(at, 0.02));
    let values: Vec<Option<f64>> = (0..24 * 14).map(value).collect();
    let found = forecast(&values, &ask(24, &[24])).unwrap();
    for (step, point) in found.points.iter().enumerate() {
        let right = daily(values.len() + step, 0.0);
        assert!((point.expected / right - 1.0).abs() < 0.05, "{step}: {point:?}, not {right}");
    }
    // Also at both ends.
    let mut open = vec![None; 10];
    open.extend(known((0..40).map(|at| at as f64)));
    open.extend([None; 5]);
    let found = forecast(&open, &ask(1, &[])).unwrap();
    let next = found.points[0].expected;
    assert!((next - 45.0).abs() < 0.5, "{next}");
}

#[test]
fn too_little_is_said_to_be() {
    let few = known((0..SAMPLES_MIN - 1).map(|at| at as f64));
    let needed = SAMPLES_MIN;
    let told = CapacityError::TooLittleHistory { samples: SAMPLES_MIN - 1, needed };
    assert_eq!(forecast(&few, &ask(3, &[])), Err(told.clone()));
    assert_eq!(told.to_string(), "too little history: 15 samples, 16 needed");
    let gaps: Vec<Option<f64>> = few.iter().copied().chain([None; 100]).collect();
    assert_eq!(forecast(&gaps, &ask(3, &[])), Err(told));
    let none = CapacityError::TooLittleHistory { samples: 0, needed };
    assert_eq!(forecast(&[], &ask(3, &[])), Err(none));
    assert_eq!(forecast(&known([1.0; 50]), &ask(0, &[])), Err(CapacityError::NoHorizon));
    for wrong in [f64::NAN, f64::INFINITY] {
        let mut values = known([1.0; 50]);
        values[7] = Some(wrong);
        assert_eq!(forecast(&values, &ask(1, &[])), Err(CapacityError::NotFinite { at: 7 }));
    }
    assert!(forecast(&known((0..SAMPLES_MIN).map(|at| at as f64)), &ask(30, &[7, 24])).is_ok());
}

#[test]
fn every_series_has_a_forecast_of_finite_numbers() {
    for seed in 0..60_usize {
        let length = SAMPLES_MIN + seed * 5;
        let size = 10.0_f64.powi(seed as i32 % 30 - 10);
        let value = |at: usize| {
            let off = noise(at * 31 + seed);
            let jump = if at > length / 2 && seed % 3 == 0 { 50.0 } else { 0.0 };
            (off > 0.1).then_some(size * (off * (seed % 7) as f64 + jump + at as f64 * 0.1))
        };
        let mut values: Vec<Option<f64>> = (0..length).map(value).collect();
        values.extend(known([size; SAMPLES_MIN]));
        let found = forecast(&values, &ask(1 + seed, &[7, 24, 10_000, 0, 1])).unwrap();
        assert_eq!(found.points.len(), 1 + seed);
        for point in &found.points {
            let all = [point.low, point.expected, point.high];
            assert!(all.iter().all(|it| it.is_finite() && *it >= 0.0), "{seed}: {point:?}");
            assert!(point.low <= point.expected && point.expected <= point.high);
        }
    }
}

#[test]
fn a_backtest_sees_nothing_of_what_comes() {
    let values = known((0..240).map(|at| daily(at, 0.1)));
    let options = ask(24, &[24]);
    let before = forecast(&values, &options).unwrap().backtest;
    assert_eq!(before.folds.len(), 8);
    for fold in &before.folds {
        // A forecast stays the same to the last bit whatever comes after its origin.
        let mut changed = values.clone();
        for (at, value) in changed.iter_mut().enumerate().skip(fold.origin) {
            *value = Some(256.0 + 200.0 * noise(at));
        }
        let after = forecast(&changed, &options).unwrap().backtest;
        let same = after.folds.iter().find(|it| it.origin == fold.origin);
        assert_eq!(same, Some(fold));
    }
    let seen = std::cell::RefCell::new(Vec::new());
    let tried = Backtest::run(&values, 100, 10, 5, 1, |before, horizon| {
        seen.borrow_mut().push(before.len());
        assert_eq!(before, &values[..before.len()]);
        Some(vec![0.0; horizon])
    });
    let origins: Vec<usize> = tried.unwrap().folds.iter().map(|fold| fold.origin).collect();
    assert_eq!((origins.first(), origins.len()), (Some(&230), 5));
    assert_eq!(*seen.borrow(), origins);
}

#[test]
fn errors_are_what_they_are_called() {
    let values = known([10.0, 10.0, 10.0, 10.0, 0.0, 20.0]);
    let tried = Backtest::run(&values, 4, 2, 1, 2, |_, _| Some(vec![5.0, 15.0])).unwrap();
    assert_eq!(tried.compared, 2);
    // Off by 5 and 5 of 20 in all; in percent only of the 20.
    assert_eq!(tried.model.wape, Some(0.5));
    assert_eq!(tried.model.accuracy, Some(0.5));
    assert_eq!(tried.model.mape, Some(0.25));
    assert_eq!(tried.naive.wape, Some(1.0));
    let nothing = Backtest::run(&known([0.0; 6]), 4, 2, 1, 1, |_, _| Some(vec![0.0; 2])).unwrap();
    assert_eq!(nothing.model, Accuracy::default());
    assert!(Backtest::run(&values, 5, 2, 1, 1, |_, _| None).is_none());
}

#[test]
fn intervals_hold_as_often_as_they_say() {
    // A walk at random: the further, the wider.
    let (mut within, mut all) = (0, 0);
    for seed in 0..30 {
        let mut at = 1_000.0;
        let walk: Vec<f64> = (0..260)
            .map(|n| {
                at += 10.0 * (noise(n + seed * 1_000) - 0.5);
                at
            })
            .collect();
        let found = forecast(&known(walk[..240].iter().copied()), &ask(20, &[])).unwrap();
        for (point, came) in found.points.iter().zip(&walk[240..]) {
            within += usize::from((point.low..=point.high).contains(came));
            all += 1;
        }
        let width = |point: &ForecastPoint| point.high - point.low;
        assert!(width(&found.points[0]) > 0.0);
        assert!(width(&found.points[19]) >= width(&found.points[0]));
    }
    let share = f64::from(within as u32) / f64::from(all as u32);
    assert!((0.65..0.95).contains(&share), "{share}");
}

#[test]
fn a_model_learns_what_changes() {
    let kind = ModelKind { season: 1, trend: Trend::Linear, shape: Shape::Additive };
    let mut model = SeasonalModel::fit(&known((0..50).map(|at| at as f64)), kind).unwrap();
    let ahead = model.ahead(3);
    assert!((ahead[2] - 52.0).abs() < 1e-6, "{ahead:?}");
    assert_eq!(model.observe(None), None);
    assert!((model.ahead(1)[0] - 51.0).abs() < 1e-6);
    assert!((model.observe(Some(60.0)).unwrap() - 9.0).abs() < 1e-6);
    let short = ModelKind { season: 24, trend: Trend::None, ..kind };
    assert!(SeasonalModel::fit(&known([1.0; 47]), short).is_none());
    assert!(SeasonalModel::fit(&[None; 47], kind).is_none());
}
