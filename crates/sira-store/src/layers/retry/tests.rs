use super::*;
use crate::backend::BatchResult::{Error, Success, Value};
use crate::env::SimEnv;

fn put(condition: Condition) -> BatchOperation {
    let options = StorageOptions { condition, ..StorageOptions::default() };
    BatchOperation::Put { key: "key".into(), value: Bytes::new(), options }
}

fn get() -> BatchOperation {
    BatchOperation::Get { key: "key".into() }
}

fn delete() -> BatchOperation {
    BatchOperation::delete("key")
}

fn check() -> BatchOperation {
    BatchOperation::Check { key: "other".into(), condition: Condition::IfAbsent }
}

#[test]
fn batches_are_repeated_only_where_nothing_can_happen_twice() {
    let temporary = || StorageError::unavailable("down");
    let ambiguous = || StorageError::timeout("late");
    let (always, absent) = (put(Condition::Always), put(Condition::IfAbsent));
    let whole = |operations: &[BatchOperation], error| repeats(operations, &Err(error));
    assert!(whole(&[always.clone(), get()], ambiguous()));
    assert!(!whole(&[always.clone(), absent.clone()], ambiguous()));
    assert!(!whole(&[delete()], ambiguous()));
    assert!(whole(&[check(), get()], ambiguous()));
    assert!(!whole(&[check(), always.clone()], ambiguous()));
    assert!(whole(&[check(), always.clone()], temporary()));
    assert!(whole(&[absent.clone(), delete()], temporary()));
    assert!(!whole(std::slice::from_ref(&always), StorageError::too_large("much")));
    assert!(!whole(std::slice::from_ref(&always), StorageError::out_of_space("full")));

    let each = |operations: &[BatchOperation], results| repeats(operations, &Ok(results));
    let done = || Success { version: None };
    assert!(!each(&[always.clone(), delete()], vec![done(), Error(temporary())]));
    assert!(each(&[absent.clone(), delete()], vec![Error(temporary()), Error(temporary())]));
    assert!(!each(&[absent.clone(), delete()], vec![Error(temporary()), Error(ambiguous())]));
    assert!(each(&[always.clone(), get()], vec![Error(ambiguous()), Value(None)]));
    assert!(!each(&[always], vec![Error(StorageError::precondition_failed("no"))]));
    assert!(!each(&[get()], vec![Value(None)]));
    assert!(!each(&[], vec![]));
}

#[test]
fn pauses_are_random_grow_and_have_a_bound() {
    let retries = Retries::new(RetryOptions::default(), Arc::new(SimEnv::new(1, 0)));
    let longest = |made: u32| {
        (0..1000).map(|_| attempts::pause(&retries, made)).max().unwrap_or_default().as_millis()
    };
    assert!((15..20).contains(&longest(1)), "{}", longest(1));
    assert!((30..40).contains(&longest(2)));
    assert!((1900..2000).contains(&longest(30)), "{}", longest(30));
    let shortest = (0..1000).map(|_| attempts::pause(&retries, 30)).min().unwrap_or_default();
    assert!(shortest < Duration::from_millis(50), "the pause begins at zero");
}

/// Another writer comes first whenever a version is given.
#[derive(Debug)]
struct Crowded(crate::memory::MemoryBackend);

#[async_trait]
impl StorageBackend for Crowded {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }
    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        if let Some(version) = options.version {
            let newer = Version::from_u64(version.as_u64() + 1);
            let options = StorageOptions { version: Some(newer), ..StorageOptions::default() };
            self.0.put(key, "the other's".into(), options).await?;
        }
        self.0.put(key, value, options).await
    }
    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        self.0.read(key, options).await
    }
    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        self.0.remove(key, condition).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_others_overtake_each_time_takes_the_version_of_the_engine() {
    let crowded = Arc::new(Crowded(crate::memory::MemoryBackend::new(1 << 20)));
    let options = RetryOptions { identify_all: true, ..RetryOptions::default() };
    let layer = RetryLayer::new(crowded, options);
    let written = layer.put("k", "ours".into(), StorageOptions::default()).await.unwrap();
    let object = layer.read("k", ReadOptions::default()).await.unwrap().unwrap();
    assert_eq!((object.value.as_ref(), object.head.version), (&b"ours"[..], written));
    // A version that the caller gave is the caller's to renew.
    let exact = StorageOptions { version: Some(written), ..StorageOptions::default() };
    let refused = layer.put("k", "again".into(), exact).await.unwrap_err();
    assert!(matches!(refused, StorageError::Conflict(_)), "{refused}");
}

/// Another process draws the same version and comes first, and its answer is all that arrives.
#[derive(Debug)]
struct Twin(crate::memory::MemoryBackend);

#[async_trait]
impl StorageBackend for Twin {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }
    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        if self.0.read(key, ReadOptions::default()).await?.is_none() {
            self.0.put(key, "the other's".into(), options).await?;
            return Err(StorageError::timeout("late").with_retry(Retry::Ambiguous));
        }
        self.0.put(key, value, options).await
    }
    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        self.0.read(key, options).await
    }
    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        self.0.remove(key, condition).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_of_another_with_the_same_version_is_not_taken_for_ours() {
    let layer = || {
        let twin = Arc::new(Twin(crate::memory::MemoryBackend::new(1 << 20)));
        RetryLayer::new(twin, RetryOptions { identify_all: true, ..RetryOptions::default() })
    };
    let always = layer();
    let written = always.put("k", "ours".into(), StorageOptions::default()).await.unwrap();
    let object = always.read("k", ReadOptions::default()).await.unwrap().unwrap();
    assert_eq!((object.value.as_ref(), object.head.version), (&b"ours"[..], written));
    assert_eq!(always.retries.counters().found, 0);

    let absent = StorageOptions { condition: Condition::IfAbsent, ..StorageOptions::default() };
    let refused = layer().put("k", "ours".into(), absent).await.unwrap_err();
    assert!(matches!(refused, StorageError::PreconditionFailed(_)), "{refused}");

    let exact = StorageOptions { version: Some(Version::from_u64(7)), ..StorageOptions::default() };
    let refused = layer().put("k", "ours".into(), exact).await.unwrap_err();
    assert!(matches!(refused, StorageError::Conflict(_)), "{refused}");
}
