use std::sync::Arc;

use super::*;
use crate::env::{Env, SimEnv};
use crate::error::StorageError;
use sira_log::disk::OsDisk;
use sira_log::log::{Damage, SegmentLog, SegmentLogOptions};

fn options() -> EngineOptions {
    EngineOptions {
        segment_bytes: 64 << 10,
        checkpoint_bytes: 256 << 10,
        background: false,
        ..EngineOptions::default()
    }
}

fn open_with(root: &std::path::Path, env: &Arc<SimEnv>, options: EngineOptions) -> Arc<Engine> {
    let env = Arc::clone(env) as Arc<dyn Env>;
    Engine::open_on(Arc::new(OsDisk), env, root, options).unwrap()
}

fn open(root: &std::path::Path, env: &Arc<SimEnv>) -> Arc<Engine> {
    open_with(root, env, options())
}

fn env() -> Arc<SimEnv> {
    Arc::new(SimEnv::new(1, 1_700_000_000_000))
}

fn contents(engine: &Engine, namespace: NamespaceId) -> Vec<(Vec<u8>, Vec<u8>, u64)> {
    let mut keys = Vec::new();
    engine
        .scan(namespace, b"", None, |entry| {
            keys.push(entry.key.to_vec());
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    keys.into_iter()
        .map(|key| {
            let object = engine.get(namespace, &key).unwrap().unwrap();
            (key, object.value.to_vec(), object.version.as_u64())
        })
        .collect()
}

#[test]
fn objects_survive_reopening_with_and_without_close() {
    let dir = tempfile::tempdir().unwrap();
    let env = env();
    let engine = open(dir.path(), &env);
    let ns = engine.namespace("default").unwrap();
    for n in 0..300_u32 {
        let value = vec![n as u8; (n as usize * 37) % 3000];
        engine
            .put(ns, format!("k{:03}", n % 200).as_bytes(), &value, WriteOptions::default())
            .unwrap();
    }
    let large = (0..200_000_u32).map(|n| n as u8).collect::<Vec<_>>();
    let metadata = WriteOptions { metadata: b"meta", ..WriteOptions::default() };
    engine.put(ns, b"large", &large, metadata).unwrap();
    let mut tx = engine.begin(&[(ns, b"k000"), (ns, b"new")]);
    assert!(tx.delete(ns, b"k000").unwrap());
    tx.put(ns, b"new", Bytes::from_static(b"batch"), WriteOptions::default()).unwrap();
    assert_eq!(tx.get(ns, b"new").unwrap().unwrap().value, "batch");
    assert!(tx.get(ns, b"k000").unwrap().is_none());
    tx.commit().unwrap();
    let expected = contents(&engine, ns);
    assert_eq!((expected.len(), engine.count(ns)), (201, 201));
    drop(engine);
    let engine = open(dir.path(), &env);
    assert_eq!(contents(&engine, ns), expected);
    engine.close().unwrap();
    drop(engine);
    let engine = open(dir.path(), &env);
    assert!(engine.open_report().clean);
    assert_eq!(contents(&engine, ns), expected);
    assert_eq!(engine.count(ns), 201);
    let object = engine.get(ns, b"large").unwrap().unwrap();
    assert_eq!((&object.value[..], &object.metadata[..]), (&large[..], &b"meta"[..]));
    let part = engine.get_range(ns, b"large", 65_530..131_080).unwrap().unwrap();
    assert_eq!((&part.value[..], part.size), (&large[65_530..131_080], 200_000));
    let empty = engine.get_range(ns, b"large", 300_000..400_000).unwrap().unwrap();
    assert!(empty.value.is_empty());
}

#[test]
fn dropped_transactions_do_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), &env());
    let ns = engine.namespace("default").unwrap();
    let mut tx = engine.begin(&[(ns, b"a")]);
    tx.put(ns, b"a", Bytes::from_static(b"x"), WriteOptions::default()).unwrap();
    drop(tx);
    assert!(engine.get(ns, b"a").unwrap().is_none());
}

