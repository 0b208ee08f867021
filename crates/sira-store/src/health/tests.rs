use std::time::Duration;

use super::*;
use crate::backend::{HealthStatus, StorageStats};

use HealthState::{Critical, Healthy, Warning};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Numbers that look random, from 0 to 1.
fn noise(n: u64) -> f64 {
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 11) as f64 / (1u64 << 53) as f64
}

#[test]
fn a_state_is_left_when_looks_agree() {
    let patience = Patience { worsen_looks: 2, recover_looks: 3 };
    let mut it = Hysteresis::default();
    // One bad look among good ones says nothing.
    for seen in [Critical, Healthy, Warning, Healthy, Critical, Healthy] {
        assert_eq!(it.look(seen, patience), None);
    }
    // Two that disagree on how bad agree on the milder.
    assert_eq!(it.look(Critical, patience), None);
    assert_eq!(it.look(Warning, patience), Some(Healthy));
    assert_eq!(it.standing(), Warning);
    assert_eq!(it.look(Critical, patience), None);
    assert_eq!(it.look(Critical, patience), Some(Warning));
    // Getting better takes three, and goes no further than the worst of them.
    for seen in [Healthy, Healthy, Critical, Healthy, Warning] {
        assert_eq!(it.look(seen, patience), None);
    }
    assert_eq!(it.look(Healthy, patience), Some(Critical));
    assert_eq!(it.standing(), Warning);
    for seen in [Healthy, Healthy] {
        assert_eq!(it.look(seen, patience), None);
    }
    assert_eq!(it.look(Healthy, patience), Some(Warning));
    assert_eq!(it.standing(), Healthy);
}

#[test]
fn flapping_looks_never_flap_the_state() {
    let mut it = Hysteresis::default();
    let left = (0..1000)
        .filter(|n| {
            let seen = if n % 2 == 0 { Critical } else { Healthy };
            it.look(seen, Patience::default()).is_some()
        })
        .count();
    assert_eq!(left, 0);
}

fn learned(windows: u64) -> Baseline {
    let mut baseline = Baseline::default();
    for n in 0..windows {
        baseline.learn(5.0 * (0.8 + 0.4 * noise(n)));
    }
    baseline
}

#[test]
fn what_is_usual_is_learned_and_outliers_do_not_move_it() {
    assert!(learned(14).compare(5.0).is_none(), "too little is known");
    let mut baseline = learned(200);
    let same = baseline.compare(5.0).unwrap();
    assert!((4.5..5.5).contains(&same.usual_ms) && same.score.abs() < 1.0, "{same:?}");
    let slow = baseline.compare(40.0).unwrap();
    assert!(slow.score > 8.0 && (7.0..9.0).contains(&slow.factor), "{slow:?}");
    // An hour of an outage is not the usual.
    for _ in 0..60 {
        baseline.learn(400.0);
    }
    let after = baseline.compare(40.0).unwrap();
    assert!((4.5..5.5).contains(&after.usual_ms) && after.score > 6.0, "{after:?}");
    // What lasts is, in the end.
    for _ in 0..4000 {
        baseline.learn(40.0);
    }
    let moved = baseline.compare(40.0).unwrap();
    assert!(moved.score < 1.0, "{moved:?}");
    assert!(baseline.windows() <= 720);
}

#[test]
fn a_very_even_past_does_not_make_everything_stand_out() {
    let mut baseline = Baseline::default();
    for _ in 0..100 {
        baseline.learn(2.0);
    }
    assert!(baseline.compare(2.4).unwrap().score < 4.0);
    assert!(baseline.compare(8.0).unwrap().score > 4.0);
}

