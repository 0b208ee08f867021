use super::*;
use crate::backend::BatchOperation;
use crate::layers::{Layers, MetricsCollector};
use crate::{Condition, ListOptions, MemoryBackend, StorageOptions};

#[test]
fn namespaces_are_counted_apart() {
    let collector = MetricsCollector::new();
    let memory = Arc::new(MemoryBackend::new(1 << 20));
    let backend = Layers::new(memory).name("b").tracing().metrics(&collector).build();
    pollster::block_on(async {
        let models = backend.namespace("models").await.unwrap();
        models.put("a", "12345".into(), StorageOptions::default()).await.unwrap();
        assert_eq!(models.get("a").await.unwrap().unwrap().len(), 5);
        assert!(models.head("a").await.unwrap().is_some());
        models.list(ListOptions::default()).await.unwrap();
        assert!(backend.get("a").await.unwrap().is_none());
        // A batch counts as what is in it; another handle on a namespace counts with the first.
        let again = backend.namespace("models").await.unwrap();
        let get = |key: &str| BatchOperation::Get { key: key.to_owned() };
        let delete = BatchOperation::Delete { key: "a".to_owned(), condition: Condition::Always };
        again.batch(vec![get("a"), get("b"), delete]).await.unwrap();
        backend.stats().await.unwrap();
    });
    let (named, others) = collector.backend("b").namespaces();
    let models = NamespaceFigures { reads: 4, writes: 3, read_bytes: 10 };
    assert_eq!(named["models"], models);
    assert_eq!(named["default"], NamespaceFigures { reads: 1, ..NamespaceFigures::default() });
    assert_eq!(others, NamespaceFigures::default());
}
