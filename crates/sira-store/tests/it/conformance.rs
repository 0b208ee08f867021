//! The conformance suite on the engines that live in process, and on backends that it must fail.

mod broken;
mod meta;
mod minimal;

use std::sync::Arc;

use sira_store::conformance::{self, ConformanceOptions, ConformanceReport};
use sira_store::embedded::{EmbeddedBackend, Engine, EngineOptions};
use sira_store::{Durability, MemoryBackend, StorageBackend};
use tempfile::TempDir;

fn embedded(durability: Durability) -> (TempDir, Arc<EmbeddedBackend>) {
    let folder = tempfile::tempdir().unwrap();
    let options = EngineOptions { durability, ..EngineOptions::default() };
    let engine = Engine::open(folder.path(), options).unwrap();
    (folder, Arc::new(EmbeddedBackend::new(engine)))
}

async fn conforms(
    backend: Arc<dyn StorageBackend>,
    options: ConformanceOptions,
) -> ConformanceReport {
    let report = conformance::run(backend, options).await;
    report.into_result().unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory() {
    let backend = MemoryBackend::new(1 << 30);
    let report = conforms(Arc::new(backend.clone()), ConformanceOptions::default()).await;
    assert_eq!(report.skipped, []);
    // What the suite wrote is gone.
    assert_eq!(backend.stats().await.unwrap().keys, 0);
    assert_eq!(backend.namespaces(), Vec::<String>::new());
}

#[tokio::test]
async fn memory_on_one_thread() {
    let backend = Arc::new(MemoryBackend::new(1 << 30));
    assert_eq!(conforms(backend, ConformanceOptions::default()).await.skipped, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn embedded_without_syncs() {
    let (_folder, backend) = embedded(Durability::None);
    assert_eq!(conforms(backend.clone(), ConformanceOptions::default()).await.skipped, []);
    for name in backend.namespaces() {
        let space = backend.find_namespace(&name).unwrap().unwrap();
        assert_eq!(space.list_keys("", 10).await.unwrap(), Vec::<String>::new(), "{name}");
    }
}

#[tokio::test]
async fn embedded_with_syncs() {
    let (_folder, backend) = embedded(Durability::Sync);
    assert_eq!(conforms(backend, ConformanceOptions::default()).await.skipped, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn largest_values() {
    let options = || ConformanceOptions {
        value_bytes_max: 256 << 20,
        only: Some("values/sizes".to_owned()),
        ..ConformanceOptions::default()
    };
    conforms(Arc::new(MemoryBackend::new(1 << 30)), options()).await;
    let (_folder, backend) = embedded(Durability::None);
    conforms(backend, options()).await;
}
