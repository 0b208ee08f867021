//! Batches on outside engines.

use std::collections::{BTreeMap, BTreeSet};

use super::backend::prepare;
use super::envelope::{Envelope, Manifest};
use super::guard::stale;
use super::store::{Prepared, Store};
use super::{Change, CommitError, Guard, Part, Place, Record};
use crate::backend::{BatchOperation, BatchResult, Object, ReadOptions};
use crate::error::{Result, Retry, StorageError};
use crate::key::check_key;
use crate::options::Condition;
use crate::version::Version;

/// Runs the operations one after the other, neighbours that do not meet together.
pub(super) async fn run(
    store: &Store,
    place: &Place,
    operations: Vec<BatchOperation>,
) -> Vec<BatchResult> {
    let mut results: Vec<Option<BatchResult>> = Vec::new();
    results.resize_with(operations.len(), || None);
    let mut group = Group::default();
    for (index, operation) in operations.into_iter().enumerate() {
        if !group.takes(&operation) {
            group.flush(store, place, &mut results).await;
        }
        group.keys.insert(operation.key().to_owned());
        group.writes = operation.decides();
        group.operations.push((index, operation));
    }
    group.flush(store, place, &mut results).await;
    let missing = || BatchResult::Error(StorageError::unavailable("the operation was not run"));
    results.into_iter().map(|result| result.unwrap_or_else(missing)).collect()
}

/// Reads or writes of different keys.
#[derive(Default)]
struct Group {
    writes: bool,
    keys: BTreeSet<String>,
    operations: Vec<(usize, BatchOperation)>,
}

/// A write of a group that is ready, and what becomes of chunks afterwards.
struct Ready {
    index: usize,
    written: Envelope,
    size: u64,
    replaced: Option<(Manifest, u64)>,
}

impl Group {
    fn takes(&self, operation: &BatchOperation) -> bool {
        self.operations.is_empty()
            || (self.writes == operation.decides() && !self.keys.contains(operation.key()))
    }

    async fn flush(&mut self, store: &Store, place: &Place, results: &mut [Option<BatchResult>]) {
        let group = std::mem::take(self);
        if group.writes {
            write_group(store, place, group.operations, results).await;
        } else {
            read_group(store, place, group.operations, results).await;
        }
    }
}

fn answer(results: &mut [Option<BatchResult>], index: usize, result: BatchResult) {
    if let Some(slot) = results.get_mut(index) {
        *slot = Some(result);
    }
}

async fn read_group(
    store: &Store,
    place: &Place,
    operations: Vec<(usize, BatchOperation)>,
    results: &mut [Option<BatchResult>],
) {
    let (mut indexes, mut keys) = (Vec::new(), Vec::new());
    for (index, operation) in operations {
        match check_key(operation.key()) {
            Ok(()) => {
                indexes.push(index);
                keys.push(operation.key().to_owned());
            }
            Err(error) => {
                answer(results, index, BatchResult::Error(error.with_key(operation.key())));
            }
        }
    }
    for (index, result) in indexes.into_iter().zip(read_all(store, place, &keys).await) {
        answer(results, index, result);
    }
}

/// Answers a read of each key.
async fn read_all(store: &Store, place: &Place, keys: &[String]) -> Vec<BatchResult> {
    if keys.is_empty() {
        return Vec::new();
    }
    let mut results = Vec::with_capacity(keys.len());
    match store.driver.get_many(place, keys).await {
        Ok(records) => {
            for (key, record) in keys.iter().zip(records) {
                results.push(match whole(store, place, key, record).await {
                    Ok(object) => BatchResult::Value(object),
                    Err(error) => BatchResult::Error(error.with_key(key)),
                });
            }
        }
        Err(error) => {
            let same =
                |key: &String| BatchResult::Error(error.same_kind(error.to_string()).with_key(key));
            results.extend(keys.iter().map(same));
        }
    }
    results
}

async fn whole(
    store: &Store,
    place: &Place,
    key: &str,
    record: Option<Record>,
) -> Result<Option<Object>> {
    let options = ReadOptions::default();
    let Some(record) = record.and_then(|record| store.if_live(record)) else { return Ok(None) };
    match store.object(place, record, &Part::Whole, &options).await? {
        Some(object) => Ok(Some(object)),
        // Its chunks were replaced since.
        None => store.read(place, key, &options).await,
    }
}

