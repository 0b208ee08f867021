//! Backends that break one rule each.

mod transactions;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use sira_store::transaction::{PreparedPart, TransactionEngine, TransactionPart};
use sira_store::{
    BatchOperation, BatchResult, ByteStream, Capabilities, CompressionType, Condition,
    HealthStatus, ListEntry, ListOptions, ListPage, MemoryBackend, Metadata, Object, ObjectHead,
    ReadOptions, Result, StorageBackend, StorageError, StorageOptions, StorageStats, Version,
};

use transactions::BrokenEngine;

/// A rule that a backend breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// None: what every other one is measured against.
    None,
    ConditionCheckedApart,
    ConditionIgnoredOnRemoval,
    ConditionIgnoredOnRead,
    ConditionIgnoredInBatch,
    ConditionErrorOfAnotherKind,
    WriteBeforeRefusal,
    TtlIgnored,
    TtlCutShort,
    TtlSurvivesOverwrite,
    TtlZeroTaken,
    TtlRoundedDown,
    ExpiredListed,
    RangeOffByOne,
    RangePastTheEndTaken,
    RangeOfTheWhole,
    LargeValuesCut,
    EmptyIsAbsent,
    TextOnly,
    MetadataDropped,
    MetadataKeptOnOverwrite,
    LongKeysTaken,
    LongKeysCut,
    KeysFolded,
    KeysEndAtNul,
    KeysAsPaths,
    VersionOfAnother,
    VersionsRepeat,
    ExactVersionIgnored,
    ExactVersionIgnoredInBatch,
    OlderVersionTaken,
    ExpiryTimeIgnored,
    DeleteAlwaysTrue,
    DeleteNever,
    HeadOfAnotherSize,
    ListUnordered,
    ListIncomplete,
    ListRepeats,
    ListAfterIsInclusive,
    ListIgnoresDelimiter,
    ListNeverEnds,
    ListOverLimit,
    ListByPrefixOfWords,
    BatchStopsHalfway,
    ChecksIgnored,
    ChecksApart,
    ConditionIgnoredOnRemovalInBatch,
    ListedIgnored,
    ListedCutIgnored,
    ListedApart,
    PartsApart,
    ChecksElsewhereIgnored,
    BatchSeenHalf,
    BatchReadsBefore,
    BatchWithoutLimit,
    BatchAnswersShort,
    NamespacesShared,
    NamespaceNamesTaken,
    PutInTwoSteps,
    PutInBackground,
    LockLeaks,
    StreamKeepsWhatCame,
    StreamStoredWhenDropped,
    CompressionNotUndone,
    Panics,
    Hangs,
    AlwaysCritical,
}

/// A backend with a fault.
#[derive(Debug)]
pub struct Broken {
    inner: MemoryBackend,
    fault: Fault,
    locked: AtomicBool,
    expiring: Mutex<BTreeSet<String>>,
    /// A put that was answered and waits for somebody to look for it.
    pending: Mutex<Option<(String, Bytes, StorageOptions)>>,
}

impl Broken {
    pub fn new(fault: Fault) -> Arc<Self> {
        Self::over(MemoryBackend::new(1 << 30), fault)
    }

