//! Mirrors and shadows through the client, over two real backends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sira_store::client::{NamespacePolicy, StoragePlan};
use sira_store::filesystem::FilesystemBackend;
use sira_store::placement::{Catalog, CopyCounts};
use sira_store::router::{DataPattern, StorageRouter};
use sira_store::seal::Keyring;
use sira_store::{
    BatchOperation, Capabilities, Condition, EncryptionType, MemoryBackend, Object, ReadOptions,
    Result, StorageBackend, StorageClient, StorageError, StorageOptions, Version,
};

use crate::placement::flaky::{Flaky, Outage};

struct Fixture {
    client: StorageClient,
    /// The backends themselves, past outages.
    files: Arc<dyn StorageBackend>,
    memory: Arc<dyn StorageBackend>,
    files_away: Outage,
    memory_away: Outage,
    _folder: tempfile::TempDir,
}

/// Objects in files; what the patterns say beside that of memory.
fn fixture(patterns: &[(&str, DataPattern)]) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let files: Arc<dyn StorageBackend> = Arc::new(FilesystemBackend::new(folder.path()).unwrap());
    let memory: Arc<dyn StorageBackend> = Arc::new(MemoryBackend::new(64 << 20));
    let (files_away, memory_away) = (Outage::default(), Outage::default());
    let flaky = |inner: &Arc<dyn StorageBackend>, outage: &Outage| {
        let (inner, outage) = (Arc::clone(inner), outage.clone());
        Arc::new(Flaky { inner, outage }) as Arc<dyn StorageBackend>
    };
    let backends = BTreeMap::from([
        ("files".to_owned(), flaky(&files, &files_away)),
        ("memory".to_owned(), flaky(&memory, &memory_away)),
    ]);
    let mut router = StorageRouter::new();
    for (pattern, data) in patterns {
        router.add_data_pattern(pattern, data.clone()).unwrap();
    }
    router.set_default_backend("files");
    let client = StorageClient::new();
    client
        .apply(StoragePlan {
            backends,
            default_backend: Some("files".to_owned()),
            router: Some(Arc::new(router)),
            catalog: Some(Catalog::new(Arc::new(MemoryBackend::new(1 << 20))).unwrap()),
            keyring: Arc::new(Keyring::new("k", Keyring::generate_key().unwrap()).unwrap()),
            namespaces: [(
                "secret".to_owned(),
                NamespacePolicy {
                    encryption: Some(EncryptionType::Aes256Gcm { key_id: String::new() }),
                    ..NamespacePolicy::default()
                },
            )]
            .into(),
            ..StoragePlan::default()
        })
        .unwrap();
    Fixture { client, files, memory, files_away, memory_away, _folder: folder }
}

fn mirrored() -> DataPattern {
    DataPattern { mirror_backends: vec!["memory".to_owned()], ..DataPattern::to("files") }
}

fn shadowed() -> DataPattern {
    DataPattern { shadow_backend: Some("memory".to_owned()), ..DataPattern::to("files") }
}

fn plain() -> StorageOptions {
    StorageOptions::default()
}

impl Fixture {
    fn counts(&self) -> CopyCounts {
        self.client.copy_figures().counts()
    }

    /// Waits until the figures are such.
    async fn until(&self, what: &str, holds: impl Fn(&CopyCounts) -> bool) -> CopyCounts {
        for _ in 0..2_000 {
            let counts = self.counts();
            if holds(&counts) {
                return counts;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{what}: {:?}", self.counts());
    }
}

#[tokio::test]
async fn a_mirror_holds_the_stored_bytes_and_answers_in_an_outage() {
    let f = fixture(&[("kept:*", mirrored())]);
    let secret = f.client.namespace("secret");
    secret.store("kept:1", "a value in the clear", plain()).await.unwrap();
    secret.store("other", "v", plain()).await.unwrap();
    let inside = async |backend: &Arc<dyn StorageBackend>, key: &str| {
        let backend = backend.namespace("secret").await.unwrap();
        backend.read(key, ReadOptions::default()).await.unwrap()
    };
    let stored = inside(&f.files, "kept:1").await.unwrap();
    assert_eq!(inside(&f.memory, "kept:1").await.unwrap(), stored);
    assert!(!stored.value.windows(5).any(|part| part == b"value"));
    assert_eq!(inside(&f.memory, "other").await, None);
    assert_eq!(secret.list_keys("", 10).await.unwrap(), ["kept:1", "other"]);

    f.files_away.set(true);
    assert_eq!(secret.retrieve("kept:1").await.unwrap().unwrap(), "a value in the clear");
    let error = secret.retrieve("other").await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable(_)), "{error}");
    f.files_away.set(false);

