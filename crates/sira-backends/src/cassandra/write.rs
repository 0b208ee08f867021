//! Writes under a guard, as lightweight transactions.

use std::time::Duration;

use ::scylla::errors::ExecutionError;
use ::scylla::response::query_result::QueryResult;
use sira_store::driver::{Guard, Held, Record};
use sira_store::{Condition, Result, Retry, StorageError, Version};

use super::outcome::{self, Outcome};
use super::{Inner, NEVER, Row, error, expiry};
use crate::deadline::Effect;
use crate::signed;

/// Tries of a write that others keep overtaking.
const TRIES: u32 = 64;

/// How much longer than its time a row is kept, in seconds. Clocks differ.
const TTL_SLACK_SECONDS: u64 = 600;

/// The longest time to live that the engine takes, in seconds; rows of a longer one stay until they
/// are replaced or removed.
const TTL_SECONDS_MAX: u64 = 20 * 365 * 24 * 60 * 60;

/// What a row must hold to be replaced or removed; both ends of both ranges are included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounds {
    versions: (i64, i64),
    expiries: (i64, i64),
}

impl Bounds {
    /// Exactly this record.
    fn exactly(held: Held) -> Self {
        let version = signed::from_version(held.version);
        let expiry = column_of(held.expires_at_ms);
        Self { versions: (version, version), expiries: (expiry, expiry) }
    }

    /// Any record.
    const fn any() -> Self {
        Self { versions: (i64::MIN, i64::MAX), expiries: (i64::MIN, NEVER) }
    }

    /// Any record that has not expired.
    fn live(guard: &Guard) -> Self {
        let first = signed::clamp(guard.now_ms).saturating_add(1);
        Self { expiries: (first, NEVER), ..Self::any() }
    }

    /// This version, if it has not expired.
    fn live_version(version: Version, guard: &Guard) -> Self {
        let version = signed::from_version(version);
        Self { versions: (version, version), ..Self::live(guard) }
    }

    /// Of these, the versions before one.
    fn before(self, version: Version) -> Self {
        let last = signed::from_version(version).saturating_sub(1);
        Self { versions: (self.versions.0, self.versions.1.min(last)), ..self }
    }
}

/// What a write expects of its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Nothing,
    Within(Bounds),
}

impl Inner {
    /// Writes a record that nobody else writes.
    pub(super) async fn insert(
        &self,
        row: &Row<'_>,
        record: Record,
        guard: &Guard,
    ) -> Result<Version> {
        let values = (
            signed::from_version(record.version),
            column_of(record.expires_at_ms),
            signed::clamp(record.size),
            &record.envelope,
            &record.body,
            row.namespace,
            row.area,
            row.bucket,
            row.key.as_bytes(),
            ttl_seconds(&record, guard),
        );
        let answer = self.session.execute_unpaged(&self.statements.insert, values).await;
        answer.map_err(|error| error::of(error, Effect::Write))?;
        Ok(record.version)
    }

    /// Writes a record if the guard holds.
    pub(super) async fn put_object(
        &self,
        row: &Row<'_>,
        mut record: Record,
        guard: Guard,
    ) -> Result<Version> {
        let _turn = match self.line(row) {
            Some(line) => Some(line.lock().await),
            None => None,
        };
        let mut expected = match guard.condition {
            Condition::IfAbsent => Expected::Nothing,
            Condition::IfMatch(held) if record.version > held => {
                Expected::Within(Bounds::live_version(held, &guard))
            }
            Condition::IfPresent => Expected::Within(Bounds::live(&guard)),
            // A look is cheaper than a transaction that is refused.
            _ => self.expect(self.held(row).await?, &mut record, &guard)?,
        };
        for attempt in 0..TRIES {
            match self.write(row, &record, &guard, expected).await? {
                Outcome::Applied => return Ok(record.version),
                Outcome::Refused(held) => expected = self.expect(held, &mut record, &guard)?,
            }
            pause(attempt).await;
        }
        Err(overtaken())
    }

    /// What to expect of a row that holds this, if the guard lets the write through; gives the
    /// record the version to store.
    fn expect(&self, held: Option<Held>, record: &mut Record, guard: &Guard) -> Result<Expected> {
        record.version = guard.admit(held, record.version)?;
        Ok(match (held, guard.condition) {
            (None, _) => Expected::Nothing,
            (Some(_), Condition::Always) => Expected::Within(Bounds::any()),
            (Some(held), _) => Expected::Within(Bounds::exactly(held)),
        })
    }

