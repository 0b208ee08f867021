use std::ops::Range;

use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::*;
use crate::limits::SEAL_SEGMENT_BYTES;
use crate::memory::MemoryBackend;
use crate::metadata::Metadata;

const HOUR_MS: u64 = 3_600_000;

/// A memory backend that declares what it is told and keeps the ranges that it is asked for.
#[derive(Debug)]
struct Spy {
    inner: MemoryBackend,
    capabilities: Capabilities,
    ranges: Mutex<Vec<Range<u64>>>,
    /// Written by another in between a look at the head and the read that follows.
    meddle: Mutex<Option<(String, StorageOptions)>>,
}

impl Spy {
    fn new(change: impl FnOnce(&mut Capabilities)) -> Arc<Self> {
        let inner = MemoryBackend::new(1 << 30);
        let mut capabilities = inner.capabilities();
        change(&mut capabilities);
        Arc::new(Self { inner, capabilities, ranges: Mutex::default(), meddle: Mutex::default() })
    }
}

#[async_trait]
impl StorageBackend for Spy {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        self.inner.put(key, value, options).await
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        self.ranges.lock().extend(options.range.clone());
        self.inner.read(key, options).await
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        self.inner.remove(key, condition).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>> {
        let head = self.inner.head(key).await;
        let meddle = self.meddle.lock().take();
        if let Some((value, options)) = meddle {
            self.inner.put(key, value.into(), options).await?;
        }
        head
    }

    async fn batch(&self, operations: Vec<BatchOperation>) -> Result<Vec<BatchResult>> {
        if self.capabilities.atomic_batch {
            return self.inner.batch(operations).await;
        }
        let mut results = Vec::new();
        for operation in operations {
            results.extend(self.inner.batch(vec![operation]).await?);
        }
        Ok(results)
    }
}

fn key(byte: u8) -> Zeroizing<[u8; 32]> {
    Zeroizing::new([byte; 32])
}

fn keyring() -> Arc<Keyring> {
    Arc::new(Keyring::new("a", key(1)).unwrap())
}

fn options(compression: CompressionType, encrypted: bool) -> SealOptions {
    let encryption = match encrypted {
        true => EncryptionType::Aes256Gcm { key_id: String::new() },
        false => EncryptionType::None,
    };
    SealOptions { compression, encryption, compression_level: None }
}

fn sealing(inner: Arc<dyn StorageBackend>, defaults: SealOptions) -> SealingBackend {
    SealingBackend::new(inner, "default", keyring(), defaults)
}

fn encrypting(inner: &MemoryBackend) -> SealingBackend {
    sealing(Arc::new(inner.clone()), options(CompressionType::Zstd, true))
}

fn plain() -> StorageOptions {
    StorageOptions::default()
}

/// Lines that shrink to about a third.
fn text(len: usize) -> Bytes {
    let lines =
        (0u64..).map(|n| format!("{:x}: what is alike\n", n.wrapping_mul(0x9E37_79B9_7F4A)));
    let mut out = Vec::with_capacity(len + 64);
    for line in lines {
        if out.len() >= len {
            break;
        }
        out.extend_from_slice(line.as_bytes());
    }
    out.truncate(len);
    out.into()
}

fn is_corrupt<T: fmt::Debug>(result: &Result<T>) -> bool {
    matches!(result, Err(StorageError::Corrupt(_)))
}

/// Writes the stored form of an object under a key as somebody does who has the backend.
async fn forge(memory: &MemoryBackend, key: &str, stored: Object, version: Option<Version>) {
    let options = StorageOptions { metadata: stored.head.metadata, version, ..plain() };
    memory.put(key, stored.value, options).await.unwrap();
}

