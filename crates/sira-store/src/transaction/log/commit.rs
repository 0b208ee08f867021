//! One commit over several backends.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::record::{self, Put, Write};
use super::{PENDING_BYTES_MAX, Shared, TransactionLog, listing};
use crate::backend::{
    BatchOperation, BatchResult, Object, ObjectHead, ReadOptions, StorageBackend,
};
use crate::batch::{self, Staging};
use crate::error::{Result, Retry, StorageError};
use crate::key::{CheckedWrite, check_key};
use crate::metadata::Metadata;
use crate::options::{Condition, Durability, StorageOptions};
use crate::placement::together;
use crate::transaction::engine::TransactionPart;
use crate::version::Version;

/// Begins the names, as the log is told them, of namespaces that lie on other engines than its own.
/// No namespace can be named so.
const APART: &str = "apart/";

/// Keys that are looked at at the same time.
const TOGETHER: usize = 64;

/// Times that a commit waits for the ones before it.
const ATTEMPTS: usize = 32;

/// The name under which the log is told a namespace that lies elsewhere.
pub(super) fn apart(namespace: &str) -> String {
    format!("{APART}{namespace}")
}

/// A part of a transaction in a namespace that lies elsewhere.
struct PartApart {
    /// Which of the transaction's parts it is.
    number: usize,
    namespace: Arc<str>,
    backend: Arc<dyn StorageBackend>,
    part: TransactionPart,
}

impl PartApart {
    /// Keys that the part is about.
    fn keys(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        let operations = self.part.operations.iter();
        operations.map(|operation| (&*self.namespace, operation.key()))
    }
}

/// Commits the parts, on the log's own engine and elsewhere.
///
/// # Errors
/// That of the first operation which failed; nothing has changed then, but where the error is
/// ambiguous.
pub(super) async fn run(
    shared: &Arc<Shared>,
    parts: Vec<TransactionPart>,
) -> Result<Vec<Vec<BatchResult>>> {
    let count = parts.len();
    let (mut elsewhere, mut here) = (Vec::new(), Vec::new());
    for (number, part) in parts.into_iter().enumerate() {
        match part.namespace.strip_prefix(APART) {
            None => here.push((number, part)),
            Some(name) => {
                let namespace: Arc<str> = name.into();
                let Some(backend) = shared.backend(name) else {
                    let gone =
                        "the namespace was closed while the transaction went on; run it again";
                    return Err(StorageError::conflict(gone).with_namespace(name));
                };
                elsewhere.push(PartApart { number, namespace, backend, part });
            }
        }
    }
    let _closed = close(shared, &elsewhere).await?;
    let mut answers: Vec<Vec<BatchResult>> = std::iter::repeat_with(Vec::new).take(count).collect();
    let mut writes = Vec::new();
    for part in &elsewhere {
        let (staged, results) =
            stage(shared, part).await.map_err(|error| error.with_namespace(&*part.namespace))?;
        writes.extend(staged.into_iter().map(Arc::new));
        answers[part.number] = results;
    }
    let numbers: Vec<usize> = here.iter().map(|(number, _)| *number).collect();
    let here: Vec<TransactionPart> = here.into_iter().map(|(_, part)| part).collect();
    let results = match writes.is_empty() {
        true if here.is_empty() => Vec::new(),
        // What was looked at elsewhere stays as it is until this has ended.
        true => shared.engine.commit(here).await?,
        false => commit(shared, here, writes.into()).await?,
    };
    for (number, results) in numbers.into_iter().zip(results) {
        answers[number] = results;
    }
    Ok(answers)
}

/// Waits for what was committed before to be written through, and keeps all others away from the
/// keys of the parts.
async fn close(shared: &Shared, parts: &[PartApart]) -> Result<super::gates::Closure> {
    let lists = parts.iter().any(|part| !part.part.listed.is_empty());
    let keys = || parts.iter().flat_map(PartApart::keys);
    for _ in 0..ATTEMPTS {
        let closed = match lists {
            // A key that is not there yet has no gate of its own that keeps it away.
            true => shared.gates.close_all().await,
            false => shared.gates.close(keys()).await,
        };
        if shared.table.are_free(keys()) {
            return Ok(closed);
        }
        drop(closed);
        shared.table.freed(keys()).await?;
    }
    Err(StorageError::conflict("other transactions write to the same keys again and again"))
}

