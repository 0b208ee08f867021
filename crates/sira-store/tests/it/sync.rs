//! Syncs of two stores in use.

mod chaos;
mod history;

use std::sync::Arc;

use sira_store::migration::{
    ConflictRule, Ledger, Side, SyncOptions, SyncReport, TwoWaySync, Verify,
};
use sira_store::seal::{Keyring, SealOptions};
use sira_store::{
    EncryptionType, MemoryBackend, ReadOptions, SealingBackend, StorageBackend, StorageError,
    StorageOptions, Version,
};

fn memory() -> Arc<dyn StorageBackend> {
    Arc::new(MemoryBackend::new(1 << 30))
}

async fn put(store: &Arc<dyn StorageBackend>, key: &str, value: &str) -> Version {
    store.put(key, value.to_owned().into(), StorageOptions::default()).await.unwrap()
}

/// Key, version and bytes of everything.
async fn everything(store: &Arc<dyn StorageBackend>) -> Vec<(String, Version, Vec<u8>)> {
    let mut all = Vec::new();
    for key in store.list_keys("", usize::MAX).await.unwrap() {
        let object = store.read(&key, ReadOptions::default()).await.unwrap().unwrap();
        all.push((key, object.head.version, object.value.to_vec()));
    }
    all
}

/// Two stores and what they remember.
struct Pair {
    source: Arc<dyn StorageBackend>,
    target: Arc<dyn StorageBackend>,
    state: Arc<dyn StorageBackend>,
}

impl Pair {
    fn new() -> Self {
        Self { source: memory(), target: memory(), state: memory() }
    }

    fn sync(&self, options: SyncOptions) -> TwoWaySync {
        let (source, target) = (Arc::clone(&self.source), Arc::clone(&self.target));
        TwoWaySync::new(source, target, self.ledger(), options).unwrap()
    }

    fn ledger(&self) -> Ledger {
        Ledger::new(Arc::clone(&self.state), "pair")
    }

    async fn run(&self) -> SyncReport {
        self.sync(SyncOptions::default()).run().await.unwrap()
    }

    async fn assert_level(&self) {
        assert_eq!(everything(&self.source).await, everything(&self.target).await);
    }

    async fn keys(&self) -> Vec<String> {
        self.assert_level().await;
        self.source.list_keys("", usize::MAX).await.unwrap()
    }
}

#[tokio::test]
async fn changes_additions_and_removals_go_both_ways() {
    let pair = Pair::new();
    for key in ["a", "b", "c"] {
        put(&pair.source, key, "1").await;
    }
    for key in ["d", "e", "f"] {
        put(&pair.target, key, "1").await;
    }
    let report = pair.run().await;
    assert_eq!((report.copied_to_target, report.copied_to_source), (3, 3));
    assert_eq!(pair.keys().await, ["a", "b", "c", "d", "e", "f"]);
    assert!(pair.run().await.is_level());

    pair.target.delete("a").await.unwrap();
    pair.source.delete("d").await.unwrap();
    put(&pair.target, "b", "2").await;
    put(&pair.source, "e", "2").await;
    put(&pair.source, "g", "1").await;
    let report = pair.run().await;
    assert_eq!((report.removed_from_source, report.removed_from_target), (1, 1));
    assert_eq!((report.copied_to_source, report.copied_to_target), (1, 2));
    assert_eq!((report.scanned, report.unchanged, report.conflicts), (7, 2, 0));
    assert_eq!(pair.keys().await, ["b", "c", "e", "f", "g"]);
    assert_eq!(pair.source.get("b").await.unwrap().unwrap(), "2");
    assert_eq!(pair.target.get("e").await.unwrap().unwrap(), "2");
    assert!(pair.run().await.is_level());
}

#[tokio::test]
async fn without_its_ledger_nothing_is_removed() {
    let pair = Pair::new();
    put(&pair.source, "a", "1").await;
    put(&pair.source, "b", "1").await;
    pair.run().await;
    pair.target.delete("a").await.unwrap();
    pair.ledger().delete().await.unwrap();
    assert_eq!(pair.state.list_keys("", 10).await.unwrap(), [""; 0]);
    assert_eq!(pair.run().await.copied_to_target, 1);
    assert_eq!(pair.keys().await, ["a", "b"]);
}

#[tokio::test]
async fn a_side_that_has_lost_everything_does_not_empty_the_other() {
    let mut pair = Pair::new();
    put(&pair.source, "a", "1").await;
    pair.run().await;
    pair.target = memory();
    let error = pair.sync(SyncOptions::default()).run().await.unwrap_err();
    assert!(matches!(error, StorageError::PreconditionFailed(_)), "{error}");
    assert_eq!(pair.source.list_keys("", 10).await.unwrap(), ["a"]);
    let report =
        pair.sync(SyncOptions { may_empty: true, ..SyncOptions::default() }).run().await.unwrap();
    assert_eq!(report.removed_from_source, 1);
    assert_eq!(pair.keys().await, [""; 0]);
}