async fn stored(memory: &MemoryBackend, key: &str) -> Object {
    memory.read(key, ReadOptions::default()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_range_reads_the_segments_that_it_touches() {
    let spy = Spy::new(|_| ());
    for (name, how) in [
        ("compressed", options(CompressionType::Zstd, false)),
        ("encrypted", options(CompressionType::None, true)),
    ] {
        let store = sealing(spy.clone(), how);
        let value = text(5 * SEAL_SEGMENT_BYTES + 7);
        store.put(name, value.clone(), plain()).await.unwrap();
        spy.ranges.lock().clear();
        let start = 3 * SEAL_SEGMENT_BYTES as u64 - 5;
        for range in [start..start + 3, start..start + 9, start..u64::MAX] {
            let read = ReadOptions { range: Some(range.clone()), ..ReadOptions::default() };
            let object = store.read(name, read).await.unwrap().unwrap();
            let end = range.end.min(value.len() as u64);
            assert_eq!(object.range, range.start..end);
            assert_eq!(object.value, value.slice(range.start as usize..end as usize));
            assert_eq!(object.head.size, value.len() as u64);
        }
        let asked: Vec<u64> =
            spy.ranges.lock().iter().map(|range| range.end - range.start).collect();
        let [one, two, rest] = asked[..] else { panic!("{asked:?}") };
        let whole = spy.inner.head(name).await.unwrap().unwrap().size;
        assert!(one < whole / 4 && two < whole / 2 && rest < whole * 2 / 3, "{asked:?} of {whole}");
        assert!(one < two && two < rest, "{asked:?}");
    }
}

#[tokio::test]
async fn an_object_that_changes_between_head_and_read_is_read_as_one_version() {
    let spy = Spy::new(|_| ());
    let store = sealing(spy.clone(), options(CompressionType::Zstd, false));
    let value = text(3 * SEAL_SEGMENT_BYTES);
    let middle = 2_000_000..2_000_010;
    let read = || ReadOptions { range: Some(middle.clone()), ..ReadOptions::default() };
    store.put("k", value.clone(), plain()).await.unwrap();
    // Shorter than the range, and longer.
    *spy.meddle.lock() = Some(("short".to_owned(), plain()));
    let refused = store.read("k", read()).await;
    assert!(matches!(refused, Err(StorageError::InvalidInput(_))), "{refused:?}");
    *spy.meddle.lock() = Some(("x".repeat(2_500_000), plain()));
    store.put("k", value, plain()).await.unwrap();
    let object = store.read("k", read()).await.unwrap().unwrap();
    assert_eq!((&object.value[..], object.head.size), (&b"xxxxxxxxxx"[..], 2_500_000));
}

#[tokio::test]
async fn reads_open_what_they_find_whatever_the_defaults_became() {
    let memory = MemoryBackend::new(1 << 30);
    let inner: Arc<dyn StorageBackend> = Arc::new(memory.clone());
    let value = text(10_000);
    let codecs =
        [CompressionType::None, CompressionType::Gzip, CompressionType::Zstd, CompressionType::Lz4];
    let all: Vec<_> = codecs
        .into_iter()
        .flat_map(|codec| [options(codec, false), options(codec, true)])
        .collect();
    for (number, how) in all.iter().enumerate() {
        let store = sealing(Arc::clone(&inner), how.clone());
        store.put(&number.to_string(), value.clone(), plain()).await.unwrap();
    }
    for how in &all {
        let store = sealing(Arc::clone(&inner), how.clone());
        for number in 0..all.len() {
            assert_eq!(store.get(&number.to_string()).await.unwrap().unwrap(), value);
        }
    }
    // Options of one write go before the defaults.
    let store = sealing(inner, options(CompressionType::None, false));
    let once = StorageOptions {
        compression: CompressionType::Gzip,
        compression_level: Some(9),
        encryption: EncryptionType::ChaCha20Poly1305 { key_id: "a".into() },
        ..plain()
    };
    store.put("once", value.clone(), once).await.unwrap();
    let seal = Seal::decode(&stored(&memory, "once").await.head.metadata.seal.unwrap()).unwrap();
    assert_eq!(seal.codec(), crate::seal::Codec::Gzip);
    assert_eq!(seal.encryption().unwrap().0, crate::seal::Cipher::ChaCha20Poly1305);
    assert_eq!(store.get("once").await.unwrap().unwrap(), value);
}

#[tokio::test]
async fn metadata_is_kept_and_the_seal_is_not_shown() {
    let memory = MemoryBackend::new(1 << 20);
    let store = encrypting(&memory);
    let metadata = Metadata {
        content_type: Some("text/plain".into()),
        user: [("a".to_owned(), "b".to_owned())].into(),
        ..Metadata::default()
    };
    store
        .put("k", text(5000), StorageOptions { metadata: metadata.clone(), ..plain() })
        .await
        .unwrap();
    assert_eq!(store.head("k").await.unwrap().unwrap().metadata, metadata);
    assert!(stored(&memory, "k").await.head.metadata.seal.is_some());
    let forged = Metadata { seal: Some(Bytes::from_static(b"x")), ..Metadata::default() };
    let refused = store.put("k", text(9), StorageOptions { metadata: forged, ..plain() }).await;
    assert!(matches!(refused, Err(StorageError::InvalidInput(_))), "{refused:?}");
}

#[tokio::test]
async fn what_was_stored_for_another_object_does_not_open() {
    let memory = MemoryBackend::new(1 << 20);
    let store = encrypting(&memory);
    let first = store.put("a", "first".into(), plain()).await.unwrap();
    let of_first = stored(&memory, "a").await;
    store.put("b", "other".into(), plain()).await.unwrap();

    forge(&memory, "b", of_first.clone(), None).await;
    assert!(is_corrupt(&store.get("b").await), "another key, another version");
    memory.delete("b").await.unwrap();
    forge(&memory, "b", of_first.clone(), Some(first)).await;
    assert!(is_corrupt(&store.get("b").await), "another key");
    assert!(is_corrupt(
        &store.read("b", ReadOptions { range: Some(0..1), ..Default::default() }).await
    ));

    let space = memory.namespace("space").await.unwrap();
    let options = StorageOptions {
        metadata: of_first.head.metadata.clone(),
        version: Some(first),
        ..plain()
    };
    space.put("a", of_first.value.clone(), options).await.unwrap();
    let moved = store.namespace("space").await.unwrap();
    assert!(is_corrupt(&moved.get("a").await), "another namespace");

    // An old seal on new bytes, an old object as a new version.
    let second = store.put("a", "second".into(), plain()).await.unwrap();
    let of_second = stored(&memory, "a").await;
    let mixed = Object { head: of_first.head.clone(), ..of_second.clone() };
    let next = |version: Version| Some(Version::from_u64(version.as_u64() + 1));
    forge(&memory, "a", mixed, next(second)).await;
    assert!(is_corrupt(&store.get("a").await), "an old seal");
    forge(&memory, "a", of_first.clone(), None).await;
    assert!(is_corrupt(&store.get("a").await), "an old object under a new version");
    memory.delete("a").await.unwrap();
    forge(&memory, "a", of_second, Some(second)).await;
    assert_eq!(store.get("a").await.unwrap().unwrap(), "second");
}

#[tokio::test]
async fn versions_that_are_ahead_are_stepped_over() {
    let memory = MemoryBackend::new(1 << 20);
    let ahead = |ms: u64| Version::from_u64((SystemEnv.now_ms() + ms) << 16);
    for (ms, ttl) in [(20_000, None), (5_000, Some(std::time::Duration::from_millis(1)))] {
        let version = ahead(ms);
        let others = StorageOptions { version: Some(version), ttl, ..plain() };
        memory.put("k", "other".into(), others).await.unwrap();
        while ttl.is_some() && memory.exists("k").await.unwrap() {
            tokio::task::yield_now().await;
        }
        // A clock of its own, which has not seen it.
        let written = encrypting(&memory).put("k", "own".into(), plain()).await.unwrap();
        assert!(written > version);
        assert_eq!(encrypting(&memory).get("k").await.unwrap().unwrap(), "own");
        memory.delete("k").await.unwrap();
    }
    // One that the caller gives is stored or refused.
    let store = encrypting(&memory);
    let version = ahead(60_000);
    let exactly = || StorageOptions { version: Some(version), ..plain() };
    assert_eq!(store.put("k", "own".into(), exactly()).await.unwrap(), version);
    assert_eq!(store.get("k").await.unwrap().unwrap(), "own");
    let refused = store.put("k", "own".into(), exactly()).await;
    assert!(matches!(refused, Err(StorageError::Conflict(_))), "{refused:?}");
}

fn put(key: &str, value: &'static str) -> BatchOperation {
    BatchOperation::Put { key: key.into(), value: value.into(), options: plain() }
}

fn get(key: &str) -> BatchOperation {
    BatchOperation::Get { key: key.into() }
}

#[tokio::test]
async fn batches_step_over_versions_that_are_ahead() {
    for atomic in [true, false] {
        let spy = Spy::new(|capabilities| capabilities.atomic_batch = atomic);
        let ahead = Version::from_u64((SystemEnv.now_ms() + 20_000) << 16);
        for repeated in [false, true] {
            for key in ["a", "b"] {
                let others = StorageOptions { version: Some(ahead), ..plain() };
                spy.inner.put(key, "other".into(), others).await.unwrap();
            }
            let store = sealing(spy.clone(), options(CompressionType::None, true));
            let mut operations = vec![put("a", "1"), put("b", "2"), put("c", "3"), get("d")];
            if repeated {
                operations.push(put("a", "4"));
                operations.push(get("a"));
            }
            for result in store.batch(operations).await.unwrap() {
                match result {
                    BatchResult::Success { version: Some(_) } | BatchResult::Value(None) => {}
                    BatchResult::Value(Some(object)) => assert_eq!(object.value, "4"),
                    other => panic!("{other:?}"),
                }
            }
            let expected = if repeated { "4" } else { "1" };
            assert_eq!(store.get("a").await.unwrap().unwrap(), expected);
            for key in ["a", "b", "c"] {
                assert!(spy.inner.delete(key).await.unwrap());
            }
        }
    }
}

#[tokio::test]
async fn a_write_that_cannot_be_sealed_stops_an_atomic_batch() {
    for atomic in [true, false] {
        let spy = Spy::new(|capabilities| capabilities.atomic_batch = atomic);
        let store = sealing(spy.clone(), options(CompressionType::None, true));
        store.put("c", "there".into(), plain()).await.unwrap();
        let lost = EncryptionType::Aes256Gcm { key_id: "lost".into() };
        let refused = BatchOperation::Put {
            key: "b".into(),
            value: "2".into(),
            options: StorageOptions { encryption: lost, ..plain() },
        };
        let results = store.batch(vec![put("a", "1"), refused, get("c")]).await.unwrap();
        let [first, second, third] = &results[..] else { panic!("{results:?}") };
        assert!(
            matches!(second, BatchResult::Error(StorageError::InvalidInput(detail))
            if detail.key.as_deref() == Some("b")),
            "{second:?}"
        );
        assert!(matches!(third, BatchResult::Value(Some(object)) if object.value == "there"));
        match atomic {
            true => assert!(matches!(first, BatchResult::Error(StorageError::InvalidInput(_)))),
            false => assert!(matches!(first, BatchResult::Success { version: Some(_) })),
        }
        assert_eq!(store.exists("a").await.unwrap(), !atomic);
    }
}

#[tokio::test]
async fn backends_that_cannot_hold_sealed_values_are_named() {
    let unsupported = |result: Result<Version>| {
        assert!(matches!(result, Err(StorageError::Unsupported(_))), "{result:?}");
    };
    let spy = Spy::new(|capabilities| capabilities.metadata = false);
    let store = sealing(spy, options(CompressionType::Zstd, false));
    unsupported(store.put("k", text(5000), plain()).await);
    let spy = Spy::new(|capabilities| capabilities.exact_versions = false);
    let store = sealing(spy, options(CompressionType::Zstd, true));
    unsupported(store.put("k", text(5000), plain()).await);
    let large = vec![0; 1 << 20].into();
    let spy = Spy::new(|capabilities| capabilities.value_bytes_max = 1 << 20);
    let store = sealing(spy, options(CompressionType::Zstd, true));
    assert!(store.capabilities().value_bytes_max < 1 << 20);
    let refused = store.put("k", large, plain()).await;
    assert!(matches!(refused, Err(StorageError::TooLarge(_))), "{refused:?}");
}

#[tokio::test]
async fn rotation_changes_the_seal_and_nothing_else() {
    let memory = MemoryBackend::new(1 << 30);
    let inner: Arc<dyn StorageBackend> = Arc::new(memory.clone());
    let old = encrypting(&memory);
    let at = SystemEnv.now_ms() + HOUR_MS;
    let metadata = Metadata { content_type: Some("a/b".into()), ..Metadata::default() };
    let described = StorageOptions { expires_at_ms: Some(at), metadata, ..plain() };
    let value = text(2 * SEAL_SEGMENT_BYTES);
    let version = old.put("k", value.clone(), described).await.unwrap();
    memory.put("unsealed", "v".into(), plain()).await.unwrap();
    let before = stored(&memory, "k").await;

    let both = Keyring::new("b", key(2)).unwrap().with_key("a", key(1)).unwrap();
    let defaults = options(CompressionType::None, true);
    let both = SealingBackend::new(Arc::clone(&inner), "default", Arc::new(both), defaults.clone());
    assert!(both.rotate("k").await.unwrap());
    assert!(!both.rotate("k").await.unwrap());
    assert!(!both.rotate("unsealed").await.unwrap());
    assert!(!both.rotate("nothing").await.unwrap());

    let after = stored(&memory, "k").await;
    assert_eq!(after.value, before.value);
    assert!(after.head.version > version);
    assert_eq!(after.head.expires_at_ms, Some(at));
    assert_eq!(after.head.metadata.content_type, before.head.metadata.content_type);
    let new = Arc::new(Keyring::new("b", key(2)).unwrap());
    let new = SealingBackend::new(inner, "default", new, defaults);
    assert_eq!(new.get("k").await.unwrap().unwrap(), value);
    assert!(matches!(old.get("k").await, Err(StorageError::PermissionDenied(_))));
}

#[tokio::test]
async fn a_walk_rotates_all_and_counts_what_it_cannot() {
    let memory = MemoryBackend::new(1 << 30);
    let inner: Arc<dyn StorageBackend> = Arc::new(memory.clone());
    let store = encrypting(&memory);
    for number in 0..1500 {
        store.put(&format!("{number:04}"), "value".into(), plain()).await.unwrap();
    }
    memory.put("unsealed", "v".into(), plain()).await.unwrap();
    let broken = stored(&memory, "0003").await;
    forge(&memory, "0007", broken, None).await;
    let both = Keyring::new("b", key(2)).unwrap().with_key("a", key(1)).unwrap();
    let both = SealingBackend::new(inner, "default", Arc::new(both), SealOptions::default());
    let rotation = both.rotate_all().await.unwrap();
    assert_eq!((rotation.rotated, rotation.unchanged, rotation.failed), (1499, 1, 1));
    let failure = rotation.first_failure.unwrap();
    assert_eq!(failure.detail().key.as_deref(), Some("0007"));
    assert!(is_corrupt(&Err::<(), _>(failure)));
    let again = both.rotate_all().await.unwrap();
    assert_eq!((again.rotated, again.unchanged, again.failed), (0, 1500, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_lose_nothing_while_objects_are_rotated() {
    let memory = MemoryBackend::new(1 << 30);
    let store = encrypting(&memory);
    for key in 0..20 {
        store.put(&key.to_string(), "0".into(), plain()).await.unwrap();
    }
    let both = Keyring::new("b", key(2)).unwrap().with_key("a", key(1)).unwrap();
    let both = Arc::new(both);
    let view = move |memory: &MemoryBackend| {
        let defaults = options(CompressionType::None, true);
        SealingBackend::new(Arc::new(memory.clone()), "default", Arc::clone(&both), defaults)
    };
    // Each adds one to each counter, on the version that it read.
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let store = view(&memory);
            tokio::spawn(async move {
                for number in 0..200 {
                    let key = (number % 20).to_string();
                    loop {
                        let read = store.read(&key, ReadOptions::default()).await.unwrap().unwrap();
                        let count: u32 = std::str::from_utf8(&read.value).unwrap().parse().unwrap();
                        let condition = Condition::IfMatch(read.head.version);
                        let written = store
                            .put(
                                &key,
                                (count + 1).to_string().into(),
                                StorageOptions { condition, ..plain() },
                            )
                            .await;
                        match written {
                            Ok(_) => break,
                            Err(StorageError::PreconditionFailed(_)) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            })
        })
        .collect();
    let rotation = view(&memory).rotate_all().await.unwrap();
    assert_eq!(rotation.failed, 0, "{rotation:?}");
    for writer in writers {
        writer.await.unwrap();
    }
    let store = view(&memory);
    for key in 0..20 {
        assert_eq!(store.get(&key.to_string()).await.unwrap().unwrap(), "40");
        assert!(!store.rotate(&key.to_string()).await.unwrap());
    }
}