#[test]
fn a_forecast_follows_the_trend_and_not_the_peaks() {
    let mut usage = UsageHistory::default();
    let mut forecast = None;
    // 10 GiB a day for ten days, with noise, and a migration's peak for a day and a half.
    for hour in 0..240_u64 {
        let mut used = (hour << 30) * 10 / 24 + ((noise(hour) * 2.0) as u64) * (1 << 29);
        if (100..136).contains(&hour) {
            used += 500 << 30;
        }
        usage.record(hour * DAY_MS / 24, used);
        forecast = usage.forecast(Some(70 << 30));
    }
    let forecast = forecast.unwrap();
    let per_day = forecast.bytes_per_day / f64::from(1 << 30);
    assert!((9.5..10.5).contains(&per_day), "{per_day}");
    let days = forecast.days_until_full.unwrap();
    assert!((6.5..7.5).contains(&days), "{days}");
    assert!((9.9..10.1).contains(&forecast.days_watched), "{forecast:?}");
}

#[test]
fn a_forecast_says_nothing_that_it_cannot_know() {
    let mut usage = UsageHistory::default();
    assert_eq!(usage.forecast(Some(1)), None);
    for minute in 0..60_u64 {
        usage.record(minute * 60_000, minute << 20);
    }
    // An hour is no ground for what comes in months.
    let forecast = usage.forecast(Some(1 << 40)).unwrap();
    assert_eq!(forecast.days_until_full, None);
    assert!(forecast.bytes_per_day > 0.0);
    assert!(usage.forecast(Some(30 << 20)).unwrap().days_until_full.is_some());
    assert_eq!(usage.forecast(None).unwrap().days_until_full, None);
    let mut shrinking = UsageHistory::default();
    for hour in 0..48_u64 {
        shrinking.record(hour * 3_600_000, (100 - hour) << 20);
    }
    assert_eq!(shrinking.forecast(Some(1)).unwrap().days_until_full, None);
}

#[test]
fn the_history_stays_small_and_keeps_its_begin() {
    let mut usage = UsageHistory::default();
    // A year at every 15 seconds for its first day, then every five minutes.
    for look in 0..5760_u64 {
        usage.record(look * 15_000, look);
    }
    assert!(usage.samples() <= 512, "{}", usage.samples());
    for look in 0..105_000_u64 {
        usage.record(DAY_MS + look * 300_000, 5760 + look * 20);
    }
    assert!(usage.samples() <= 512, "{}", usage.samples());
    let forecast = usage.forecast(Some(57_600)).unwrap();
    assert!((5700.0..5800.0).contains(&forecast.bytes_per_day), "{forecast:?}");
    // A clock that was set back does not mix two times.
    usage.record(1000, 7);
    assert_eq!(usage.samples(), 2);
}

#[test]
fn bounds_of_every_check() {
    let options = HealthOptions::default();
    let ms = Duration::from_millis;
    let well = HealthStatus::Healthy;
    let ill = HealthStatus::Critical("gone".to_owned());
    assert_eq!(connection(&options, Some(&well), ms(3)).state, Healthy);
    assert_eq!(connection(&options, Some(&well), ms(1000)).state, Warning);
    assert_eq!(connection(&options, Some(&ill), ms(3)), Verdict::new(Critical, "gone"));
    assert_eq!(connection(&options, None, ms(5000)).state, Critical);

    let deviation = |factor, score| Some(Deviation { usual_ms: 2.0, factor, score });
    for (factor, score, state) in [
        (1.0, 0.1, Healthy),
        (2.9, 9.0, Healthy),
        (9.0, 3.9, Healthy),
        (3.0, 4.0, Warning),
        (10.0, 9.0, Critical),
    ] {
        let windows = [("reads", 2.0, None), ("writes", 2.0 * factor, deviation(factor, score))];
        assert_eq!(performance(&options, &windows).state, state, "{factor} {score}");
    }
    assert_eq!(performance(&options, &[]).state, Healthy);

    let stats = |used_bytes, available| StorageStats {
        used_bytes,
        available_bytes: Some(available),
        ..StorageStats::default()
    };
    let full_in =
        |days| Forecast { bytes_per_day: 1.0, days_until_full: Some(days), days_watched: 9.0 };
    let state = |used, forecast: Option<f64>| {
        let (stats, forecast) = (stats(used, 100 - used), forecast.map(full_in));
        capacity(&options, Some(&stats), forecast.as_ref()).state
    };
    assert_eq!(state(79, None), Healthy);
    assert_eq!(state(80, None), Warning);
    assert_eq!(state(92, None), Critical);
    assert_eq!(state(10, Some(14.1)), Healthy);
    assert_eq!(state(10, Some(14.0)), Warning);
    assert_eq!(state(10, Some(3.0)), Critical);
    assert_eq!(capacity(&options, None, None).state, Healthy);

    let hour = 3_600_000;
    let marks = |success: u64, verified: Option<u64>| {
        let last_success_ms = Some(100 * DAY_MS - success);
        let last_verified_ms = verified.map(|age| 100 * DAY_MS - age);
        backup(&options, Some(BackupMarks { last_success_ms, last_verified_ms }), 100 * DAY_MS)
            .state
    };
    assert_eq!(marks(hour, Some(hour)), Healthy);
    assert_eq!(marks(26 * hour, Some(26 * hour)), Warning);
    assert_eq!(marks(52 * hour, Some(52 * hour)), Critical);
    assert_eq!(marks(hour, None), Warning);
    assert_eq!(marks(hour, Some(8 * DAY_MS)), Warning);
    assert_eq!(backup(&options, None, 0).state, Healthy);
    assert_eq!(backup(&options, Some(BackupMarks::default()), 0).state, Warning);
}

