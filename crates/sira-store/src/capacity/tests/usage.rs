//! Series of use, when they fill what there is, how they are kept, and what they cost.

use std::sync::Arc;

use super::*;
use crate::MemoryBackend;
use crate::backend::StorageBackend;

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
/// A day's begin.
const BEGIN: u64 = 20_000 * DAY;

fn sample(used_bytes: u64) -> UsageSample {
    UsageSample { used_bytes, objects: Some(1), operations: 10 }
}

/// What grows by a number of bytes a day, sampled every hour for some days.
fn growing(hours: u64, per_day: u64) -> UsageSeries {
    let mut series = UsageSeries::default();
    for hour in 0..hours {
        series.record(HOUR, BEGIN + hour * HOUR, sample((1 << 30) + hour * per_day / 24));
    }
    series
}

#[test]
fn what_grows_evenly_is_full_when_it_is() {
    let gib = 1 << 30;
    for (hours, horizon) in [(10 * 24 + 1, 7), (60 * 24 + 1, 30), (300 * 24 + 1, 90)] {
        let series = growing(hours, gib);
        let now = BEGIN + (hours - 1) * HOUR;
        let found = outlook(&series, Some(20 * gib), days(horizon), now).unwrap();
        let growth = found.growth_bytes_per_day / gib as f64;
        assert!((0.98..1.02).contains(&growth), "{hours}: {growth}");
        let full = found.days_until_full.unwrap();
        let expected = full.expected.unwrap();
        assert!((19.5..20.5).contains(&expected), "{hours}: {full:?}");
        assert!(full.earliest.unwrap() <= expected && expected <= full.latest.unwrap());
        let last = found.points.last().unwrap();
        let ahead = (last.at_ms - now) as f64 / DAY as f64;
        assert!((ahead - horizon as f64).abs() <= 1.0, "{hours}: {ahead}");
        assert!(found.forecast.backtest.model.accuracy.unwrap() > 0.99);
    }
}

#[test]
fn what_does_not_grow_is_not_full_within_reach() {
    let mut series = growing(10 * 24, 0);
    let now = BEGIN + 239 * HOUR;
    let full = outlook(&series, Some(1 << 30), days(30), now).unwrap().days_until_full.unwrap();
    assert_eq!((full.expected, full.latest), (None, None));
    assert!(full.looked_ahead > 29.0, "{full:?}");
    // Nobody says how much room there is.
    assert_eq!(outlook(&series, None, days(30), now).unwrap().days_until_full, None);
    // It is full already.
    let full = outlook(&series, Some(0), days(30), now).unwrap().days_until_full.unwrap();
    assert!(full.expected.unwrap() < 0.1, "{full:?}");
    series.record(HOUR, now + HOUR, sample(5));
    assert!(outlook(&series, Some(1 << 30), days(1), now + HOUR).is_ok());
    let few = outlook(&growing(3, 1), None, days(30), BEGIN + 3 * HOUR);
    assert_eq!(few, Err(CapacityError::TooLittleHistory { samples: 3, needed: SAMPLES_MIN }));
    let none = outlook(&UsageSeries::default(), None, days(30), BEGIN);
    assert_eq!(none, Err(CapacityError::TooLittleHistory { samples: 0, needed: SAMPLES_MIN }));
}

#[test]
fn near_forecasts_are_by_the_hour_and_far_ones_by_the_day() {
    let series = growing(60 * 24, 1 << 20);
    let now = BEGIN + 60 * DAY;
    assert_eq!(outlook(&series, None, days(7), now).unwrap().step_ms, HOUR);
    let far = outlook(&series, None, days(30), now).unwrap();
    assert_eq!((far.step_ms, far.points.len(), far.ahead_days), (DAY, 30, 30.0));
    assert_eq!(far.points[0].at_ms, now + DAY);
    // A young server has no days to go by.
    let young = outlook(&growing(5 * 24, 1 << 20), None, days(30), BEGIN + 5 * DAY).unwrap();
    assert_eq!((young.step_ms, young.points.len()), (HOUR, 30 * 24 + 1));
    // Nor does it look further than ten times as far as it can look back.
    let newer = outlook(&growing(24, 1 << 20), None, days(30), BEGIN + DAY).unwrap();
    assert_eq!((newer.points.len(), newer.ahead_days.round()), (240, 10.0));
}

#[test]
fn slots_have_their_last_sample_and_all_operations() {
    let mut series = UsageSeries::default();
    series.record(HOUR, BEGIN, sample(1));
    series.record(HOUR, BEGIN + HOUR / 2, UsageSample { objects: None, ..sample(2) });
    let merged = UsageSample { used_bytes: 2, objects: Some(1), operations: 20 };
    assert_eq!(series.newest(), Some(merged));
    // A gap stays one.
    series.record(HOUR, BEGIN + 5 * HOUR, sample(9));
    assert_eq!(series.samples(Resolution::Fine), 2);
    assert_eq!(series.samples(Resolution::Days), 1);
    // A clock that was set back forgets what was later, also by years.
    series.record(HOUR, BEGIN + HOUR, sample(3));
    assert_eq!((series.samples(Resolution::Fine), series.newest()), (2, Some(sample(3))));
    series.record(HOUR, 7, sample(4));
    assert_eq!((series.samples(Resolution::Fine), series.newest()), (1, Some(sample(4))));
    series.record(HOUR, u64::MAX - 1, sample(5));
    assert_eq!((series.samples(Resolution::Fine), series.newest()), (1, Some(sample(5))));
}

