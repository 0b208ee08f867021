use pollster::block_on;
use tempfile::TempDir;

use super::*;
use crate::embedded::EngineOptions;

fn backend() -> (TempDir, EmbeddedBackend) {
    let folder = tempfile::tempdir().unwrap();
    let options = EngineOptions { durability: Durability::None, ..EngineOptions::default() };
    let engine = Engine::open(folder.path(), options).unwrap();
    (folder, EmbeddedBackend::new(engine))
}

fn put(backend: &EmbeddedBackend, key: &str, value: &'static str) -> Version {
    block_on(backend.put(key, Bytes::from(value), StorageOptions::default())).unwrap()
}

#[test]
fn reading_makes_no_namespace_and_writing_does() {
    let (_folder, backend) = backend();
    assert_eq!(block_on(backend.get("k")).unwrap(), None);
    assert!(!block_on(backend.delete("k")).unwrap());
    assert!(!block_on(backend.exists("k")).unwrap());
    let read = block_on(backend.batch(vec![BatchOperation::Get { key: "k".into() }])).unwrap();
    assert!(matches!(read.as_slice(), [BatchResult::Value(None)]));
    assert_eq!(block_on(backend.list(ListOptions::default())).unwrap(), ListPage::default());
    assert!(backend.find_namespace("other").unwrap().is_none());
    assert_eq!(backend.namespaces(), Vec::<String>::new());

    put(&backend, "k", "v");
    assert_eq!(backend.namespaces(), ["default"]);
    let other = backend.namespace("other").unwrap();
    assert_eq!(backend.namespaces(), ["default", "other"]);
    assert_eq!(block_on(other.get("k")).unwrap(), None);
    assert!(backend.find_namespace("other").unwrap().is_some());
}

#[test]
fn a_handle_outlives_its_namespace() {
    let (_folder, backend) = backend();
    let space = backend.namespace("space").unwrap();
    put(&space, "k", "old");
    assert!(backend.drop_namespace("space").unwrap());
    assert!(!backend.drop_namespace("space").unwrap());
    assert_eq!(block_on(space.get("k")).unwrap(), None);
    put(&space, "l", "new");
    assert_eq!(block_on(space.list_keys("", 10)).unwrap(), ["l"]);
}

#[test]
fn names_that_name_nothing_are_refused() {
    let (_folder, backend) = backend();
    for name in ["", "a/b", "\n"] {
        assert!(matches!(backend.namespace(name), Err(StorageError::InvalidInput(_))));
        assert!(matches!(backend.find_namespace(name), Err(StorageError::InvalidInput(_))));
        assert!(matches!(backend.drop_namespace(name), Err(StorageError::InvalidInput(_))));
    }
}

#[test]
fn keys_that_are_not_text_are_left_out_of_listings() {
    let (_folder, backend) = backend();
    put(&backend, "a", "1");
    let namespace = backend.engine().namespace("default").unwrap();
    backend.engine().put(namespace, b"a\xFF", b"2", WriteOptions::default()).unwrap();
    put(&backend, "b", "3");
    assert_eq!(block_on(backend.list_keys("", 10)).unwrap(), ["a", "b"]);
}

#[test]
fn errors_name_the_key_and_the_namespace() {
    let (_folder, backend) = backend();
    put(&backend, "k", "v");
    let error = block_on(backend.remove("k", Condition::IfAbsent)).unwrap_err();
    assert!(matches!(error, StorageError::PreconditionFailed(_)));
    assert_eq!(error.detail().key.as_deref(), Some("k"));
    assert_eq!(error.detail().namespace.as_deref(), Some("default"));
}

#[test]
fn a_write_is_answered_when_it_is_as_durable_as_asked() {
    let (_folder, backend) = backend();
    let engine = backend.engine();
    let durable = || engine.durable() >= engine.begin(&[]).commit().unwrap().ticket;
    let asked =
        |durability| StorageOptions { durability: Some(durability), ..StorageOptions::default() };

    put(&backend, "lazy", "v");
    block_on(backend.put("k", "v".into(), asked(Durability::Sync))).unwrap();
    assert!(durable());

    put(&backend, "lazy", "v");
    let operation =
        |key: &str, options| BatchOperation::Put { key: key.into(), value: "v".into(), options };
    let operations =
        vec![operation("a", asked(Durability::None)), operation("b", asked(Durability::Sync))];
    block_on(backend.batch(operations)).unwrap();
    assert!(durable());

    put(&backend, "lazy", "v");
    block_on(backend.flush()).unwrap();
    assert!(durable());

    // The engine's own thread syncs in time; without it this would not end.
    block_on(backend.put("k", "v".into(), asked(Durability::Interval(5)))).unwrap();
    while !durable() {
        engine.env().sleep(std::time::Duration::from_millis(1));
    }
}

