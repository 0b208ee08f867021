//! What the log says of every change: not only which keys, but what they were given.

use bytes::Bytes;
use sira_log::log::RecordRef;

use super::super::item::{ITEM_BYTES, Op};
use super::super::{NamespaceId, StoredObject, Ticket};
use super::Engine;
use super::follow::{LogPlace, Step};
use super::replay::{LoggedChange, changes};
use super::write::FLAG_BATCH;
use crate::error::{Result, StorageError};
use crate::version::Version;

/// A change as the log has it.
#[derive(Debug, Clone)]
pub struct LoggedWrite {
    /// Number of the record. Those of one record took effect together.
    pub sequence: u64,
    /// When the record was written, by the engine's clock.
    pub time: Version,
    /// Number of the namespace.
    pub namespace: NamespaceId,
    /// The key.
    pub key: Bytes,
    /// Version of what was written, or of the removal.
    pub version: Version,
    /// What was written, as it is stored; `None` for a removal.
    pub put: Option<StoredObject>,
}

/// Changes in the order in which they took effect.
#[derive(Debug, Clone)]
pub struct History {
    /// The changes.
    pub writes: Vec<LoggedWrite>,
    /// The place behind them.
    pub next: LogPlace,
    /// Records behind that.
    pub left: u64,
}

impl Engine {
    /// The place behind every record whose change can be seen by reads that begin after this.
    pub fn history_end(&self) -> LogPlace {
        let place = self.log_end();
        // A record is in the index once the lock that it was written under was free.
        self.stripes.drain();
        place
    }

    /// Draws a version that is greater than those of all changes before it.
    pub fn draw_version(&self) -> Version {
        self.clock.next(self.env.now_ms())
    }

    /// Waits until everything before a place is durable.
    ///
    /// # Errors
    /// The medium's.
    pub async fn history_durable(&self, place: LogPlace) -> Result<()> {
        self.durable_async(Ticket(place.sequence)).await
    }

    /// Durable changes behind a place, of whole records: until about so many records or bytes of
    /// values were seen, or a place is reached. `None` where the log no longer has them: space is
    /// reclaimed by writing live objects again at the end, where they are changes once more, with
    /// the versions that they have.
    ///
    /// # Errors
    /// The medium's.
    pub fn history(
        &self,
        from: LogPlace,
        until: Option<LogPlace>,
        records: usize,
        bytes: u64,
    ) -> Result<Option<History>> {
        let until = until.map_or(u64::MAX, |place| place.sequence);
        let mut writes = Vec::new();
        let mut seen = 0;
        if from.sequence >= until {
            return Ok(Some(History { writes, next: from, left: 0 }));
        }
        let next = self.walk(from, records, |record, segment| {
            let whole = changes(record, |change| {
                let write = logged(record, segment, &change).ok_or_else(|| {
                    StorageError::corrupt("a record of the log is not what it says")
                })?;
                seen += write.put.as_ref().map_or(0, |put| put.size) + write.key.len() as u64;
                writes.push(write);
                Ok(())
            })?;
            let behind = record.header.sequence + u64::from(record.header.count);
            Ok(match whole {
                false => Step::Lost,
                true if seen >= bytes || behind >= until => Step::Stop,
                true => Step::On,
            })
        })?;
        let Some(next) = next else { return Ok(None) };
        let left = self.log.appended().saturating_sub(next.sequence);
        Ok(Some(History { writes, next, left }))
    }
}

/// A change with what it stored, without a copy of the value.
fn logged(
    record: &RecordRef<'_>,
    segment: &Bytes,
    change: &LoggedChange<'_>,
) -> Option<LoggedWrite> {
    let LoggedChange { header, version, key, item, .. } = *change;
    let put = match header.op {
        Op::Delete => None,
        Op::Put => {
            let metadata = ITEM_BYTES + usize::from(header.key_len);
            let metadata = item.get(metadata..metadata + header.meta_len as usize)?;
            // Of an item alone in its record, the value is the record's data.
            let value = match record.header.flags & FLAG_BATCH != 0 {
                true => item.get(header.lead_len()..header.inline_len())?,
                false => record.data().get(..header.value_len as usize)?,
            };
            Some(StoredObject {
                version,
                expires_at_ms: header.expires_at_ms(),
                metadata: Bytes::copy_from_slice(metadata),
                value: segment.slice_ref(value),
                size: u64::from(header.value_len),
            })
        }
    };
    Some(LoggedWrite {
        sequence: record.header.sequence,
        time: Version::from_u64(record.header.time),
        namespace: header.namespace,
        key: Bytes::copy_from_slice(key),
        version,
        put,
    })
}