async fn write_group(
    store: &Store,
    place: &Place,
    operations: Vec<(usize, BatchOperation)>,
    results: &mut [Option<BatchResult>],
) {
    let (mut ready, mut changes) = (Vec::new(), Vec::new());
    for (index, operation) in operations {
        let key = operation.key().to_owned();
        match make_ready(store, place, operation).await {
            Ok((change, written, size, replaced)) => {
                changes.push(change);
                ready.push(Ready { index, written, size, replaced });
            }
            Err(error) => answer(results, index, BatchResult::Error(error.with_key(key))),
        }
    }
    if changes.is_empty() {
        return;
    }
    let keys: Vec<String> = changes.iter().map(|change| change.key().to_owned()).collect();
    let answers = store.driver.apply_many(place, changes).await;
    for ((ready, key), result) in ready.into_iter().zip(keys).zip(answers) {
        let result = match result {
            Ok(version) => {
                if let Some(version) = version {
                    store.clock.observe(version);
                }
                store.drop_replaced(place, ready.replaced, ready.written.chunks).await;
                BatchResult::Success { version }
            }
            Err(error) => {
                if error.retry() != Retry::Ambiguous {
                    store.undo(place, &ready.written, ready.size).await;
                }
                BatchResult::Error(error.with_key(key))
            }
        };
        answer(results, ready.index, result);
    }
}

async fn make_ready(
    store: &Store,
    place: &Place,
    operation: BatchOperation,
) -> Result<(Change, Envelope, u64, Option<(Manifest, u64)>)> {
    let condition = operation.condition();
    match operation {
        BatchOperation::Put { key, value, options } => {
            let Prepared { record, guard, envelope } =
                prepare(store, place, &key, value, &options).await?;
            let replaced = store.chunks_of(place, &key).await?;
            let size = record.size;
            Ok((Change::Put { key, record, guard }, envelope, size, replaced))
        }
        BatchOperation::Delete { key, condition } => {
            check_key(&key)?;
            let guard = store.guard(condition, false)?;
            let replaced = store.chunks_of(place, &key).await?;
            Ok((Change::Remove { key, guard }, Envelope::default(), 0, replaced))
        }
        BatchOperation::Check { key, .. } | BatchOperation::Get { key } => {
            check_key(&key)?;
            let guard = Guard { condition, exact: false, now_ms: store.env.now_ms() };
            Ok((Change::Check { key, guard }, Envelope::default(), 0, None))
        }
    }
}

/// What a batch has done to a key so far.
struct Staged {
    /// What the first operation demanded of the key.
    guard: Guard,
    /// Index of the first operation.
    first: usize,
    /// What becomes of the key; `None` while it was only checked.
    change: Option<Becomes>,
}

/// What becomes of a key.
enum Becomes {
    Holds(Record, Envelope),
    Empty,
}

impl Staged {
    fn put(&self) -> Option<(&Record, &Envelope)> {
        match &self.change {
            Some(Becomes::Holds(record, envelope)) => Some((record, envelope)),
            Some(Becomes::Empty) | None => None,
        }
    }

    /// Judges another operation on the key, and answers the guard of both.
    fn then(&self, next: Guard) -> Result<Guard> {
        let guard = Guard { exact: next.exact, ..self.guard };
        let held = self.put().map(|(record, _)| record.version);
        match (&self.change, self.guard.condition, next.condition) {
            (Some(_), _, condition) => condition.require(held).map(|()| guard),
            (None, Condition::Always, _) => Ok(next),
            (None, _, Condition::Always) => Ok(guard),
            (None, checked, condition) if checked == condition => Ok(guard),
            (None, ..) => Err(StorageError::invalid_input(
                "two operations demand different things of one key; demand one of them",
            )),
        }
    }
}