/// Looks whether all that a part demands holds, and works out what it writes and answers.
async fn stage(shared: &Shared, part: &PartApart) -> Result<(Vec<Write>, Vec<BatchResult>)> {
    let PartApart { namespace, backend, part, .. } = part;
    for listed in &part.listed {
        listed.require(&listing::again(shared, namespace, &**backend, listed).await?)?;
    }
    let mut reads = BTreeSet::new();
    let mut keys = BTreeSet::new();
    for operation in part.operations.iter().filter(|of| check_key(of.key()).is_ok()) {
        keys.insert(operation.key());
        if matches!(operation, BatchOperation::Get { .. }) {
            reads.insert(operation.key());
        }
    }
    let mut held = HashMap::with_capacity(keys.len());
    let all: Vec<&str> = keys.into_iter().collect();
    for some in all.chunks(TOGETHER) {
        let looks = some.iter().map(|key| look(&**backend, key, reads.contains(key)));
        for (key, found) in some.iter().zip(together(looks).await) {
            held.insert(*key, found.map_err(|error| error.with_key(*key))?);
        }
    }
    let now_ms = shared.env.now_ms();
    let mut staged = Staged { shared, now_ms, held, writes: BTreeMap::new() };
    let results = match batch::stage(&mut staged, &part.operations, now_ms) {
        Ok(results) => results.committed(&part.operations, Version::default()),
        Err(failure) => return Err(failure.into_error(&part.operations)),
    };
    let results = staged.versions(&part.operations, results);
    let writes = staged.writes.into_iter().map(|(key, (version, put))| Write {
        namespace: Arc::clone(namespace),
        key,
        version,
        put,
    });
    Ok((writes.collect(), results))
}

/// What a key holds; without the bytes unless they are asked for.
async fn look(backend: &dyn StorageBackend, key: &str, reads: bool) -> Result<Option<Object>> {
    if reads {
        return backend.read(key, ReadOptions::default()).await;
    }
    let head = backend.head(key).await?;
    Ok(head.map(|head| Object { head, value: Bytes::new(), range: 0..0 }))
}

/// The keys of a part, as they are and as they are going to be.
struct Staged<'a> {
    shared: &'a Shared,
    now_ms: u64,
    held: HashMap<&'a str, Option<Object>>,
    writes: BTreeMap<String, (Version, Option<Put>)>,
}

impl Staged<'_> {
    /// A version for a key, greater than what it holds.
    fn next(&self, key: &str) -> Version {
        let (now_ms, random) = (self.now_ms, self.shared.env.random_u64());
        let clock = &self.shared.clock;
        match self.held_version(key) {
            Some(held) if held.time_ms() >= now_ms => clock.next_after(held, now_ms, random),
            _ => clock.next_spread(now_ms, random),
        }
    }

    /// The greatest version that the key has held, what is staged included.
    fn held_version(&self, key: &str) -> Option<Version> {
        let staged = self.writes.get(key).map(|(version, _)| *version);
        let held = self.held.get(key).and_then(Option::as_ref).map(|object| object.head.version);
        staged.max(held)
    }

    /// The answers, with the version of each write.
    fn versions(
        &self,
        operations: &[BatchOperation],
        mut results: Vec<BatchResult>,
    ) -> Vec<BatchResult> {
        for (operation, result) in operations.iter().zip(&mut results) {
            if let (BatchOperation::Put { key, .. }, BatchResult::Success { version }) =
                (operation, result)
            {
                *version = self.writes.get(key).map(|(version, _)| *version);
            }
        }
        results
    }
}