#[test]
fn expiry_is_exact_and_collected() {
    let dir = tempfile::tempdir().unwrap();
    let env = env();
    let engine = open(dir.path(), &env);
    let ns = engine.namespace("default").unwrap();
    let at = env.now_ms() + 1500;
    let options = WriteOptions { expires_at_ms: Some(at), ..WriteOptions::default() };
    engine.put(ns, b"short", b"v", options).unwrap();
    engine.put(ns, b"long", b"v", WriteOptions::default()).unwrap();
    env.set_ms(at - 1);
    assert!(engine.get(ns, b"short").unwrap().is_some());
    env.set_ms(at);
    assert!(engine.get(ns, b"short").unwrap().is_none());
    assert_eq!(contents(&engine, ns).len(), 1);
    assert_eq!(engine.count(ns), 2);
    assert_eq!(engine.maintain().unwrap().expired, 1);
    assert_eq!(engine.count(ns), 1);
    drop(engine);
    assert_eq!(contents(&open(dir.path(), &env), ns).len(), 1);
}

#[test]
fn expired_keys_that_a_transaction_meets_are_no_longer_counted() {
    let dir = tempfile::tempdir().unwrap();
    let env = env();
    let engine = open(dir.path(), &env);
    let ns = engine.namespace("default").unwrap();
    engine.put(ns, b"k", b"older, and stays hidden", WriteOptions::default()).unwrap();
    let step = |meet: fn(&mut Transaction<'_>, NamespaceId)| {
        let expires_at_ms = Some(env.now_ms() + 1500);
        let options = WriteOptions { expires_at_ms, ..WriteOptions::default() };
        engine.put(ns, b"k", b"v", options).unwrap();
        env.advance_ms(1500);
        assert_eq!((engine.count(ns), engine.stats().keys), (1, 1));
        let appended = engine.log.appended();
        let mut transaction = engine.begin(&[(ns, b"k")]);
        meet(&mut transaction, ns);
        transaction.commit().unwrap();
        let stats = engine.stats();
        assert_eq!(engine.count(ns), stats.keys);
        (stats.keys, stats.live_bytes > 0, engine.log.appended() > appended)
    };
    let nothing = (0, false, false);
    assert_eq!(step(|step, ns| assert!(!step.delete(ns, b"k").unwrap())), nothing);
    assert_eq!(step(|step, ns| assert!(step.head(ns, b"k").unwrap().is_none())), nothing);
    assert_eq!(step(|step, ns| assert!(step.get(ns, b"k").unwrap().is_none())), nothing);
    let if_absent = step(|step, ns| {
        assert!(step.head(ns, b"k").unwrap().is_none());
        step.put(ns, b"k", Bytes::from_static(b"new"), WriteOptions::default()).unwrap();
    });
    assert_eq!(if_absent, (1, true, true));
    assert_eq!(step(|step, ns| assert!(!step.delete(ns, b"k").unwrap())), nothing);
    assert_eq!(engine.maintain().unwrap().expired, 0);
    engine.checkpoint().unwrap();
    drop(engine);
    for folder_of_checkpoints_stays in [true, false] {
        if !folder_of_checkpoints_stays {
            std::fs::remove_dir_all(dir.path().join("index")).unwrap();
        }
        let engine = open(dir.path(), &env);
        assert!(engine.get(ns, b"k").unwrap().is_none());
        assert_eq!(engine.count(ns), 0);
    }
}

#[test]
fn space_is_reclaimed_and_removals_stay_removed() {
    let dir = tempfile::tempdir().unwrap();
    let env = env();
    let engine = open(dir.path(), &env);
    let ns = engine.namespace("default").unwrap();
    engine.put(ns, b"removed", b"old", WriteOptions::default()).unwrap();
    for round in 0..40_u8 {
        for n in 0..20 {
            let key = format!("k{n}");
            engine.put(ns, key.as_bytes(), &[round; 1000], WriteOptions::default()).unwrap();
        }
        if round == 20 {
            let mut tx = engine.begin(&[(ns, b"removed")]);
            assert!(tx.delete(ns, b"removed").unwrap());
            tx.commit().unwrap();
        }
        engine.maintain().unwrap();
    }
    let expected = contents(&engine, ns);
    assert_eq!(expected.len(), 20);
    let stats = engine.stats();
    assert!(stats.used_bytes < 400_000, "{stats:?}");
    drop(engine);
    let engine = open(dir.path(), &env);
    assert_eq!(contents(&engine, ns), expected);
    drop(engine);
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let engine = open(dir.path(), &env);
    assert_eq!(contents(&engine, ns), expected, "rebuilt from the log alone");
}

