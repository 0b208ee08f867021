//! The change log of a namespace.

use async_trait::async_trait;
use bytes::Bytes;

use super::engine::{Followed, LogPlace};
use super::{EmbeddedBackend, NamespaceId, Ticket};
use crate::changes::{Change, ChangeLog, ChangePage, ChangePosition};
use crate::error::Result;

/// Bytes of an encoded position: segment, namespace, salt, offset, sequence.
const POSITION_BYTES: usize = 32;

/// A namespace that is not there.
const NO_NAMESPACE: u32 = u32::MAX;

/// A place in the log, and the number that the namespace had there: it has another one after it was
/// dropped or emptied, of which the log says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    place: LogPlace,
    namespace: u32,
}

impl Position {
    fn encode(self) -> ChangePosition {
        let LogPlace { segment, salt, offset, sequence } = self.place;
        let mut out = Vec::with_capacity(POSITION_BYTES);
        out.extend_from_slice(&segment.to_le_bytes());
        out.extend_from_slice(&self.namespace.to_le_bytes());
        for number in [salt, offset, sequence] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        ChangePosition(Bytes::from(out))
    }

    fn decode(position: &ChangePosition) -> Option<Self> {
        let bytes: &[u8; POSITION_BYTES] = position.0.as_ref().try_into().ok()?;
        let (words, _) = bytes.as_chunks::<4>();
        let word = |at: usize| words.get(at).map(|word| u32::from_le_bytes(*word));
        let long = |at: usize| Some(u64::from(word(at)?) | u64::from(word(at + 1)?) << 32);
        let place =
            LogPlace { segment: word(0)?, salt: long(2)?, offset: long(4)?, sequence: long(6)? };
        Some(Self { place, namespace: word(1)? })
    }
}

impl EmbeddedBackend {
    fn namespace_number(&self) -> u32 {
        self.find().map_or(NO_NAMESPACE, |id| id.0)
    }
}

/// Keys that are not UTF-8 are left out, as in listings.
#[async_trait]
impl ChangeLog for EmbeddedBackend {
    async fn end(&self) -> Result<ChangePosition> {
        let namespace = self.namespace_number();
        Ok(Position { place: self.engine().log_end(), namespace }.encode())
    }

    async fn after(&self, position: &ChangePosition, records: usize) -> Result<Option<ChangePage>> {
        let namespace = self.namespace_number();
        // One that was not there had no records before the place.
        let goes_on = |from: &Position| [namespace, NO_NAMESPACE].contains(&from.namespace);
        let Some(from) = Position::decode(position).filter(goes_on) else { return Ok(None) };
        let followed = self.engine().follow(from.place, NamespaceId(namespace), records);
        let Some(Followed { keys, next, left, last }) =
            followed.map_err(|error| error.with_namespace(self.namespace_name()))?
        else {
            return Ok(None);
        };
        let changes = keys
            .into_iter()
            .filter_map(|found| {
                let key = String::from_utf8(found.key).ok()?;
                Some(Change { key, version: found.version, removed: found.removed })
            })
            .collect();
        Ok(Some(ChangePage {
            changes,
            next: Position { place: next, namespace }.encode(),
            records_left: left,
            written_ms: last.map(|version| version.time_ms()),
        }))
    }

    async fn settle(&self) -> Result<()> {
        self.engine().durable_async(Ticket(self.engine().log.appended())).await
    }
}

#[cfg(test)]
mod tests;