    fn over(inner: MemoryBackend, fault: Fault) -> Arc<Self> {
        Arc::new(Self {
            inner,
            fault,
            locked: AtomicBool::new(false),
            expiring: Mutex::default(),
            pending: Mutex::default(),
        })
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn mangle(&self, key: &str) -> String {
        match self.fault {
            Fault::KeysFolded => key.to_lowercase(),
            Fault::KeysEndAtNul => key.split('\0').next().unwrap_or_default().to_owned(),
            Fault::KeysAsPaths => key.replace("//", "/"),
            Fault::LongKeysTaken | Fault::LongKeysCut => {
                let most = if self.is(Fault::LongKeysCut) { 1000 } else { 1024 };
                let end = (0..=most.min(key.len())).rev().find(|at| key.is_char_boundary(*at));
                key[..end.unwrap_or(0)].to_owned()
            }
            _ => key.to_owned(),
        }
    }

    async fn current(&self, key: &str) -> Result<Option<Version>> {
        Ok(self.inner.head(key).await?.map(|head| head.version))
    }

    /// Does the put that waits, if it is one of `key` or any is meant.
    async fn finish(&self, key: Option<&str>) -> Result<()> {
        let due = self.pending.lock().take_if(|(own, ..)| key.is_none_or(|key| key == own));
        if let Some((key, value, options)) = due {
            self.inner.put(&key, value, options).await?;
        }
        Ok(())
    }

    fn garble(&self, object: &mut Object) {
        let head = &mut object.head;
        match self.fault {
            Fault::MetadataDropped => head.metadata = Metadata::default(),
            Fault::VersionOfAnother => head.version = Version::from_u64(head.version.as_u64() + 1),
            _ => {}
        }
    }
}

#[async_trait]
impl StorageBackend for Broken {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        let key = &self.mangle(key);
        let (mut value, mut options) = (value, options);
        match self.fault {
            Fault::ConditionCheckedApart => {
                options.condition.require(self.current(key).await?)?;
                tokio::task::yield_now().await;
                options.condition = Condition::Always;
            }
            Fault::ConditionErrorOfAnotherKind
                if !options.condition.holds(self.current(key).await?) =>
            {
                return Err(StorageError::conflict("another writer was faster"));
            }
            Fault::WriteBeforeRefusal if options.condition == Condition::IfAbsent => {
                let result = self.inner.put(key, value.clone(), options.clone()).await;
                if result.is_err() {
                    options.condition = Condition::Always;
                    self.inner.put(key, value, options).await?;
                }
                return result;
            }
            Fault::TtlIgnored if options.ttl != Some(Duration::ZERO) => options.ttl = None,
            Fault::ExpiredListed if options.ttl.is_some() => {
                self.expiring.lock().insert(key.clone());
            }
            Fault::TtlCutShort => {
                options.ttl = options.ttl.map(|ttl| ttl - ttl / 4);
            }
            Fault::TtlSurvivesOverwrite if options.ttl.is_none() => {
                if let Some(at) = self.inner.head(key).await?.and_then(|head| head.expires_at_ms) {
                    let left = at.saturating_sub(now_ms()).max(1);
                    options.ttl = Some(Duration::from_millis(left));
                }
            }
            Fault::TtlZeroTaken if options.ttl == Some(Duration::ZERO) => options.ttl = None,
            Fault::TtlRoundedDown => {
                options.ttl =
                    options.ttl.map(|ttl| match Duration::from_millis(ttl.as_millis() as u64) {
                        Duration::ZERO => ttl,
                        whole => whole,
                    });
            }
            Fault::ExactVersionIgnored => options.version = None,
            Fault::OlderVersionTaken if options.version.is_some() => {
                let taken = self.inner.put(key, value.clone(), options.clone()).await;
                if matches!(taken, Err(StorageError::Conflict(_))) {
                    self.inner.delete(key).await?;
                    return self.inner.put(key, value, options).await;
                }
                return taken;
            }
            Fault::ExpiryTimeIgnored => options.expires_at_ms = None,
            Fault::LargeValuesCut => value.truncate(65_536),
            Fault::TextOnly => value = String::from_utf8_lossy(&value).into_owned().into(),
            Fault::MetadataKeptOnOverwrite if options.metadata.is_empty() => {
                if let Some(head) = self.inner.head(key).await? {
                    options.metadata = head.metadata;
                }
            }
            Fault::VersionsRepeat => {
                let before = self.current(key).await?;
                let version = self.inner.put(key, value, options).await?;
                return Ok(before.unwrap_or(version));
            }
            Fault::PutInTwoSteps => {
                let half = value.slice(..value.len() / 2);
                self.inner.put(key, half, options.clone()).await?;
                tokio::task::yield_now().await;
                options.condition = Condition::Always;
            }
            // The first to look still sees what was there before.
            Fault::PutInBackground if options.condition == Condition::Always => {
                self.finish(None).await?;
                *self.pending.lock() = Some((key.clone(), value, options));
                return Ok(Version::from_u64(now_ms() << 16));
            }
            Fault::LockLeaks => {
                while self.locked.swap(true, Ordering::AcqRel) {
                    tokio::task::yield_now().await;
                }
                tokio::task::yield_now().await;
                let result = self.inner.put(key, value, options).await;
                self.locked.store(false, Ordering::Release);
                return result;
            }
            Fault::CompressionNotUndone if options.compression != CompressionType::None => {
                options.compression = CompressionType::None;
                value = [b"\x1F\x8B", &*value].concat().into();
            }
            Fault::Panics => panic!("out of order"),
            Fault::Hangs => std::future::pending::<()>().await,
            _ => {}
        }
        self.inner.put(key, value, options).await
    }