    /// One transaction.
    async fn write(
        &self,
        row: &Row<'_>,
        record: &Record,
        guard: &Guard,
        expected: Expected,
    ) -> Result<Outcome> {
        let ttl = ttl_seconds(record, guard);
        let version = signed::from_version(record.version);
        let expires_at = column_of(record.expires_at_ms);
        let (size, key) = (signed::clamp(record.size), row.key.as_bytes());
        let (envelope, body) = (&record.envelope, &record.body);
        let Row { namespace, area, bucket, .. } = *row;
        let answer = match expected {
            Expected::Nothing => {
                let columns = (ttl, version, expires_at, size, envelope, body);
                let (ttl, version, expires_at, size, envelope, body) = columns;
                let values =
                    (ttl, version, expires_at, size, envelope, body, namespace, area, bucket, key);
                self.session.execute_unpaged(&self.statements.create, values).await
            }
            Expected::Within(bounds) => {
                let Bounds { versions, expiries } = bounds.before(record.version);
                let values = (
                    ttl, version, expires_at, size, envelope, body, namespace, area, bucket, key,
                    versions.0, versions.1, expiries.0, expiries.1,
                );
                self.session.execute_unpaged(&self.statements.replace, values).await
            }
        };
        match judged(answer) {
            Err(lost) if lost.retry() == Retry::Ambiguous => {
                self.resolve(row, record.version, lost).await
            }
            judged => judged,
        }
    }

    /// Looks whether a write without an answer was made.
    async fn resolve(
        &self,
        row: &Row<'_>,
        version: Version,
        lost: StorageError,
    ) -> Result<Outcome> {
        let values = (row.namespace, row.area, row.bucket, row.key.as_bytes());
        let answer = self.session.execute_unpaged(&self.statements.held_serial, values).await;
        match answer.map_err(|error| error::of(error, Effect::Read)).and_then(held_of) {
            Ok(Some(held)) if held.version == version => Ok(Outcome::Applied),
            // It may have been made and overwritten since.
            _ => Err(lost),
        }
    }

    /// Removes a record if the guard holds, and says whether it had not expired.
    pub(super) async fn remove_object(&self, row: &Row<'_>, guard: Guard) -> Result<bool> {
        let _turn = match self.line(row) {
            Some(line) => Some(line.lock().await),
            None => None,
        };
        let mut bounds = match guard.condition {
            Condition::Always | Condition::IfPresent => Bounds::live(&guard),
            Condition::IfMatch(held) => Bounds::live_version(held, &guard),
            Condition::IfAbsent | Condition::IfNoneMatch(_) => match self.held(row).await? {
                Some(held) if guard.admit_removal(Some(held))? => Bounds::exactly(held),
                held => return guard.admit_removal(held),
            },
        };
        for attempt in 0..TRIES {
            let Bounds { versions, expiries } = bounds;
            let Row { namespace, area, bucket, .. } = *row;
            let values = (
                namespace,
                area,
                bucket,
                row.key.as_bytes(),
                versions.0,
                versions.1,
                expiries.0,
                expiries.1,
            );
            let answer = self.session.execute_unpaged(&self.statements.remove, values).await;
            match judged(answer)? {
                Outcome::Applied => return Ok(true),
                // What has expired goes by itself.
                Outcome::Refused(held) if !guard.admit_removal(held)? => return Ok(false),
                Outcome::Refused(Some(held)) => bounds = Bounds::exactly(held),
                Outcome::Refused(None) => return Ok(false),
            }
            pause(attempt).await;
        }
        Err(overtaken())
    }

    /// Version and expiry of what a row holds.
    async fn held(&self, row: &Row<'_>) -> Result<Option<Held>> {
        let values = (row.namespace, row.area, row.bucket, row.key.as_bytes());
        let answer = self.session.execute_unpaged(&self.statements.held, values).await;
        held_of(answer.map_err(|error| error::of(error, Effect::Read))?)
    }
}

fn judged(answer: std::result::Result<QueryResult, ExecutionError>) -> Result<Outcome> {
    outcome::of(answer.map_err(|error| error::of(error, Effect::Write))?)
}

fn held_of(answer: QueryResult) -> Result<Option<Held>> {
    let answer = answer.into_rows_result().map_err(error::malformed)?;
    let found = answer.maybe_first_row::<(i64, i64)>().map_err(error::malformed)?;
    found
        .map(|(version, expires_at)| {
            let version = signed::to_version(version);
            Ok(Held { version, expires_at_ms: expiry(expires_at)? })
        })
        .transpose()
}

/// The column of an expiry.
fn column_of(expires_at_ms: Option<u64>) -> i64 {
    expires_at_ms.map_or(NEVER, |at| signed::clamp(at).min(NEVER - 1))
}

/// How long the engine keeps a row; 0 is for ever.
fn ttl_seconds(record: &Record, guard: &Guard) -> i32 {
    let Some(at) = record.expires_at_ms else { return 0 };
    let seconds = at.saturating_sub(guard.now_ms).div_ceil(1000).saturating_add(TTL_SLACK_SECONDS);
    if seconds > TTL_SECONDS_MAX { 0 } else { i32::try_from(seconds).unwrap_or(0) }
}

/// Lets others finish, the longer the more often they were faster.
async fn pause(attempt: u32) {
    tokio::time::sleep(Duration::from_millis(u64::from(attempt.min(20)))).await;
}

fn overtaken() -> StorageError {
    StorageError::conflict(
        "other writers of this key were faster each time; try again with fewer of them",
    )
}

#[cfg(test)]
mod tests;