impl Staging for Staged<'_> {
    fn read(&self, key: &str) -> Result<Option<Object>> {
        let Some((version, put)) = self.writes.get(key) else {
            return Ok(self.held.get(key).cloned().flatten());
        };
        let Some(put) = put else { return Ok(None) };
        let size = put.value.len() as u64;
        let head = ObjectHead {
            version: *version,
            size,
            expires_at_ms: put.expires_at_ms,
            metadata: put.metadata.clone(),
        };
        Ok(Some(Object { head, value: put.value.clone(), range: 0..size }))
    }

    fn version(&self, key: &str) -> Result<Option<Version>> {
        Ok(match self.writes.get(key) {
            Some((version, put)) => put.as_ref().map(|_| *version),
            None => self.held.get(key).and_then(Option::as_ref).map(|object| object.head.version),
        })
    }

    fn put(&mut self, key: &str, value: Bytes, checked: CheckedWrite) -> Result<()> {
        let held = self.held_version(key);
        let version = match checked.version {
            None => self.next(key),
            Some(version) if held.is_none_or(|held| version > held) => version,
            Some(version) => {
                return Err(StorageError::conflict(format!(
                    "the key has held a version that is not smaller than {version}"
                )));
            }
        };
        let metadata = Metadata::decode(&checked.metadata)?;
        let put = Put { value, expires_at_ms: checked.expires_at_ms, metadata };
        self.writes.insert(key.to_owned(), (version, Some(put)));
        Ok(())
    }

    fn delete(&mut self, key: &str) -> Result<()> {
        let version = self.next(key);
        self.writes.insert(key.to_owned(), (version, None));
        Ok(())
    }
}

/// Commits by one step on the log's engine: its own parts, and the record of what is written
/// elsewhere. Nobody else writes to the keys meanwhile.
async fn commit(
    shared: &Arc<Shared>,
    mut here: Vec<TransactionPart>,
    writes: Arc<[Arc<Write>]>,
) -> Result<Vec<Vec<BatchResult>>> {
    let plain: Vec<Write> = writes.iter().map(|write| Write::clone(write)).collect();
    let record = record::encode(&plain)?;
    let bytes = record.len() as u64;
    let most = shared.records.capabilities().value_bytes_max;
    if bytes > most {
        return Err(StorageError::too_large(format!(
            "a transaction over several backends writes up to {most} bytes, this one {bytes}"
        )));
    }
    if shared.figures.pending_bytes.load(Ordering::Relaxed) + bytes > PENDING_BYTES_MAX {
        return Err(StorageError::unavailable(
            "too much that was committed waits for its backends; see which of them is down",
        )
        .with_retry(Retry::Temporary));
    }
    let (now_ms, random) = (shared.env.now_ms(), shared.env.random_u64());
    let id = shared.clock.next_spread(now_ms, random).to_string();
    here.push(TransactionPart {
        namespace: TransactionLog::NAMESPACE.to_owned(),
        operations: vec![BatchOperation::Put {
            key: id.clone(),
            value: record,
            options: StorageOptions {
                condition: Condition::IfAbsent,
                durability: Some(Durability::Sync),
                ..StorageOptions::default()
            },
        }],
        listed: Vec::new(),
    });
    // Whoever sees what is written on the log's engine sees the rest.
    shared.table.begin(&writes);
    let under_way = UnderWay { shared, writes: &writes, ended: false };
    match shared.engine.commit(here).await {
        Ok(mut results) => {
            under_way.end(|table| table.commit(&writes));
            results.pop();
            shared.figures.committed.fetch_add(1, Ordering::Relaxed);
            shared.write_through(id, Arc::clone(&writes), bytes);
            Ok(results)
        }
        Err(error) if error.retry() == Retry::Ambiguous => {
            under_way.end(|table| table.lose(&writes));
            Err(error)
        }
        Err(error) => {
            under_way.end(|table| table.release(&writes));
            Err(error)
        }
    }
}

/// A commit whose outcome is not known if it is dropped.
struct UnderWay<'a> {
    shared: &'a Shared,
    writes: &'a [Arc<Write>],
    ended: bool,
}

impl UnderWay<'_> {
    fn end(mut self, end: impl FnOnce(&super::table::Table)) {
        end(&self.shared.table);
        self.ended = true;
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.shared.table.lose(self.writes);
        }
    }
}
