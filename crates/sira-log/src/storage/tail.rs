//! Following the log as it grows.

use std::sync::Arc;
use std::time::Duration;

use super::reader::LogRecord;
use super::{Inner, LogStorage};
use crate::error::Result;
use crate::record::LogPosition;

/// Items in the order of their sequence, those that are appended later included.
#[derive(Debug)]
pub struct LogTail {
    inner: Arc<Inner>,
    position: LogPosition,
    sequence: u64,
    reader: Option<super::LogReader>,
}

impl LogStorage {
    /// Follows the log from a position on; from [`LogStorage::position`], only what comes.
    #[must_use]
    pub fn tail(&self, from: LogPosition) -> LogTail {
        LogTail { inner: Arc::clone(&self.inner), position: from, sequence: 0, reader: None }
    }
}

impl LogTail {
    /// The next item; waits for one to be appended, up to `timeout`. `None` when none came.
    ///
    /// # Errors
    /// As [`super::LogReader`]'s items; the next call goes on behind the damage.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<LogRecord>> {
        let mut waited = false;
        loop {
            if self.reader.is_none() {
                let seen = self.inner.log.appended();
                let mut reader = self.inner.read(&self.position.into())?;
                match reader.next() {
                    Some(record) => {
                        self.reader = Some(reader);
                        if let Some(record) = self.take(record)? {
                            return Ok(Some(record));
                        }
                        continue;
                    }
                    None if waited => return Ok(None),
                    None => {
                        waited = true;
                        if !self.inner.wait_growth(seen, timeout) {
                            return Ok(None);
                        }
                        continue;
                    }
                }
            }
            match self.reader.as_mut().and_then(Iterator::next) {
                Some(record) => {
                    if let Some(record) = self.take(record)? {
                        return Ok(Some(record));
                    }
                }
                None => self.reader = None,
            }
        }
    }

    /// Steps behind a record; items that were given before are left out.
    fn take(&mut self, record: Result<LogRecord>) -> Result<Option<LogRecord>> {
        let record = record?;
        self.position = record.next;
        if record.sequence < self.sequence {
            return Ok(None);
        }
        self.sequence = record.sequence + 1;
        Ok(Some(record))
    }

    /// Where the next frame starts that was not given yet.
    #[must_use]
    pub fn position(&self) -> LogPosition {
        self.position
    }
}
