//! Series of the world: see `crates/sira-store/tests/data/README.md`.

use super::*;

const MINUTES: &str = include_str!("../../../tests/data/mooncake-conversation-minutes.csv");
const AIRLINE: &str = include_str!("../../../tests/data/airline-passengers.csv");

fn column(text: &str, name: &str) -> Vec<Option<f64>> {
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let place = lines.next().unwrap().split(',').position(|it| it == name).unwrap();
    lines.map(|line| line.split(',').nth(place).unwrap().parse().ok()).collect()
}

fn accuracy(values: &[Option<f64>], horizon: usize, seasons: &[usize]) -> (f64, f64) {
    let backtest = forecast(values, &ask(horizon, seasons)).unwrap().backtest;
    (backtest.model.accuracy.unwrap(), backtest.naive.accuracy.unwrap())
}

#[test]
fn a_chat_service_is_forecast_to_nine_tenths() {
    let requests = column(MINUTES, "requests");
    assert_eq!(requests.iter().flatten().sum::<f64>(), 12_031.0);
    for horizon in [1, 5, 10] {
        let (model, _) = accuracy(&requests, horizon, &[]);
        assert!(model > 0.9, "{horizon}: {model}");
    }
    let stored = column(MINUTES, "stored_blocks");
    for horizon in [1, 5, 10] {
        let (model, naive) = accuracy(&stored, horizon, &[]);
        assert!(model > 0.98 && model > naive + 0.01, "{horizon}: {model} {naive}");
    }
}

#[test]
fn the_months_of_airlines_are_seen() {
    let passengers = column(AIRLINE, "passengers");
    let found = forecast(&passengers, &ask(12, &[12])).unwrap();
    assert_eq!(found.model.season, 12);
    let backtest = found.backtest;
    let model = backtest.model.accuracy.unwrap();
    assert!(model > 0.9 && model > backtest.naive.accuracy.unwrap() + 0.05, "{model}");
    assert!(model > backtest.seasonal_naive.unwrap().accuracy.unwrap(), "{model}");
}