#[tokio::test]
async fn only_keys_of_the_pattern_take_part() {
    let pair = Pair::new();
    for key in ["cache:a", "cache:b", "data:c"] {
        put(&pair.source, key, "1").await;
    }
    pair.run().await;
    for key in ["cache:a", "data:c"] {
        pair.source.delete(key).await.unwrap();
    }
    let pattern = "cache:*".parse().unwrap();
    let report = pair.sync(SyncOptions { pattern, ..SyncOptions::default() }).run().await.unwrap();
    assert_eq!((report.scanned, report.removed_from_target), (2, 1));
    assert_eq!(pair.target.list_keys("", 10).await.unwrap(), ["cache:b", "data:c"]);
    // What is known of the others was left as it was.
    assert_eq!(pair.run().await.removed_from_target, 1);
    assert_eq!(pair.keys().await, ["cache:b"]);
}

#[tokio::test]
async fn a_dry_run_does_nothing() {
    let pair = Pair::new();
    put(&pair.source, "a", "1").await;
    put(&pair.target, "b", "1").await;
    let version = Version::from_u64(7 << 16);
    for (store, value) in [(&pair.source, "here"), (&pair.target, "there")] {
        let options = StorageOptions { version: Some(version), ..StorageOptions::default() };
        store.put("same", value.into(), options).await.unwrap();
    }
    let report =
        pair.sync(SyncOptions { dry_run: true, ..SyncOptions::default() }).run().await.unwrap();
    assert_eq!((report.copied_to_target, report.copied_to_source, report.conflicts), (2, 1, 1));
    assert_eq!(pair.source.list_keys("", 10).await.unwrap(), ["a", "same"]);
    assert_eq!(pair.state.list_keys("", 10).await.unwrap(), [""; 0]);
    let report = pair.run().await;
    assert_eq!((report.copied_to_target, report.copied_to_source, report.conflicts), (2, 1, 1));
    assert_eq!(pair.keys().await, ["a", "b", "same"]);
    assert_eq!(pair.target.get("same").await.unwrap().unwrap(), "here");
}

#[tokio::test]
async fn conflicts_go_by_the_rule() {
    let newer = |key: &str| if key == "a" { "source" } else { "target" };
    for (rule, winner) in [
        (ConflictRule::Newest, None),
        (ConflictRule::Source, Some("source")),
        (ConflictRule::Target, Some("target")),
        (ConflictRule::Rule(Arc::new(|_, _, _| Side::Target)), Some("target")),
    ] {
        let pair = Pair::new();
        let write = async |store: &Arc<dyn StorageBackend>, key, value: &'static str, version| {
            let version = Some(Version::from_u64(version));
            let options = StorageOptions { version, ..StorageOptions::default() };
            store.put(key, value.into(), options).await.unwrap();
        };
        write(&pair.source, "a", "source", 2 << 16).await;
        write(&pair.target, "a", "target", 1 << 16).await;
        write(&pair.source, "b", "source", 1 << 16).await;
        write(&pair.target, "b", "target", 2 << 16).await;
        let options =
            SyncOptions { conflict: rule.clone(), verify: Verify::All, ..SyncOptions::default() };
        let report = pair.sync(options).run().await.unwrap();
        assert_eq!((report.conflicts, report.verified), (2, 2), "{rule:?}");
        pair.assert_level().await;
        for key in ["a", "b"] {
            let expected = winner.unwrap_or(newer(key));
            assert_eq!(pair.source.get(key).await.unwrap().unwrap(), expected, "{rule:?} {key}");
        }
        assert!(pair.run().await.is_level());
    }
}

#[tokio::test]
async fn both_are_kept_if_asked_for() {
    let pair = Pair::new();
    let older = put(&pair.source, "a", "older").await;
    tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    put(&pair.target, "a", "newer").await;
    let conflict = ConflictRule::KeepBoth { separator: "~".to_owned() };
    let report = pair.sync(SyncOptions { conflict, ..SyncOptions::default() }).run().await.unwrap();
    assert_eq!(report.conflicts, 1);
    let aside = format!("a~{older}");
    assert_eq!(pair.keys().await, ["a".to_owned(), aside.clone()]);
    assert_eq!(pair.source.get("a").await.unwrap().unwrap(), "newer");
    assert_eq!(pair.source.get(&aside).await.unwrap().unwrap(), "older");
}