#[test]
fn damage_stands_until_a_whole_pass_does_not_find_it() {
    let mut record = IntegrityRecord::default();
    record.step(100, Vec::new());
    assert_eq!(integrity(&record).state, Healthy);
    record.step(100, ["a".to_owned()]);
    record.step(100, ["a".to_owned(), "b".to_owned()]);
    let verdict = integrity(&record);
    assert_eq!(verdict.state, Critical);
    assert!(verdict.message.contains("a and 1 more"), "{}", verdict.message);
    record.end_pass(7);
    assert_eq!((record.last_pass_bytes, record.pass_bytes), (300, 0));
    record.step(100, Vec::new());
    assert_eq!(integrity(&record).state, Critical, "the pass under way has not been there yet");
    record.step(100, ["b".to_owned()]);
    record.end_pass(8);
    assert_eq!(record.damaged, ["b"]);
    record.end_pass(9);
    assert_eq!(integrity(&record).state, Healthy);
}

#[test]
fn checks_change_by_themselves_and_the_worst_counts() {
    let mut health = BackendHealth::default();
    let look = |health: &mut BackendHealth, check, state, at| {
        health.look(check, Verdict::new(state, "so"), at)
    };
    assert_eq!(look(&mut health, Check::Connection, Healthy, 1), None);
    let changed = look(&mut health, Check::Integrity, Critical, 2).unwrap();
    assert_eq!((changed.from, changed.to, changed.at_ms), (Healthy, Critical, 2));
    assert_eq!(look(&mut health, Check::Connection, Warning, 3), None);
    assert_eq!(health.state(), Critical);
    assert!(look(&mut health, Check::Integrity, Healthy, 4).is_some());
    assert_eq!(health.state(), Healthy);
    assert!(look(&mut health, Check::Connection, Warning, 5).is_some());
    assert_eq!((health.state(), health.checks()[&Check::Connection].since_ms), (Warning, 5));
}

/// The form is kept on disk: docs/formats/health.md.
#[test]
fn what_is_remembered_keeps_its_form() {
    let mut remembered = Remembered::default();
    remembered.reads.learn(1.0);
    remembered.usage.record(5, 6);
    remembered.integrity.step(7, ["segment 1, bytes 2 to 3".to_owned()]);
    let golden = r#"{"reads":{"windows":[0.0],"outliers":0},"writes":{"windows":[],"outliers":0},"usage":{"samples":[[5,6]]},"integrity":{"pass_bytes":7,"last_pass_bytes":0,"pass_ended_ms":null,"damaged":["segment 1, bytes 2 to 3"],"found":["segment 1, bytes 2 to 3"]}}"#;
    assert_eq!(serde_json::to_string(&remembered).unwrap(), golden);
    assert_eq!(serde_json::from_str::<Remembered>(golden).unwrap(), remembered);
    assert_eq!(serde_json::from_str::<Remembered>("{}").unwrap(), Remembered::default());
}