    let told = secret.explain("kept:1", None, &plain()).await.unwrap();
    assert_eq!(
        (told.copies_on, told.has_copies_on),
        (vec!["memory".to_owned()], vec!["memory".to_owned()])
    );
}

#[tokio::test]
async fn batches_and_streams_are_copied_too() {
    let f = fixture(&[("kept:*", mirrored())]);
    let put = |key: &str| BatchOperation::Put {
        key: key.to_owned(),
        value: Bytes::from_static(b"v"),
        options: plain(),
    };
    f.client.batch(vec![put("kept:1"), put("kept:2")]).await.unwrap();
    let space = f.client.open().await.unwrap().backend;
    let parts = vec![Ok(Bytes::from_static(b"a ")), Ok(Bytes::from_static(b"stream"))];
    space.put_stream("kept:3", Box::pin(futures_of(parts)), plain()).await.unwrap();
    f.files_away.set(true);
    for (key, value) in [("kept:1", "v"), ("kept:2", "v"), ("kept:3", "a stream")] {
        assert_eq!(f.client.retrieve(key).await.unwrap().unwrap(), value, "{key}");
    }
    f.files_away.set(false);
    let delete = BatchOperation::delete("kept:1");
    f.client.batch(vec![delete]).await.unwrap();
    assert!(!f.memory.exists("kept:1").await.unwrap());
    assert_eq!(f.client.clear().await.unwrap(), 2);
    assert!(f.memory.list_keys("", 10).await.unwrap().is_empty());
}

/// A stream of these parts.
fn futures_of(
    parts: Vec<std::io::Result<Bytes>>,
) -> impl futures_core::Stream<Item = std::io::Result<Bytes>> {
    struct Parts(std::vec::IntoIter<std::io::Result<Bytes>>);
    impl futures_core::Stream for Parts {
        type Item = std::io::Result<Bytes>;

        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Self::Item>> {
            std::task::Poll::Ready(self.0.next())
        }
    }
    Parts(parts.into_iter())
}

#[tokio::test]
async fn a_mirror_that_was_away_is_made_level_and_found_again_by_another_plan() {
    let f = fixture(&[("kept:*", mirrored())]);
    f.client.store("kept:1", "1", plain()).await.unwrap();
    f.memory_away.set(true);
    f.client.store("kept:1", "2", plain()).await.unwrap();
    let told = f.client.explain("kept:1", None, &plain()).await.unwrap();
    assert_eq!(told.behind_on, ["memory"]);
    f.files_away.set(true);
    f.memory_away.set(false);
    assert!(f.client.retrieve("kept:1").await.is_err(), "an older version is not read");
    f.files_away.set(false);
    // As after a restart: nobody remembers the key but the catalog.
    f.client.apply(StoragePlan::clone(&f.client.plan())).unwrap();
    f.client.retrieve("kept:1").await.unwrap();
    f.until("mended", |counts| counts.mended == 1).await;
    f.files_away.set(true);
    assert_eq!(f.client.retrieve("kept:1").await.unwrap().unwrap(), "2");
    f.files_away.set(false);

    // Without the rule the copy goes with the next write.
    let mut router = StorageRouter::new();
    router.set_default_backend("files");
    let mut plan = StoragePlan::clone(&f.client.plan());
    plan.router = Some(Arc::new(router));
    f.client.apply(plan).unwrap();
    assert!(f.memory.exists("kept:1").await.unwrap());
    f.client.store("kept:1", "3", plain()).await.unwrap();
    assert!(!f.memory.exists("kept:1").await.unwrap());
}

/// A backend that draws versions itself.
#[derive(Debug)]
struct NoVersions(Arc<dyn StorageBackend>);

#[async_trait]
impl StorageBackend for NoVersions {
    fn capabilities(&self) -> Capabilities {
        Capabilities { exact_versions: false, ..self.0.capabilities() }
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        self.0.put(key, value, options).await
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        self.0.read(key, options).await
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        self.0.remove(key, condition).await
    }
}

