//! Migrations between stores in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sira_store::driver::DriverBackend;
use sira_store::env::SeededRandom;
use sira_store::migration::{ConflictRule, Cursor, Migration, MigrationOptions, Side, Verify};
use sira_store::seal::{Keyring, SealOptions};
use sira_store::{
    EncryptionType, ListOptions, Metadata, ReadOptions, SealingBackend, StorageBackend,
    StorageError, StorageOptions, Version,
};

use crate::driver::memory::{Kind, MemoryDriver};

fn store() -> Arc<dyn StorageBackend> {
    Arc::new(DriverBackend::new(MemoryDriver::new(Kind::default())))
}

async fn put(store: &Arc<dyn StorageBackend>, key: &str, value: &str) -> Version {
    store.put(key, value.to_owned().into(), StorageOptions::default()).await.unwrap()
}

fn migration(
    from: &Arc<dyn StorageBackend>,
    to: &Arc<dyn StorageBackend>,
    options: MigrationOptions,
) -> Migration {
    Migration::new(Arc::clone(from), Arc::clone(to), options).unwrap()
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

#[tokio::test]
async fn versions_metadata_and_expiry_come_along() {
    let (from, to) = (store(), store());
    let metadata = Metadata { content_type: Some("text/plain".to_owned()), ..Metadata::default() };
    let options = StorageOptions {
        ttl: Some(Duration::from_secs(60)),
        metadata,
        ..StorageOptions::default()
    };
    from.put("cache:a", "1".into(), options).await.unwrap();
    put(&from, "cache:b", "2").await;
    put(&from, "data:c", "3").await;
    let pattern = "cache:*".parse().unwrap();
    let options = MigrationOptions { pattern, verify: Verify::All, ..Default::default() };
    let report = migration(&from, &to, options).run().await.unwrap();
    assert_eq!((report.scanned, report.copied, report.verified), (2, 2, 2));
    assert_eq!(to.head("cache:a").await.unwrap(), from.head("cache:a").await.unwrap());
    assert_eq!(to.list_keys("", 10).await.unwrap(), ["cache:a", "cache:b"]);
}

#[tokio::test]
async fn the_second_time_only_what_changed_is_copied() {
    let (from, to) = (store(), store());
    for number in 0..50 {
        put(&from, &format!("{number:03}"), "1").await;
    }
    let first = migration(&from, &to, MigrationOptions::default()).run().await.unwrap();
    assert_eq!((first.copied, first.skipped), (50, 0));
    put(&from, "007", "2").await;
    put(&from, "new", "2").await;
    let since = Some(first.watermark);
    let options = MigrationOptions { since, ..MigrationOptions::default() };
    let second = migration(&from, &to, options).run().await.unwrap();
    assert_eq!((second.copied, second.skipped), (2, 49));
    assert_eq!(everything(&from).await, everything(&to).await);
    let third = migration(&from, &to, MigrationOptions::default()).run().await.unwrap();
    assert_eq!((third.copied, third.skipped), (0, 51));
}

#[tokio::test]
async fn a_dry_run_does_nothing() {
    let (from, to) = (store(), store());
    put(&from, "a", "1").await;
    put(&to, "b", "1").await;
    let options = MigrationOptions {
        dry_run: true,
        remove_source: true,
        remove_extraneous: true,
        ..MigrationOptions::default()
    };
    let report = migration(&from, &to, options).run().await.unwrap();
    assert_eq!((report.copied, report.extraneous, report.removed), (1, 1, 0));
    assert_eq!(from.list_keys("", 10).await.unwrap(), ["a"]);
    assert_eq!(to.list_keys("", 10).await.unwrap(), ["b"]);
}

#[tokio::test]
async fn conflicts_go_by_the_rule() {
    for (rule, expected) in [
        (ConflictRule::Newest, ["new target", "new source"]),
        (ConflictRule::Source, ["old source", "new source"]),
        (ConflictRule::Target, ["new target", "old target"]),
        (ConflictRule::Rule(Arc::new(|_, _, _| Side::Source)), ["old source", "new source"]),
    ] {
        let (from, to) = (store(), store());
        put(&from, "a", "old source").await;
        put(&to, "b", "old target").await;
        tokio::time::sleep(Duration::from_millis(3)).await;
        put(&to, "a", "new target").await;
        put(&from, "b", "new source").await;
        let options = MigrationOptions { conflict: rule.clone(), ..MigrationOptions::default() };
        let report = migration(&from, &to, options).run().await.unwrap();
        assert_eq!(report.conflicts, 2, "{rule:?}");
        for (key, value) in ["a", "b"].into_iter().zip(expected) {
            assert_eq!(to.get(key).await.unwrap().unwrap(), value, "{rule:?} {key}");
        }
    }
    let (from, to) = (store(), store());
    let version = put(&from, "a", "source").await;
    put(&to, "a", "target").await;
    let conflict = ConflictRule::KeepBoth { separator: "~".to_owned() };
    let options = MigrationOptions { conflict, ..MigrationOptions::default() };
    for copied in [1, 0] {
        let report = migration(&from, &to, options.clone()).run().await.unwrap();
        assert_eq!((report.copied, report.conflicts), (copied, 1));
    }
    assert_eq!(to.list_keys("", 10).await.unwrap(), ["a".to_owned(), format!("a~{version}")]);
}

#[tokio::test]
async fn what_the_source_does_not_have_is_removed_if_asked_for() {
    let (from, to) = (store(), store());
    for key in ["a", "c", "e"] {
        put(&from, key, "1").await;
    }
    for key in ["0", "b", "c", "d", "z", "kept"] {
        put(&to, key, "0").await;
    }
    let pattern = "?".parse().unwrap();
    let options =
        MigrationOptions { pattern, remove_extraneous: true, ..MigrationOptions::default() };
    let report = migration(&from, &to, options).run().await.unwrap();
    assert_eq!(report.extraneous, 4);
    assert_eq!(to.list_keys("", 10).await.unwrap(), ["a", "c", "e", "kept"]);
}

#[tokio::test]
async fn a_target_without_versions_is_refused() {
    #[derive(Debug)]
    struct Plain;
    #[async_trait::async_trait]
    impl sira_store::driver::Driver for Plain {
        fn profile(&self) -> sira_store::driver::DriverProfile {
            sira_store::driver::DriverProfile::blind(1024)
        }
        async fn put(
            &self,
            _: &sira_store::driver::Place,
            _: &str,
            record: sira_store::driver::Record,
            _: sira_store::driver::Guard,
        ) -> sira_store::Result<Version> {
            Ok(record.version)
        }
        async fn get(
            &self,
            _: &sira_store::driver::Place,
            _: &str,
            _: sira_store::driver::Part,
        ) -> sira_store::Result<Option<sira_store::driver::Record>> {
            Ok(None)
        }
        async fn remove(
            &self,
            _: &sira_store::driver::Place,
            _: &str,
            _: sira_store::driver::Guard,
        ) -> sira_store::Result<bool> {
            Ok(false)
        }
        async fn health_check(&self) -> sira_store::HealthStatus {
            sira_store::HealthStatus::Healthy
        }
    }
    let plain: Arc<dyn StorageBackend> = Arc::new(DriverBackend::new(Plain));
    let options = MigrationOptions::default;
    let error = Migration::new(store(), Arc::clone(&plain), options()).unwrap_err();
    assert!(matches!(error, StorageError::Unsupported(_)), "{error}");
    let error = Migration::new(plain, store(), options()).unwrap_err();
    assert!(matches!(error, StorageError::Unsupported(_)), "{error}");
}

/// Writers go on, and the mover is dropped again and again; a last pass after they have stopped
/// makes both sides equal.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_while_writers_go_on_and_the_mover_dies() {
    const KEYS: u64 = 3_000;
    let (from, to, state) = (store(), store(), store());
    for number in 0..KEYS {
        put(&from, &format!("{number:06}"), &format!("{number}")).await;
    }
    let over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|seed| {
            let (from, over) = (Arc::clone(&from), Arc::clone(&over));
            tokio::spawn(async move {
                let mut random = SeededRandom::new(seed);
                while !over.load(Ordering::Acquire) {
                    let key = format!("{:06}", random.next_u64() % (KEYS + 500));
                    if random.next_u64().is_multiple_of(5) {
                        from.delete(&key).await.unwrap();
                    } else {
                        put(&from, &key, &random.next_u64().to_string()).await;
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let options = || MigrationOptions { remove_extraneous: true, ..MigrationOptions::default() };
    let cursor = || Cursor::new(Arc::clone(&state), "mover");
    let mut resumed = 0;
    let mut random = SeededRandom::new(9);
    // Given more and more time, until some have come far enough to be gone on with.
    for patience_ms in 1..1_000 {
        let mover = migration(&from, &to, options()).with_cursor(cursor());
        let task = tokio::spawn(async move { mover.run().await });
        tokio::time::sleep(Duration::from_millis(random.next_u64() % patience_ms)).await;
        task.abort();
        let _ = task.await;
        resumed += u64::from(cursor().load().await.unwrap().is_some());
        if resumed == 20 {
            break;
        }
    }
    assert!(resumed > 0, "no mover had come far enough to be gone on with");
    over.store(true, Ordering::Release);
    for writer in writers {
        writer.await.unwrap();
    }
    // What remains of the interrupted walk, and one whole one.
    migration(&from, &to, options()).with_cursor(cursor()).run().await.unwrap();
    assert_eq!(cursor().load().await.unwrap(), None);
    let last = migration(&from, &to, options()).with_cursor(cursor()).run().await.unwrap();
    assert_eq!(last.scanned, from.list_keys("", usize::MAX).await.unwrap().len() as u64);
    assert_eq!(everything(&from).await, everything(&to).await);
    let page = to.list(ListOptions::default()).await.unwrap();
    assert_eq!(page.entries.len(), 1000);
}

#[tokio::test]
async fn moved_objects_leave_the_source_unless_written_meanwhile() {
    let (from, to) = (store(), store());
    for key in ["a", "b"] {
        put(&from, key, "1").await;
    }
    let options = MigrationOptions { remove_source: true, ..MigrationOptions::default() };
    let report = migration(&from, &to, options).run().await.unwrap();
    assert_eq!((report.copied, report.removed), (2, 2));
    assert_eq!(from.list_keys("", 10).await.unwrap(), Vec::<String>::new());
    assert_eq!(to.list_keys("", 10).await.unwrap(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn the_bandwidth_is_bounded() {
    let (from, to) = (store(), store());
    for number in 0..10 {
        put(&from, &format!("{number}"), &"x".repeat(1000)).await;
    }
    let options =
        MigrationOptions { bytes_per_second_max: Some(1000), ..MigrationOptions::default() };
    let mover = migration(&from, &to, options);
    let slept = tokio::time::timeout(Duration::from_secs(8), mover.run()).await;
    assert!(slept.is_err(), "10,000 bytes at 1,000 a second take more than 8 s");
}

#[tokio::test]
async fn encrypted_objects_are_not_stored_where_they_do_not_open() {
    let keyring = Arc::new(Keyring::new("k", Keyring::generate_key().unwrap()).unwrap());
    let defaults = SealOptions {
        encryption: EncryptionType::Aes256Gcm { key_id: String::new() },
        ..SealOptions::default()
    };
    let (from, to) = (store(), store());
    for store in [&from, &to] {
        let keyring = Arc::clone(&keyring);
        let sealed = SealingBackend::new(Arc::clone(store), "default", keyring, defaults.clone());
        sealed.put("a", "secret".into(), StorageOptions::default()).await.unwrap();
        // The target's is the newer one.
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    let there = everything(&to).await;
    for conflict in [ConflictRule::Source, ConflictRule::KeepBoth { separator: "~".to_owned() }] {
        let options = MigrationOptions { conflict, ..MigrationOptions::default() };
        let error = migration(&from, &to, options).run().await.unwrap_err();
        assert!(matches!(error, StorageError::Unsupported(_)), "{error}");
        assert_eq!(everything(&to).await, there);
    }
}