#[test]
fn history_is_bounded_and_more_than_a_year() {
    let series = growing(500 * 24, 24);
    assert_eq!(series.samples(Resolution::Fine), 1_024);
    assert_eq!(series.samples(Resolution::Days), 400);
    let grown = series.grown_bytes_per_day().unwrap();
    assert!((grown - 24.0).abs() < 0.01, "{grown}");
    assert_eq!(growing(24, 24).grown_bytes_per_day(), None);
}

#[test]
fn another_interval_takes_the_history_over() {
    let mut series = growing(100, 24 << 20);
    series.record(4 * HOUR, BEGIN + 100 * HOUR, sample(1 << 31));
    assert_eq!(series.samples(Resolution::Fine), 26);
    series.record(HOUR, BEGIN + 101 * HOUR, sample(1 << 31));
    // There is nothing in between that could be known.
    assert_eq!(series.samples(Resolution::Fine), 27);
    assert_eq!(series.samples(Resolution::Days), 5);
}

/// The form is kept on disk: docs/formats/usage.md.
#[test]
fn documents_keep_their_form() {
    let memory = Arc::new(MemoryBackend::new(1 << 20));
    let store = UsageStore::new(Arc::clone(&memory) as Arc<dyn StorageBackend>);
    let mut series = UsageSeries::default();
    series.record(HOUR, BEGIN, UsageSample { used_bytes: 5, objects: None, operations: 0 });
    series.record(HOUR, BEGIN + 2 * HOUR, sample(6));
    let of = UsageOf::namespace("embedded", "models");
    let key = r#"["embedded","models"]"#;
    let golden = r#"{"format":1,"of":{"backend":"embedded","namespace":"models"},"counted_ms":7,"fine":{"step_ms":3600000,"first":480000,"samples":[[5,null,0],null,[6,1,10]]},"days":{"step_ms":86400000,"first":20000,"samples":[[6,1,10]]}}"#;
    pollster::block_on(async {
        assert_eq!(store.read(&of).await.unwrap(), (UsageSeries::default(), None));
        store.write(&of, &series, Some(7)).await.unwrap();
        let kept = memory.get(key).await.unwrap().unwrap();
        assert_eq!(std::str::from_utf8(&kept).unwrap(), golden);
        assert_eq!(store.read(&of).await.unwrap(), (series.clone(), Some(7)));
        let backend = UsageOf::backend("embedded");
        store.write(&backend, &series, None).await.unwrap();
        assert_eq!(store.kept().await.unwrap(), [of.clone(), backend.clone()]);
        assert!(store.forget(&backend).await.unwrap() && !store.forget(&backend).await.unwrap());

        // What another version wrote is begun anew; what is none is an error.
        let other = golden.replace("\"format\":1", "\"format\":2");
        memory.put(key, other.into(), Default::default()).await.unwrap();
        assert_eq!(store.read(&of).await.unwrap(), (UsageSeries::default(), None));
        for broken in ["", "{}", "{\"format\":1}"] {
            memory.put(key, broken.into(), Default::default()).await.unwrap();
            assert_eq!(store.read(&of).await.unwrap_err().code(), "corrupt", "{broken}");
        }
    });
}

#[test]
fn what_a_broken_document_says_breaks_nothing() {
    for text in [
        r#"{"fine":{"step_ms":0,"first":5,"samples":[[1,null,0]]},"days":{"step_ms":0,"first":0,"samples":[]}}"#,
        r#"{"fine":{"step_ms":18446744073709551615,"first":18446744073709551615,"samples":[[1,null,0],[1,1,1]]},"days":{"step_ms":1,"first":18446744073709551615,"samples":[[1,null,0]]}}"#,
    ] {
        let mut series: UsageSeries = serde_json::from_str(text).unwrap();
        let _ = series.grown_bytes_per_day();
        let _ = outlook(&series, Some(1), days(1), BEGIN);
        series.record(HOUR, BEGIN, sample(1));
        let _ = outlook(&series, Some(1), days(1), BEGIN);
        assert_eq!(series.newest().unwrap().used_bytes, 1);
    }
}

#[test]
fn a_bill_is_what_prices_and_use_make() {
    let prices = PriceList {
        per_gib_month: 0.02,
        per_million_reads: 0.4,
        per_million_writes: 5.0,
        per_gib_read: 0.1,
    };
    let used = Consumption {
        stored_bytes: 50 << 30,
        reads: 2_000_000,
        writes: 100_000,
        read_bytes: 10 << 30,
        counted_seconds: 3.0 * 86_400.0,
    };
    let near = |a: Option<f64>, b: f64| (a.unwrap() - b).abs() < 1e-9;
    let bill = Bill::of(prices, &used);
    assert!(near(Some(bill.storage_per_month), 1.0));
    assert!(near(Some(bill.operations_counted), 0.8 + 0.5 + 1.0));
    // Ten times three days.
    assert!(near(bill.operations_per_month, 23.0) && near(bill.total_per_month, 24.0));
    // A quarter of an hour says nothing of a month.
    let early = Bill::of(prices, &Consumption { counted_seconds: 900.0, ..used });
    assert_eq!((early.operations_per_month, early.total_per_month), (None, None));
    let stored = PriceList { per_gib_month: 0.02, ..PriceList::default() };
    let free = Bill::of(stored, &Consumption { counted_seconds: 900.0, ..used });
    assert!(near(free.total_per_month, 1.0));
    let settings = CostSettings {
        prices: Some(stored),
        backends: [("s3".to_owned(), prices)].into(),
        ..CostSettings::default()
    };
    assert_eq!(settings.prices_of("s3"), Some(prices));
    assert_eq!(settings.prices_of("other"), Some(stored));
    assert_eq!(CostSettings::default().prices_of("s3"), None);
}
