use std::time::Duration;

use jiff::tz::TimeZone;

use super::Schedule;

const HOUR: u64 = 3_600_000;

#[test]
fn what_is_due_follows_the_clock_of_the_zone() {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let nightly = Schedule::new("30 2 * * *", zone, Duration::ZERO).unwrap();
    // 2026-03-28 00:00 UTC, the day before the clocks go forward from 2:00 to 3:00.
    let day = 1_774_656_000_000;
    let first = nightly.after(day).unwrap();
    assert_eq!(first, day + HOUR + HOUR / 2);
    let second = nightly.after(first).unwrap();
    assert!(second > first && second <= day + 26 * HOUR, "{second}");
    let third = nightly.after(second).unwrap();
    assert_eq!(third, day + 48 * HOUR + HOUR / 2);
}

#[test]
fn what_can_never_be_due_is_not() {
    let never = Schedule::new("0 0 30 2 *", TimeZone::UTC, Duration::ZERO).unwrap();
    assert_eq!(never.after(0), None);
    assert!(Schedule::new("nightly", TimeZone::UTC, Duration::ZERO).is_err());
}

#[test]
fn jitter_is_up_to_its_bound() {
    let jitter = Duration::from_secs(60);
    let schedule = Schedule::new("* * * * *", TimeZone::UTC, jitter).unwrap();
    assert_eq!(schedule.delay(0), Duration::ZERO);
    assert_eq!(schedule.delay(u64::MAX), jitter);
}
