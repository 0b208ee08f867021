//! Which snapshots are kept.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::snapshot::SnapshotId;

/// Which snapshots are kept: those that any of the rules keeps, and the newest.
#[derive(Debug, Clone, PartialEq)]
pub struct Retention {
    /// The newest ones, this many.
    pub last: u32,
    /// Those of the last days, this many times 24 hours.
    pub days: u32,
    /// The newest of each day, for this many days that have one.
    pub daily: u32,
    /// The newest of each week, which begins on Monday.
    pub weekly: u32,
    /// The newest of each month.
    pub monthly: u32,
    /// The newest of each year.
    pub yearly: u32,
    /// Says when days begin.
    pub time_zone: TimeZone,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            last: 3,
            days: 7,
            daily: 14,
            weekly: 8,
            monthly: 12,
            yearly: 3,
            time_zone: TimeZone::UTC,
        }
    }
}

/// Milliseconds of a day.
const DAY_MS: u64 = 24 * 3600 * 1000;

impl Retention {
    /// The snapshots of these that are to go, at this time in milliseconds since the Unix epoch.
    #[must_use]
    pub fn expired(&self, snapshots: &[SnapshotId], now_ms: u64) -> BTreeSet<SnapshotId> {
        let mut all: Vec<SnapshotId> = snapshots.to_vec();
        all.sort_unstable_by(|a, b| b.cmp(a));
        let mut kept: BTreeSet<SnapshotId> =
            all.iter().take((self.last as usize).max(1)).copied().collect();
        let since = now_ms.saturating_sub(u64::from(self.days) * DAY_MS);
        if self.days > 0 {
            kept.extend(all.iter().filter(|id| id.begun_ms >= since));
        }
        let rules: [(u32, Period); 4] = [
            (self.daily, Period::Day),
            (self.weekly, Period::Week),
            (self.monthly, Period::Month),
            (self.yearly, Period::Year),
        ];
        for (count, period) in rules {
            let mut seen = BTreeSet::new();
            for id in &all {
                let name = self.name(id.begun_ms, period);
                if seen.len() < count as usize && seen.insert(name) {
                    kept.insert(*id);
                }
            }
        }
        all.into_iter().filter(|id| !kept.contains(id)).collect()
    }

    /// Tells apart the periods.
    fn name(&self, at_ms: u64, period: Period) -> (i16, i16, i16) {
        let at = i64::try_from(at_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let date = at.unwrap_or_default().to_zoned(self.time_zone.clone()).date();
        match period {
            Period::Day => (date.year(), date.month().into(), date.day().into()),
            Period::Week => {
                let week = date.iso_week_date();
                (week.year(), week.week().into(), 0)
            }
            Period::Month => (date.year(), date.month().into(), 0),
            Period::Year => (date.year(), 0, 0),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Period {
    Day,
    Week,
    Month,
    Year,
}
