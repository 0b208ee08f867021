use std::sync::Arc;

use crate::StorageBackendExt;
use crate::backend::StorageBackend;
use crate::changes::{ChangeLog, ChangePosition};
use crate::embedded::{EmbeddedBackend, Engine, EngineOptions};

fn engine(root: &std::path::Path) -> Arc<Engine> {
    let options = EngineOptions {
        segment_bytes: 64 << 10,
        // Maintained when the test says so.
        maintenance_interval: std::time::Duration::from_secs(3600),
        reclaim_dead_ratio: 0.1,
        ..EngineOptions::default()
    };
    Engine::open(root, options).unwrap()
}

/// Keys behind a place, and the place behind them.
async fn after(
    store: &EmbeddedBackend,
    from: &ChangePosition,
) -> Option<(Vec<String>, ChangePosition)> {
    let page = store.after(from, 2).await.unwrap()?;
    let name = |change: crate::changes::Change| {
        format!("{}{}", if change.removed { "-" } else { "" }, change.key)
    };
    Some((page.changes.into_iter().map(name).collect(), page.next))
}

#[tokio::test]
async fn changes_come_in_order_over_segments_and_openings() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = EmbeddedBackend::new(engine(folder.path()));
    store.put_bytes("before", "1").await.unwrap();
    let mut place = store.end().await.unwrap();
    let mut found = Vec::new();
    for round in 0..3 {
        store.put_bytes(&format!("a{round}"), vec![0; 40 << 10]).await.unwrap();
        store.namespace("other").unwrap().put_bytes("b", "1").await.unwrap();
        store.put_bytes(&format!("c{round}"), "1").await.unwrap();
        store.delete(&format!("a{round}")).await.unwrap();
        if round == 1 {
            store.engine().close().unwrap();
            drop(store);
            store = EmbeddedBackend::new(engine(folder.path()));
        }
        loop {
            let (keys, next) = after(&store, &place).await.unwrap();
            if next == place {
                break;
            }
            found.extend(keys);
            place = next;
        }
    }
    assert_eq!(found, ["a0", "c0", "-a0", "a1", "c1", "-a1", "a2", "c2", "-a2"]);
}

#[tokio::test]
async fn a_place_whose_records_are_gone_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedBackend::new(engine(folder.path()));
    let start = store.end().await.unwrap();
    for round in 0..10 {
        store.put_bytes("a", vec![round; 40 << 10]).await.unwrap();
    }
    assert!(after(&store, &start).await.is_some());
    store.engine().maintain().unwrap();
    assert_eq!(after(&store, &start).await, None, "its segment is gone");

    let now = store.end().await.unwrap();
    assert!(after(&store, &now).await.is_some());
    store.engine().clear_namespace("default").unwrap();
    assert_eq!(after(&store, &now).await, None, "the namespace is another one");

    let folder = tempfile::tempdir().unwrap();
    let another = EmbeddedBackend::new(engine(folder.path()));
    another.put_bytes("a", "1").await.unwrap();
    assert_eq!(after(&another, &now).await, None, "it is of another store");
    let cut = ChangePosition(now.0.slice(1..));
    assert_eq!(after(&store, &cut).await, None, "it is none");
}