#[tokio::test]
async fn encrypted_objects_stay_readable_whatever_the_rule() {
    let keyring = Arc::new(Keyring::new("k", Keyring::generate_key().unwrap()).unwrap());
    let seal = SealOptions {
        encryption: EncryptionType::Aes256Gcm { key_id: String::new() },
        ..SealOptions::default()
    };
    let sealed = |store: &Arc<dyn StorageBackend>| {
        let keyring = Arc::clone(&keyring);
        SealingBackend::new(Arc::clone(store), "default", keyring, seal.clone())
    };
    let conflicts = [ConflictRule::Source, ConflictRule::KeepBoth { separator: "~".to_owned() }];
    for conflict in conflicts {
        let pair = Pair::new();
        let options = StorageOptions::default;
        let source = sealed(&pair.source);
        let older = source.put("a", "source".into(), options()).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(3)).await;
        sealed(&pair.target).put("a", "target".into(), options()).await.unwrap();
        let sync =
            || pair.sync(SyncOptions { conflict: conflict.clone(), ..SyncOptions::default() });
        let error = sync().run().await.unwrap_err();
        assert!(matches!(error, StorageError::Unsupported(_)), "{error}");
        sync().with_keyring(Arc::clone(&keyring), "default").run().await.unwrap();
        pair.assert_level().await;
        for store in [&pair.source, &pair.target] {
            let store = sealed(store);
            match &conflict {
                ConflictRule::Source => {
                    assert_eq!(store.get("a").await.unwrap().unwrap(), "source");
                }
                _ => {
                    assert_eq!(store.get("a").await.unwrap().unwrap(), "target");
                    let aside = store.get(&format!("a~{older}")).await.unwrap();
                    assert_eq!(aside.unwrap(), "source");
                }
            }
        }
    }
}

/// Many pages of the ledger: made, split, emptied.
#[tokio::test]
async fn large_stores_come_level_again_and_again() {
    let pair = Pair::new();
    for number in 0..7_000 {
        let store = if number % 3 == 0 { &pair.source } else { &pair.target };
        put(store, &format!("key:{number:05}"), "1").await;
    }
    pair.run().await;
    pair.assert_level().await;
    let pages = pair.state.list_keys("", 100).await.unwrap().len();
    assert!((5..=12).contains(&pages), "{pages} objects hold what is known of 7,000 keys");
    for number in 0..7_000 {
        let store = if number % 2 == 0 { &pair.source } else { &pair.target };
        match number {
            1_000..5_000 => drop(store.delete(&format!("key:{number:05}")).await.unwrap()),
            _ => drop(put(store, &format!("key:{number:05}:b"), "2").await),
        }
    }
    let report = pair.run().await;
    assert_eq!(report.removed_from_source + report.removed_from_target, 4_000);
    assert_eq!(pair.keys().await.len(), 6_000);
    let report = pair.run().await;
    assert_eq!((report.scanned, report.unchanged), (6_000, 6_000));
    for key in pair.source.list_keys("", usize::MAX).await.unwrap() {
        pair.source.delete(&key).await.unwrap();
    }
    pair.sync(SyncOptions { may_empty: true, ..SyncOptions::default() }).run().await.unwrap();
    assert_eq!(pair.keys().await, [""; 0]);
    assert_eq!(pair.state.list_keys("", 100).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_ledger_is_of_one_run_at_a_time() {
    let pair = Pair::new();
    for number in 0..3_000 {
        put(&pair.source, &format!("{number:05}"), "1").await;
    }
    let slow = Pair {
        source: chaos::Chaos::wrap(&pair.source, 1),
        target: chaos::Chaos::wrap(&pair.target, 2),
        state: Arc::clone(&pair.state),
    };
    let first = tokio::spawn(slow.sync(SyncOptions::default()).clone_run());
    tokio::task::yield_now().await;
    while pair.state.list_keys("", 1).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    pair.run().await;
    let error = first.await.unwrap().unwrap_err();
    assert!(matches!(error, StorageError::Conflict(_)), "{error}");
    pair.run().await;
    pair.assert_level().await;
}

#[tokio::test]
async fn a_damaged_ledger_is_told() {
    let pair = Pair::new();
    put(&pair.source, "a", "1").await;
    pair.run().await;
    for key in pair.state.list_keys("", 10).await.unwrap() {
        let good = pair.state.get(&key).await.unwrap().unwrap();
        for at in 0..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 1;
            pair.state.put(&key, bad.into(), StorageOptions::default()).await.unwrap();
            let error = pair.sync(SyncOptions::default()).run().await.unwrap_err();
            let expected = if at == 0 { "unsupported" } else { "corrupt" };
            assert_eq!(error.code(), expected, "byte {at} of {key}: {error}");
        }
        pair.state.put(&key, good, StorageOptions::default()).await.unwrap();
    }
    assert!(pair.run().await.is_level());
}

/// A run that owns what it runs.
trait CloneRun {
    fn clone_run(&self) -> impl Future<Output = sira_store::Result<SyncReport>> + Send + 'static;
}

impl CloneRun for TwoWaySync {
    fn clone_run(&self) -> impl Future<Output = sira_store::Result<SyncReport>> + Send + 'static {
        let sync = self.clone();
        async move { sync.run().await }
    }
}