/// Runs the writes as one step.
pub(super) async fn run_atomic(
    store: &Store,
    place: &Place,
    operations: Vec<BatchOperation>,
) -> Result<Vec<BatchResult>> {
    let writes: Vec<bool> = operations.iter().map(BatchOperation::decides).collect();
    let keys: Vec<String> = operations.iter().map(|operation| operation.key().to_owned()).collect();
    let mut staged: BTreeMap<String, Staged> = BTreeMap::new();
    let mut reads = Vec::new();
    let mut results: Vec<Option<BatchResult>> = Vec::new();
    results.resize_with(operations.len(), || None);
    // Reads of what the batch itself wrote, and versions, are told once it is committed.
    let mut own_reads: Vec<(usize, Option<Record>)> = Vec::new();
    let mut failure = None;
    for (index, operation) in operations.into_iter().enumerate() {
        let key = operation.key().to_owned();
        if let Err(error) = check_key(&key) {
            if operation.decides() {
                failure = Some((index, error));
                break;
            }
            answer(&mut results, index, BatchResult::Error(error.with_key(key)));
            continue;
        }
        if !operation.decides() {
            match staged.get(&key).filter(|staged| staged.change.is_some()) {
                Some(staged) => {
                    own_reads.push((index, staged.put().map(|(record, _)| record.clone())));
                }
                None => reads.push((index, key)),
            }
            continue;
        }
        if let Err(error) = stage(store, place, &mut staged, index, operation).await {
            failure = Some((index, error));
            break;
        }
    }
    let read_keys: BTreeSet<String> = reads.iter().map(|(_, key)| key.clone()).collect();
    let read_keys: Vec<String> = read_keys.into_iter().collect();
    let found = read_all(store, place, &read_keys).await;
    let found: BTreeMap<&String, BatchResult> = read_keys.iter().zip(found).collect();
    for (index, key) in &reads {
        let result = match found.get(key) {
            Some(BatchResult::Value(object)) => BatchResult::Value(object.clone()),
            Some(BatchResult::Error(error)) => {
                BatchResult::Error(error.same_kind(error.to_string()).with_key(key))
            }
            Some(BatchResult::Success { .. }) | None => BatchResult::Value(None),
        };
        answer(&mut results, *index, result);
    }

    let committed = match failure {
        Some((index, error)) => Err((Some(index), error)),
        None => commit(store, place, &staged).await,
    };
    match committed {
        Ok(versions) => {
            for (index, record) in own_reads {
                let key = keys.get(index).map_or("", String::as_str);
                let version = versions.get(key).copied().flatten();
                let record = record
                    .map(|record| Record { version: version.unwrap_or(record.version), ..record });
                let result = match whole(store, place, key, record).await {
                    Ok(object) => BatchResult::Value(object),
                    Err(error) => BatchResult::Error(error.with_key(key)),
                };
                answer(&mut results, index, result);
            }
            let success = |key: &String| BatchResult::Success {
                version: versions.get(key.as_str()).copied().flatten(),
            };
            Ok(results
                .into_iter()
                .zip(&keys)
                .map(|(result, key)| result.unwrap_or_else(|| success(key)))
                .collect())
        }
        Err((index, error)) => {
            if error.retry() != Retry::Ambiguous {
                for staged in staged.values() {
                    if let Some((record, envelope)) = staged.put() {
                        store.undo(place, envelope, record.size).await;
                    }
                }
            }
            Ok(refused(store, place, results, &writes, &keys, index, error).await)
        }
    }
}

/// The answers of a batch of which nothing was written.
async fn refused(
    store: &Store,
    place: &Place,
    mut results: Vec<Option<BatchResult>>,
    writes: &[bool],
    keys: &[String],
    failed: Option<usize>,
    error: StorageError,
) -> Vec<BatchResult> {
    let why = match failed {
        Some(index) => {
            format!("nothing of the batch was written, because operation {index} failed: {error}")
        }
        None => format!("nothing of the batch was written: {error}"),
    };
    for (index, (write, key)) in writes.iter().zip(keys).enumerate() {
        if *write {
            let same = error.same_kind(why.clone()).with_key(key);
            answer(&mut results, index, BatchResult::Error(same));
        } else if results.get(index).is_some_and(Option::is_none) {
            let found = read_all(store, place, std::slice::from_ref(key)).await.pop();
            answer(&mut results, index, found.unwrap_or(BatchResult::Value(None)));
        }
    }
    if let Some(index) = failed {
        let key = keys.get(index).map_or("", String::as_str);
        answer(&mut results, index, BatchResult::Error(error.with_key(key)));
    }
    results.into_iter().map(|result| result.unwrap_or(BatchResult::Value(None))).collect()
}

