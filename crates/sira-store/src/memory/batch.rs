//! Atomic batches of the memory backend.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::state::{Entry, State};
use super::{MemoryBackend, own, page_of};
use crate::backend::{BatchOperation, BatchResult, Object};
use crate::batch::{self, Staging};
use crate::driver::check_newer;
use crate::error::{Result, StorageError};
use crate::key::CheckedWrite;
use crate::metadata::Metadata;
use crate::transaction::TransactionPart;
use crate::version::Version;

/// New entries of keys in a namespace, `None` where the key is removed.
type Changes = BTreeMap<Box<[u8]>, Option<Entry>>;

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
        let spaces = vec![(Arc::clone(&self.name), changes)];
        let version = self.make(&mut state, spaces, newest, now_ms)?;
        state.collect(now_ms, operations.len());
        Ok(staged.committed(operations, version))
    }

    /// Runs the parts of a transaction.
    pub(super) fn run_parts(&self, parts: &[TransactionPart]) -> Result<Vec<Vec<BatchResult>>> {
        let now_ms = self.now_ms();
        let mut state = self.shared.state.write();
        let mut newest = Version::default();
        let (mut staged, mut spaces) = (Vec::new(), Vec::new());
        for part in parts {
            let located = |error: StorageError| error.with_namespace(&*part.namespace);
            for listed in &part.listed {
                let page = page_of(&state, &part.namespace, &listed.again(), now_ms);
                listed.require(&page.map_err(located)?).map_err(located)?;
            }
            let mut overlay = Overlay::new(&state, &part.namespace, now_ms);
            let ran = batch::stage(&mut overlay, &part.operations, now_ms);
            staged.push(ran.map_err(|failure| located(failure.into_error(&part.operations)))?);
            newest = newest.max(overlay.newest);
            spaces.push((Arc::from(&*part.namespace), overlay.changes));
        }
        let version = self.make(&mut state, spaces, newest, now_ms)?;
        state.collect(now_ms, parts.iter().map(|part| part.operations.len()).sum());
        let results = staged.into_iter().zip(parts);
        Ok(results.map(|(staged, part)| staged.committed(&part.operations, version)).collect())
    }

    /// Makes changes of several namespaces, and answers their version. `newest` is the greatest of
    /// the versions that they give themselves.
    fn make(
        &self,
        state: &mut State,
        spaces: Vec<(Arc<str>, Changes)>,
        newest: Version,
        now_ms: u64,
    ) -> Result<Version> {
        let changes = spaces.iter().flat_map(|(space, changes)| {
            changes.iter().map(|(key, entry)| (&**space, &**key, entry.as_ref()))
        });
        state.reserve(changes, now_ms)?;
        self.shared.clock.observe(newest);
        let version = self.shared.clock.next(now_ms);
        for (space, changes) in spaces {
            for (key, entry) in changes {
                match entry {
                    Some(entry) if entry.version == Version::default() => {
                        state.insert(&space, key, Entry { version, ..entry });
                    }
                    Some(entry) => state.insert(&space, key, entry),
                    None => drop(state.remove(&space, &key)),
                }
            }
        }
        Ok(version)
    }
}

/// The changes of a batch over a state that does not change meanwhile.
struct Overlay<'a> {
    state: &'a State,
    space: &'a str,
    now_ms: u64,
    changes: Changes,
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