#[tokio::test]
async fn a_mirror_that_cannot_keep_versions_is_refused() {
    let f = fixture(&[]);
    let mut plan = StoragePlan::clone(&f.client.plan());
    plan.backends.insert("plain".to_owned(), Arc::new(NoVersions(Arc::clone(&f.memory))));
    let mut apply = |name: &str| {
        let data =
            DataPattern { mirror_backends: vec![name.to_owned()], ..DataPattern::to("files") };
        let mut router = StorageRouter::new();
        router.add_data_pattern("a*", data).unwrap();
        plan.router = Some(Arc::new(router));
        f.client.apply(plan.clone())
    };
    let error = apply("plain").unwrap_err();
    assert!(matches!(error, StorageError::Unsupported(_)), "{error}");
    assert_eq!(error.detail().backend.as_deref(), Some("plain"));
    let error = apply("memroy").unwrap_err();
    assert!(matches!(error, StorageError::NotFound(_)), "{error}");
    apply("memory").unwrap();
}

#[tokio::test]
async fn a_shadow_repeats_what_was_done_and_is_never_served() {
    let f = fixture(&[("tried:*", shadowed())]);
    f.client.store("tried:1", "v", plain()).await.unwrap();
    f.client.store("other", "v", plain()).await.unwrap();
    f.until("written", |counts| counts.shadow_written == 1).await;
    let space = f.memory.namespace(&Catalog::shadow_of("default")).await.unwrap();
    assert_eq!(space.list_keys("", 10).await.unwrap(), ["tried:1"]);
    assert!(f.memory.list_keys("", 10).await.unwrap().is_empty(), "objects lie elsewhere");

    f.client.retrieve("tried:1").await.unwrap();
    f.client.exists("tried:1").await.unwrap();
    f.client.retrieve("tried:none").await.unwrap();
    f.until("equal", |counts| counts.shadow_equal == 3).await;
    // Something else under the same version.
    let version = space.head("tried:1").await.unwrap().unwrap().version;
    space.delete("tried:1").await.unwrap();
    let options = StorageOptions { version: Some(version), ..plain() };
    space.put("tried:1", "x".into(), options).await.unwrap();
    assert_eq!(f.client.retrieve("tried:1").await.unwrap().unwrap(), "v");
    f.until("differs", |counts| counts.shadow_differs == 1).await;
    space.delete("tried:1").await.unwrap();
    f.client.retrieve("tried:1").await.unwrap();
    f.until("missing", |counts| counts.shadow_missing == 1).await;

    // Its failures are nobody's.
    f.memory_away.set(true);
    f.client.store("tried:1", "w", plain()).await.unwrap();
    assert_eq!(f.client.retrieve("tried:1").await.unwrap().unwrap(), "w");
    f.until("failed", |counts| counts.shadow_failed == 2).await;
    f.files_away.set(true);
    f.memory_away.set(false);
    assert!(f.client.retrieve("tried:1").await.is_err());
    f.files_away.set(false);

    f.client.store("tried:1", "w", plain()).await.unwrap();
    f.client.delete("tried:1").await.unwrap();
    f.until("removed", |counts| counts.shadow_written == 3).await;
    assert!(!space.exists("tried:1").await.unwrap());
}

#[tokio::test]
async fn a_shadow_that_is_too_slow_is_left_behind() {
    let f = fixture(&[("tried:*", shadowed())]);
    f.memory_away.hold(true);
    let value = Bytes::from(vec![7; 1 << 20]);
    for number in 0..80 {
        let key = format!("tried:{}", number % 2);
        f.client.store(&key, value.clone(), plain()).await.unwrap();
    }
    // More than 64 MiB do not wait.
    assert_eq!((f.counts().shadow_written, f.counts().shadow_dropped), (0, 16));
    f.memory_away.hold(false);
    f.until("all others", |counts| counts.shadow_written == 64).await;
    f.client.retrieve("tried:0").await.unwrap();
    // Behind what was dropped.
    f.until("differs", |counts| counts.shadow_differs == 1).await;
}

#[tokio::test]
async fn a_part_of_the_keys_is_compared() {
    let f = fixture(&[("tried:*", DataPattern { shadow_part: Some(0.3), ..shadowed() })]);
    let mut compared = 0;
    for number in 0..300 {
        let key = format!("tried:{number}");
        let told = f.client.explain(&key, None, &plain()).await.unwrap();
        compared += told.compared_with.len();
        f.client.store(&key, "v", plain()).await.unwrap();
    }
    assert!((50..130).contains(&compared), "{compared}");
    f.until("written", |counts| counts.shadow_written == compared as u64).await;
}