#[test]
fn namespaces_are_dropped_cleared_and_swapped() {
    let dir = tempfile::tempdir().unwrap();
    let env = env();
    let engine = open(dir.path(), &env);
    let (a, b) = (engine.namespace("a").unwrap(), engine.namespace("b").unwrap());
    engine.put(a, b"k", b"in a", WriteOptions::default()).unwrap();
    engine.put(b, b"k", b"in b", WriteOptions::default()).unwrap();
    engine.swap_namespaces("a", "b").unwrap();
    let a = engine.find_namespace("a").unwrap();
    assert_eq!(engine.get(a, b"k").unwrap().unwrap().value, "in b");
    assert!(engine.drop_namespace("a").unwrap());
    assert!(!engine.drop_namespace("a").unwrap());
    assert!(engine.get(a, b"k").unwrap().is_none());
    let refused = engine.put(a, b"k", b"late", WriteOptions::default());
    assert!(matches!(refused, Err(StorageError::NotFound(_))));
    assert_eq!(engine.maintain().unwrap().purged, 1);
    let cleared = engine.clear_namespace("b").unwrap();
    assert!(engine.get(cleared, b"k").unwrap().is_none());
    drop(engine);
    let engine = open(dir.path(), &env);
    assert_eq!(engine.namespaces(), [("b".to_owned(), cleared)]);
    assert_eq!(engine.stats().keys, 0);
}

#[test]
fn flipped_bytes_are_never_served() {
    let dir = tempfile::tempdir().unwrap();
    let env = env();
    let options = EngineOptions { segment_bytes: 1 << 20, ..options() };
    let engine = open_with(dir.path(), &env, options.clone());
    let ns = engine.namespace("default").unwrap();
    let value = vec![7; 70_000];
    engine.put(ns, b"large", &value, WriteOptions::default()).unwrap();
    engine.put(ns, b"small", b"small value", WriteOptions::default()).unwrap();
    engine.close().unwrap();
    let path = engine.log.active_segment().path.clone();
    drop(engine);
    let bytes = std::fs::read(&path).unwrap();
    let small = bytes.windows(11).position(|window| window == b"small value").unwrap();
    for at in (small - 76..small + 11).chain([5000, 69_000]) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        std::fs::write(&path, &flipped).unwrap();
        let engine = open_with(dir.path(), &env, options.clone());
        for (key, expected) in [(b"large", &value[..]), (b"small", b"small value")] {
            match engine.get(ns, key) {
                Ok(Some(object)) => assert_eq!(object.value, expected, "byte {at}"),
                Ok(None) => assert!(engine.check_writable().is_err(), "byte {at} lost a key"),
                Err(error) => assert!(matches!(error, StorageError::Corrupt(_)), "{error}"),
            }
        }
        drop(engine);
        std::fs::write(&path, &bytes).unwrap();
    }
}

#[test]
fn snapshots_open_as_stores() {
    let dir = tempfile::tempdir().unwrap();
    let env = env();
    let engine = open(&dir.path().join("store"), &env);
    let ns = engine.namespace("default").unwrap();
    for n in 0..100 {
        let key = format!("k{n}");
        engine.put(ns, key.as_bytes(), &[n; 2000], WriteOptions::default()).unwrap();
    }
    let expected = contents(&engine, ns);
    let snapshot = engine.snapshot().unwrap();
    engine.put(ns, b"later", b"not in it", WriteOptions::default()).unwrap();
    snapshot.copy_to(&dir.path().join("copy")).unwrap();
    let copy = open(&dir.path().join("copy"), &env);
    assert_eq!(contents(&copy, copy.find_namespace("default").unwrap()), expected);
    assert!(snapshot.copy_to(&dir.path().join("copy")).is_err());
}

