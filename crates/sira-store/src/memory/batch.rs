//! Atomic batches of the memory backend.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::state::{Entry, State};
use super::{MemoryBackend, own};
use crate::backend::{BatchOperation, BatchResult, Object};
use crate::batch::{self, Staging};
use crate::driver::check_newer;
use crate::error::Result;
use crate::key::CheckedWrite;
use crate::metadata::Metadata;
use crate::version::Version;

impl MemoryBackend {
    pub(super) fn run_batch(&self, operations: &[BatchOperation]) -> Result<Vec<BatchResult>> {
        let now_ms = self.now_ms();
        let mut state = self.shared.state.write();
        let mut overlay = Overlay::new(&state, &self.name, now_ms);
        let staged = match batch::stage(&mut overlay, operations, now_ms) {
            Ok(staged) => staged,
            Err(failure) => {
                let untouched = Overlay::new(&state, &self.name, now_ms);
                return Ok(failure.results(&untouched, operations));
            }
        };
        let Overlay { changes, newest, .. } = overlay;
        let pairs = changes.iter().map(|(key, entry)| (&**key, entry.as_ref()));
        state.reserve(&self.name, pairs, now_ms)?;
        self.shared.clock.observe(newest);
        let version = self.shared.clock.next(now_ms);
        for (key, entry) in changes {
            match entry {
                Some(entry) if entry.version == Version::default() => {
                    state.insert(&self.name, key, Entry { version, ..entry });
                }
                Some(entry) => state.insert(&self.name, key, entry),
                None => drop(state.remove(&self.name, &key)),
            }
        }
        state.collect(now_ms, operations.len());
        Ok(staged.committed(operations, version))
    }
}

/// The changes of a batch over a state that does not change meanwhile.
struct Overlay<'a> {
    state: &'a State,
    space: &'a str,
    now_ms: u64,
    /// The new entry of a key, `None` where it is removed.
    changes: BTreeMap<Box<[u8]>, Option<Entry>>,
    /// The greatest of the versions that the batch gives itself.
    newest: Version,
}

impl<'a> Overlay<'a> {
    fn new(state: &'a State, space: &'a str, now_ms: u64) -> Self {
        Self { state, space, now_ms, changes: BTreeMap::new(), newest: Version::default() }
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        match self.changes.get(key.as_bytes()) {
            Some(change) => change.as_ref(),
            None => {
                self.state.get(self.space, key.as_bytes()).filter(|entry| entry.lives(self.now_ms))
            }
        }
    }
}

impl Staging for Overlay<'_> {
    fn read(&self, key: &str) -> Result<Option<Object>> {
        Ok(self.entry(key).map(Entry::object))
    }

    fn version(&self, key: &str) -> Result<Option<Version>> {
        Ok(self.entry(key).map(|entry| entry.version))
    }

    fn put(&mut self, key: &str, value: Bytes, checked: CheckedWrite) -> Result<()> {
        if let Some(version) = checked.version {
            let held = self.state.get(self.space, key.as_bytes()).map(|entry| entry.version);
            let staged = self.changes.get(key.as_bytes()).and_then(Option::as_ref);
            check_newer(version, held.max(staged.map(|entry| entry.version)))?;
            self.newest = self.newest.max(version);
        }
        let entry = Entry {
            value: own(value),
            // Without one, the batch's own is given when it is drawn.
            version: checked.version.unwrap_or_default(),
            expires_at_ms: checked.expires_at_ms,
            metadata_bytes: checked.metadata.len(),
            metadata: Metadata::decode(&checked.metadata)?,
        };
        self.changes.insert(key.as_bytes().into(), Some(entry));
        Ok(())
    }

    fn delete(&mut self, key: &str) -> Result<()> {
        self.changes.insert(key.as_bytes().into(), None);
        Ok(())
    }
}