    async fn put_stream(
        &self,
        key: &str,
        mut body: ByteStream,
        options: StorageOptions,
    ) -> Result<Version> {
        let mut collected = Vec::new();
        let mut failed = None;
        while let Some(part) = std::future::poll_fn(|cx| body.as_mut().poll_next(cx)).await {
            match part {
                Ok(part) => collected.extend_from_slice(&part),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
            if self.is(Fault::StreamStoredWhenDropped) {
                self.inner.put(key, collected.clone().into(), options.clone()).await?;
            }
        }
        match failed {
            Some(error) => {
                if self.is(Fault::StreamKeepsWhatCame) {
                    self.put(key, collected.into(), options).await?;
                }
                Err(StorageError::invalid_input("the body ended early").with_source(error))
            }
            None => self.put(key, collected.into(), options).await,
        }
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        let key = &self.mangle(key);
        let mut options = options;
        match (self.fault, options.range.as_mut()) {
            (Fault::ConditionIgnoredOnRead, _) => options.condition = Condition::Always,
            (Fault::RangeOffByOne, Some(range)) if range.end > range.start => {
                range.end = range.end.saturating_add(1);
            }
            (Fault::RangePastTheEndTaken, Some(range)) => {
                if let Some(head) = self.inner.head(key).await? {
                    range.start = range.start.min(head.size);
                    range.end = range.end.max(range.start);
                }
            }
            _ => {}
        }
        let mut found = self.inner.read(key, options).await?;
        self.finish(Some(key)).await?;
        if let Some(object) = &mut found {
            self.garble(object);
            if self.is(Fault::RangeOfTheWhole) {
                object.range = 0..object.head.size;
            }
            if self.is(Fault::EmptyIsAbsent) && object.head.size == 0 {
                return Ok(None);
            }
        }
        Ok(found)
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        let key = &self.mangle(key);
        match self.fault {
            Fault::ConditionIgnoredOnRemoval => self.inner.remove(key, Condition::Always).await,
            Fault::DeleteAlwaysTrue => self.inner.remove(key, condition).await.map(|_| true),
            Fault::DeleteNever => self.inner.exists(key).await,
            _ => self.inner.remove(key, condition).await,
        }
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>> {
        let mut head = self.read(key, ReadOptions::default()).await?.map(|object| object.head);
        if self.is(Fault::HeadOfAnotherSize)
            && let Some(head) = &mut head
        {
            head.size += 1;
        }
        Ok(head)
    }

    async fn list(&self, options: ListOptions) -> Result<ListPage> {
        let mut asked = options.clone();
        match self.fault {
            Fault::ListIgnoresDelimiter => asked.delimiter = None,
            Fault::ListOverLimit if asked.limit > 1 => asked.limit += 1,
            Fault::ListByPrefixOfWords if !asked.prefix.ends_with('/') => asked.prefix.push('/'),
            _ => {}
        }
        let mut page = self.inner.list(asked).await?;
        match self.fault {
            Fault::ExpiredListed => {
                let expiring = self.expiring.lock();
                for key in expiring.iter().filter(|key| key.starts_with(&options.prefix)) {
                    if !page.entries.iter().any(|entry| entry.key == *key) {
                        let key = key.clone();
                        let entry = ListEntry { key, size: 1, version: None, expires_at_ms: None };
                        page.entries.push(entry);
                    }
                }
            }
            Fault::ListUnordered => page.entries.reverse(),
            Fault::ListIncomplete if page.entries.len() > 20 => {
                page.entries.remove(10);
            }
            Fault::ListRepeats if page.next.is_some() && page.entries.len() > 1 => {
                page.next = page.entries.get(page.entries.len() - 2).map(|e| e.key.clone());
            }
            Fault::ListAfterIsInclusive => {
                if let Some(after) = options.start_after.filter(|after| *after >= options.prefix) {
                    let only = ListOptions { prefix: after.clone(), ..ListOptions::default() };
                    let here = self.inner.list(only).await?.entries;
                    let here: Vec<_> = here.into_iter().filter(|e| e.key == after).collect();
                    page.entries.splice(0..0, here);
                }
            }
            Fault::ListNeverEnds => {
                page.next = page.next.or(page.entries.last().map(|entry| entry.key.clone()));
            }
            _ => {}
        }
        Ok(page)
    }

    async fn batch(&self, operations: Vec<BatchOperation>) -> Result<Vec<BatchResult>> {
        let mut operations = operations;
        match self.fault {
            Fault::ConditionIgnoredInBatch => {
                for operation in &mut operations {
                    if let BatchOperation::Put { options, .. } = operation {
                        options.condition = Condition::Always;
                    }
                }
                self.inner.batch(operations).await
            }
            Fault::ChecksIgnored => {
                for operation in &mut operations {
                    if let BatchOperation::Check { condition, .. } = operation {
                        *condition = Condition::Always;
                    }
                }
                self.inner.batch(operations).await
            }
            // Before the rest, which they do not hold up.
            Fault::ChecksApart => {
                let mut checked = operations.clone();
                checked.retain(|operation| matches!(operation, BatchOperation::Check { .. }));
                let writes_later = operations.first().is_some_and(|first| !first.is_write());
                if checked.len() != 1 || operations.len() != 2 || !writes_later {
                    return self.inner.batch(operations).await;
                }
                for result in self.inner.batch(checked).await? {
                    if matches!(result, BatchResult::Error(_)) {
                        return self.inner.batch(operations).await;
                    }
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
                let put = operations.into_iter().filter(BatchOperation::is_write).collect();
                let mut results = self.inner.batch(put).await?;
                results.insert(0, BatchResult::Success { version: None });
                Ok(results)
            }
            Fault::ConditionIgnoredOnRemovalInBatch => {
                for operation in &mut operations {
                    if let BatchOperation::Delete { condition, .. } = operation {
                        *condition = Condition::Always;
                    }
                }
                self.inner.batch(operations).await
            }
            Fault::ExactVersionIgnoredInBatch => {
                for operation in &mut operations {
                    if let BatchOperation::Put { options, .. } = operation {
                        options.version = None;
                    }
                }
                self.inner.batch(operations).await
            }
            Fault::BatchStopsHalfway => {
                let mut results = Vec::new();
                for operation in operations {
                    results.extend(self.inner.batch(vec![operation]).await?);
                }
                Ok(results)
            }
            // Checked as a whole, then written one by one.
            Fault::BatchSeenHalf => {
                let failed = |results: &[BatchResult]| {
                    results.iter().any(|result| matches!(result, BatchResult::Error(_)))
                };
                let puts_only = operations.iter().all(BatchOperation::is_write);
                if !puts_only || ![3, 64].contains(&operations.len()) {
                    return self.inner.batch(operations).await;
                }
                let mut results = Vec::new();
                for operation in operations {
                    let one = self.inner.batch(vec![operation]).await?;
                    let stop = failed(&one);
                    results.extend(one);
                    if stop {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
                Ok(results)
            }
            Fault::BatchReadsBefore => {
                let reads: Vec<_> =
                    operations.iter().filter(|operation| !operation.is_write()).cloned().collect();
                let mut before = self.inner.batch(reads).await?.into_iter();
                let mut results = self.inner.batch(operations).await?;
                for result in &mut results {
                    if matches!(result, BatchResult::Value(_)) {
                        *result = before.next().unwrap_or(BatchResult::Value(None));
                    }
                }
                Ok(results)
            }
            Fault::BatchWithoutLimit => {
                operations.truncate(100_000);
                self.inner.batch(operations).await
            }
            Fault::BatchAnswersShort => {
                let mut results = self.inner.batch(operations).await?;
                results.pop();
                Ok(results)
            }
            Fault::MetadataDropped => {
                let mut results = self.inner.batch(operations).await?;
                for result in &mut results {
                    if let BatchResult::Value(Some(object)) = result {
                        self.garble(object);
                    }
                }
                Ok(results)
            }
            _ => self.inner.batch(operations).await,
        }
    }

    fn transaction_engine(&self) -> Option<Arc<dyn TransactionEngine>> {
        Some(Arc::new(BrokenEngine { inner: self.inner.clone(), fault: self.fault }))
    }

    async fn prepare(&self, part: TransactionPart) -> Result<PreparedPart<'_>> {
        self.inner.prepare(part).await
    }

    async fn stats(&self) -> Result<StorageStats> {
        self.inner.stats().await
    }

    async fn health_check(&self) -> HealthStatus {
        match self.fault {
            Fault::AlwaysCritical => HealthStatus::Critical("out of order".to_owned()),
            _ => self.inner.health_check().await,
        }
    }

    async fn namespace(&self, name: &str) -> Result<Arc<dyn StorageBackend>> {
        match self.fault {
            Fault::NamespacesShared => {
                self.inner.namespace(name).await?;
                Ok(Self::over(self.inner.clone(), self.fault))
            }
            Fault::NamespaceNamesTaken => self.inner.namespace("any").await,
            _ => self.inner.namespace(name).await,
        }
    }
}

fn now_ms() -> u64 {
    use sira_store::env::Env;
    sira_store::env::SystemEnv.now_ms()
}