#[test]
fn a_write_outlives_the_engine() {
    let (folder, backend) = backend();
    let version = put(&backend, "k", "v");
    backend.engine().close().unwrap();
    let closed = block_on(backend.put("l", "v".into(), StorageOptions::default()));
    assert!(closed.is_err());
    drop(backend);
    let engine = Engine::open(folder.path(), EngineOptions::default()).unwrap();
    let backend = EmbeddedBackend::new(engine);
    let object = block_on(backend.read("k", ReadOptions::default())).unwrap().unwrap();
    assert_eq!((object.head.version, object.value), (version, Bytes::from("v")));
    assert_eq!(block_on(backend.list_keys("", 10)).unwrap(), ["k"]);
}

#[test]
fn exact_versions_survive_a_reopen_with_and_without_their_checkpoint() {
    let exact = |version, value: &'static str| BatchOperation::Put {
        key: value.into(),
        value: value.into(),
        options: StorageOptions {
            version: Some(Version::from_u64(version)),
            metadata: Metadata { content_type: Some("a/b".into()), ..Metadata::default() },
            ..StorageOptions::default()
        },
    };
    let drawn = |value: &'static str| BatchOperation::Put {
        key: value.into(),
        value: value.into(),
        options: StorageOptions::default(),
    };
    let far = (1 << 63) - 10;
    for clean in [true, false] {
        let (folder, backend) = backend();
        let results =
            block_on(backend.batch(vec![exact(5, "a"), drawn("b"), exact(far, "c")])).unwrap();
        let [_, BatchResult::Success { version: Some(of_b) }, _] = results[..] else {
            panic!("{results:?}");
        };
        let version = Some(Version::from_u64(far + 5));
        let options = StorageOptions { version, ..StorageOptions::default() };
        block_on(backend.put("d", "d".into(), options)).unwrap();
        assert!(of_b.as_u64() > far, "the batch's own version is the newest");
        if clean {
            backend.engine().close().unwrap();
        } else {
            backend.engine().flush().unwrap();
        }
        drop(backend);
        let backend =
            EmbeddedBackend::new(Engine::open(folder.path(), EngineOptions::default()).unwrap());
        let version = |key| block_on(backend.head(key)).unwrap().unwrap().version;
        assert_eq!([version("a").as_u64(), version("c").as_u64()], [5, far]);
        assert_eq!([version("b"), version("d")], [of_b, Version::from_u64(far + 5)]);
        let object = block_on(backend.read("a", ReadOptions::default())).unwrap().unwrap();
        assert_eq!(
            (&*object.value, object.head.metadata.content_type.as_deref()),
            (&b"a"[..], Some("a/b"))
        );
        assert!(put(&backend, "e", "v") > Version::from_u64(far + 5));
    }
}

#[test]
fn what_is_reclaimed_keeps_the_version_that_it_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let options = EngineOptions {
        durability: Durability::None,
        segment_bytes: 64 << 10,
        reclaim_dead_ratio: 0.1,
        background: false,
        ..EngineOptions::default()
    };
    let backend = EmbeddedBackend::new(Engine::open(folder.path(), options).unwrap());
    let exact = |key: &str, version| BatchOperation::Put {
        key: key.into(),
        value: "v".into(),
        options: StorageOptions {
            version: Some(Version::from_u64(version)),
            ..StorageOptions::default()
        },
    };
    block_on(backend.batch(vec![exact("a", 5), exact("b", 7)])).unwrap();
    for _ in 0..100 {
        block_on(backend.put("noise", vec![0; 4096].into(), StorageOptions::default())).unwrap();
    }
    let segments = backend.engine().stats().segments;
    for _ in 0..10 {
        backend.engine().maintain().unwrap();
    }
    assert!(backend.engine().stats().segments < segments, "nothing was reclaimed");
    let version = |key| block_on(backend.head(key)).unwrap().unwrap().version.as_u64();
    assert_eq!([version("a"), version("b")], [5, 7]);
}
