//! When something is due: cron expressions in a time zone.

use std::str::FromStr;
use std::time::Duration;

use croner::Cron;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use sira_store::{Result, StorageError};

/// When something is due, again and again.
#[derive(Debug, Clone)]
pub struct Schedule {
    text: String,
    cron: Cron,
    time_zone: TimeZone,
    /// Up to this much later, by chance, so that servers do not begin together.
    jitter: Duration,
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        (&self.text, &self.time_zone, self.jitter) == (&other.text, &other.time_zone, other.jitter)
    }
}

impl Schedule {
    /// A cron expression of five fields, such as `0 3 * * *`, in a time zone.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] for what is no cron expression.
    pub fn new(cron: &str, time_zone: TimeZone, jitter: Duration) -> Result<Self> {
        let parsed = Cron::from_str(cron).map_err(|error| {
            StorageError::invalid_input(format!("{cron:?} is no cron expression: {error}"))
        })?;
        Ok(Self { text: cron.to_owned(), cron: parsed, time_zone, jitter })
    }

    /// The first time after this one, both in milliseconds since the Unix epoch; `None` where there
    /// is none, as with the 30th of February.
    #[must_use]
    pub fn after(&self, time_ms: u64) -> Option<u64> {
        let time = Timestamp::from_millisecond(i64::try_from(time_ms).ok()?).ok()?;
        let time = time.to_zoned(self.time_zone.clone());
        let next = self.cron.find_next_occurrence(&time, false).ok()?;
        u64::try_from(next.timestamp().as_millisecond()).ok()
    }

    /// How much later it begins this time, by a random number.
    #[must_use]
    pub fn delay(&self, random: u64) -> Duration {
        self.jitter.mul_f64(random as f64 / u64::MAX as f64)
    }
}