#[test]
fn durable_async_wakes_after_the_sync() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(dir.path(), EngineOptions::default()).unwrap();
    let ns = engine.namespace("default").unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for n in 0..64_u32 {
            let engine = Arc::clone(&engine);
            tasks.push(tokio::spawn(async move {
                let commit =
                    engine.put(ns, &n.to_le_bytes(), b"v", WriteOptions::default()).unwrap();
                engine.durable_async(commit.ticket).await.unwrap();
                assert!(engine.durable() >= commit.ticket);
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
    engine.close().unwrap();
}

#[test]
fn bytes_that_rot_under_an_open_engine_are_never_served() {
    use std::os::unix::fs::FileExt;
    let dir = tempfile::tempdir().unwrap();
    let options = EngineOptions { segment_bytes: 1 << 20, ..options() };
    let engine = open_with(dir.path(), &env(), options);
    let ns = engine.namespace("default").unwrap();
    engine.put(ns, b"large", &[7; 70_000], WriteOptions::default()).unwrap();
    engine.put(ns, b"small", b"small value", WriteOptions::default()).unwrap();
    let path = engine.log.active_segment().path.clone();
    let bytes = std::fs::read(&path).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let small = bytes.windows(11).position(|window| window == b"small value").unwrap();
    let large = bytes.windows(100).position(|window| window == [7; 100]).unwrap();
    for (key, at) in [(b"small", small + 3), (b"large", large + 66_000)] {
        file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
        assert!(matches!(engine.get(ns, key), Err(StorageError::Corrupt(_))));
        file.write_all_at(&bytes[at..=at], at as u64).unwrap();
        assert!(engine.get(ns, key).unwrap().is_some());
    }
}

#[test]
fn a_damaged_object_keeps_its_segment_and_no_other() {
    use std::os::unix::fs::FileExt;
    let dir = tempfile::tempdir().unwrap();
    let options = EngineOptions { segment_bytes: 1 << 20, ..options() };
    let engine = open_with(dir.path(), &env(), options);
    let ns = engine.namespace("default").unwrap();
    let mut segments = Vec::new();
    for name in ["first", "second"] {
        engine.put(ns, name.as_bytes(), name.as_bytes(), WriteOptions::default()).unwrap();
        for _ in 0..20 {
            engine.put(ns, b"again", &[7; 2000], WriteOptions::default()).unwrap();
        }
        segments.push(engine.log.active_segment());
        engine.log.rotate().unwrap();
    }
    engine.put(ns, b"again", b"", WriteOptions::default()).unwrap();
    let bytes = std::fs::read(&segments[0].path).unwrap();
    let at = bytes.windows(10).position(|window| window == b"firstfirst").unwrap() + 5;
    let file = std::fs::OpenOptions::new().write(true).open(&segments[0].path).unwrap();
    file.write_all_at(b"F", at as u64).unwrap();
    engine.maintain().unwrap();
    assert!(segments[0].path.exists(), "what is damaged is left for repair");
    assert!(!segments[1].path.exists(), "the other is reclaimed");
    assert!(matches!(engine.get(ns, b"first"), Err(StorageError::Corrupt(_))));
    assert_eq!(engine.get(ns, b"second").unwrap().unwrap().value, b"second".as_slice());
}

/// Without a checkpoint, only the number that the next segment begins with tells that records are
/// gone whole from a sealed one.
#[test]
fn a_sealed_segment_that_lost_whole_records_is_named_without_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let env = env();
    let engine = open(dir.path(), &env);
    let ns = engine.namespace("default").unwrap();
    for n in 0..100_u32 {
        engine.put(ns, &n.to_be_bytes(), &[n as u8; 2000], WriteOptions::default()).unwrap();
    }
    engine.flush().unwrap();
    let sealed = engine.log.segments()[1].clone();
    let mut ends = Vec::new();
    let mut cursor = sira_log::BinaryLogCursor::at_start(sealed.read_used().unwrap());
    while let Some(frame) = cursor.next_frame().unwrap() {
        ends.push(frame.end);
    }
    drop(engine);
    assert!(!dir.path().join("index").exists(), "there is a checkpoint");
    let file = std::fs::OpenOptions::new().write(true).open(&sealed.path).unwrap();
    let cut = ends[ends.len() - 3];
    file.set_len(cut).unwrap();

    for _ in 0..2 {
        let engine = open(dir.path(), &env);
        let damage = Damage { segment: sealed.id, start: cut, end: cut };
        assert_eq!(engine.open_report().damage, [damage]);
        assert_eq!(contents(&engine, ns).len(), 98, "what stands before and after is served");
        let refused = engine.put(ns, b"x", b"", WriteOptions::default());
        assert!(matches!(refused, Err(StorageError::ReadOnly(_))), "{refused:?}");
    }
    let (log, _) = SegmentLog::open(
        Arc::new(OsDisk),
        Arc::clone(&env) as Arc<dyn Env>,
        dir.path(),
        SegmentLogOptions {
            stem: "store".to_owned(),
            background: false,
            ..SegmentLogOptions::default()
        },
    )
    .unwrap();
    assert_eq!(log.repair(&()).unwrap().lost.len(), 1);
    drop(log);
    let engine = open(dir.path(), &env);
    assert_eq!(engine.open_report().damage, []);
    engine.put(ns, b"x", b"", WriteOptions::default()).unwrap();
    assert_eq!(contents(&engine, ns).len(), 99);
}