/// Adds an operation to what the batch does to its key. Fails without a trace.
async fn stage(
    store: &Store,
    place: &Place,
    staged: &mut BTreeMap<String, Staged>,
    index: usize,
    operation: BatchOperation,
) -> Result<()> {
    let condition = operation.condition();
    let (key, guard, change) = match operation {
        BatchOperation::Put { key, value, options } => {
            if let Some(before) = staged.get(&key) {
                // Judged before the value is written.
                before.then(store.guard(condition, options.version.is_some())?)?;
                let held = before.put().map(|(record, _)| record.version);
                if let (Some(held), Some(version)) = (held, options.version)
                    && version <= held
                {
                    return Err(stale(version, held));
                }
            }
            let Prepared { record, guard, envelope } =
                prepare(store, place, &key, value, &options).await?;
            (key, guard, Some(Becomes::Holds(record, envelope)))
        }
        BatchOperation::Delete { key, .. } => {
            (key, store.guard(condition, false)?, Some(Becomes::Empty))
        }
        BatchOperation::Check { key, .. } | BatchOperation::Get { key } => {
            (key, store.guard(condition, false)?, None)
        }
    };
    let Some(mut before) = staged.remove(&key) else {
        staged.insert(key, Staged { guard, first: index, change });
        return Ok(());
    };
    let judged = before.then(guard);
    if let (Ok(guard), Some(change)) = (&judged, change) {
        before.guard = *guard;
        if let Some(Becomes::Holds(record, envelope)) = before.change.replace(change) {
            store.undo(place, &envelope, record.size).await;
        }
    } else if let (Ok(guard), None) = (&judged, &before.change) {
        before.guard = *guard;
    }
    staged.insert(key, before);
    judged.map(drop)
}

/// Commits what is staged, and tells the version of each key.
async fn commit(
    store: &Store,
    place: &Place,
    staged: &BTreeMap<String, Staged>,
) -> Result<BTreeMap<String, Option<Version>>, (Option<usize>, StorageError)> {
    // A check that demands nothing is none.
    let staged: Vec<(&String, &Staged)> = staged
        .iter()
        .filter(|(_, staged)| staged.change.is_some() || !staged.guard.is_blind())
        .collect();
    if staged.is_empty() {
        return Ok(BTreeMap::new());
    }
    let most = store.profile.commit_changes_max;
    if staged.len() > most {
        let name = store.profile.name;
        let count = staged.len();
        return Err((
            None,
            StorageError::too_large(format!(
                "{name} changes up to {most} keys as one step, this batch has {count}; split it"
            )),
        ));
    }
    let (mut changes, mut replaced) = (Vec::new(), Vec::new());
    for (key, staged) in &staged {
        if staged.change.is_some() {
            let chunks = store.chunks_of(place, key).await.map_err(|error| (None, error))?;
            replaced.push((chunks, staged.put().and_then(|(_, envelope)| envelope.chunks)));
        }
        let (key, guard) = (String::clone(key), staged.guard);
        changes.push(match &staged.change {
            Some(Becomes::Holds(record, _)) => Change::Put { key, record: record.clone(), guard },
            Some(Becomes::Empty) => Change::Remove { key, guard },
            None => Change::Check { key, guard },
        });
    }
    match store.driver.commit(place, changes).await {
        Ok(versions) => {
            for (chunks, by) in replaced {
                store.drop_replaced(place, chunks, by).await;
            }
            versions.iter().flatten().for_each(|version| store.clock.observe(*version));
            Ok(staged.into_iter().map(|(key, _)| key.clone()).zip(versions).collect())
        }
        Err(CommitError { index, error }) => {
            let first = index.and_then(|at| staged.get(at)).map(|(_, staged)| staged.first);
            Err((first, error))
        }
    }
}
